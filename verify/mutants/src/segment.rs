//! What a set looks like in memory, and which bytes are locked for it.

#[path = "../../../src/segment/layout.rs"]
pub(crate) mod layout;
#[path = "../../../src/segment/locks.rs"]
pub(crate) mod locks;
#[path = "../../../src/segment/record.rs"]
pub(crate) mod record;
