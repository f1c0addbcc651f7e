//! The arithmetic of a fleet.

#[path = "../../../src/fleet/local_share.rs"]
pub(crate) mod local_share;
