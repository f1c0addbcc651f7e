//! The process that made the pool ends, and starts again, while workers live.

use std::time::Duration;

use aws_credential_types::Credentials;
use shmcreds::{
    ErrorKind, Provider, RoleSession, SharedRoles, SharedRolesBuilder, SharedSession,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    assert_of, pool,
    support::{Child, StopFile, child, instant, name, segment, until, until_alone},
    tenant,
};

/// Longer than a set lives.
const TWO_HOURS: Duration = Duration::from_secs(7200);

/// A process that makes a pool and has the sets of some tenants, until it is told to end. Forked before there is any pool
/// that it would inherit.
struct Server {
    process: Child,
    start: StopFile,
    stop: StopFile,
}

impl Server {
    fn new(builder: SharedRolesBuilder, sts: &LocalSts, tenants: &[usize]) -> Self {
        Server::of(|report| {
            let roles = builder.create().unwrap();
            for number in tenants {
                let set = roles.role(tenant(sts, *number)).unwrap().credentials().unwrap();
                report(set.access_key_id());
            }
            roles
        })
    }

    fn of<T>(make: impl FnOnce(&mut dyn FnMut(&str)) -> T) -> Self {
        let [start, stop] = ["start", "stop"].map(|what| StopFile::new(&name(what)));
        let process = child(|report| {
            until("it is told to start", || start.is_there());
            let made = make(&mut |text| report.say(format!("{text}\n")));
            report.say("serves\n");
            until("it is told to end", || stop.is_there());
            drop(made);
        });
        Server { process, start, stop }
    }

    /// Gives the access key ids of its sets.
    fn start(&mut self) -> Vec<String> {
        self.start.write();
        let lines = std::iter::repeat_with(|| self.process.hear_line());
        lines.take_while(|line| line != "serves").collect()
    }

    fn end(self) {
        self.stop.end(vec![self.process]);
    }
}

/// A base source that is another one than that of [`pool`].
fn other_base() -> Provider {
    Provider::new("other", std::future::pending::<Credentials>)
}

/// A worker that has no part of the library's source.
fn reader(name: &str, clock: &ManualClock) -> SharedRoles {
    SharedRoles::builder(name).clock(clock).wait_timeout(Duration::from_secs(20)).attach().unwrap()
}

/// The access key id of the set of a tenant's role.
fn read(role: &RoleSession, number: usize) -> String {
    let set = role.credentials().unwrap();
    assert_of(&set, number);
    set.access_key_id().to_owned()
}

pub fn workers_follow_a_new_pool() {
    let (sts, clock, name) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("new"));
    let builder = || pool(&name).clock(&clock);
    let mut first = Server::new(builder(), &sts, &[1, 2]);
    let mut second = Server::new(builder(), &sts, &[1, 3]);
    let old = first.start();
    let roles = builder().attach().unwrap();
    let [one, two] = [1, 2].map(|number| roles.role(tenant(&sts, number)).unwrap());
    let mut lent = one.reader();
    assert_eq!([read(&one, 1), read(&two, 2)], [old[0].as_str(), &old[1]]);
    first.end();
    // There is no new pool yet. The workers have the old one.
    let alone = roles.role(tenant(&sts, 4)).unwrap();
    let fourth = read(&alone, 4);
    let new = second.start();
    let calls = sts.count("AssumeRole").unwrap();
    // The old sets are good until they are due.
    assert_eq!([read(&one, 1), read(&alone, 4)], [old[0].as_str(), &fourth]);
    // A role that this process has not asked for is looked up in the new pool, which has it.
    assert_eq!(read(&roles.role(tenant(&sts, 3)).unwrap(), 3), new[1]);
    assert_eq!(roles.status().unwrap().entries().len(), 2, "it is that of the new pool");
    assert_eq!(sts.count("AssumeRole").unwrap(), calls);
    clock.advance(TWO_HOURS);
    let next = read(&one, 1);
    assert_ne!(next, old[0]);
    assert_eq!(lent.credentials().unwrap().access_key_id(), next);
    assert_eq!(read(&roles.role(tenant(&sts, 1)).unwrap(), 1), next);
    read(&two, 2);
    assert_eq!(roles.status().unwrap().entries().len(), 3, "1 and 3, and now 2");
    assert!(roles.evict(&tenant(&sts, 1)).unwrap());
    assert_ne!(read(&one, 1), next);
    second.end();
    assert!(!std::path::Path::new(&segment(&name)).exists());
}

