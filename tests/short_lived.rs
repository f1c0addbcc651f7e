//! Processes that live shorter than a call of the source: they neither make a storm of calls nor let a set expire.
#![allow(unsafe_code)]

mod support;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{Signal, kill},
    wait::{Id, WaitPidFlag, WaitStatus, waitid},
};
use shmcreds::{
    Refresh, SharedSession, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};
use support::{Child, Gate, child, elected, lives, name, role, until};

fn main() {
    support::run_forking(&[
        ("jobs_that_exit_in_their_call", || play(Refresh::Deferred, 0)),
        ("jobs_that_are_killed", || play(Refresh::Deferred, 3)),
        ("jobs_after_their_refresher_was_killed", || play(Refresh::Eager, 0)),
        ("jobs_that_are_killed_as_their_refresher_was", || play(Refresh::Eager, 3)),
        ("jobs_of_an_empty_session", jobs_of_an_empty_session),
        ("async_jobs_wait_without_blocking_their_runtime", async_jobs_wait),
        ("a_death_is_told_and_is_no_error", a_death_is_told_and_is_no_error),
    ]);
}

const LATENCY: Duration = Duration::from_millis(300);
const JOB: Duration = Duration::from_millis(40);
const LIFE: Duration = Duration::from_secs(40);
/// How many jobs run at a time.
const JOBS: usize = 2;
/// How far the session's clock goes with each job that ends. So it is not faster than the jobs: on a busy machine a back-off
/// would be over before any job has ended.
const STEP: Duration = JOB;

struct Scene {
    sts: LocalSts,
    clock: ManualClock,
    session: SharedSession,
    jobs: Vec<Child>,
    deaths: u32,
    seed: u64,
}

impl Scene {
    fn new(refresh: Refresh) -> Self {
        let sts = LocalSts::fork().unwrap();
        sts.configure(Settings::new().lifetime(LIFE).latency(LATENCY)).unwrap();
        let clock = ManualClock::new().unwrap();
        let builder = SharedSession::builder(name("jobs")).source(role(&sts));
        let session = builder.clock(&clock).refresh(refresh).create().unwrap();
        Scene { sts, clock, session, jobs: Vec::new(), deaths: 0, seed: 1 }
    }

    /// From 0 to 1, the same in each run.
    fn chance(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) as f64 / (1u64 << 31) as f64
    }

    /// Takes leave of the jobs that have ended, and lets the clock go on.
    fn reap(&mut self) {
        for place in (0..self.jobs.len()).rev() {
            if has_ended(&self.jobs[place]) {
                let mut job = self.jobs.swap_remove(place);
                let status = job.reap();
                let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
                assert!(killed || matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
                self.deaths += 1;
                self.clock.advance(STEP);
            }
        }
    }

    /// Starts jobs in place of those that have ended, for a moment.
    fn go_on(&mut self, work: fn(&SharedSession)) {
        self.reap();
        while self.jobs.len() < JOBS {
            let session = &self.session;
            self.jobs.push(child(|_| {
                let start = Instant::now();
                work(&SharedSession::attach(session.name()).unwrap());
                sleep(JOB.saturating_sub(start.elapsed()));
            }));
        }
        sleep(Duration::from_millis(5));
    }

    /// A job that is elected and asks the source.
    fn asking(&self) -> Option<&Child> {
        let pid = elected(&self.session)?;
        self.jobs.iter().find(|job| job.pid == pid)
    }

    /// The calls that were begun, whether or not they came as far as STS.
    fn calls(&self) -> u32 {
        self.session.status().unwrap().source_calls() as u32
    }

    /// A call after the first death is made at once.
    fn bound(&self) -> u32 {
        match self.deaths {
            0 => 1,
            deaths => 1 + deaths.max(2).ilog2(),
        }
    }
}

/// Whether the child has ended; it stays to be waited for.
fn has_ended(job: &Child) -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED;
    !matches!(waitid(Id::Pid(job.pid), flags).unwrap(), WaitStatus::StillAlive)
}

fn read(session: &SharedSession) {
    session.credentials().unwrap();
}

