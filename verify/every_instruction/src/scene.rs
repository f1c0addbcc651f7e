//! A session with one set, and what must be true of it whatever became of a process that refreshed.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use nix::sys::{signal::Signal, wait::WaitStatus};
use shmcreds::{
    ErrorKind, SharedSession,
    testing::{ManualClock, FaultPoint, signal_at},
};

use crate::{
    processes::{self, Reporter},
    run::Stage,
    sets,
    tracee::Tracee,
};

/// How soon another process has a new set, whatever has happened to the one before.
const PROMISE: Duration = Duration::from_secs(1);
/// How long nobody asks the source after its first failure.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long a process may take that does not keep its promise, before it is called a hang.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the source answers to the process that is killed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// A set.
    Set,
    /// A failure.
    Failure,
}

/// What became of the process that refreshed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Predecessor {
    /// It resigned.
    Resigned,
    /// It was killed in the middle of a slot.
    Killed,
}

/// What is the same in all trials.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// Whether time passes by hand.
    pub clock: bool,
    pub answer: Answer,
    pub predecessor: Predecessor,
}

/// A session of this process, which holds its first set.
pub struct Scene {
    answer: Answer,
    pub session: SharedSession,
    pub clock: Option<ManualClock>,
    /// When its first set was made.
    pub first: u64,
}

/// What a process found that came afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// When the set was made that was there.
    pub there: u64,
    /// When its own newest set was made.
    pub newest: u64,
    /// How long its slowest refresh took.
    pub slowest: Duration,
    /// How many sets it has made itself.
    pub made: u64,
}

impl Scene {
    /// A new session.
    pub fn new(plot: Plot) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("every-instruction-{}-{number}", std::process::id());
        let clock =
            plot.clock.then(ManualClock::new).transpose().map_err(|error| error.to_string())?;
        let mut builder = SharedSession::builder(name).source(sets::source());
        if let Some(clock) = &clock {
            builder = builder.clock(clock);
        }
        let session = builder.create().map_err(|error| error.to_string())?;
        let first = set_of(&session)?;
        if plot.predecessor == Predecessor::Killed {
            be_killed(&session)?;
        }
        Ok(Scene { answer: plot.answer, session, clock, first })
    }

    /// Another process, which reads and then refreshes so many times.
    pub fn another(&self, refreshes: usize) -> Result<Reporter, String> {
        let name = self.session.name();
        Reporter::start(|| {
            let session = SharedSession::attach(name).map_err(|error| error.to_string())?;
            sets::take_count();
            let there = set_of(&session)?;
            let (mut newest, mut slowest) = (there, Duration::ZERO);
            for _ in 0..refreshes {
                let began = Instant::now();
                let set = loop {
                    match session.refresh() {
                        // Others honour the back-off after a failure.
                        Err(error) if error.kind() == ErrorKind::SourceTransient => {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        done => break done.map_err(|error| error.to_string())?,
                    }
                };
                slowest = slowest.max(began.elapsed());
                let made = sets::made_at(&set)?;
                if made <= newest {
                    return Err(format!("a refresh went back from the set of {newest} to {made}"));
                }
                newest = made;
            }
            Ok(format!("{there} {newest} {} {}", slowest.as_micros(), sets::take_count()))
        })
    }

    /// What `another` found, which must have kept its promise.
    pub fn found(&self, another: Reporter) -> Result<Found, String> {
        let said = another.finish(PATIENCE)?;
        let mut numbers = said.split(' ').map_while(|text| text.parse::<u64>().ok());
        let mut next = || numbers.next().ok_or_else(|| format!("a process says {said:?}"));
        let (there, newest, slowest) = (next()?, next()?, Duration::from_micros(next()?));
        let made = next()?;
        if slowest > self.promise() {
            return Err(format!("the next process needed {slowest:?} for a new set"));
        }
        Ok(Found { there, newest, slowest, made })
    }

    /// How soon another process has a new set.
    pub fn promise(&self) -> Duration {
        match self.answer {
            Answer::Set => PROMISE,
            Answer::Failure => PROMISE + BACK_OFF,
        }
    }

    /// Whether the process that was killed or stopped has told what its source said, a set or a failure.
    pub fn is_told(&self) -> Result<bool, String> {
        let status = self.session.status().map_err(|error| error.to_string())?;
        Ok(match self.answer {
            Answer::Set => self.newest()? != self.first,
            Answer::Failure => status.last_failure().is_some(),
        })
    }

    /// When the newest set was made, which is whole.
    pub fn newest(&self) -> Result<u64, String> {
        set_of(&self.session)
    }

    /// Ends the session: nothing of it is left.
    pub fn end(self) -> Result<(), String> {
        let path = self.path();
        let status = self.session.status().map_err(|error| error.to_string())?;
        if let Some(refresher) = status.lease_holder() {
            return Err(format!("the election is still held: {refresher:?}"));
        }
        drop(self.session);
        let left = [path.clone(), path + "@lock"]
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or(true));
        left.map_or(Ok(()), |path| Err(format!("{path} is left")))
    }

    fn path(&self) -> String {
        format!("/dev/shm/shmcreds-{}-{}", nix::unistd::geteuid(), self.session.name())
    }
}

impl Stage for Scene {
    /// A traced process that is about to refresh.
    fn victim(&self) -> Result<Tracee, String> {
        let (name, fails) = (self.session.name(), self.answer == Answer::Failure);
        Tracee::start(
            || {
                if fails {
                    sets::fail();
                }
                SharedSession::attach(name).map_err(|error| error.to_string())
            },
            |session| match session.refresh() {
                Err(error) if !fails => Err(error.to_string()),
                _ => Ok(()),
            },
        )
    }

    fn shared_bytes(&self) -> [Vec<u8>; 2] {
        [self.path() + "@lock", self.path()].map(|path| fs::read(path).unwrap_or_default())
    }
}

/// Has a process die in the middle of a refresh.
fn be_killed(session: &SharedSession) -> Result<(), String> {
    let pid = processes::start(|| {
        let session = SharedSession::attach(session.name()).map_err(|error| error.to_string())?;
        signal_at(FaultPoint::MidWrite, Signal::SIGKILL as i32);
        session.refresh().map(drop).map_err(|error| error.to_string())
    })?;
    match processes::wait(pid, false, PATIENCE)? {
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => Ok(()),
        other => Err(format!("the process that was to be killed did {other:?}")),
    }
}

fn set_of(session: &SharedSession) -> Result<u64, String> {
    let set = session.credentials().map_err(|error| error.to_string())?;
    sets::made_at(&set)
}
