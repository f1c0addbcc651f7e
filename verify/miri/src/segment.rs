//! What a set looks like in memory.

#[path = "../../../src/segment/layout.rs"]
pub(crate) mod layout;
#[path = "../../../src/segment/record.rs"]
pub(crate) mod record;
