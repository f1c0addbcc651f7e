//! The library's own source of the latch, its records, the byte locks and the refresh policy, with their tests.
#![cfg(test)]
#![allow(dead_code)]

#[path = "../../../src/atomic.rs"]
mod atomic;
mod clock;
mod refresh;
mod segment;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
#[path = "../../../src/shared_words/mod.rs"]
mod shared_words;
mod source;
