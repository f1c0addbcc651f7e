//! The service of a pool's refresher: where it is asked, and its start.

use std::{os::fd::BorrowedFd, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use super::{own_roles::OwnRoles, state::Serving, terms::Terms};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{election::Elected, election_lock::ElectionLock, service::Service},
    segment::{Segment, lock_inode, pool::Budget},
    session::{pool::Pool, unreachable::Unreachable},
    sys::{
        datagram::{self, Inbox},
        descriptor::{Descriptor, Inode},
    },
};

/// What the refresher needs. It is plain data, so it stays valid after `fork`.
#[derive(Debug)]
pub(in crate::session) struct PoolService {
    pub(in crate::session) terms: Terms,
    pub(in crate::session) budget: Budget,
    pub(in crate::session) wait_timeout: Duration,
    /// The lock file, which tells whether the name is that of this pool.
    pub(in crate::session) lock_file: Inode,
    /// Where requests arrive in a pool without a name. With a name, they arrive at a socket beside the segment.
    pub(in crate::session) receiver: Option<Descriptor>,
    pub(in crate::session) own: OwnRoles,
    /// Where requests arrive while this process serves. Not behind a lock: a thread may fork while another one sets it.
    pub(in crate::session) inbox: ArcSwapOption<Inbox>,
}

impl PoolService {
    /// The socket beside the segment. A pool that has lost its name has none: nobody removed it any more. Then processes do the
    /// work themselves, if they have the base source.
    fn bound(&self) -> Result<Inbox, Fault> {
        let has_name = || lock_inode(&self.terms.name) == Some(self.lock_file);
        if has_name() {
            let inbox = Inbox::bound(&self.terms.name.asks())?;
            // Else it was removed meanwhile, and the drop removes the socket.
            if has_name() {
                return Ok(inbox);
            }
        }
        Inbox::of_pair(&datagram::pair()?.1)
    }

    fn pool(&self, segment: &Arc<Segment>, lock: &Arc<ElectionLock>) -> Pool {
        Pool {
            name: self.terms.name.clone(),
            segment: Arc::clone(segment),
            lock: Arc::clone(lock),
            budget: self.budget,
            windows: self.terms.base.windows,
            clock: self.terms.clock.clone(),
            wait_timeout: self.wait_timeout,
            creator: None,
            rules: self.terms.rules,
            recipe: Some(self.terms.base.clone()),
            model: Arc::default(),
            successor: ArcSwapOption::empty(),
            unreachable: Unreachable::default(),
        }
    }
}

impl Service for PoolService {
    fn descriptors(&self) -> Result<Vec<BorrowedFd<'_>>, Fault> {
        self.receiver.iter().map(Descriptor::get).collect()
    }

    fn open(&self) -> Result<(), Fault> {
        let inbox = match &self.receiver {
            Some(receiver) => Inbox::of_pair(receiver)?,
            None => self.bound()?,
        };
        self.inbox.store(Some(Arc::new(inbox)));
        Ok(())
    }

    fn serve(
        &self,
        segment: &Arc<Segment>,
        lock: &Arc<ElectionLock>,
        is_stopped: &dyn Fn() -> bool,
        elected: Elected,
    ) -> Result<(), Fault> {
        let inbox = match self.inbox.load_full() {
            Some(inbox) => inbox,
            None => {
                self.open()?;
                self.inbox.load_full().ok_or_else(|| Fault::new(ErrorKind::System, "no socket"))?
            }
        };
        let pool = self.pool(segment, lock);
        let mut serving =
            Serving::new(&self.terms, &pool, &inbox, self.receiver.is_some(), elected);
        serving.learn(&self.own);
        let served = serving.run(is_stopped);
        self.inbox.store(None);
        served
    }

    fn wake(&self) {
        if let Some(inbox) = self.inbox.load_full() {
            inbox.wake();
        }
    }
}
