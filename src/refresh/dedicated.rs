//! The dedicated refresher: a process of its own that does the refresh loop until nobody uses the session.

use std::{
    cell::Cell,
    io::{self, PipeReader, PipeWriter, Read, Write, pipe},
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
        descriptor::ReservedStreams,
        lock::LockFile,
        process::{self, Pid},
    },
};

/// A refresher that dies sooner may do so again: it is started again later each time, at most after
/// [`LONGEST_PAUSE`]. One that has lived longer is started again at once.
const SHORT_LIFE: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether this process may fork: with several threads it may not.
///
/// # Errors
/// `Multithreaded`, with what to do instead.
pub(crate) fn check_threads() -> Result<(), Fault> {
    let threads = process::threads().map_err(|e| Fault::system("counting the threads", e))?;
    if threads == 1 {
        return Ok(());
    }
    let text = format!(
        "an eager session forks its refresher, which is not safe in a process with {threads} threads; \
         create it before anything starts threads, or use Refresh::Deferred, or let a process of its \
         own call run_refresher"
    );
    Err(Fault::new(ErrorKind::Multithreaded, text))
}

/// Starts the refresher of the session `name`; returns when it has started. `forget` makes the new
/// process forget what it has inherited.
///
/// # Errors
/// `System` when the process could not be made, or did not come so far; `Timeout` when it has not within
/// `limit`.
pub(crate) fn spawn(
    name: &SessionName,
    segment: &Segment,
    locks: &LockFile,
    writer: Option<EntryWriter>,
    job: Job,
    forget: fn(),
    limit: Duration,
) -> Result<(), Fault> {
    let _reserved = ReservedStreams::new();
    let (ready, report) = pipe().map_err(failed)?;
    let (report, writer) = (Cell::new(Some(report)), Cell::new(writer));
    let life = || {
        let Some(report) = report.take() else { unreachable!("it is forked once") };
        match isolate_keeper(name, segment, locks, writer.take(), job, &report) {
            Ok(refresher) => {
                forget();
                refresher.live(report);
            }
            Err(fault) => fail(Some(report), &fault),
        }
        process::exit(0);
    };
    let stand_in = || {
        drop(writer.take());
        // If it fails, the descriptors stay open: the creator would wait for its end.
        if process::isolate(&title(name), &[]).is_err() {
            process::exit(1);
        }
    };
    process::detach(life, stand_in).map_err(failed)?;
    drop(report);
    hear(ready, limit)
}

fn failed(error: io::Error) -> Fault {
    Fault::system("starting the refresher", error)
}

/// What a refresher reports once it is elected, or waits for the end of another. Anything else is why it could not
/// start.
const STARTED: &[u8] = b".";

/// Waits for the report of the new process, which is written at once.
fn hear(mut report: PipeReader, limit: Duration) -> Result<(), Fault> {
    if !process::readable(&report, limit).map_err(failed)? {
        let text = format!("the refresher has not started within {limit:?}");
        return Err(Fault::new(ErrorKind::Timeout, text));
    }
    let mut text = [0; 512];
    let length = report.read(&mut text).map_err(failed)?;
    match &text[..length] {
        STARTED => Ok(()),
        [] => Err(failed(io::Error::other("its process was killed at once"))),
        text => Err(failed(io::Error::other(String::from_utf8_lossy(text)))),
    }
}

/// Reports a failure to whoever still waits.
fn fail(report: Option<PipeWriter>, fault: &Fault) {
    if let Some(mut report) = report {
        let _ = report.write_all(fault.message.as_bytes());
    }
}

/// What `ps` shows.
fn title(name: &SessionName) -> String {
    format!("shmcreds: {}", name.as_str())
}

/// The life of the process.
struct Keeper {
    name: SessionName,
    refresh_loop: RefreshLoop,
}

/// Cuts the new process off from its parent: what it shares is the session, and that through
/// descriptors of its own. Those it has inherited would keep the session's presence lock.
fn isolate_keeper(
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
    process::isolate(&title(name), &keep)
        .map_err(|e| Fault::system("settling the refresher's process", e))?;
    drop(descriptor);
    let (election_lock, segment) = (ElectionLock::new(locks)?, Arc::new(segment));
    let refresh_loop = RefreshLoop::new(segment, election_lock, job, StopHandle::new());
    Ok(Keeper { name: name.clone(), refresh_loop })
}

