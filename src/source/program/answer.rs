//! What a program answers: all that it has written by its end. What it leaves running may keep its standard
//! output open for as long as it likes.

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

/// More than any answer has.
pub(super) const LONGEST_ANSWER: usize = 64 * 1024;

/// What the program wrote: wiped when dropped.
pub(in crate::source) type Written = Zeroizing<Vec<u8>>;

/// Whether there is an answer in what was written, or will never be one: no more needs to be read.
pub(in crate::source) type IsComplete = fn(&[u8]) -> bool;

/// How a program ended.
pub(super) enum End {
    Status(ExitStatus),
    /// Nobody can say: this process ignores the ends of its children, or waits for all of them.
    Unseen,
    /// It goes on, and has written too much.
    Flood,
}

/// Reads what `child` writes until it has ended and its answer is complete. It is not reaped before: its pid
/// stays the number of its process group.
pub(super) async fn read(child: &mut Child, is_complete: IsComplete) -> io::Result<(Written, End)> {
    // All the room at once, so that no smaller one with secrets in it is given back.
    let mut written = Zeroizing::new(Vec::with_capacity(2 * LONGEST_ANSWER));
    if let Some(mut stdout) = child.stdout.take() {
        // Where the kernel does not tell of the program's end, the end of its output does.
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
            if written.len() > LONGEST_ANSWER {
                return Ok((written, End::Flood));
            }
        }
    }
    match child.wait().await {
        Ok(status) => Ok((written, End::Status(status))),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => {
            Ok((written, End::Unseen))
        }
        Err(error) => Err(error),
    }
}

enum Event {
    Wrote,
    Closed,
    Ended,
}

/// Waits for the next thing that happens; what is written comes first.
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

/// Reads what is there: all that an ended program has written. False at the end of it.
fn drain(stdout: &ChildStdout, written: &mut Vec<u8>) -> io::Result<bool> {
    while written.len() <= LONGEST_ANSWER {
        match rustix::io::read(stdout, spare_capacity(written)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            // Somebody else has it open, and has written nothing.
            Err(Errno::AGAIN) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Whether the program has ended badly. It stays to be reaped.
fn has_failed(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let status = pid.map(|pid| waitid(WaitId::Pid(pid), options));
    matches!(status, Some(Ok(Some(status))) if status.exit_status() != Some(0))
}
