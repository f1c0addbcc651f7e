//! The library's own source of the latch, of its records, and of the copies that threads read; their tests are beside it.
#![cfg(test)]
#![allow(dead_code, unused_imports)]

#[path = "../../../src/atomic.rs"]
mod atomic;
mod segment;
#[path = "../../../src/seqlock/mod.rs"]
mod seqlock;
#[path = "../../../src/shared_words/mod.rs"]
mod shared_words;
mod sys;
