//! The arithmetic of a pool: its budget, and its index.

#[path = "../../../../src/segment/pool/budget.rs"]
pub(crate) mod budget;
#[path = "../../../../src/segment/pool/index.rs"]
pub(crate) mod index;
#[path = "../../../../src/segment/pool/layout.rs"]
pub(crate) mod layout;
