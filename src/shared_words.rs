//! Words of shared memory, as one who may only read sees them.
//!
//! A mapping that was made for reading alone gives these views and nothing else. They can load, and have no
//! method that stores: a store there is a SIGSEGV. A mapping that may be written gives the atomics themselves.
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
//! The same with a store does not compile:
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
//! Nor can the atomic be taken out of the view:
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
