//! What the refresher knows while it serves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{queue::Queue, terms::Terms};
use crate::{
    refresh::{election::Elected, fetch::FetchHandle},
    segment::{Key, Segment},
    session::{
        pool::Pool,
        request::Wish,
        snapshot::{self, Life},
    },
    source::AssumeRole,
    sys::datagram::Inbox,
};

/// A role that was asked for.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) index: usize,
    pub(super) role: Arc<AssumeRole>,
}

/// The refresher at work.
pub(super) struct Serving<'a> {
    pub(super) terms: &'a Terms,
    pub(super) pool: &'a Pool,
    pub(super) inbox: &'a Arc<Inbox>,
    /// Whether it may be asked by processes of other users: they have inherited the pool.
    pub(super) any_user: bool,
    pub(super) elected: Elected,
    /// What was asked for, as long as it has an entry.
    pub(super) roles: HashMap<Key, Known>,
    pub(super) queue: Queue,
    pub(super) running: HashMap<Key, Call>,
    /// The roles whose calls have ended.
    pub(super) ended: Arc<Mutex<Vec<Key>>>,
    /// When no call is under way any more that began before this process was elected.
    pub(super) settled: u64,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        terms: &'a Terms,
        pool: &'a Pool,
        inbox: &'a Arc<Inbox>,
        any_user: bool,
        elected: Elected,
    ) -> Self {
        let (roles, queue, running, ended) = Default::default();
        let settled = 0;
        Serving { terms, pool, inbox, any_user, elected, roles, queue, running, ended, settled }
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) thread: FetchHandle,
    pub(super) began: Instant,
    /// What was asked for the role meanwhile: one generation for each wish.
    pub(super) asked: Vec<(Wish, u64)>,
}

impl Call {
    /// Keeps a request until the call has ended: it may be about the set that the call has just published.
    pub(super) fn keep(&mut self, wish: Wish, generation: u64) {
        match self.asked.iter_mut().find(|(kept, _)| *kept == wish) {
            Some((_, kept)) => *kept = generation.max(*kept),
            None => self.asked.push((wish, generation)),
        }
    }

    pub(super) fn wait(self) {
        self.thread.wait();
    }
}

/// The newest set. A damaged one counts as none.
pub(super) fn life_of(segment: &Segment) -> Option<Life> {
    snapshot::newest(segment.view(), |life, _| life).ok().flatten()
}
