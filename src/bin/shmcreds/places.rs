//! Places for connections: a few for clients that have not shown that they may ask, the rest for those
//! that have.
//!
//! Every client begins as a stranger. When the strangers' places are taken, the one that has been there
//! longest makes room for the next: neither silence nor requests without the token keep others out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Which part of the places is the strangers'.
const SHARE_OF_STRANGERS: usize = 4;
/// How long a client may take to show the token before it can lose its place.
const GRACE: Duration = Duration::from_millis(5);
const PERIOD: Duration = Duration::from_millis(1);

pub(crate) struct Places {
    /// The oldest first.
    strangers: Mutex<VecDeque<Stranger>>,
    most_strangers: usize,
    known: Arc<Semaphore>,
}

struct Stranger {
    number: u64,
    since: Instant,
    leave: oneshot::Sender<()>,
}

/// The place of one connection, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    kept: OnceLock<OwnedSemaphorePermit>,
}

impl Places {
    /// So many places in all.
    pub(crate) fn new(number: usize) -> Arc<Self> {
        let most_strangers = (number / SHARE_OF_STRANGERS).max(1);
        let known = Arc::new(Semaphore::new(number.saturating_sub(most_strangers)));
        Arc::new(Places { strangers: Mutex::default(), most_strangers, known })
    }

    /// Waits until there is a place for one more, at worst that of a stranger whose time is over.
    pub(crate) async fn wait(&self) {
        if self.are_full() {
            // Those who have said something by now are heard first.
            tokio::task::yield_now().await;
        }
        while self.are_full() && !self.oldest_had_its_time() {
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn are_full(&self) -> bool {
        self.strangers().len() >= self.most_strangers
    }

    fn oldest_had_its_time(&self) -> bool {
        self.strangers().front().is_none_or(|oldest| oldest.since.elapsed() >= GRACE)
    }

    /// A stranger's place, and what tells it to leave. Numbers grow from one connection to the next.
    pub(crate) fn enter(self: &Arc<Self>, number: u64) -> (Place, oneshot::Receiver<()>) {
        let (leave, told) = oneshot::channel();
        let mut strangers = self.strangers();
        while strangers.len() >= self.most_strangers {
            if let Some(oldest) = strangers.pop_front() {
                // It may have left by itself, a moment ago.
                let _ = oldest.leave.send(());
            }
        }
        strangers.push_back(Stranger { number, since: Instant::now(), leave });
        drop(strangers);
        (Place { places: Arc::clone(self), number, kept: OnceLock::new() }, told)
    }

    fn strangers(&self) -> MutexGuard<'_, VecDeque<Stranger>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a stranger off the list.
    fn strike(&self, number: u64) {
        let mut strangers = self.strangers();
        if let Ok(index) = strangers.binary_search_by_key(&number, |stranger| stranger.number) {
            strangers.remove(index);
        }
    }
}

impl Place {
    /// Whether the client has shown that it may ask, and may stay.
    pub(crate) fn is_known(&self) -> bool {
        self.kept.get().is_some()
    }

    /// The client has shown that it may ask: it gets a place that no stranger can take. Where there is none
    /// left, its connection ends with the answer.
    pub(crate) fn keep(&self) {
        if let Ok(permit) = Arc::clone(&self.places.known).try_acquire_owned() {
            let _ = self.kept.set(permit);
            self.places.strike(self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.strike(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_makes_room_and_those_who_are_known_stay() {
        let places = Places::new(8);
        let (first, mut told_first) = places.enter(1);
        let (second, mut told_second) = places.enter(2);
        assert!(places.are_full());
        second.keep();
        assert!(second.is_known() && !places.are_full());
        let (_third, mut told_third) = places.enter(3);
        assert!(told_first.try_recv().is_err(), "there was room");
        let (fourth, _told) = places.enter(4);
        assert_eq!(told_first.try_recv(), Ok(()));
        drop((first, fourth));
        let (_fifth, _told) = places.enter(5);
        assert!(told_second.try_recv().is_err() && told_third.try_recv().is_err());
    }

    #[test]
    fn whoever_leaves_makes_room() {
        let places = Places::new(2);
        for number in 0..10 {
            let (place, _told) = places.enter(number);
            place.keep();
            assert!(place.is_known());
        }
        let (kept, _told) = places.enter(10);
        kept.keep();
        let (other, mut told) = places.enter(11);
        other.keep();
        assert!(!other.is_known(), "there is one place for those who are known");
        let _next = places.enter(12);
        assert_eq!(told.try_recv(), Ok(()), "it was still a stranger");
    }
}
