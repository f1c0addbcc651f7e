//! A limit of file sizes (`RLIMIT_FSIZE`): a log that reaches it must not kill the process that keeps the session.

use std::{
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::signal::{SigHandler, Signal, signal};

/// Whether the signal had its default effect at the start, which it has for CMD.
static WAS_DEFAULT: AtomicBool = AtomicBool::new(false);

/// Makes a write beyond the limit an error, in place of a signal that ends the process.
#[allow(unsafe_code)]
pub(crate) fn make_an_error() {
    // SAFETY: no handler is installed.
    let before = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    // Relaxed: this process has one thread at its start.
    WAS_DEFAULT.store(matches!(before, Ok(SigHandler::SigDfl)), Ordering::Relaxed);
}

/// Lets the program that `command` starts have the signal as it was at the start.
#[allow(unsafe_code)]
pub(crate) fn as_at_the_start(command: &mut Command) {
    let restore = || {
        if WAS_DEFAULT.load(Ordering::Relaxed) {
            // SAFETY: no handler is installed.
            unsafe { signal(Signal::SIGXFSZ, SigHandler::SigDfl) }.map_err(io::Error::from)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one async-signal-safe system call.
    unsafe { command.pre_exec(restore) };
}
