//! Refresh: when it happens, which process does it, and how the result is published.

pub(crate) mod backoff;
pub(crate) mod backoff_delays;
pub(crate) mod dedicated;
pub(crate) mod election;
pub(crate) mod election_lock;
pub(crate) mod fetch;
pub(crate) mod gate;
mod keeper;
pub(crate) mod policy;
pub(crate) mod predecessor;
pub(crate) mod publish;
pub(crate) mod refresh_loop;
pub(crate) mod service;
mod slots;
pub(crate) mod stop_handle;
pub(crate) mod term_call;
pub(crate) mod wait_for_holder;
