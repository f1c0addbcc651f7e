//! One set of temporary AWS credentials, in shared memory, for all the processes of a server.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![allow(dead_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("shmcreds needs Linux: futexes, pidfds and open-file-description locks");

mod atomic;
mod clock;
mod error;
mod name;
mod refresh;
mod segment;
mod seqlock;
mod source;
mod stage;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, ErrorKind};
pub use source::{AssumeRole, Failure, FailureClass, Fetched, Fetching, Provider, Source};
