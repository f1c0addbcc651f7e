//! The parts of the library's `sys` that are models here.

#[path = "../../../src/sys/barrier.rs"]
pub(crate) mod barrier;
#[path = "../../../src/sys/copies/mod.rs"]
mod copies;
