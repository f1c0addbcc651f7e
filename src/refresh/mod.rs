//! Refreshing: when, by whom, and what becomes of the answer.

pub(crate) mod beside;
pub(crate) mod dedicated;
pub(crate) mod desk;
pub(crate) mod duty;
pub(crate) mod election;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod refresher;
pub(crate) mod standing;
