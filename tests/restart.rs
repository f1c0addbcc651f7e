//! The process that keeps a session for others ends, and starts again, while a reader lives.
#![allow(unsafe_code)]

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use aws_credential_types::provider::ProvideCredentials;
use nix::{
    sys::signal::Signal,
    unistd::{Pid, Uid},
};
use shmcreds::{
    ErrorKind, SharedSession, SharedSessionBuilder,
    testing::{FaultPoint, LocalSts, ManualClock, signal_at},
};
use support::{Child, StopFile, child, instant, name, role, segment, until};

fn main() {
    support::run_forking(&[
        ("a_killed_owner_comes_back_beside_a_reader", a_killed_owner_comes_back),
        ("who_is_alive_is_not_taken_over", who_is_alive_is_not_taken_over),
        ("only_one_takes_over", only_one_takes_over),
        ("readers_follow_an_orderly_restart", readers_follow_an_orderly_restart),
        ("no_read_goes_back_to_the_old_session", no_read_goes_back),
        ("a_name_leads_to_the_session_that_has_it_now", a_name_leads_to_the_new_session),
        ("a_reader_keeps_its_set_beside_an_empty_session", a_reader_keeps_its_set),
        ("a_reader_that_waits_follows", a_reader_that_waits_follows),
        ("nobody_follows_another_identity", nobody_follows_another_identity),
        ("who_has_changed_its_user_follows_nobody", who_has_changed_its_user_follows_nobody),
        ("workers_with_a_source_go_on_alone", workers_with_a_source_go_on_alone),
        ("many_restarts_leave_nothing", many_restarts_leave_nothing),
    ]);
}

/// Longer than a set lives.
const TWO_HOURS: Duration = Duration::from_secs(7200);

/// A process that keeps a session as `serve` does: it refreshes it on a thread of its own, until it is told to end
/// in good order, or killed. Forked before there is any session that it would inherit.
struct Server {
    process: Child,
    start: StopFile,
    stop: StopFile,
    /// What it said at its start.
    said: String,
}

impl Server {
    fn new(builder: SharedSessionBuilder) -> Self {
        let [start, stop] = ["start", "stop"].map(|what| StopFile::new(&support::name(what)));
        let process = child(|report| {
            until("it is told to start", || start.is_there());
            let session = match builder.create_or_take_over() {
                Ok(session) => session,
                Err(error) => return report.say(format!("{:?}: {error}\n", error.kind())),
            };
            let (keeper, own) = (session.clone(), shmcreds::StopHandle::new());
            std::thread::spawn(move || keeper.run_refresher(&own));
            let set = session.credentials().unwrap();
            let elected = || support::elected(&session) == Some(Pid::this());
            until("its refresher stands", elected);
            report.say(format!("serves {}\n", set.access_key_id()));
            until("it is told to end", || stop.is_there());
            session.unlink();
        });
        Server { process, start, stop, said: String::new() }
    }

    fn start(&mut self) {
        self.start.write();
        self.said = self.process.hear_line();
    }

    fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.reap();
    }

    fn end(self) {
        self.stop.end(vec![self.process]);
    }

    fn key(&self) -> &str {
        self.said.strip_prefix("serves ").unwrap_or_else(|| panic!("{}", self.said))
    }
}

/// A session that is made and ended many times, on one clock.
struct Place {
    name: String,
    clock: ManualClock,
    sts: LocalSts,
}

impl Place {
    fn new(what: &str) -> Self {
        let (clock, sts) = (ManualClock::new().unwrap(), LocalSts::fork().unwrap());
        Place { name: name(what), clock, sts }
    }

    fn builder(&self) -> SharedSessionBuilder {
        SharedSession::builder(&self.name).source(role(&self.sts)).clock(&self.clock)
    }

    fn with_another_source(&self) -> SharedSessionBuilder {
        SharedSession::builder(&self.name).source(instant()).clock(&self.clock)
    }

    fn servers<const N: usize>(&self) -> [Server; N] {
        std::array::from_fn(|_| Server::new(self.builder()))
    }

    /// A reader without a source.
    fn reader(&self) -> SharedSession {
        let builder = SharedSession::builder(&self.name).clock(&self.clock);
        builder.wait_timeout(support::LIMIT).attach().unwrap()
    }
}

fn key(session: &SharedSession) -> String {
    let set = session.credentials().unwrap();
    set.access_key_id().to_owned()
}

fn a_killed_owner_comes_back() {
    let place = Place::new("killed");
    let [mut first, mut second] = place.servers();
    first.start();
    let reader = place.reader();
    assert_eq!(key(&reader), first.key());
    first.kill();
    let error = place.builder().create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    // It is the same session: its set is still good, and its reader goes on.
    second.start();
    assert_eq!(key(&reader), second.key());
    place.clock.advance(TWO_HOURS);
    assert_ne!(key(&reader), second.key());
    assert_eq!(reader.status().unwrap().generation(), 2);
    // The new owner removes the names in its turn.
    second.end();
    assert!(!fs::exists(segment(&place.name)).unwrap());
}

