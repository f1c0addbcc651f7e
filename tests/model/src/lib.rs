//! The library's own source of the protocol, compiled with loom's atomics; its tests are beside it.
#![cfg(test)]

#[path = "../../../src/atomic.rs"]
mod atomic;
#[path = "../../../src/shared_words/mod.rs"]
mod shared_words;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
