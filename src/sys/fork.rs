//! Locks that no forked child finds taken: by a thread that it does not have, they would stay so.

use std::{
    any::Any,
    cell::Cell,
    sync::{Mutex, Once, PoisonError},
};

use nix::libc;

/// Takes a lock; what comes back holds it.
type Take = fn() -> Box<dyn Any>;

static LOCKS: Mutex<Vec<Take>> = Mutex::new(Vec::new());

thread_local! {
    /// What the thread that forks holds meanwhile.
    static HELD: Cell<Vec<Box<dyn Any>>> = const { Cell::new(Vec::new()) };
}

/// Has every fork of this process hold, in both processes until it is over, what `take` gives. Nobody
/// forks who holds it already.
pub(crate) fn hold(take: Take) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers are functions of the program, which stays loaded, and may be called in any
        // thread. They do not panic.
        let _ = unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
    });
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner).push(take);
}

extern "C" fn before() {
    let locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut held: Vec<_> = locks.iter().map(|take| take()).collect();
    held.push(Box::new(locks));
    // Where a thread forks in its very last moments there is no place to keep them.
    let _ = HELD.try_with(|place| place.set(held));
}

extern "C" fn after() {
    let _ = HELD.try_with(Cell::take);
}
