//! The standard error. Nobody may read it: then its pipe, or its terminal, is full, and a write would wait without end, with all that waits
//! for the writer. So a line that does not fit within a moment is dropped and counted.
//!
//! The pipe must not become non-blocking: that is a property of the open file, which other processes have, too.

use std::{
    io::{self, IoSlice, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{Mode, SFlag, fstat},
};
use rustix::io::{Errno, ReadWriteFlags, pwritev2, write};

/// How long a line may wait, unless the one before was dropped already.
const PATIENCE: Duration = Duration::from_millis(100);
/// The pause where the kernel says that there is room, and another process takes it.
const PAUSE: Duration = Duration::from_millis(1);
/// A pipe that has room takes so many bytes at once, without a wait (`PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// What is missing in the output.
#[derive(Default)]
struct Missing {
    /// Lines that were dropped since the last one that was written.
    lines: u64,
    /// Whether the first of them was cut, and has no end.
    cut: bool,
}

static MISSING: Mutex<Missing> = Mutex::new(Missing { lines: 0, cut: false });

/// Writes a whole line of the log. `notice` is the line that says how many lines are missing before it.
pub(crate) fn log(line: &str, notice: impl FnOnce(u64) -> String) {
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let patience = if missing.lines == 0 { PATIENCE } else { Duration::ZERO };
    put(&mut missing, line, patience, notice);
}

/// Writes a line that is not of the log. It waits its time in any case, because the process may end after it.
pub(crate) fn say(line: &str) {
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let notice = |lines| format!("shmcreds: {lines} lines were not written\n");
    put(&mut missing, &format!("{line}\n"), PATIENCE, notice);
}

fn put(missing: &mut Missing, line: &str, patience: Duration, notice: impl FnOnce(u64) -> String) {
    let end = Instant::now() + patience;
    let mut text = String::new();
    if missing.cut {
        text.push('\n');
    }
    if missing.lines > 0 {
        text += &notice(missing.lines);
    }
    text += line;
    match written(text.as_bytes(), end) {
        // What cannot be written at all is nobody's to read: a closed pipe, a full disk.
        Ok(length) if length == text.len() => *missing = Missing::default(),
        Err(_) => *missing = Missing::default(),
        Ok(length) => {
            missing.lines += 1;
            missing.cut |= length > 0;
        }
    }
}

/// Writes as much as it can until `end`; gives how many bytes.
fn written(text: &[u8], end: Instant) -> io::Result<usize> {
    let stream = io::stderr();
    let stream = stream.as_fd();
    let kind = fstat(stream)?.st_mode & SFlag::S_IFMT.bits();
    if kind == SFlag::S_IFREG.bits() {
        return io::stderr().write_all(text).map(|()| text.len());
    }
    let (mut done, mut own) = (0, None);
    while done < text.len() {
        let part = &text[done..text.len().min(done + AT_ONCE)];
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stream, PollFlags::POLLOUT)], left) {
            Ok(0) => break,
            Err(nix::Error::EINTR) => continue,
            _ => {}
        }
        // Another process may fill the pipe in this moment: this call does not wait then. The offset is that of the stream.
        let at_once = pwritev2(stream, &[IoSlice::new(part)], u64::MAX, ReadWriteFlags::NOWAIT);
        match at_once {
            Ok(length) => done += length,
            Err(Errno::AGAIN) if Instant::now() >= end => break,
            Err(Errno::AGAIN) => thread::sleep(PAUSE),
            Err(Errno::INTR) => {}
            // Before Linux 6.4, and not for terminals. These say that there is room also if it is too small for the text.
            Err(_) => {
                let own: &Option<OwnedFd> = own.get_or_insert_with(|| own_file().ok());
                match write(own.as_ref().map_or(stream, AsFd::as_fd), part) {
                    Ok(length) => done += length,
                    Err(Errno::AGAIN) if Instant::now() >= end => break,
                    Err(Errno::AGAIN) => thread::sleep(PAUSE),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(done)
}

/// The same pipe or terminal, as an open file that no other process has: this one may be non-blocking.
fn own_file() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(&*format!("/proc/self/fd/{}", io::stderr().as_raw_fd()), flags, Mode::empty())
}
