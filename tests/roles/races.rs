//! What happens between a look at the state and the election: a process is stopped there, and others go on. And what a
//! refresher leaves for later.

use std::{
    fs::{self, File},
    os::unix::{fs::FileExt, net::UnixDatagram},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use shmcreds::{
    AssumeRole, Refresh, SharedRoles, StopHandle,
    testing::{Fault, FaultPoint, LocalSts, ManualClock, Times, signal_at, time_of, time_points},
};

use crate::{
    arn_of, assert_of, pool,
    program::running,
    refresher::{inputs, request},
    support::{StopFile, assumed, child, lock, name, segment, until},
    tenant,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Stops this process when it next stands for election.
fn stop_before_the_election() {
    signal_at(FaultPoint::Candidate, Signal::SIGSTOP as i32);
}

/// Stops a refresher when dropped, so that the thread of a test that fails ends, too.
struct Ends<'a>(&'a StopHandle);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn read(roles: &SharedRoles, sts: &LocalSts, number: usize) {
    assert_of(&roles.role(tenant(sts, number)).unwrap().credentials().unwrap(), number);
}

fn generation(roles: &SharedRoles, sts: &LocalSts, number: usize) -> u64 {
    roles.role(tenant(sts, number)).unwrap().status().unwrap().generation()
}

/// Waits until the refresher has looked at what is due, at least once: it reads 256 messages at most before it does so.
fn let_it_look(roles: &SharedRoles) {
    const MESSAGES: u64 = 257;
    let refused = || roles.status().unwrap().refused_requests();
    let (socket, before) = (UnixDatagram::unbound().unwrap(), refused());
    until("it has a socket", || socket.connect(segment(roles.name()) + "@ask").is_ok());
    for _ in 0..MESSAGES {
        socket.send(b"no request").unwrap();
    }
    until("it has read all messages", || refused() == before + MESSAGES);
}

/// It wins the election of an entry that belongs to another role by now, and makes no call.
pub fn who_waits_has_lost_its_entry() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("waits")).capacity(1).create().unwrap();
    let stopped = child(|_| {
        let role = roles.role(tenant(&sts, 1)).unwrap();
        stop_before_the_election();
        assert_of(&role.credentials().unwrap(), 1);
    });
    stopped.stopped();
    assert!(roles.evict(&tenant(&sts, 1)).unwrap());
    read(&roles, &sts, 2);
    stopped.signal(Signal::SIGCONT);
    stopped.finish();
    assert_eq!(assumed(&sts), 2, "one call for each role");
}

/// The same in the background, while it has a set. It is stopped when it has read the set, or before it stands for election.
pub fn who_refreshes_has_lost_its_entry() {
    for point in [FaultPoint::Decoded, FaultPoint::Candidate] {
        let sts = LocalSts::fork().unwrap();
        let clock = ManualClock::new().unwrap();
        let builder = pool(&name("refreshes")).capacity(1).refresh_spread(0.0).clock(&clock);
        let roles = builder.create().unwrap();
        let is_due = StopFile::new(roles.name());
        // Forked before there is a set, it reads the set from the pool.
        let stopped = child(|_| {
            until("the set is due", || is_due.is_there());
            let role = roles.role(tenant(&sts, 1)).unwrap();
            signal_at(point, Signal::SIGSTOP as i32);
            assert_of(&role.credentials().unwrap(), 1);
        });
        read(&roles, &sts, 1);
        // Past the advisory point.
        clock.advance(HOUR * 46 / 60);
        is_due.write();
        stopped.stopped();
        assert!(roles.evict(&tenant(&sts, 1)).unwrap());
        read(&roles, &sts, 2);
        let before = generation(&roles, &sts, 2);
        stopped.signal(Signal::SIGCONT);
        stopped.finish();
        assert_eq!(assumed(&sts), 2, "{point:?}: a call for the role that has lost its entry");
        assert_eq!(generation(&roles, &sts, 2), before);
    }
}

/// The refresher is stopped past its lease, before it stands for election in an entry. Meanwhile the entry goes to another
/// role.
pub fn the_refresher_has_lost_an_entry() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("loses")).capacity(1).clock(&clock).create().unwrap();
    let end = StopFile::new(roles.name());
    let mut refresher = child(|report| {
        let roles = SharedRoles::attach(roles.name()).unwrap();
        let stop_it = StopHandle::new();
        thread::scope(|scope| {
            let running = scope.spawn(|| roles.run_refresher(&stop_it));
            let_it_look(&roles);
            stop_before_the_election();
            report.say(".");
            until("it is to end", || end.is_there());
            stop_it.stop();
            // Its calls have ended then.
            running.join().unwrap().unwrap();
        });
    });
    refresher.hear();
    // Nobody waits for the answer.
    let recipe = AssumeRole::new(arn_of(1)).session_name("test").region("us-east-1");
    let key = roles.key_of(&recipe.clone().endpoint_url(sts.url())).unwrap();
    let words = key.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
    let key: [u64; 4] = words.collect::<Vec<_>>().try_into().unwrap();
    let asked = request(1, 0, key, &inputs(&arn_of(1), &sts.url(), ""));
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(&asked, segment(roles.name()) + "@ask").unwrap();
    refresher.stopped();
    clock.advance(SECOND * 13);
    assert!(roles.evict(&recipe.endpoint_url(sts.url())).unwrap());
    read(&roles, &sts, 2);
    let before = generation(&roles, &sts, 2);
    end.write();
    refresher.signal(Signal::SIGCONT);
    refresher.finish();
    assert_eq!(assumed(&sts), 1, "a call for the role that has lost its entry");
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    assert_eq!(generation(&roles, &sts, 2), before);
}

