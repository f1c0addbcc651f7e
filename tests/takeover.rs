//! Many cycles, many deaths: readers that read on while others come and go.
#![allow(unsafe_code)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use shmcreds::{
    ErrorKind, Refresh, SharedSession, State, Status,
    testing::{Fault, LocalSts, Settings, Times},
};
use support::{
    Child, Report, StopFile, assumed, child, elected, lives, lock, name, role, segment, standby,
    until,
};

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_secs(6);

/// How long a soak lasts: `SHMCREDS_SOAK_SECONDS`, a minute without it.
fn soak() -> Duration {
    let seconds = std::env::var("SHMCREDS_SOAK_SECONDS").ok();
    seconds.map_or(MINUTE, |text| Duration::from_secs(text.parse().expect("a whole number")))
}

fn main() {
    let tests: &[(&str, fn())] = &[
        ("nobody_waits_beside_a_valid_set", sixteen_readers_over_ten_cycles),
        ("a_kill_every_300_ms_for_a_minute", || both(kills, MINUTE)),
        ("mishaps_of_all_kinds", || both(mishaps, MOMENT)),
    ];
    let soaks: &[(&str, fn())] =
        &[("soak_kills", || both(kills, soak())), ("soak_mishaps", || both(mishaps, soak()))];
    support::run_forking_and_soaking(tests, soaks);
}

/// What becomes of an eager session, and at the same time of a sealed one.
fn both(test: fn(Kind, Duration), time: Duration) {
    let run = |kind| child(move |_| test(kind, time));
    for running in [run(Kind::Eager), run(Kind::Sealed)] {
        running.finish_within(time + support::LIMIT);
    }
}

/// Stands for the fields of a set that must not leave this process.
fn digest(set: &Credentials) -> u64 {
    let mut hasher = DefaultHasher::new();
    (set.secret_access_key(), set.session_token(), set.expiry()).hash(&mut hasher);
    hasher.finish()
}

/// Which sets a process saw, by key.
#[derive(Default)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn note(&mut self, set: &Credentials) {
        let known = *self.0.entry(set.access_key_id().to_owned()).or_insert_with(|| digest(set));
        assert_eq!(known, digest(set), "two sets of one key");
    }

    fn report(&self, report: &mut Report) {
        self.0.iter().for_each(|(key, digest)| report.say(format!("{key} {digest}\n")));
    }

    /// Puts together what processes have reported: sets that this STS has issued, and each the same
    /// to all. Gives how many there are.
    fn check(said: &[String], sts: &LocalSts) -> usize {
        let calls = sts.calls().unwrap();
        let issued: BTreeSet<_> =
            calls.iter().filter_map(|call| call.issued_access_key_id.as_deref()).collect();
        let mut sets = BTreeMap::new();
        for (key, digest) in said.iter().flat_map(|said| said.lines()).filter_map(pair) {
            assert!(issued.contains(key), "{key} is not of this STS");
            assert_eq!(*sets.entry(key).or_insert(digest), digest, "two sets of one key");
        }
        sets.len()
    }
}

fn pair(line: &str) -> Option<(&str, &str)> {
    line.split_once(' ')
}

/// How often this process has waited, and how often another has got its place.
fn switches() -> (i64, i64) {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (usage.voluntary_context_switches(), usage.involuntary_context_switches())
}

/// Reads flat out until told to stop: without a wait, as long as the newest set is valid.
fn read_flat_out(session: &SharedSession, stop: &StopFile) -> Seen {
    // The mandatory window of the test, and more.
    const END_OF_LIFE: Duration = Duration::from_millis(100);
    let mut seen = Seen::default();
    let mut newest = session.credentials().unwrap();
    while !stop.is_there() {
        for _ in 0..200 {
            let before = switches();
            let left = newest.expiry().unwrap().duration_since(SystemTime::now());
            let set = session.credentials().unwrap();
            let after = switches();
            // With another in its place, it may have looked at the time long before it read.
            let may_wait = left.as_ref().map_or(true, |&left| left < END_OF_LIFE);
            assert!(after.0 == before.0 || after.1 != before.1 || may_wait, "waits with {left:?}");
            seen.note(&set);
            newest = set;
        }
    }
    seen
}

