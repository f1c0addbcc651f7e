//! The dedicated refresher: a process that runs the refresh loop until no process uses the session. Its keeper is the
//! parent process: it restarts the refresher, or cleans up after it.

use std::{
    cell::Cell,
    convert::Infallible,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::AsFd,
    path::Path,
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
        object,
        process::{self, Pid},
        spawn,
    },
};

/// A refresher that dies sooner than this may die again. The pause before its restart doubles each time, up to
/// [`LONGEST_PAUSE`]. A refresher that ran longer is restarted at once.
const SHORT_LIFE: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Starts the refresher of the session `name`, and waits until it reports its start. `forget` drops the state of the
/// parent in the new process.
///
/// # Errors
/// `System` when the process cannot be created or fails before it has started; `Timeout` when it has not started
/// within `limit`.
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
    let keeper = || {
        let Some(report) = report.take() else { unreachable!("the closure runs once") };
        match isolate_keeper(name, segment, locks, writer.take(), job, &report) {
            Ok(keeper) => {
                forget();
                keeper.run(report);
            }
            Err(fault) => fail(Some(report), &fault),
        }
        process::exit(0);
    };
    let stand_in = || {
        drop(writer.take());
        // After a failure the descriptors stay open, and the creator would wait for them to close.
        if process::isolate(&title(name), &[]).is_err() {
            process::exit(1);
        }
    };
    process::detach(keeper, stand_in).map_err(failed)?;
    drop(report);
    read_report(ready, limit)
}

/// Starts `program` as the refresher of the session `name`, and waits until it reports its start. What the program is to
/// do is in `handover`. It stands in no argument and no variable.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn start_program(
    program: &Path,
    name: &SessionName,
    segment: &Segment,
    locks: &LockFile,
    handover: &[u8],
    limit: Duration,
) -> Result<(), Fault> {
    let _reserved = ReservedStreams::new();
    let (ready, report) = pipe().map_err(failed)?;
    let memory = object::create_filled("shmcreds-handover", handover)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let (segment, descriptor) = (segment.fds()?, locks.descriptor()?);
    // In the order of `passed`.
    let fds = [memory.as_fd(), report.as_fd(), null.as_fd(), segment[0], descriptor.get()?];
    let arguments = [title(name), "refresher".to_owned()];
    let arguments = arguments.each_ref().map(String::as_str);
    let started = spawn::detached(program, &arguments, &fds, passed::REPORT);
    started.map_err(failed)?;
    drop(report);
    read_report(ready, limit)
}

/// The descriptors of a refresher's program.
pub(crate) mod passed {
    /// The handover is its standard input.
    pub(crate) const REPORT: usize = 1;
    pub(crate) const SEGMENT: i32 = 3;
    pub(crate) const LOCKS: i32 = 4;
}

/// Is the refresher in a program that [`start_program`] started: this process becomes the keeper. It has one thread.
///
/// # Errors
/// When it cannot start. The caller reports that.
pub(crate) fn run_program(
    name: &SessionName,
    segment: &Segment,
    locks: &LockFile,
    job: Job,
    report: PipeWriter,
) -> Result<Infallible, Fault> {
    let keeper = isolate_keeper(name, segment, locks, None, job, &report)?;
    keeper.run(report);
    process::exit(0)
}

fn failed(error: io::Error) -> Fault {
    Fault::system("starting the refresher", error)
}

/// The report of a refresher that is elected, or that waits because another process is elected. Any other report is
/// the reason why it could not start.
const STARTED: &[u8] = b".";

/// Waits for the report of the new process. A report arrives as a whole, because it is one small write.
fn read_report(mut report: PipeReader, limit: Duration) -> Result<(), Fault> {
    if !process::readable(&report, limit).map_err(failed)? {
        let text = format!("the refresher has not started within {limit:?}");
        return Err(Fault::new(ErrorKind::Timeout, text));
    }
    let mut text = [0; 512];
    let length = report.read(&mut text).map_err(failed)?;
    match &text[..length] {
        STARTED => Ok(()),
        [spawn::NOT_STARTED, errno @ ..] => {
            let errno = errno.try_into().map_or(0, i32::from_le_bytes);
            Err(failed(io::Error::from_raw_os_error(errno)))
        }
        [] => Err(failed(io::Error::other("its process ended or was killed during the start"))),
        text => Err(failed(io::Error::other(String::from_utf8_lossy(text)))),
    }
}

/// Reports a failure, if the creator still waits for a report.
fn fail(report: Option<PipeWriter>, fault: &Fault) {
    if let Some(mut report) = report {
        let _ = report.write_all(fault.message.as_bytes());
    }
}

/// The process name that `ps` shows.
fn title(name: &SessionName) -> String {
    format!("shmcreds: {}", name.as_str())
}

/// The keeper process.
struct Keeper {
    name: SessionName,
    refresh_loop: RefreshLoop,
}

/// Isolates the new process from its parent. It uses the session through new descriptors: the inherited ones share
/// the parent's presence lock, and would keep it locked.
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
    fn run(self, report: PipeWriter) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_refresher_is_read() {
        let reported = |text: &[u8]| {
            let (ready, mut report) = pipe().unwrap();
            report.write_all(text).unwrap();
            drop(report);
            read_report(ready, Duration::from_secs(60)).map_err(|fault| (fault.kind, fault.message))
        };
        assert_eq!(reported(STARTED), Ok(()));
        let (kind, text) = reported(b"no room").unwrap_err();
        assert_eq!((kind, &*text), (ErrorKind::System, "starting the refresher: no room"));
        let (kind, text) = reported(b"").unwrap_err();
        assert!(kind == ErrorKind::System && text.contains("killed"), "{text}");

        let (ready, _report) = pipe().unwrap();
        let fault = read_report(ready, Duration::from_millis(1)).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Timeout);
    }
}
