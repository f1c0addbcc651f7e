//! Locks that are free in each forked child. Without this, a child could inherit a lock that another thread
//! of its parent holds, and nothing in the child would ever free it.

use std::{
    any::Any,
    cell::Cell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::libc;

use super::process_token;

/// Takes a lock and returns its guard.
type Take = fn() -> Box<dyn Any>;

/// The locks by their names.
static LOCKS: Mutex<Vec<(&str, Take)>> = Mutex::new(Vec::new());

thread_local! {
    /// The guards that the forking thread holds during the fork.
    static HELD: Cell<Vec<Box<dyn Any>>> = const { Cell::new(Vec::new()) };
}

/// Registers the lock `name`: each `fork` of this process first takes it with `take`, and frees it in both
/// processes afterwards.
///
/// Call this before taking the lock. A thread that holds the lock must not fork.
pub(crate) fn hold(name: &'static str, take: Take) {
    let mut locks = locks();
    if locks.iter().all(|(known, _)| *known != name) {
        locks.push((name, take));
    }
}

fn locks() -> MutexGuard<'static, Vec<(&'static str, Take)>> {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs when the program, or the library that contains this code, is loaded. At the first use of a lock it would
/// be too late: another thread could fork during the registration.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = register;

extern "C" fn register() {
    process_token::prepare();
    // SAFETY: the handlers may run in any thread and do not unwind: `take` ignores poison. They are never called
    // after their code is gone. `pthread_atfork` is linked statically into the program or library that uses it,
    // and registers the handlers for exactly that object. When `dlclose` unloads a library (a Python extension,
    // for example), glibc removes the library's handlers (`__cxa_finalize`). musl never unloads a library.
    let _ = unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
}

extern "C" fn before() {
    let locks = locks();
    let mut held: Vec<_> = locks.iter().map(|(_, take)| take()).collect();
    held.push(Box::new(locks));
    // A thread that forks while its thread-locals are destroyed has no place to keep the guards.
    let _ = HELD.try_with(|place| place.set(held));
}

extern "C" fn after() {
    let _ = HELD.try_with(Cell::take);
}

extern "C" fn after_in_child() {
    process_token::count_fork();
    after();
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{sync::mpsc::channel, thread, time::Duration};

    use super::*;
    use crate::sys::process;

    /// Forks while a thread holds the lock of `take`. The child must be able to take it.
    pub(crate) fn a_child_can_take(take: fn() -> Box<dyn Any>) {
        drop(take());
        let (held, holds) = channel();
        let holder = thread::spawn(move || {
            let lock = take();
            held.send(()).unwrap();
            // Long enough for the fork to happen meanwhile; the outcome does not depend on it.
            thread::sleep(Duration::from_millis(20));
            drop(lock);
        });
        holds.recv().unwrap();
        // The child only takes this lock, so locks of other threads do not matter.
        let child = process::child(|| {
            drop(take());
            true
        });
        let child = child.unwrap();
        let ended = process::wait(child, Some(Duration::from_secs(60))).unwrap();
        if ended.is_none() {
            process::kill(child);
        }
        assert_eq!(ended, Some(true), "a forked child waits for a lock that no thread frees");
        holder.join().unwrap();
    }

    #[test]
    fn a_registered_lock_is_free_in_a_child() {
        static LOCK: Mutex<()> = Mutex::new(());
        fn take() -> Box<dyn Any> {
            hold("test", take_alone);
            take_alone()
        }
        fn take_alone() -> Box<dyn Any> {
            Box::new(LOCK.lock().unwrap())
        }
        a_child_can_take(take);
        a_child_can_take(|| Box::new(locks()));
    }
}