/// The set of the old pool is due, and the new pool has none: the role keeps what it has, without a wait and without an error,
/// until the new pool has a set.
pub fn a_due_role_keeps_its_set_until_the_new_pool_has_one() {
    let (sts, clock, name) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("due"));
    // The call may take 2 s.
    let second = Duration::from_secs(1);
    let builder = || pool(&name).base_source(crate::base().timeout(second)).clock(&clock);
    let mut first = Server::new(builder(), &sts, &[1]);
    let mut next = Server::new(builder(), &sts, &[]);
    let old = first.start();
    let roles = builder().attach().unwrap();
    let one = roles.role(tenant(&sts, 1).operation_timeout(second)).unwrap();
    let read = || read(&one, 1);
    assert_eq!(read(), old[0]);
    first.end();
    next.start();
    let calls = || sts.count("AssumeRole").unwrap();
    let before = calls();
    // A read that waits for the call gets its error.
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    // In its last minutes, and then in the last one.
    for left in [Duration::from_secs(240), Duration::from_secs(30)] {
        clock.advance(one.status().unwrap().expires_in() - left);
        assert_eq!(read(), old[0]);
    }
    until("a call is made", || calls() == before + 1);
    assert_eq!(read(), old[0]);
    assert_eq!(calls(), before + 1, "all reads together make one");
    until_alone();
    assert_eq!(read(), old[0]);
    next.end();
}

/// The same where the call fails: it is no error of a read, and a later call gives the next set.
pub fn a_failure_in_the_new_pool_is_no_error_of_a_valid_set() {
    let (sts, clock, name) =
        (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("fails"));
    let builder = || pool(&name).clock(&clock);
    let mut first = Server::new(builder(), &sts, &[1]);
    let mut second = Server::new(builder(), &sts, &[]);
    let old = first.start();
    let roles = builder().attach().unwrap();
    let one = roles.role(tenant(&sts, 1)).unwrap();
    let read = || read(&one, 1);
    assert_eq!(read(), old[0]);
    first.end();
    second.start();
    let calls = || sts.count("AssumeRole").unwrap();
    let before = calls();
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    clock.advance(one.status().unwrap().expires_in() - Duration::from_secs(240));
    assert_eq!(read(), old[0]);
    until("the call has failed", || {
        // Another process, which has no set, is told of the failure.
        let failed = roles
            .status()
            .unwrap()
            .entries()
            .iter()
            .any(|entry| entry.status().last_failure().is_some());
        assert_eq!(read(), old[0]);
        failed
    });
    assert_eq!(calls(), before + 1);
    // A slow call. The clock stands still in it, since a lease ends by this clock, too.
    let slow = Settings::new().latency(Duration::from_millis(500));
    sts.inject(Fault::Under(slow), Times::Next(1)).unwrap();
    until("there is a new set", || {
        // The back-off of a refusal is 5 s.
        clock.advance(Duration::from_secs(1));
        let set = read();
        until_alone();
        set != old[0]
    });
    assert_eq!(calls(), before + 2);
    until_alone();
    second.end();
}

/// A process that asks for its roles anew each time keeps the pool that it has opened, and the latest one.
pub fn pools_in_between_are_not_kept() {
    let (sts, clock, name) =
        (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("between"));
    let builder = || pool(&name).clock(&clock);
    let [mut first, mut second, mut third] =
        std::array::from_fn(|_| Server::new(builder(), &sts, &[]));
    // The segments of that name that this process has mapped.
    let mapped = || {
        let (maps, path) = (std::fs::read_to_string("/proc/self/maps").unwrap(), segment(&name));
        let named = |line: &&str| line.trim_end_matches(" (deleted)").ends_with(&path);
        let inodes = maps.lines().filter(named).map(|line| line.split_whitespace().nth(4));
        inodes.collect::<std::collections::BTreeSet<_>>().len()
    };
    first.start();
    let roles = builder().attach().unwrap();
    let read = |number| {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number)
    };
    read(1);
    first.end();
    second.start();
    // The first use of this role is in the second pool.
    read(2);
    assert_eq!(mapped(), 2);
    second.end();
    third.start();
    clock.advance(TWO_HOURS);
    [1, 2, 1, 2].into_iter().for_each(read);
    assert_eq!(mapped(), 2, "the second one is not kept");
    third.end();
}

