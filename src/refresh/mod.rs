//! Refreshing: when, by whom, and what becomes of the answer.

pub(crate) mod backoff;
pub(crate) mod dedicated;
pub(crate) mod election;
pub(crate) mod election_lock;
pub(crate) mod fetch;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod refresh_loop;
pub(crate) mod stop_handle;
pub(crate) mod wait_for_holder;
