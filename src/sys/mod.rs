//! System calls: the only room with `unsafe` in it, and one that knows nothing of credentials.
#![allow(unsafe_code)]

pub(crate) mod death_watch;
pub(crate) mod descriptor;
pub(crate) mod dump;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod object;
pub(crate) mod process;
pub(crate) mod process_token;
pub(crate) mod runtime;
pub(crate) mod task;