impl Keeper {
    /// Has a child do the refresh loop, and keeps what the child cannot keep when it is killed: of a sealed session
    /// the refresh loop itself, since nobody else could take over; of one with a name the removal of the name.
    fn live(self, report: PipeWriter) {
        let (mut report, mut pause) = (Some(report), SHORTEST_PAUSE);
        loop {
            let began = Instant::now();
            let refresher = process::child(|| self.serve_apart(report.take()));
            let ended = match refresher.and_then(|pid| self.outlive(pid, began)) {
                Ok(ended) => ended,
                Err(error) => {
                    fail(report.take(), &Fault::system("its process", error));
                    false
                }
            };
            drop(report.take());
            // By itself it ends when nobody uses the session any more.
            if ended {
                return;
            }
            let locks = self.refresh_loop.election_lock.locks();
            if !self.refresh_loop.segment.header.sealed {
                let _ = remove_when_alone(&self.name, locks);
                return;
            }
            // It may have died too young to notice that, over and over.
            if locks.try_alone().unwrap_or(false) {
                return;
            }
            if began.elapsed() >= SHORT_LIFE {
                pause = SHORTEST_PAUSE;
                continue;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The life of the refresher; true if it came to its end.
    fn serve_apart(&self, mut report: Option<PipeWriter>) -> bool {
        let served = process::apart(|| self.serve(&mut report))
            .map_err(|error| Fault::system("starting its thread", error))
            .and_then(|served| served.unwrap_or_else(|| Err(panicked())));
        served.inspect_err(|fault| fail(report, fault)).is_ok()
    }

    /// Waits for the end of the refresher, which says by true that it came to it by itself. One that hangs
    /// beyond its lease is killed where nobody else could take its place.
    fn outlive(&self, pid: Pid, began: Instant) -> io::Result<bool> {
        let sealed = self.refresh_loop.segment.header.sealed;
        loop {
            let left = sealed.then(|| self.lease_left(pid, began));
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

    /// How long the refresher may be silent. One that is not elected has as long to become so.
    fn lease_left(&self, pid: Pid, began: Instant) -> Duration {
        let RefreshLoop { segment, election_lock, job, .. } = &self.refresh_loop;
        match election::last(segment.view(), election_lock.locks()) {
            Ok(Some(last)) if last.pid == pid.as_raw().unsigned_abs() => {
                Duration::from_nanos(last.lease_end.saturating_sub(job.clock.boot()))
            }
            _ => job.recipe.lease().saturating_sub(began.elapsed()),
        }
    }

    fn serve(&self, report: &mut Option<PipeWriter>) -> Result<(), Fault> {
        self.end_when_alone()?;
        let mut started = || {
            if let Some(mut report) = report.take() {
                let _ = report.write_all(STARTED);
            }
        };
        // A process that has attached meanwhile may be elected. This one waits for its end then.
        let elected = self.refresh_loop.wait_for_election(&mut started)?;
        started();
        let Some(elected) = elected else { return Ok(()) };
        self.refresh_loop.serve(elected)?;
        self.refresh_loop.run()
    }

    /// Ends the process as soon as nobody else has the session. It waits by an open file of its own: that of
    /// the keeper would stay locked if this process were killed at its end.
    fn end_when_alone(&self) -> Result<(), Fault> {
        let (name, locks) =
            (self.name.clone(), self.refresh_loop.election_lock.locks().reopened()?);
        Builder::new()
            .name("shmcreds-alone".into())
            .spawn(move || {
                if remove_when_alone(&name, &locks).is_ok() {
                    process::exit(0);
                }
                // To close it would free all that this process has locked.
                std::mem::forget(locks);
            })
            .map(drop)
            .map_err(|error| Fault::system("starting the thread that waits for the end", error))
    }
}

fn panicked() -> Fault {
    Fault::new(ErrorKind::System, "it panicked")
}

/// Sleeps until nobody else has the session: then the kernel grants the presence lock. What killed
/// processes left is removed.
fn remove_when_alone(name: &SessionName, locks: &LockFile) -> Result<(), Fault> {
    locks.wait_alone()?;
    segment::remove(name, locks.inode());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_refresher_is_heard() {
        let heard = |text: &[u8]| {
            let (ready, mut report) = pipe().unwrap();
            report.write_all(text).unwrap();
            drop(report);
            hear(ready, Duration::from_secs(60)).map_err(|fault| (fault.kind, fault.message))
        };
        assert_eq!(heard(STARTED), Ok(()));
        let (kind, text) = heard(b"no room").unwrap_err();
        assert_eq!((kind, &*text), (ErrorKind::System, "starting the refresher: no room"));
        let (kind, text) = heard(b"").unwrap_err();
        assert!(kind == ErrorKind::System && text.contains("killed"), "{text}");

        let (ready, _report) = pipe().unwrap();
        let fault = hear(ready, Duration::from_millis(1)).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Timeout);
    }
}
