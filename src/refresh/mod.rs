//! Refreshing: when, by whom, and what becomes of the answer.

pub(crate) mod desk;
pub(crate) mod election;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod refresher;