fn sixteen_readers_over_ten_cycles() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().lifetime(Duration::from_secs(2))).unwrap();
    // Next to no mandatory window: until the set expires, no reader has a reason to wait.
    let windows = (Duration::from_secs(2), Duration::from_millis(1));
    let builder = SharedSession::builder(name("flat-out")).source(role(&sts));
    let builder =
        builder.advisory_window(windows.0).mandatory_window(windows.1).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    let stop = StopFile::new(session.name());
    let reader = || {
        let mut reader = child(|report| {
            // On a busy machine it is the refresher's turn first, as it is with a core to spare.
            // SAFETY: changes a number of this process.
            unsafe { nix::libc::nice(10) };
            let session = SharedSession::attach(session.name()).unwrap();
            report.say(".");
            read_flat_out(&session, &stop).report(report);
        });
        reader.hear();
        reader
    };
    let readers: Vec<Child> = (0..16).map(|_| reader()).collect();
    until("ten sets", || session.status().unwrap().generation() >= 10);
    let said = stop.end(readers);

    // Unless the next one is on its way.
    until("each set is fetched once", || {
        let status = session.status().unwrap();
        (status.source_calls(), assumed(&sts) as u64) == (status.generation(), status.generation())
    });
    let status = session.status().unwrap();
    assert_eq!((status.failed(), status.takeovers()), (0, 0));
    assert!(Seen::check(&said, &sts) >= 10);
}

/// Does `work` on the session of that name until told to stop; reports the sets it saw.
fn worker(name: &str, stop: &StopFile, work: fn(&SharedSession, &mut Seen)) -> Child {
    child(|report| {
        // One that was forked before the session was made finds it later, and has no source.
        until("there is a session", || SharedSession::attach(name).is_ok());
        let session = SharedSession::attach(name).unwrap();
        let (mut seen, mut newest) = (Seen::default(), 0);
        seen.note(&session.credentials().unwrap());
        report.say(".");
        while !stop.is_there() {
            work(&session, &mut seen);
            let generation = session.status().unwrap().generation();
            assert!(generation >= newest, "from {newest} back to {generation}");
            newest = generation;
        }
        seen.report(report);
    })
}

/// There is a valid set all along: no reader ever has to wait for one.
fn read(session: &SharedSession, seen: &mut Seen) {
    let state = session.status().unwrap().state();
    assert!(state != State::Empty && state != State::Expired, "{state:?}");
    (0..100).for_each(|_| seen.note(&session.credentials().unwrap()));
}

/// Asks for a new set, and rejects what it gets.
fn pester(session: &SharedSession, seen: &mut Seen) {
    match session.refresh() {
        Ok(set) => {
            seen.note(&set);
            session.invalidate(set.access_key_id()).unwrap();
        }
        Err(error) => {
            use ErrorKind::{SourceThrottled, SourceTransient};
            assert!(matches!(error.kind(), SourceThrottled | SourceTransient), "{error}");
        }
    }
    seen.note(&session.credentials().unwrap());
    sleep(Duration::from_millis(100));
}

/// How long a set lives. It is due after a second of that: the rest is for mishaps, on a busy machine.
const LIFE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
enum Kind {
    Eager,
    Sealed,
}

/// A session whose refreshers come to grief, and workers that must not notice.
struct Scene {
    sts: LocalSts,
    session: SharedSession,
    stop: StopFile,
    workers: Vec<Child>,
    standbys: Vec<Child>,
    kills: u64,
    stops: u64,
    /// The generation after which a call was last made to fail.
    faulty: u64,
}

impl Scene {
    fn set_up(kind: Kind, works: &[fn(&SharedSession, &mut Seen)]) -> Self {
        let sts = LocalSts::fork().unwrap();
        // Its calls take their time, so that mishaps find them at work.
        let latency = Duration::from_millis(150);
        sts.configure(Settings::new().lifetime(LIFE).latency(latency)).unwrap();
        let name = name("mishaps");
        let stop = StopFile::new(&name);
        let builder = SharedSession::builder(&name).source(role(&sts)).refresh(Refresh::Eager);
        let builder = builder
            .advisory_window(LIFE - Duration::from_secs(1))
            .mandatory_window(Duration::from_secs(1));
        let start = || works.iter().map(|&work| worker(&name, &stop, work)).collect::<Vec<_>>();
        let (session, mut workers, standbys) = match kind {
            // The workers first: without a source none of them is elected, so none of them is killed.
            Kind::Eager => {
                let (workers, session) = (start(), builder.create().unwrap());
                let standbys = vec![standby(&session), standby(&session)];
                (session, workers, standbys)
            }
            // Nobody but its own process can write, and a keeper starts that again.
            Kind::Sealed => {
                let session = builder.sealed().create().unwrap();
                (session, start(), Vec::new())
            }
        };
        workers.iter_mut().for_each(|worker| assert_eq!(worker.hear(), b'.'));
        Scene { sts, session, stop, workers, standbys, kills: 0, stops: 0, faulty: 0 }
    }