/// One set after the other: in each cycle the first `kills` jobs that ask the source are killed in their call, and
/// others at random.
fn play(refresh: Refresh, kills: u32) {
    let mut scene = Scene::new(refresh);
    match refresh {
        Refresh::Eager => {
            let refresher = elected(&scene.session).unwrap();
            kill(refresher, Signal::SIGKILL).unwrap();
            until("the refresher is dead", || !lives(refresher));
        }
        _ => drop(child(|_| read(&SharedSession::attach(scene.session.name()).unwrap())).finish()),
    }
    for generation in 2..4 {
        let calls = scene.calls();
        scene.clock.advance(scene.session.status().unwrap().refresh_in());
        (scene.deaths, scene.seed) = (0, generation);
        let mut killed = 0;
        while scene.session.status().unwrap().generation() < generation {
            scene.go_on(read);
            let state = scene.session.status().unwrap().state();
            assert!(
                matches!(state, State::Advisory | State::Mandatory | State::Fresh),
                "{state:?}"
            );
            let asks = scene.asking().map(|job| job.pid);
            if let Some(pid) = asks.filter(|_| killed < kills) {
                let under_way = || scene.calls() > calls + killed;
                until("it asks, or is over", || under_way() || !lives(pid));
                let _ = kill(pid, Signal::SIGKILL);
                killed += 1;
            } else if kills > 0 && scene.chance() < 0.2 {
                let spared = scene.jobs.iter().find(|job| Some(job.pid) != asks);
                spared.iter().for_each(|job| kill(job.pid, Signal::SIGKILL).unwrap());
            }
        }
        scene.reap();
        let made = scene.calls() - calls;
        println!("{made} calls, {} deaths, bound {}", scene.deaths, scene.bound());
        assert!(made <= scene.bound(), "{made} calls, {} deaths", scene.deaths);
    }
    let status = scene.session.status().unwrap();
    assert_eq!((status.failed(), status.last_failure().is_none()), (0, true));
}

/// Without a valid set, and each job killed before its call can end.
fn jobs_of_an_empty_session() {
    let mut scene = Scene::new(Refresh::Deferred);
    scene.sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    while scene.deaths < 80 {
        scene.go_on(read);
        // They wait for their call, or beside one: killed all the same, they have no longer than others.
        sleep(JOB);
        scene.jobs.iter().for_each(|job| kill(job.pid, Signal::SIGKILL).unwrap());
    }
    let made = scene.calls();
    println!("{made} calls, {} deaths, bound {}", scene.deaths, scene.bound());
    assert!(made <= scene.bound(), "{made} calls, {} deaths", scene.deaths);
    drop(scene.jobs);
    scene.sts.clear_faults().unwrap();
    // Who lives long enough waits until the back-off is over, and gets its set.
    let session = &scene.session;
    let waiting = child(|_| read(&SharedSession::attach(session.name()).unwrap()));
    until("it has its set", || {
        // A lease must not end beside its call.
        if elected(session).is_none() {
            scene.clock.advance(Duration::from_millis(100));
        }
        session.status().unwrap().generation() == 1
    });
    waiting.finish();
}

/// A session in the advisory window, with a job that has exited in its call. Calls wait.
fn with_a_death(what: &str) -> (Gate, ManualClock, SharedSession) {
    let (gate, clock) = (Gate::new(), ManualClock::new().unwrap());
    let builder = SharedSession::builder(name(what)).source(gate.source());
    let session = builder.clock(&clock).create().unwrap();
    let job = |work: fn(&SharedSession)| {
        child(|_| work(&SharedSession::attach(session.name()).unwrap())).finish()
    };
    gate.open();
    job(read);
    gate.close();
    clock.advance(session.status().unwrap().refresh_in());
    let first = child(|_| {
        read(&SharedSession::attach(session.name()).unwrap());
        until("its call is under way", || gate.calls() == 2);
    });
    first.finish();
    // The next ones find the death, and are not kept by that. So many, because a busy machine has pauses, too.
    let start = Instant::now();
    (0..20).for_each(|_| drop(job(read)));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    (gate, clock, session)
}

fn a_death_is_told_and_is_no_error() {
    let (gate, _clock, session) = with_a_death("told");
    let status = session.status().unwrap();
    let last = status.last_failure().unwrap();
    assert_eq!((last.in_a_row(), last.failure().code()), (1, Some("RefresherDied")));
    assert!(last.next_attempt_in() > Duration::ZERO);
    assert_eq!((status.failed(), status.takeovers(), gate.calls()), (0, 1, 2));
    gate.open();
    // Who wants a new set at all events gets one.
    child(|_| {
        let session = SharedSession::attach(session.name()).unwrap();
        session.refresh().unwrap();
    })
    .finish();
    let status = session.status().unwrap();
    assert_eq!((status.generation(), gate.calls()), (2, 3));
    assert!(status.last_failure().is_none());
}

fn async_jobs_wait() {
    use aws_credential_types::provider::ProvideCredentials;
    let (gate, clock, session) = with_a_death("async");
    clock.advance(Duration::from_secs(2));
    child(|_| {
        let session = SharedSession::attach(session.name()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut answer = std::pin::pin!(session.provide_credentials());
            // The runtime goes on meanwhile.
            let first = tokio::time::timeout(LATENCY / 10, answer.as_mut()).await;
            assert!(first.is_err(), "it waits for its call");
            gate.open();
            answer.await.unwrap();
        });
    })
    .finish();
    assert_eq!((session.status().unwrap().generation(), gate.calls()), (2, 3));
}
