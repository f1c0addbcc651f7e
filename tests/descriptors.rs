//! Descriptors that other code of a process closes, and that the kernel gives to other files.
#![allow(unsafe_code)]

mod support;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::fs::{FileExt, OpenOptionsExt},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    unistd::{Pid, close},
};
use shmcreds::{
    ErrorKind, Provider, Refresh, SharedSession, SharedSessionBuilder,
    testing::{ManualClock, decode_newest},
};
use support::{assert_whole, child, instant, instant_set, lock, name, segment};

fn main() {
    support::run_forking(&[
        ("a_recycled_descriptor_is_never_written", a_recycled_descriptor_is_never_written),
        ("a_recycled_descriptor_is_not_closed", a_recycled_descriptor_is_not_closed),
        ("a_session_without_its_name_says_who_closed_it", a_session_without_its_name),
        ("a_forked_worker_that_closed_everything_attaches", a_worker_that_closed_everything),
        ("a_lost_presence_is_taken_again", a_lost_presence_is_taken_again),
        ("nothing_becomes_a_standard_stream", nothing_becomes_a_standard_stream),
        ("a_refresher_has_standard_streams", a_refresher_has_standard_streams),
    ]);
}

const BYTES: usize = 64 << 10;

/// As daemonising code does it.
fn close_all() {
    // SAFETY: the test takes the place of code that closes what is not its own.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    assert_eq!(closed, 0);
}

/// Files of the application, which get the numbers that were closed.
fn application_files() -> Vec<File> {
    let file = || {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![0x55; BYTES], 0).unwrap();
        file
    };
    (0..24).map(|_| file()).collect()
}

/// Nothing was written to the files, and none of their bytes is locked.
fn assert_untouched(files: &[File]) {
    for file in files {
        let mut bytes = vec![0; BYTES + 1];
        let length = file.read_at(&mut bytes, 0).expect("the file is still open");
        assert_eq!(length, BYTES, "{file:?}");
        assert!(bytes[..length].iter().all(|byte| *byte == 0x55), "{file:?} was written");
        // Asked through an open file of its own: a process does not see its own locks.
        let own = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let mut range = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&own, FcntlArg::F_OFD_GETLK(&mut range)).unwrap();
        assert_eq!(range.l_type, libc::F_UNLCK as i16, "{file:?} is locked");
    }
}

/// The kinds of session, by a name of each.
fn kinds(what: &str) -> [(&'static str, SharedSessionBuilder); 3] {
    let builder = || SharedSession::builder(name(what));
    [
        ("deferred", builder()),
        ("eager", builder().refresh(Refresh::Eager)),
        ("sealed", builder().refresh(Refresh::Eager).sealed()),
    ]
}

fn a_recycled_descriptor_is_never_written() {
    for (kind, builder) in kinds("recycled") {
        let clock = ManualClock::new().unwrap();
        child(|_| {
            let session = builder.source(instant()).clock(&clock).create().unwrap();
            close_all();
            let files = application_files();
            let first = session.credentials();
            assert_untouched(&files);
            assert_whole(&first.unwrap());
            // The set is due, is rejected, expires: all that writes, locks or maps.
            clock.advance(Duration::from_secs(3000));
            assert_whole(&session.credentials().unwrap());
            let key = session.credentials().unwrap().access_key_id().to_owned();
            session.invalidate(&key).expect("requests need no descriptor");
            assert_ne!(session.refresh().unwrap().access_key_id(), key);
            assert_untouched(&files);
            let status = session.status().map(drop);
            let passed = session.pass_to(&mut Command::new("/bin/true"));
            if kind == "sealed" {
                // It has no name by which it could be opened again.
                for error in [passed.unwrap_err(), status.unwrap_err()] {
                    assert_eq!(error.kind(), ErrorKind::DescriptorClosed, "{error}");
                    assert!(error.to_string().contains("was closed by other code"), "{error}");
                }
            } else {
                status.unwrap();
            }
            assert_untouched(&files);
            drop(session);
            assert_untouched(&files);
        })
        .finish();
    }
}

fn a_recycled_descriptor_is_not_closed() {
    for (kind, builder) in kinds("foreign") {
        child(|_| {
            let session = builder.source(instant()).create().unwrap();
            let reader = session.reader();
            close_all();
            let files = application_files();
            drop((session, reader));
            assert_untouched(&files);
            assert!(files.iter().all(|file| fcntl(file, FcntlArg::F_GETFD).is_ok()), "{kind}");
        })
        .finish();
    }
}

/// Nothing is left to open again.
fn a_session_without_its_name() {
    let name = name("nameless");
    child(|_| {
        let builder = SharedSession::builder(&name);
        let session = builder.source(instant()).create().unwrap();
        close_all();
        let files = application_files();
        std::fs::remove_file(segment(&name)).unwrap();
        std::fs::remove_file(lock(&name)).unwrap();
        let error = session.credentials().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DescriptorClosed, "{error}");
        let text = error.to_string();
        assert!(text.contains("was closed by other code of this process"), "{text}");
        assert!(text.contains(&segment(&name)[8..]), "names what was closed: {text}");
        // The names lead to other files by now.
        for path in [segment(&name), lock(&name)] {
            let mut other = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            other.as_mut().unwrap().write_all(&[0x55; BYTES]).unwrap();
        }
        let error = session.credentials().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DescriptorClosed, "{error}");
        for path in [segment(&name), lock(&name)] {
            assert_untouched(&[File::open(&path).unwrap()]);
            std::fs::remove_file(path).unwrap();
        }
        assert_untouched(&files);
    })
    .finish();
}

