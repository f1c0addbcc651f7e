//! The output of a program: all that it has written to its standard output when it ends.
//!
//! A process that it leaves may keep the standard output open for any time.

use std::{
    future::{Future, pending, poll_fn},
    io,
    pin::pin,
    process::ExitStatus,
    task::Poll,
};

use rustix::{
    buffer::spare_capacity,
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStdout},
};
use zeroize::Zeroizing;

use crate::sys::exit::Exit;

/// A program that writes more bytes is killed.
pub(super) const MOST_OUTPUT: usize = 64 * 1024;

/// The output of the program. It is wiped when dropped.
pub(in crate::source) type Written = Zeroizing<Vec<u8>>;

/// Whether the output so far contains an answer, or can never become one. Then no more needs to be read.
pub(in crate::source) type IsComplete = fn(&[u8]) -> bool;

/// How a program ended.
pub(super) enum End {
    Status(ExitStatus),
    /// The exit status is unknown: this process ignores SIGCHLD, or other code has reaped the child.
    Unknown,
    /// The program still runs, and has written too much.
    TooLong,
}

/// Reads the output of `child` until it has ended and its answer is complete. Until then the child is not reaped, so
/// its pid stays the id of its process group.
pub(super) async fn read(child: &mut Child, is_complete: IsComplete) -> io::Result<(Written, End)> {
    // The buffer has its full size from the start. A buffer that grows would free smaller ones with secrets in them.
    let mut written = Zeroizing::new(Vec::with_capacity(2 * MOST_OUTPUT));
    if let Some(mut stdout) = child.stdout.take() {
        // If the kernel cannot report the end of the program, the end of its output counts.
        let exit = child.id().and_then(Exit::of);
        let mut has_ended = false;
        let mut is_open = true;
        while is_open && !(has_ended && (has_failed(child) || is_complete(&written))) {
            let awaited = exit.as_ref().filter(|_| !has_ended);
            is_open = match next(&mut stdout, awaited, &mut written).await? {
                Event::Wrote => true,
                Event::Closed => false,
                Event::Ended => {
                    has_ended = true;
                    drain(&stdout, &mut written)?
                }
            };
            if written.len() > MOST_OUTPUT {
                return Ok((written, End::TooLong));
            }
        }
    }
    match child.wait().await {
        Ok(status) => Ok((written, End::Status(status))),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => {
            Ok((written, End::Unknown))
        }
        Err(error) => Err(error),
    }
}

enum Event {
    Wrote,
    Closed,
    Ended,
}

/// Waits for the next event. Output comes before the end of the program.
async fn next(
    stdout: &mut ChildStdout,
    exit: Option<&Exit>,
    written: &mut Vec<u8>,
) -> io::Result<Event> {
    let mut read = pin!(stdout.read_buf(written));
    let mut exited = pin!(async {
        match exit {
            Some(exit) => exit.wait().await,
            None => pending().await,
        }
    });
    poll_fn(|context| match read.as_mut().poll(context) {
        Poll::Ready(Ok(0)) => Poll::Ready(Ok(Event::Closed)),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(Event::Wrote)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => exited.as_mut().poll(context).map_ok(|()| Event::Ended),
    })
    .await
}

/// Reads all that an ended program has written. False if the output is closed.
fn drain(stdout: &ChildStdout, written: &mut Vec<u8>) -> io::Result<bool> {
    while written.len() <= MOST_OUTPUT {
        match rustix::io::read(stdout, spare_capacity(written)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            // Another process has it open and has written nothing.
            Err(Errno::AGAIN) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Whether the program has failed. It is not reaped here.
fn has_failed(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let status = pid.map(|pid| waitid(WaitId::Pid(pid), options));
    matches!(status, Some(Ok(Some(status))) if status.exit_status() != Some(0))
}
