//! The handle that stops a refresher.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};

use arc_swap::ArcSwap;

use super::{election_lock::ElectionLock, service::Service};
use crate::segment::Segment;

/// Stops the calls of [`run_refresher`](crate::SharedSession::run_refresher) that receive this handle, and no others.
///
/// | when `stop` is called | what happens |
/// | --- | --- |
/// | before the call | the call returns at once |
/// | during the call | the call returns at once, or after the current call of the source |
/// | after the call, or again | nothing |
///
/// Clones share one state.
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
    /// The running calls. Not behind a lock: a thread may fork while another thread changes the list.
    running: ArcSwap<Vec<Running>>,
}

/// A running call, with what it sleeps on.
#[derive(Clone, Debug)]
struct Running {
    segment: Arc<Segment>,
    election_lock: Arc<ElectionLock>,
    service: Option<Arc<dyn Service>>,
}

impl StopHandle {
    /// A handle that is not stopped.
    pub fn new() -> Self {
        StopHandle::default()
    }

    /// Stops all calls that received this handle, and all that will receive it. Any thread may call this.
    pub fn stop(&self) {
        // Release pairs with the acquire in `is_stopped`.
        self.0.stopped.store(true, Ordering::Release);
        // Pairs with the fence in `register`: either this thread sees the registered call, or the call sees the flag.
        fence(Ordering::SeqCst);
        for Running { segment, election_lock, service } in self.0.running.load().iter() {
            if let Some(service) = service {
                service.wake();
            }
            // The first wakes an elected refresher, the second one that waits to be elected.
            election_lock.requests().notify();
            segment.announce();
        }
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        // Acquire pairs with the release in `stop`.
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Registers a call that is about to run. Dropping the registration removes it.
    pub(super) fn register(
        &self,
        segment: &Arc<Segment>,
        election_lock: &Arc<ElectionLock>,
        service: Option<&Arc<dyn Service>>,
    ) -> Registration {
        let (segment, election_lock) = (Arc::clone(segment), Arc::clone(election_lock));
        let running = Running { segment, election_lock, service: service.cloned() };
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

/// Keeps a running call registered.
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
