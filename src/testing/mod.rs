//! Tools to test programs that use temporary credentials: an embedded STS and a manual clock.
//!
//! [`LocalSts`] answers `AssumeRole` and `GetCallerIdentity` on the loopback interface as the real service does. It logs
//! the calls and fails on demand. It needs no network and no AWS account. It does not check signatures: clients can sign
//! with any credentials.
//!
//! # Testing your own program
//!
//! Start the server and use its URL as the endpoint of your STS client:
//!
//! ```
//! use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
//! use shmcreds::testing::{Fault, LocalSts, Times};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sts = LocalSts::start()?;
//! let config = aws_sdk_sts::Config::builder()
//!     .behavior_version(BehaviorVersion::latest())
//!     .region(Region::new("us-east-1"))
//!     .credentials_provider(Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "test"))
//!     .endpoint_url(sts.url())
//!     .build();
//! let client = aws_sdk_sts::Client::from_conf(config);
//!
//! // The first attempt fails, and the client has to try again.
//! sts.inject(Fault::Status(503), Times::Next(1))?;
//! let answer = client
//!     .assume_role()
//!     .role_arn("arn:aws:iam::123456789012:role/app")
//!     .role_session_name("worker")
//!     .send()
//!     .await?;
//!
//! let credentials = answer.credentials().expect("AssumeRole gives credentials");
//! let calls = sts.calls()?;
//! assert_eq!(calls.len(), 2);
//! assert_eq!(calls[0].status, Some(503));
//! assert_eq!(calls[1].issued_access_key_id.as_deref(), Some(credentials.access_key_id()));
//! # Ok(())
//! # }
//! ```
//!
//! If you cannot pass a client to the program, set the URL in its environment. The AWS SDKs and the AWS CLI read
//! `AWS_ENDPOINT_URL_STS`. They also need a region, and credentials to sign with:
//!
//! ```no_run
//! # use shmcreds::testing::LocalSts;
//! # fn main() -> std::io::Result<()> {
//! let sts = LocalSts::start()?;
//! let status = std::process::Command::new("my-server")
//!     .env("AWS_ENDPOINT_URL_STS", sts.url())
//!     .env("AWS_REGION", "us-east-1")
//!     .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
//!     .env("AWS_SECRET_ACCESS_KEY", "any")
//!     .status()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Servers that fork
//!
//! A process with threads cannot safely fork. For tests of a prefork server use [`LocalSts::fork`], which runs the server
//! in a child process. Call it while the process has one thread. The harness of `cargo test` runs each test on its own
//! thread, so such tests need their own `main`. Workers that are forked later can use the inherited handle to read the log
//! and to inject faults. When they drop it, the server continues.
//!
//! # Faults
//!
//! [`Settings`] apply to all calls until they are replaced: latency, lifetime, the server's clock, the size of tokens. A
//! [`Fault`] affects [the next calls](Times::Next), or [every call until it is cleared](Times::UntilCleared).
//!
//! ```
//! # use std::time::Duration;
//! # use shmcreds::testing::{Fault, LocalSts, Settings, Times};
//! # fn main() -> std::io::Result<()> {
//! let sts = LocalSts::start()?;
//! sts.configure(Settings::new().lifetime(Duration::from_secs(2)).date_skew(-300))?;
//! sts.inject(Fault::Throttling, Times::Next(2))?;
//! sts.inject(Fault::BlackHole, Times::UntilCleared)?;
//! // …
//! sts.clear_faults()?;
//! # Ok(())
//! # }
//! ```
//!
//! Every user of this machine can reach the port, and can control the server through it. Its credentials are not valid
//! anywhere else.

mod child;
mod control;
mod credentials;
mod fault;
mod http;
mod local_sts;
mod log;
#[doc(hidden)]
pub mod policy;
mod query;
mod server;
mod service;
#[cfg(test)]
mod tests;

pub use credentials::is_set_of;
pub use fault::{Fault, Settings, Times};
pub use local_sts::LocalSts;
pub use log::Call;

use crate::{Error, SharedSession};
pub use crate::{
    clock::ManualClock,
    fault_point::{
        FaultPoint,
        armed::{signal_at, time_of, time_points},
    },
};

/// Copies the newest set from the segment, checks it and decodes it, as the first read of a generation does before it
/// makes the SDK's `Credentials`. For benchmarks.
///
/// Returns the length of the session token in bytes; `None` when there is no set yet.
///
/// # Errors
/// `BadChecksum` when the set is damaged.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// # use shmcreds::{Provider, SharedSession, testing};
/// # let make = || async {
/// #     let hour = SystemTime::now() + Duration::from_secs(3600);
/// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
/// # };
/// # let name = format!("doc-decode-{}", std::process::id());
/// # let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
/// assert_eq!(testing::decode_newest(&session)?, None);
/// session.credentials()?;
/// assert_eq!(testing::decode_newest(&session)?, Some("token".len()));
/// # Ok::<(), shmcreds::Error>(())
/// ```
pub fn decode_newest(session: &SharedSession) -> Result<Option<usize>, Error> {
    session.inner().decode_newest()
}
