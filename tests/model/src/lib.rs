//! The library's own source of the protocol, and of the copies that threads read, compiled with loom's atomics; its
//! tests are beside it.
#![cfg(test)]
#![allow(dead_code, unused_imports)]

#[path = "../../../src/atomic.rs"]
mod atomic;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
#[path = "../../../src/shared_words/mod.rs"]
mod shared_words;
mod sys;