fn a_worker_that_closed_everything() {
    for (_, builder) in kinds("closed") {
        let session = builder.source(instant()).create().unwrap();
        let key = session.credentials().unwrap().access_key_id().to_owned();
        child(|_| {
            close_all();
            let files = application_files();
            let worker = SharedSession::attach(session.name()).unwrap();
            assert_eq!(worker.credentials().unwrap().access_key_id(), key);
            assert!(decode_newest(&worker).unwrap().is_some());
            assert_untouched(&files);
        })
        .finish();
    }
}

/// The lock that says that the session is in use goes with its descriptor; a process that opens the file again
/// takes it again.
fn a_lost_presence_is_taken_again() {
    let name = name("presence");
    let mut holder = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        let keep = report.number();
        // All but the pipe of this report.
        for number in 3..256 {
            if number != keep {
                let _ = close(number);
            }
        }
        session.credentials().unwrap();
        report.say("r");
        support::until("it is killed", || false);
    });
    assert_eq!(holder.hear(), b'r');
    let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    assert!(error.to_string().contains(&holder.pid.to_string()), "{error}");
    drop(holder);
    SharedSession::remove(&name).unwrap();
}

fn is_open(number: i32) -> bool {
    // SAFETY: the number is only asked about.
    fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_GETFD).is_ok()
}

/// A program without standard streams, whose lines go to descriptor 2 as ever.
fn nothing_becomes_a_standard_stream() {
    for (kind, builder) in kinds("streams") {
        child(|_| {
            for stream in 0..3 {
                let _ = close(stream);
            }
            static ASKED: AtomicBool = AtomicBool::new(false);
            ASKED.store(false, Ordering::Relaxed);
            let log = || {
                // SAFETY: it is used as a program uses its standard error stream, and not closed.
                let stream = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
                let written = (&*stream).write_all(b"a line of the log\n");
                assert_eq!(written.unwrap_err().raw_os_error(), Some(Errno::EBADF as i32));
            };
            let source = Provider::new("streams", move || async move {
                ASKED.store(true, Ordering::Relaxed);
                log();
                let opened: OwnedFd = File::open("/dev/null").unwrap().into();
                assert!(opened.as_fd().as_raw_fd() > 2, "a call's descriptors are no streams");
                instant_set()
            });
            let source = match kind {
                "deferred" => source,
                // The refresher is another process, with streams of its own.
                _ => instant(),
            };
            let session = builder.source(source).create().unwrap();
            assert!(!(0..3).any(is_open), "{kind}: create took a stream");
            log();
            assert_whole(&session.credentials().unwrap());
            assert_whole(&session.refresh().unwrap());
            assert_eq!(ASKED.load(Ordering::Relaxed), kind == "deferred");
            log();
            assert!(!(0..3).any(is_open), "{kind}: a call took a stream");
            let other = SharedSession::attach(session.name()).unwrap();
            assert_whole(&other.credentials().unwrap());
            assert!(!(0..3).any(is_open), "{kind}: attach took a stream");
        })
        .finish();
    }
}

fn a_refresher_has_standard_streams() {
    let said = child(|report| {
        for stream in 0..3 {
            let _ = close(stream);
        }
        let builder = SharedSession::builder(name("refresher-streams")).source(instant());
        let session = match builder.refresh(Refresh::Eager).create() {
            Ok(session) => session,
            Err(error) => return report.say(error.to_string()),
        };
        let status = session.status().unwrap();
        let refresher = Pid::from_raw(status.lease_holder().unwrap().pid() as i32);
        for stream in 0..3 {
            let target = std::fs::read_link(format!("/proc/{refresher}/fd/{stream}")).unwrap();
            report.say(format!("{}\n", target.display()));
        }
    })
    .finish();
    assert_eq!(said, "/dev/null\n".repeat(3));
}
