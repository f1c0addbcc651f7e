//! How long the records of a pool may be.

#[path = "../../../../src/segment/pool/layout.rs"]
pub(crate) mod layout;
