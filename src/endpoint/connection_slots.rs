//! Slots for connections: a few for clients that have not shown the token, and the rest for clients that have.
//!
//! Each client starts without authentication. If all slots of such clients are taken, the oldest of these clients is
//! evicted. So neither silent clients nor requests without the token can keep other clients out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// One slot of this many is for clients without authentication.
const UNAUTHENTICATED_SHARE: usize = 4;
/// How long a client may take to show the token before it can lose its slot.
const GRACE: Duration = Duration::from_millis(5);
const PERIOD: Duration = Duration::from_millis(1);

pub(crate) struct ConnectionSlots {
    /// The oldest first.
    unauthenticated: Mutex<VecDeque<Unauthenticated>>,
    most_unauthenticated: usize,
    authenticated: Arc<Semaphore>,
}

struct Unauthenticated {
    number: u64,
    since: Instant,
    evict: oneshot::Sender<()>,
}

/// The slot of one connection, until it is dropped.
pub(crate) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    number: u64,
    permit: OnceLock<OwnedSemaphorePermit>,
}

impl ConnectionSlots {
    /// `number` is the total of all slots.
    pub(crate) fn new(number: usize) -> Arc<Self> {
        let most_unauthenticated = (number / UNAUTHENTICATED_SHARE).max(1);
        let authenticated = Arc::new(Semaphore::new(number.saturating_sub(most_unauthenticated)));
        Arc::new(ConnectionSlots {
            unauthenticated: Mutex::default(),
            most_unauthenticated,
            authenticated,
        })
    }

    /// Waits until there is a slot for another client: a free one, or that of a client that can be evicted.
    pub(crate) async fn wait(&self) {
        if self.are_full() {
            // Requests that have arrived by now are read first.
            tokio::task::yield_now().await;
        }
        while self.are_full() && !self.oldest_can_be_evicted() {
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn are_full(&self) -> bool {
        self.unauthenticated().len() >= self.most_unauthenticated
    }

    fn oldest_can_be_evicted(&self) -> bool {
        self.unauthenticated().front().is_none_or(|oldest| oldest.since.elapsed() >= GRACE)
    }

    /// Gives a slot without authentication, and the receiver that reports its eviction. `number` must be larger
    /// for each connection.
    pub(crate) fn open(self: &Arc<Self>, number: u64) -> (ConnectionSlot, oneshot::Receiver<()>) {
        let (evict, evicted) = oneshot::channel();
        let mut unauthenticated = self.unauthenticated();
        while unauthenticated.len() >= self.most_unauthenticated {
            if let Some(oldest) = unauthenticated.pop_front() {
                // The client may have left already.
                let _ = oldest.evict.send(());
            }
        }
        unauthenticated.push_back(Unauthenticated { number, since: Instant::now(), evict });
        drop(unauthenticated);
        (ConnectionSlot { slots: Arc::clone(self), number, permit: OnceLock::new() }, evicted)
    }

    fn unauthenticated(&self) -> MutexGuard<'_, VecDeque<Unauthenticated>> {
        self.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a client from the list of those without authentication.
    fn forget(&self, number: u64) {
        let mut unauthenticated = self.unauthenticated();
        if let Ok(index) = unauthenticated.binary_search_by_key(&number, |client| client.number) {
            unauthenticated.remove(index);
        }
    }
}

impl ConnectionSlot {
    /// Whether the client has shown the token, and has a slot for such clients.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.permit.get().is_some()
    }

    /// The client has shown the token. It gets a slot from which it is not evicted. If there is none left, its
    /// connection ends after the answer.
    pub(crate) fn authenticate(&self) {
        if let Ok(permit) = Arc::clone(&self.slots.authenticated).try_acquire_owned() {
            let _ = self.permit.set(permit);
            self.slots.forget(self.number);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.forget(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_client_without_a_token_is_evicted_and_others_stay() {
        let slots = ConnectionSlots::new(8);
        let (first, mut evicted_first) = slots.open(1);
        let (second, mut evicted_second) = slots.open(2);
        assert!(slots.are_full());
        second.authenticate();
        assert!(second.is_authenticated() && !slots.are_full());
        let (_third, mut evicted_third) = slots.open(3);
        assert!(evicted_first.try_recv().is_err(), "there was room");
        let (fourth, _evicted) = slots.open(4);
        assert_eq!(evicted_first.try_recv(), Ok(()));
        drop((first, fourth));
        let (_fifth, _evicted) = slots.open(5);
        assert!(evicted_second.try_recv().is_err() && evicted_third.try_recv().is_err());
    }

    #[test]
    fn a_client_that_leaves_frees_its_slot() {
        let slots = ConnectionSlots::new(2);
        for number in 0..10 {
            let (slot, _evicted) = slots.open(number);
            slot.authenticate();
            assert!(slot.is_authenticated());
        }
        let (kept, _evicted) = slots.open(10);
        kept.authenticate();
        let (other, mut evicted) = slots.open(11);
        other.authenticate();
        assert!(!other.is_authenticated(), "there is one slot with authentication");
        let _next = slots.open(12);
        assert_eq!(evicted.try_recv(), Ok(()), "it had no authentication");
    }
}