fn who_is_alive_is_not_taken_over() {
    let place = Place::new("alive");
    let [mut first, beside_the_first, beside_a_worker, mut last, beside_the_last] = place.servers();
    let another = Server::new(place.with_another_source());
    let go = StopFile::new(&place.name);
    let worker = child(|_| {
        until("the owner is dead", || go.is_there());
        let session = place.builder().attach().unwrap();
        session.run_refresher(&shmcreds::StopHandle::new()).unwrap();
    });
    let refused = |mut server: Server, kind: &str, pid: Option<Pid>| {
        server.start();
        let said = &server.said;
        assert!(said.starts_with(kind), "{said}");
        assert!(pid.is_none_or(|pid| said.contains(&format!("process {pid} "))), "{said}");
    };
    first.start();
    let session = place.reader();
    refused(beside_the_first, "InUse", Some(first.process.pid));
    first.kill();
    refused(another, "WrongSource", None);
    // Its owner is dead, and a worker with a source refreshes.
    go.write();
    until("the worker is elected", || support::elected(&session) == Some(worker.pid));
    refused(beside_a_worker, "InUse", Some(worker.pid));
    drop(worker);
    last.start();
    refused(beside_the_last, "InUse", Some(last.process.pid));
    last.end();
}

/// Two processes find the owner dead. One of them takes its place, before the other one tries to.
fn only_one_takes_over() {
    let place = Place::new("race");
    let [mut first, mut second] = place.servers();
    let go = StopFile::new(&support::name("late"));
    let late = child(|report| {
        until("the owner is dead", || go.is_there());
        signal_at(FaultPoint::OwnerDead, Signal::SIGSTOP as i32);
        let taken = place.builder().create_or_take_over();
        report.say(taken.map_or_else(|error| format!("{:?}", error.kind()), |_| "owns".into()));
    });
    first.start();
    let reader = place.reader();
    first.kill();
    go.write();
    late.stopped();
    second.start();
    assert_eq!(key(&reader), second.key());
    late.signal(Signal::SIGCONT);
    assert_eq!(late.finish(), "InUse");
    second.end();
}

fn readers_follow_an_orderly_restart() {
    let place = Place::new("orderly");
    let [mut first, mut second] = place.servers();
    first.start();
    let session = place.reader();
    let (clone, mut lent) = (session.clone(), session.reader());
    let old = key(&session);
    first.end();
    second.start();
    // The old set is good until it is due.
    assert_eq!((key(&session), key(&clone)), (old.clone(), old.clone()));
    assert_eq!(lent.credentials().unwrap().access_key_id(), old);
    place.clock.advance(session.status().unwrap().refresh_in());
    until("the reader goes on", || key(&session) != old);
    until("the server has refreshed", || session.status().unwrap().generation() == 2);
    let new = key(&session);
    assert_eq!((key(&clone), lent.credentials().unwrap().access_key_id()), (new.clone(), &*new));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let provider = session.clone();
    let provided = runtime.block_on(provider.provide_credentials());
    assert_eq!(provided.unwrap().access_key_id(), new);
    assert_ne!(session.refresh().unwrap().access_key_id(), new);
    second.end();
}

/// Nothing moves the clock: a read in the same tick takes a copy without a look at the session.
fn no_read_goes_back() {
    let place = Place::new("back");
    let [mut first, mut second] = place.servers();
    first.start();
    let session = place.reader();
    assert_eq!(key(&session), first.key());
    first.end();
    second.start();
    let mut looked = String::new();
    until("the reader goes on", || {
        let set = session.credentials_valid_for(Duration::from_secs(1)).unwrap();
        looked = set.credentials().access_key_id().to_owned();
        looked == second.key()
    });
    assert_eq!(key(&session), second.key());
    assert_eq!(session.reader().credentials().unwrap().access_key_id(), second.key());
    second.end();
}

/// A process that still holds the old session opens the new one by its name.
fn a_name_leads_to_the_new_session() {
    let place = Place::new("reopened");
    let [mut first, mut second] = place.servers();
    first.start();
    let session = place.reader();
    let old = key(&session);
    first.end();
    second.start();
    assert_eq!(key(&place.reader()), second.key());
    assert_eq!(key(&session), old, "it is good until it is due");
    second.end();
}

