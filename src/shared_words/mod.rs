//! Read-only views of words in shared memory.
//!
//! A read-only mapping gives only these views. They can load and have no method that stores, because a store there would
//! cause a SIGSEGV. A writable mapping gives the atomics themselves.
//!
//! ```
//! # mod atomic { pub(crate) use std::sync::atomic::{AtomicU64, Ordering}; }
//! # #[allow(dead_code)]
//! # mod shared_words { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/shared_words/views.rs")); }
//! # use shared_words::ReadWords;
//! # fn main() {}
//! fn read(words: ReadWords<'_>) -> Option<u64> {
//!     words.word(0).map(|word| word.load())
//! }
//! ```
//!
//! A store does not compile:
//!
//! ```compile_fail,E0599
//! # mod atomic { pub(crate) use std::sync::atomic::{AtomicU64, Ordering}; }
//! # #[allow(dead_code)]
//! # mod shared_words { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/shared_words/views.rs")); }
//! # use shared_words::ReadWords;
//! # fn main() {}
//! fn write(words: ReadWords<'_>) {
//!     words.word(0).map(|word| word.store(1));
//! }
//! ```
//!
//! The atomic inside the view is private:
//!
//! ```compile_fail,E0616
//! # mod atomic { pub(crate) use std::sync::atomic::{AtomicU64, Ordering}; }
//! # #[allow(dead_code)]
//! # mod shared_words { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/shared_words/views.rs")); }
//! # use shared_words::ReadWords;
//! # fn main() {}
//! fn write(words: ReadWords<'_>) {
//!     words.word(0).map(|word| word.0);
//! }
//! ```

mod views;

pub(crate) use views::{ReadWord, ReadWords};
