//! The reader: a handle of one thread that lends the credentials.

use std::{fmt, sync::Arc};

use aws_credential_types::Credentials;

use super::{Inner, snapshot::Snapshot};
use crate::{clock::Clock, error::Error, segment::Published, seqlock::Version};

/// Lends the current credentials to one thread, without counting references: a comparison of the
/// generation and a look at the coarse clock per read.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// # use shmcreds::{Provider, SharedSession};
/// # let make = || async {
/// #     let hour = SystemTime::now() + Duration::from_secs(3600);
/// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
/// # };
/// # let name = format!("doc-reader-{}", std::process::id());
/// # let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
/// let mut reader = session.reader();
/// assert_eq!(reader.credentials()?.access_key_id(), "ASIAEXAMPLE");
/// # Ok::<(), shmcreds::Error>(())
/// ```
pub struct Reader {
    inner: Arc<Inner>,
    snapshot: Option<Arc<Snapshot>>,
    /// The tick at which this reader last looked, and the version of the set that it found.
    tick: u64,
    version: Version,
    /// Those of `inner`, at hand.
    clock: Clock,
    published: Published,
}

impl Reader {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let (clock, published) = (inner.clock.clone(), inner.published.clone());
        let (tick, version) = (u64::MAX, Version::of_word(0));
        Reader { inner, snapshot: None, tick, version, clock, published }
    }

    /// The current credentials, as [`SharedSession::credentials`](crate::SharedSession::credentials)
    /// gives them.
    ///
    /// # Errors
    /// See [`SharedSession`](crate::SharedSession).
    #[inline]
    pub fn credentials(&mut self) -> Result<&Credentials, Error> {
        let tick = self.clock.tick();
        // Relaxed, as in `Inner::is_current`. Before the first look the tick is none of the clock's.
        if self.tick != tick || self.published.version() != self.version {
            self.look(tick)?;
        }
        match &self.snapshot {
            Some(snapshot) => Ok(&snapshot.credentials),
            None => unreachable!("a look that succeeds has found a set"),
        }
    }

    #[cold]
    fn look(&mut self, tick: u64) -> Result<(), Error> {
        let looked = self.inner.obtain(self.inner.limit());
        let snapshot = looked.map_err(|fault| self.inner.fault("credentials", fault))?;
        self.inner = self.inner.latest();
        self.published = self.inner.published.clone();
        self.version = snapshot.life.version;
        self.snapshot = Some(snapshot);
        self.tick = tick;
        Ok(())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.inner).finish()
    }
}
