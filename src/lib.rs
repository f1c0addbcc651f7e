//! One set of temporary AWS credentials, in shared memory, for all the processes of a server.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("shmcreds needs Linux: futexes, pidfds and open-file-description locks");

mod atomic;
mod clock;
mod error;
mod name;
mod refresh;
mod sdk;
mod segment;
mod seqlock;
mod session;
mod source;
mod stage;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, ErrorKind};
pub use session::{LastFailure, Reader, SharedSession, SharedSessionBuilder, State, Status};
pub use source::{AssumeRole, Failure, FailureClass, Fetched, Fetching, Provider, Source};
