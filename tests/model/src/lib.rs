//! The library's own source of the protocol, compiled with loom's atomics; its tests are beside it.
#![cfg(test)]

#[path = "../../../src/atomic.rs"]
mod atomic;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