/// The role that it evicts has lost its entry already: the role that has the entry now keeps it, and its set.
pub fn who_evicts_finds_another_role() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("evicts")).capacity(1).create().unwrap();
    read(&roles, &sts, 1);
    let stopped = child(|_| {
        stop_before_the_election();
        assert!(!roles.evict(&tenant(&sts, 1)).unwrap(), "another process has evicted it");
    });
    stopped.stopped();
    assert!(roles.evict(&tenant(&sts, 1)).unwrap());
    read(&roles, &sts, 2);
    stopped.signal(Signal::SIGCONT);
    stopped.finish();
    read(&roles, &sts, 2);
    assert_eq!((assumed(&sts), roles.status().unwrap().evictions()), (2, 1));
}

/// The files of a pool were deleted, and another pool has its name and its socket. Nobody asks that one.
pub fn a_request_is_for_its_own_pool() {
    let sts = LocalSts::fork().unwrap();
    let pool_name = name("own-name");
    let (make, end) = (StopFile::new(&name("make")), StopFile::new(&pool_name));
    // It has not inherited the first pool.
    let mut other = child(|report| {
        until("the files are deleted", || make.is_there());
        let roles = pool(&pool_name).refresh(Refresh::Eager).create().unwrap();
        let_it_look(&roles);
        report.say(".");
        until("it was not asked", || end.is_there());
        let status = roles.status().unwrap();
        assert_eq!((status.insertions(), status.entries().len()), (0, 0));
    });
    let roles = pool(&pool_name).refresh(Refresh::Eager).create().unwrap();
    read(&roles, &sts, 1);
    for path in [segment(&pool_name), lock(&pool_name), segment(&pool_name) + "@ask"] {
        fs::remove_file(path).unwrap();
    }
    make.write();
    other.hear();
    // This process has the base source, and makes the call itself.
    read(&roles, &sts, 2);
    end.write();
    other.finish();
    assert_eq!(assumed(&sts), 2);
}

/// A refresh that has time leaves the last half of the budget to roles without a set, and is made later.
pub fn the_refresher_leaves_the_last_calls() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let builder = pool(&name("leaves")).calls_per_second(4).refresh_spread(0.0).clock(&clock);
    let roles = builder.create().unwrap();
    let role = || roles.role(tenant(&sts, 1)).unwrap();
    let _refresher = running(&roles);
    read(&roles, &sts, 1);
    clock.advance(HOUR / 6);
    // It is used, so it will be refreshed.
    read(&roles, &sts, 1);
    clock.advance(role().status().unwrap().refresh_in() - MILLISECOND);
    // Three of the four calls of this second.
    [2, 3, 4].into_iter().for_each(|number| read(&roles, &sts, number));
    // A refresh would hang, and so be seen.
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    clock.advance(MILLISECOND * 2);
    let_it_look(&roles);
    assert!(role().status().unwrap().lease_holder().is_none(), "the refresh has time");
    sts.clear_faults().unwrap();
    read(&roles, &sts, 5);
    assert_eq!((assumed(&sts), generation(&roles, &sts, 1)), (5, 1));
    clock.advance(SECOND);
    until("it is refreshed", || generation(&roles, &sts, 1) == 2);
    assert_eq!(assumed(&sts), 6);
}

/// A refresh that the back-off forbids is planned for its end: the refresher does not stand for election until then.
pub fn the_refresher_waits_for_the_back_off() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let roles = pool(&name("back-off")).refresh_spread(0.0).clock(&clock).create().unwrap();
    read(&roles, &sts, 1);
    clock.advance(HOUR * 46 / 60);
    let role = roles.role(tenant(&sts, 1)).unwrap();
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    role.refresh().unwrap_err();
    assert_of(&role.credentials().unwrap(), 1);
    let next_attempt = || role.status().unwrap().last_failure().unwrap().next_attempt_in();
    assert!(next_attempt() > SECOND * 3, "{:?}", next_attempt());
    time_points();
    let stop_it = StopHandle::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| roles.run_refresher(&stop_it));
        let ends = Ends(&stop_it);
        // It has learned of the role when it is elected, and looks at it first.
        let_it_look(&roles);
        let stood = time_of(FaultPoint::Candidate);
        assert!(stood.is_some());
        clock.advance(SECOND * 2);
        let_it_look(&roles);
        assert_eq!(time_of(FaultPoint::Candidate), stood, "the back-off is not over");
        assert_eq!((assumed(&sts), generation(&roles, &sts, 1)), (2, 1));
        clock.advance(next_attempt());
        until("it is refreshed", || generation(&roles, &sts, 1) == 2);
        drop(ends);
        running.join().unwrap().unwrap();
    });
    assert_eq!(assumed(&sts), 3);
}

/// What was asked of the refresher before it is lost. So it wakes those who wait for an entry of the pool, and those who wait
/// for a set: they ask again.
pub fn a_new_refresher_wakes_who_waits() {
    const CAPACITY: usize = 8;
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("wakes")).capacity(CAPACITY).create().unwrap();
    read(&roles, &sts, 1);
    let file = File::open(segment(roles.name())).unwrap();
    // See `src/segment/pool/layout.rs`. The pool's own entry comes after those of the roles.
    let events = || {
        [0, CAPACITY].map(|entry| {
            let mut word = [0; 4];
            file.read_exact_at(&mut word, (3 * 4096 + 1384 * entry + 64) as u64).unwrap();
            u32::from_ne_bytes(word)
        })
    };
    let before = events();
    assert_ne!(before[0], 0, "the set of the role was an event");
    let _refresher = running(&roles);
    let_it_look(&roles);
    let after = events();
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
}
