//! One set of temporary AWS credentials, in shared memory, for all the processes of a server.
//!
//! A parent creates a [`SharedSession`] before it forks its workers. Whichever process first needs
//! credentials is elected and asks the [`Source`]; all the others sleep until the set is there, and
//! read it in nanoseconds from then on. When the set is about to expire, one process refreshes it in
//! the background. No two calls of the source are made for one set, and a process that is killed at
//! any instruction leaves the last set readable and the next refresh possible.
//!
//! ```
//! # use std::time::{Duration, SystemTime};
//! # use aws_credential_types::Credentials;
//! use shmcreds::{Provider, SharedSession};
//!
//! # let name = format!("doc-crate-{}", std::process::id());
//! # let name = name.as_str();
//! // In the parent, before fork. In a real program the source is an `AssumeRole`, or a `Provider` of the
//! // SDK's default chain.
//! let session = SharedSession::builder(name)
//!     .source(Provider::new("example", || async {
//!         let hour = SystemTime::now() + Duration::from_secs(3600);
//!         Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "example")
//!     }))
//!     .create()?;
//!
//! // In a worker, after fork, or in any process of the same user.
//! let session = SharedSession::attach(name)?;
//! let credentials = session.credentials()?;
//! assert_eq!(credentials.access_key_id(), "ASIAEXAMPLE");
//! # Ok::<(), shmcreds::Error>(())
//! ```
//!
//! It needs Linux, 64-bit and little-endian. The oldest kernel that was tried has the system calls of 4.18. Below 5.14
//! there is no [`secret_memory`](SharedSessionBuilder::secret_memory). Without `pidfd_open` (below 5.3, or in a sandbox) a
//! death is noticed up to a second later. Below 5.1 there is no [`sealed`](SharedSessionBuilder::sealed) session.
//! Nothing is lost without
//! `close_range` (5.9).
//!
//! With the AWS SDK: [`SharedSession::sdk_config`], or the session itself as a `ProvideCredentials`.
//! To test a program without AWS: the `testing` feature.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("shmcreds needs Linux: futexes, pidfds and open-file-description locks");
#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("shmcreds needs a 64-bit little-endian machine: the layout of the segment is one");

#[cfg(any(feature = "object-store", feature = "object-store-0-13", feature = "opendal"))]
mod adapters;
mod atomic;
mod clock;
#[cfg(feature = "cli-core")]
mod diagnosis;
#[cfg(feature = "endpoint")]
#[doc(hidden)]
pub mod endpoint;
mod errno;
mod error;
mod fault_point;
#[cfg(feature = "fleet")]
mod fleet;
mod hexadecimal;
mod http_body;
mod http_layer;
mod name;
mod refresh;
mod roles;
mod sdk;
mod segment;
mod seqlock;
mod session;
mod shared_words;
mod source;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;

// The session, and how it is made.
pub use session::{Reader, Refresh, SetSnapshot, SharedSession, SharedSessionBuilder};
// Many roles in one segment.
pub use roles::{RoleSession, RoleStatus, RolesStatus, SharedRoles, SharedRolesBuilder};
// Calls of the source that the program makes itself.
pub use session::{Election, Term};
// Where sets come from.
pub use source::{
    AssumeRole, CredentialProcess, Fetched, Fetching, Fingerprint, FingerprintEncoder, Identifying,
    Identity, IotCore, ManualSource, Pem, Profile, Provider, Source, SourceError, SourceErrorClass,
};
// The state of a session.
#[doc(hidden)]
pub use session::run_refresher_program;
pub use session::{
    FleetRole, FleetStatus, FleetStoreState, LastFailure, LeaseHolder, State, Status,
};
#[doc(hidden)]
pub use source::{Identified, PortableSource};
// What hosts share.
#[cfg(feature = "fleet-kms")]
pub use fleet::KmsKeys;
#[cfg(feature = "fleet")]
pub use fleet::{
    Acquired, Budget, Claim, Fleet, FleetKeys, FleetStore, Lead, Permit, Publication, StoreError,
    StoredSet, Storing, Turn,
};
// A refresher of the program's own.
pub use refresh::stop_handle::StopHandle;
// The set over HTTP, for libraries with a chain of their own.
#[cfg(feature = "endpoint")]
pub use endpoint::Endpoint;
// What `shmcreds doctor` finds.
#[cfg(feature = "cli-core")]
pub use diagnosis::{Finding, Inquiry, Level, diagnose};
#[cfg(feature = "cli-core")]
#[doc(hidden)]
pub use source::command_file::{file_or_pipe, regular_file};
#[cfg(feature = "cli-core")]
#[doc(hidden)]
pub use sys::peer::peer_groups;
// What can go wrong.
pub use error::{Error, ErrorKind};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So do the examples of the documents.
#[cfg(doctest)]
#[doc = include_str!("../docs/LIFETIMES.md")]
struct Lifetimes;
