//! The keeper: the parent process of a dedicated refresher. It restarts the refresher, or cleans up after it, and removes
//! the names when no process uses the session any more.

use std::{
    io::{self, PipeWriter, Write},
    os::fd::AsFd,
    sync::Arc,
    thread::Builder,
    time::{Duration, Instant},
};

use super::{
    election, election_lock::ElectionLock, fetch::Job, refresh_loop::RefreshLoop,
    stop_handle::StopHandle,
};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    segment::{self, EntryWriter, Segment},
    sys::{
        lock::LockFile,
        process::{self, Pid},
    },
};

/// A refresher that dies sooner than this may die again. The pause before its restart doubles each time, up to
/// [`LONGEST_PAUSE`]. A refresher that ran longer is restarted at once.
const SHORT_LIFE: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The report of a refresher that is elected, or that waits because another process is elected. Any other report is
/// the reason why it could not start.
pub(super) const STARTED: &[u8] = b".";

/// Reports a failure, if the creator still waits for a report.
pub(super) fn fail(report: Option<PipeWriter>, fault: &Fault) {
    if let Some(mut report) = report {
        let _ = report.write_all(fault.message.as_bytes());
    }
}

/// The process name that `ps` shows.
pub(super) fn title(name: &SessionName) -> String {
    format!("shmcreds: {}", name.as_str())
}

/// The keeper process.
pub(super) struct Keeper {
    name: SessionName,
    refresh_loop: RefreshLoop,
}

/// Isolates the new process from its parent. It uses the session through new descriptors: the inherited ones share
/// the parent's presence lock, and would keep it locked.
pub(super) fn isolate(
    name: &SessionName,
    segment: &Segment,
    locks: &LockFile,
    writer: Option<EntryWriter>,
    job: Job,
    report: &PipeWriter,
) -> Result<Keeper, Fault> {
    let (locks, segment) = (locks.reopened()?, segment.again()?.with_writer(writer));
    let descriptor = locks.descriptor()?;
    let mut keep = segment.fds()?;
    keep.extend([descriptor.get()?, report.as_fd()]);
    let service = job.service.clone();
    if let Some(service) = &service {
        keep.extend(service.descriptors()?);
    }
    process::isolate(&title(name), &keep)
        .map_err(|e| Fault::system("isolating the refresher's process", e))?;
    drop(descriptor);
    let (election_lock, segment) = (ElectionLock::new(locks)?, Arc::new(segment));
    let refresh_loop = RefreshLoop::new(segment, election_lock, job, StopHandle::new());
    Ok(Keeper { name: name.clone(), refresh_loop })
}