pub fn a_worker_that_only_reads_follows() {
    let (sts, clock, name) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("read"));
    let builder = || pool(&name).clock(&clock);
    let mut first = Server::new(builder(), &sts, &[1]);
    let mut second = Server::new(builder(), &sts, &[2, 1]);
    let mut third = Server::new(builder(), &sts, &[1]);
    let old = first.start();
    let roles = reader(&name, &clock);
    let one = roles.role(tenant(&sts, 1)).unwrap();
    assert_eq!(one.credentials().unwrap().access_key_id(), old[0]);
    let follows = |new: &[String]| {
        let set = one.credentials().unwrap();
        assert_of(&set, 1);
        assert_eq!(Some(set.access_key_id()), new.last().map(String::as_str));
    };
    first.end();
    clock.advance(TWO_HOURS);
    follows(&second.start());
    second.end();
    clock.advance(TWO_HOURS);
    follows(&third.start());
    third.end();
}

pub fn what_the_new_pool_does_not_allow() {
    let (sts, clock, name) =
        (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("narrow"));
    let narrow = SharedRoles::builder(&name)
        .base_source(crate::base())
        .allow("arn:aws:iam::*:role/tenant-1")
        .clock(&clock);
    let mut first = Server::new(pool(&name).clock(&clock), &sts, &[1, 2]);
    let mut second = Server::new(narrow, &sts, &[]);
    first.start();
    let roles = pool(&name).clock(&clock).attach().unwrap();
    let [one, two] = [1, 2].map(|number| roles.role(tenant(&sts, number)).unwrap());
    let old = two.credentials().unwrap();
    first.end();
    second.start();
    assert_eq!(two.credentials().unwrap().access_key_id(), old.access_key_id(), "it is valid");
    let error = roles.role(tenant(&sts, 3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAllowed, "{error}");
    clock.advance(TWO_HOURS);
    let error = two.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAllowed, "{error}");
    assert_of(&one.credentials().unwrap(), 1);
    second.end();
}

/// A pool with another base source, and a session with the same fingerprint, have the name now.
pub fn nobody_follows_what_is_no_such_pool() {
    let (sts, clock, name) =
        (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("other"));
    let mut first = Server::new(pool(&name).clock(&clock), &sts, &[1]);
    let other = SharedRoles::builder(&name).base_source(other_base()).clock(&clock);
    let mut second = Server::new(other.allow("arn:aws:iam::*:role/tenant-*"), &sts, &[]);
    let session = SharedSession::builder(&name).source(crate::base()).clock(&clock);
    let mut third = Server::of(|_| session.create().unwrap());
    first.start();
    // In this order: a handle without a source inherits that of an earlier one.
    let reads = reader(&name, &clock);
    let roles = pool(&name).clock(&clock).attach().unwrap();
    let [with_source, without] = [&roles, &reads].map(|roles| roles.role(tenant(&sts, 1)).unwrap());
    let old = without.credentials().unwrap();
    assert_eq!(with_source.credentials().unwrap().access_key_id(), old.access_key_id());
    first.end();
    second.start();
    assert_eq!(without.credentials().unwrap().access_key_id(), old.access_key_id());
    clock.advance(TWO_HOURS);
    let error = without.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongSource, "{error}");
    // A worker with a source goes on in the old pool, and the other one reads there.
    let new = with_source.credentials().unwrap();
    assert_of(&new, 1);
    assert_eq!(without.credentials().unwrap().access_key_id(), new.access_key_id());
    second.end();
    third.start();
    clock.advance(TWO_HOURS);
    assert_of(&with_source.credentials().unwrap(), 1);
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    third.end();
}

/// A session follows no pool, although the fingerprint of the pool's base source is its own.
pub fn a_session_follows_no_pool() {
    let (sts, clock, name) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap(), name("kind"));
    let session = SharedSession::builder(&name).source(instant()).clock(&clock);
    let mut first = Server::of(|_| {
        let session = session.create().unwrap();
        session.credentials().unwrap();
        session
    });
    let same_base = SharedRoles::builder(&name).base_source(instant()).clock(&clock);
    let mut second = Server::new(same_base.allow("arn:aws:iam::*:role/tenant-*"), &sts, &[1]);
    first.start();
    let session =
        SharedSession::builder(&name).clock(&clock).wait_timeout(Duration::from_millis(200));
    let session = session.attach().unwrap();
    let old = session.credentials().unwrap();
    first.end();
    second.start();
    assert_eq!(session.credentials().unwrap().access_key_id(), old.access_key_id());
    clock.advance(TWO_HOURS);
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource, "{error}");
    second.end();
}
