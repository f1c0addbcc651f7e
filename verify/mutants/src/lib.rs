//! The library's own source of the latch, its records, the byte locks and the arithmetic, with their tests.
#![cfg(test)]
#![allow(dead_code)]

#[path = "../../../src/atomic.rs"]
mod atomic;
mod clock;
mod fleet;
mod refresh;
mod segment;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
#[path = "../../../src/shared_words/mod.rs"]
mod shared_words;
mod source;
mod sys;