    /// Does one thing after the other, one in each period.
    fn play(&mut self, time: Duration, mishaps: &[fn(&mut Self)]) {
        let end = Instant::now() + time;
        for mishap in mishaps.iter().cycle().take_while(|_| Instant::now() < end) {
            sleep(PERIOD);
            mishap(self);
            assert!(self.workers.iter().all(|worker| lives(worker.pid)), "a worker has failed");
        }
    }

    /// The elected process. It is none of those that must not be killed.
    fn victim(&self) -> Option<Pid> {
        let victim = elected(&self.session)?;
        assert!(victim != Pid::this() && self.workers.iter().all(|worker| worker.pid != victim));
        Some(victim)
    }

    /// Kills the elected process. A standby is replaced.
    fn kill(&mut self) {
        let Some(victim) = self.victim() else { return };
        kill(victim, Signal::SIGKILL).unwrap();
        self.kills += 1;
        until("it is dead", || !lives(victim));
        let session = &self.session;
        if let Some(killed) = self.standbys.iter_mut().find(|standby| standby.pid == victim) {
            *killed = standby(session);
        }
    }

    /// Stops the elected process for a period: less than its lease.
    fn stop(&mut self) {
        let Some(victim) = self.victim() else { return };
        kill(victim, Signal::SIGSTOP).unwrap();
        self.stops += 1;
        sleep(PERIOD);
        kill(victim, Signal::SIGCONT).unwrap();
    }

    fn throttle(&mut self) {
        self.inject(Fault::Throttling);
    }

    fn fail(&mut self) {
        self.inject(Fault::Status(503));
    }

    fn hang_up(&mut self) {
        self.inject(Fault::Reset);
    }

    /// Has the next call fail, if one has succeeded since the last time: no set expires in between.
    fn inject(&mut self, fault: Fault) {
        let generation = self.session.status().unwrap().generation();
        if generation > self.faulty {
            self.faulty = generation;
            self.sts.inject(fault, Times::Next(1)).unwrap();
        }
    }

    /// Everything works, all saw the same sets, and each call was a set, a failure, or the reason for a
    /// takeover.
    fn end(self) -> Status {
        self.sts.clear_faults().unwrap();
        let before = self.session.status().unwrap().generation();
        until("it has a new set", || self.session.refresh().is_ok());
        let workers = self.workers.len() as u64;
        let said = self.stop.end(self.workers);
        assert!(Seen::check(&said, &self.sts) > 1);
        until("no call is under way", || {
            let status = self.session.status().unwrap();
            status.source_calls() <= status.generation() + status.failed() + status.takeovers()
        });
        let status = self.session.status().unwrap();
        assert!(status.generation() > before && status.published() <= status.generation());
        // Who ended between publishing and counting has not counted.
        let uncounted = status.generation() - status.published();
        assert!(uncounted <= self.kills + workers, "{uncounted}");
        assert!(assumed(&self.sts) as u64 <= status.source_calls());
        assert!((1..=self.kills).contains(&status.takeovers()));
        let name = self.session.name().to_owned();
        let last = || elected(&self.session).filter(|&pid| pid != Pid::this());
        until("one of its own is elected", || last().is_some());
        let last = last();
        drop((self.standbys, self.session));
        until("the refresher ends with the last user", || !last.is_some_and(lives));
        assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
        status
    }
}

const PERIOD: Duration = Duration::from_millis(300);

fn kills(kind: Kind, time: Duration) {
    let mut scene = Scene::set_up(kind, &[read as _; 4]);
    scene.play(time, &[Scene::kill]);
    let status = scene.end();
    assert_eq!(status.failed(), 0);
}

fn mishaps(kind: Kind, time: Duration) {
    let works: [fn(&SharedSession, &mut Seen); 4] = [read, read, read, pester];
    let mut scene = Scene::set_up(kind, &works);
    use Scene as S;
    scene.play(time, &[S::kill, S::stop, S::throttle, S::kill, S::fail, S::stop, S::hang_up]);
    let stops = scene.stops;
    let status = scene.end();
    assert!(stops > 0 && status.failed() > 0 && status.invalidations() > 0, "{status:?}");
}
