//! Locks that no forked child finds taken: by a thread that it does not have, they would stay so.

use std::{
    any::Any,
    cell::Cell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::libc;

use super::process_token;

/// Takes a lock; what comes back holds it.
type Take = fn() -> Box<dyn Any>;

/// The locks by their names.
static LOCKS: Mutex<Vec<(&str, Take)>> = Mutex::new(Vec::new());

thread_local! {
    /// What the thread that forks holds meanwhile.
    static HELD: Cell<Vec<Box<dyn Any>>> = const { Cell::new(Vec::new()) };
}

/// Has every fork of this process hold, in both processes until it is over, what `take` gives. To be called
/// before the lock `name` is taken. Nobody forks who holds it already.
pub(crate) fn hold(name: &'static str, take: Take) {
    let mut locks = locks();
    if locks.iter().all(|(known, _)| *known != name) {
        locks.push((name, take));
    }
}

fn locks() -> MutexGuard<'static, Vec<(&'static str, Take)>> {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called when the program, or the library that this is part of, is loaded: with the first use of a lock it
/// would be too late, since another thread may fork in the middle of registering.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = register;

extern "C" fn register() {
    process_token::prepare();
    // SAFETY: the handlers are functions of the program, which stays loaded, and may be called in any thread.
    // They do not panic.
    let _ = unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
}

extern "C" fn before() {
    let locks = locks();
    let mut held: Vec<_> = locks.iter().map(|(_, take)| take()).collect();
    held.push(Box::new(locks));
    // Where a thread forks in its very last moments there is no place to keep them.
    let _ = HELD.try_with(|place| place.set(held));
}

extern "C" fn after() {
    let _ = HELD.try_with(Cell::take);
}

extern "C" fn after_in_child() {
    process_token::count_fork();
    after();
}
