//! What a refresher does in a pool of roles, in place of refreshing the one set of a session: it answers processes that ask
//! for roles.

use std::{fmt, os::fd::BorrowedFd, sync::Arc};

use super::{election::Elected, election_lock::ElectionLock};
use crate::{error::Fault, segment::Segment};

/// A service. It is plain data, so it stays valid after `fork`.
pub(crate) trait Service: fmt::Debug + Send + Sync {
    /// The descriptors that it needs in the refresher's process.
    ///
    /// # Errors
    /// `DescriptorClosed` if other code of the process has closed one.
    fn descriptors(&self) -> Result<Vec<BorrowedFd<'_>>, Fault>;

    /// Makes this process the one that is asked. It is elected.
    ///
    /// # Errors
    /// `System` when the kernel refuses a socket, `ForeignOwner` when another user has its name.
    fn open(&self) -> Result<(), Fault>;

    /// Serves until `is_stopped`, or until the election is lost.
    ///
    /// # Errors
    /// `System` when a system call fails.
    fn serve(
        &self,
        segment: &Arc<Segment>,
        lock: &Arc<ElectionLock>,
        is_stopped: &dyn Fn() -> bool,
        elected: Elected,
    ) -> Result<(), Fault>;

    /// Lets `serve` look at `is_stopped` at once. Any thread may call it.
    fn wake(&self);
}