impl Keeper {
    /// Runs the refresh loop in a child process, and does what a killed child cannot do. For a pool, and for a sealed session,
    /// it restarts the child: workers ask it, and could not take over. For another session it removes the name.
    pub(super) fn run(self, report: PipeWriter) {
        let (mut report, mut pause) = (Some(report), SHORTEST_PAUSE);
        if let Err(error) = process::check_waiting() {
            let fault = Fault::system("waiting for its process (wait4, waitid)", error);
            return fail(report, &fault);
        }
        loop {
            let began = Instant::now();
            let ended = match process::child(|| self.run_refresher(report.take())) {
                Ok(pid) => match self.wait_for_refresher(pid, began) {
                    Ok(ended) => ended,
                    // Nobody tells this process when the refresher ends: it could not do its work.
                    Err(error) => {
                        process::kill(pid);
                        fail(report.take(), &Fault::system("waiting for its process", error));
                        return self.remove_names();
                    }
                },
                Err(error) => {
                    fail(report.take(), &Fault::system("forking its process", error));
                    false
                }
            };
            drop(report.take());
            // The refresher exits by itself when no process uses the session any more.
            if ended {
                return;
            }
            if !self.is_needed() {
                return self.remove_names();
            }
            let locks = self.refresh_loop.election_lock.locks();
            // A refresher that always dies early never notices that no process uses the session.
            if locks.try_alone().unwrap_or(false) {
                return segment::remove(&self.name, locks.inode());
            }
            if began.elapsed() >= SHORT_LIFE {
                pause = SHORTEST_PAUSE;
                continue;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether no other process can take the place of the refresher.
    fn is_needed(&self) -> bool {
        let header = &self.refresh_loop.segment.header;
        header.sealed || header.pool.is_some()
    }

    /// Removes the names of a session that has some, when no other process uses it.
    fn remove_names(&self) {
        if self.refresh_loop.segment.path().is_some() {
            let _ = remove_when_alone(&self.name, self.refresh_loop.election_lock.locks());
        }
    }

    /// The body of the refresher process. True when it ended without a failure.
    fn run_refresher(&self, mut report: Option<PipeWriter>) -> bool {
        let served = process::apart(|| self.serve(&mut report))
            .map_err(|error| Fault::system("starting the refresher's thread", error))
            .and_then(|served| served.unwrap_or_else(|| Err(panicked())));
        served.inspect_err(|fault| fail(report, fault)).is_ok()
    }

    /// Waits until the refresher exits. True when it ended without a failure. Where no other process can take its place, this
    /// kills a refresher that hangs beyond its lease.
    fn wait_for_refresher(&self, pid: Pid, began: Instant) -> io::Result<bool> {
        let is_needed = self.is_needed();
        loop {
            let left = is_needed.then(|| self.lease_left(pid, began));
            if left.is_some_and(|left| left.is_zero()) {
                process::kill(pid);
            }
            let limit = left.filter(|left| !left.is_zero());
            let limit = limit.map(|limit| self.refresh_loop.job.clock.longest_sleep(limit));
            if let Some(ended) = process::wait(pid, limit)? {
                return Ok(ended);
            }
        }
    }

    /// The rest of the refresher's lease. A refresher that is not elected yet has the time of one lease for that, and waits
    /// as long as another process is elected.
    fn lease_left(&self, pid: Pid, began: Instant) -> Duration {
        let RefreshLoop { segment, election_lock, job, .. } = &self.refresh_loop;
        let now = job.clock.boot();
        let lease = job.recipe.lease();
        match election::last(segment.view(), Some(election_lock.locks()), now) {
            Ok(Some(last)) if last.pid == pid.as_raw().unsigned_abs() => {
                Duration::from_nanos(last.lease_end.saturating_sub(now))
            }
            Ok(Some(last)) if last.alive && now < last.lease_end => lease,
            _ => lease.saturating_sub(began.elapsed()),
        }
    }

    fn serve(&self, report: &mut Option<PipeWriter>) -> Result<(), Fault> {
        self.end_when_alone()?;
        let mut started = || {
            if let Some(mut report) = report.take() {
                let _ = report.write_all(STARTED);
            }
        };
        // Another process that attached in the meantime may be elected. Then this one waits for its end.
        let elected = self.refresh_loop.wait_for_election(&mut started)?;
        if elected.is_some() {
            self.refresh_loop.open()?;
        }
        started();
        let Some(elected) = elected else { return Ok(()) };
        self.refresh_loop.serve(elected)?;
        self.refresh_loop.run()
    }

    /// Exits as soon as no other process uses the session. It waits with a new open file: if it used the keeper's, and
    /// were killed after it got the lock, the keeper's file would stay locked.
    fn end_when_alone(&self) -> Result<(), Fault> {
        let (name, locks) =
            (self.name.clone(), self.refresh_loop.election_lock.locks().reopened()?);
        Builder::new()
            .name("shmcreds-alone".into())
            .spawn(move || {
                if remove_when_alone(&name, &locks).is_ok() {
                    process::exit(0);
                }
                // Do not close it: a close would free all byte locks of this process.
                std::mem::forget(locks);
            })
            .map(drop)
            .map_err(|error| {
                Fault::system("starting the thread that waits for the end of the session", error)
            })
    }
}

fn panicked() -> Fault {
    Fault::new(ErrorKind::System, "it panicked")
}

/// Waits until no other process uses the session: then the kernel grants the presence lock. Then removes the names of
/// the session.
fn remove_when_alone(name: &SessionName, locks: &LockFile) -> Result<(), Fault> {
    locks.wait_alone()?;
    segment::remove(name, locks.inode());
    Ok(())
}
