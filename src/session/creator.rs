//! The process that made a session.

use std::process;

use crate::sys::process_token::ProcessToken;

/// Who made a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creator {
    process: ProcessToken,
    /// For people.
    pub(super) pid: u32,
}

impl Creator {
    pub(super) fn this() -> Option<Self> {
        Some(Creator { process: ProcessToken::current(), pid: process::id() })
    }

    /// Whether it is this process.
    pub(super) fn is_this(self) -> bool {
        self.process == ProcessToken::current()
    }
}
