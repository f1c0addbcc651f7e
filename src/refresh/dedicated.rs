//! Starts the dedicated refresher: a process that runs the refresh loop until no process uses the session. Its parent
//! process is the keeper: see `keeper.rs`.

use std::{
    cell::Cell,
    convert::Infallible,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, pipe},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use super::{fetch::Job, keeper};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    segment::{EntryWriter, Segment},
    sys::{descriptor::ReservedStreams, lock::LockFile, memory_file, process, spawn},
};

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
    let run = || {
        let Some(report) = report.take() else { unreachable!("the closure runs once") };
        match keeper::isolate(name, segment, locks, writer.take(), job, &report) {
            Ok(keeper) => {
                forget();
                keeper.run(report);
            }
            Err(fault) => keeper::fail(Some(report), &fault),
        }
        process::exit(0);
    };
    let stand_in = || {
        drop(writer.take());
        // After a failure the descriptors stay open, and the creator would wait for them to close.
        if process::isolate(&keeper::title(name), &[]).is_err() {
            process::exit(1);
        }
    };
    process::detach(run, stand_in).map_err(failed)?;
    drop(report);
    read_report(ready, limit)
}

/// Starts `program` as the refresher of the session `name`, and waits until it reports its start. What the program is to
/// do is in `handover`. It is in no argument and no variable.
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
    let memory = memory_file::create_filled("shmcreds-handover", handover)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let (segment, descriptor) = (segment.fds()?, locks.descriptor()?);
    // In the order of `passed`.
    let fds = [memory.as_fd(), report.as_fd(), null.as_fd(), segment[0], descriptor.get()?];
    let arguments = [keeper::title(name), "refresher".to_owned()];
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
    let keeper = keeper::isolate(name, segment, locks, None, job, &report)?;
    keeper.run(report);
    process::exit(0)
}

fn failed(error: io::Error) -> Fault {
    Fault::system("starting the refresher", error)
}

/// Waits for the report of the new process. A report arrives as a whole, because it is one small write.
fn read_report(mut report: PipeReader, limit: Duration) -> Result<(), Fault> {
    if !process::readable(&report, limit).map_err(failed)? {
        let text = format!("the refresher has not started within {limit:?}");
        return Err(Fault::new(ErrorKind::Timeout, text));
    }
    let mut text = [0; 512];
    let length = report.read(&mut text).map_err(failed)?;
    match &text[..length] {
        keeper::STARTED => Ok(()),
        [spawn::NOT_STARTED, errno @ ..] => {
            let errno = errno.try_into().map_or(0, i32::from_le_bytes);
            Err(failed(io::Error::from_raw_os_error(errno)))
        }
        [] => Err(failed(io::Error::other("its process ended or was killed during the start"))),
        text => Err(failed(io::Error::other(String::from_utf8_lossy(text)))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_report_of_a_refresher_is_read() {
        let reported = |text: &[u8]| {
            let (ready, mut report) = pipe().unwrap();
            report.write_all(text).unwrap();
            drop(report);
            read_report(ready, Duration::from_secs(60)).map_err(|fault| (fault.kind, fault.message))
        };
        assert_eq!(reported(keeper::STARTED), Ok(()));
        let (kind, text) = reported(b"no room").unwrap_err();
        assert_eq!((kind, &*text), (ErrorKind::System, "starting the refresher: no room"));
        let (kind, text) = reported(b"").unwrap_err();
        assert!(kind == ErrorKind::System && text.contains("killed"), "{text}");

        let (ready, _report) = pipe().unwrap();
        let fault = read_report(ready, Duration::from_millis(1)).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Timeout);
    }
}