/// The session that has the name has no set, and nobody who fetches one.
fn a_reader_keeps_its_set() {
    let place = Place::new("empty");
    let [mut first] = place.servers();
    let [empty, fetch, stop] =
        ["empty", "fetch", "stop"].map(|what| StopFile::new(&support::name(what)));
    let mut second = child(|report| {
        until("it is told to start", || empty.is_there());
        let session = place.builder().create().unwrap();
        report.say("made\n");
        until("it is told to fetch", || fetch.is_there());
        report.say(key(&session) + "\n");
        until("it is told to end", || stop.is_there());
    });
    first.start();
    let session = SharedSession::builder(&place.name).clock(&place.clock);
    let session = session.wait_timeout(Duration::from_millis(1)).attach().unwrap();
    assert_eq!(key(&session), first.key());
    let old = first.key().to_owned();
    first.end();
    empty.write();
    assert_eq!(second.hear_line(), "made");
    for _ in 0..5 {
        place.clock.advance(Duration::from_millis(1));
        assert_eq!(key(&session), old, "it is valid");
    }
    fetch.write();
    let new = second.hear_line();
    until("the reader goes on", || {
        place.clock.advance(Duration::from_millis(1));
        key(&session) == new
    });
    stop.end(vec![second]);
}

/// It has nothing valid when the new session comes.
fn a_reader_that_waits_follows() {
    let place = Place::new("waits");
    let [mut first, mut second] = place.servers();
    first.start();
    let mut waiting = child(|report| {
        let session = place.reader();
        key(&session);
        report.say("attached\n");
        until("the set has expired", || session.status().unwrap().expires_in().is_zero());
        report.say(format!("{}\n", key(&session)));
    });
    waiting.hear_line();
    first.end();
    place.clock.advance(TWO_HOURS);
    waiting.asleep();
    second.start();
    assert_eq!(waiting.hear_line(), second.key());
    waiting.finish();
    second.end();
}

fn nobody_follows_another_identity() {
    let place = Place::new("identity");
    let [mut first] = place.servers();
    let mut second = Server::new(place.with_another_source());
    first.start();
    let session = place.reader();
    let old = key(&session);
    first.end();
    second.start();
    place.clock.advance(session.status().unwrap().refresh_in());
    assert_eq!(key(&session), old, "no error as long as it is valid");
    place.clock.advance(TWO_HOURS);
    let start = Instant::now();
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongSource, "{error}");
    assert!(start.elapsed() < support::LIMIT, "at once");
    second.end();
}

/// What has its name among the new user's sessions is that user's.
fn who_has_changed_its_user_follows_nobody() {
    if !Uid::effective().is_root() {
        return;
    }
    let place = Place::new("user");
    let nobody = Uid::from_raw(65534);
    let [mut first] = place.servers();
    let go = StopFile::new(&place.name);
    let mut theirs = child(|report| {
        until("it is told to start", || go.is_there());
        nix::unistd::setuid(nobody).unwrap();
        let session = place.builder().create().unwrap();
        report.say(format!("{}\n", key(&session)));
        std::thread::sleep(support::LIMIT);
    });
    let cleaner = child(|_| {
        nix::unistd::setuid(nobody).unwrap();
        until("nobody uses it any more", || SharedSession::remove(&place.name).is_ok());
    });
    first.start();
    let session = place.reader();
    let old = key(&session);
    first.end();
    go.write();
    assert_ne!(theirs.hear_line(), old);
    child(|_| {
        nix::unistd::setuid(nobody).unwrap();
        place.clock.advance(session.status().unwrap().refresh_in());
        assert_eq!(key(&session), old);
    })
    .finish();
    drop(theirs);
    cleaner.finish();
}

/// Their server has ended, and nobody has its name.
fn workers_with_a_source_go_on_alone() {
    let place = Place::new("alone");
    let session = place.builder().create().unwrap();
    let old = key(&session);
    let stop = StopFile::new(&place.name);
    let mut worker = child(|report| {
        let session = SharedSession::attach(&place.name).unwrap();
        report.say("attached\n");
        until("its server has ended", || stop.is_there());
        place.clock.advance(TWO_HOURS);
        assert_ne!(key(&session), old);
        assert_eq!(session.status().unwrap().generation(), 2);
    });
    worker.hear_line();
    drop(session);
    stop.end(vec![worker]);
}

/// Neither do descriptors and mappings of the sessions in between.
fn many_restarts_leave_nothing() {
    let place = Place::new("many");
    let [mut server, others @ ..] = place.servers::<5>();
    server.start();
    let session = place.reader();
    let mappings = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = links.filter_map(|link| fs::read_link(link.path()).ok());
        let files =
            links.filter(|target| target.display().to_string().contains(&place.name)).count();
        (maps.lines().filter(|line| line.contains(&place.name)).count(), files)
    };
    let mut after_one = None;
    for next in others {
        std::mem::replace(&mut server, next).end();
        server.start();
        place.clock.advance(TWO_HOURS);
        key(&session);
        assert_eq!(*after_one.get_or_insert(mappings()), mappings());
    }
    server.end();
}
