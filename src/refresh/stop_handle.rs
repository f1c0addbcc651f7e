//! How a refresher is told to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};

use arc_swap::ArcSwap;

use super::election_lock::ElectionLock;
use crate::segment::Segment;

/// Ends the calls of [`run_refresher`](crate::SharedSession::run_refresher) that it is given to, and no others.
///
/// | when it is told to stop | what happens |
/// | --- | --- |
/// | before the call | the call returns at once |
/// | during the call | the call returns at once, or when the call of the source that is under way has ended |
/// | after the call, or once more | nothing |
///
/// Clones are one handle.
///
/// ```
/// let stop = shmcreds::StopHandle::new();
/// assert!(!stop.is_stopped());
/// stop.stop();
/// stop.stop();
/// assert!(stop.is_stopped());
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    /// What the calls that run sleep on. No lock: a thread may fork while another one changes it.
    running: ArcSwap<Vec<Running>>,
}

/// A call that runs.
#[derive(Clone, Debug)]
struct Running {
    segment: Arc<Segment>,
    election_lock: Arc<ElectionLock>,
}

impl StopHandle {
    /// A handle that has stopped nothing yet.
    pub fn new() -> Self {
        StopHandle::default()
    }

    /// Ends what it was given to, and what it will be given to. Works from any thread.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        // Pairs with the fence in `register`: either this sees the call, or the call sees that it is stopped.
        fence(Ordering::SeqCst);
        for Running { segment, election_lock } in self.0.running.load().iter() {
            // One of them wakes it: an elected refresher, or one that waits to be elected.
            election_lock.requests().notify();
            segment.announce();
        }
    }

    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        // Acquire pairs with the release in `stop`.
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Notes a call that is about to run, until the registration is dropped.
    pub(super) fn register(
        &self,
        segment: &Arc<Segment>,
        election_lock: &Arc<ElectionLock>,
    ) -> Registration {
        let running =
            Running { segment: Arc::clone(segment), election_lock: Arc::clone(election_lock) };
        self.0.running.rcu(|known| {
            let mut all = Vec::clone(known);
            all.push(running.clone());
            all
        });
        // Pairs with the fence in `stop`.
        fence(Ordering::SeqCst);
        Registration { handle: self.clone(), running }
    }
}

/// A call that runs is noted as long as this lives.
#[derive(Debug)]
pub(super) struct Registration {
    handle: StopHandle,
    running: Running,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let is_this = |one: &Running| Arc::ptr_eq(&one.election_lock, &self.running.election_lock);
        self.handle.0.running.rcu(|known| {
            let mut all = Vec::clone(known);
            if let Some(place) = all.iter().position(is_this) {
                all.remove(place);
            }
            all
        });
    }
}
