//! The library's own source of the latch and of its records; their tests are beside it.
#![cfg(test)]
#![allow(dead_code)]

#[path = "../../../src/atomic.rs"]
mod atomic;
mod segment;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
