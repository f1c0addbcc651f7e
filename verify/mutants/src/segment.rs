//! What a set looks like in memory, and which bytes are locked for it.

#[path = "../../../src/segment/key.rs"]
pub(crate) mod key;
#[path = "../../../src/segment/layout.rs"]
pub(crate) mod layout;
#[path = "../../../src/segment/locks.rs"]
pub(crate) mod locks;
pub(crate) mod pool;
#[path = "../../../src/segment/record.rs"]
pub(crate) mod record;
#[path = "../../../src/segment/set_record.rs"]
pub(crate) mod set_record;
