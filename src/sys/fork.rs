//! Locks that are free in each forked child. Without this, a child could inherit a lock that another thread
//! of its parent holds, and nothing in the child would ever free it.

use std::{
    any::Any,
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use nix::libc;

use super::{copies, dump, process_token};

/// The locks of the library, in the order in which one thread may take them: a thread that holds a lock takes only
/// later ones. A fork takes all of them in this order, so it never waits for a thread that waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LockOrder {
    Sessions,
    Roles,
    Watches,
    LockFiles,
    Runtime,
    StandIns,
    #[cfg(test)]
    TestOuter,
    #[cfg(test)]
    TestInner,
}

const LOCKS: usize = if cfg!(test) { 8 } else { 6 };

/// The locks that were used so far, each at its place in the order. Not under a mutex: a thread registers a lock
/// while it holds another one, and a fork may wait for that other one.
static USED: [ArcSwapOption<&dyn TakeForFork>; LOCKS] =
    [const { ArcSwapOption::const_empty() }; LOCKS];

thread_local! {
    /// The guards that the forking thread holds during the fork.
    static HELD: Cell<Vec<Box<dyn Any>>> = const { Cell::new(Vec::new()) };
}

/// A lock that each `fork` of this process takes first, and frees in both processes afterwards. A thread that
/// holds it must not fork.
pub(crate) struct ForkLock<T> {
    order: LockOrder,
    value: Mutex<T>,
    used: AtomicBool,
    before_fork: fn(&mut T),
}

impl<T: Send> ForkLock<T> {
    pub(crate) const fn new(order: LockOrder, value: T) -> Self {
        ForkLock::with(order, value, |_| ())
    }

    /// As [`new`](Self::new). Each fork calls `before_fork` while it holds the lock.
    pub(crate) const fn with(order: LockOrder, value: T, before_fork: fn(&mut T)) -> Self {
        ForkLock { order, value: Mutex::new(value), used: AtomicBool::new(false), before_fork }
    }

    pub(crate) fn lock(&'static self) -> MutexGuard<'static, T> {
        // Relaxed: two threads may both register the lock. It is registered before either of them takes it.
        if !self.used.load(Ordering::Relaxed) {
            USED[self.order as usize].store(Some(Arc::new(self)));
            self.used.store(true, Ordering::Relaxed);
        }
        self.take()
    }

    fn take(&self) -> MutexGuard<'_, T> {
        // What a panic left behind is whole: the values are lists and facts that change in one step.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

trait TakeForFork: Sync {
    fn take_for_fork(&'static self) -> Box<dyn Any>;
}

impl<T: Send> TakeForFork for ForkLock<T> {
    fn take_for_fork(&'static self) -> Box<dyn Any> {
        let mut guard = self.take();
        (self.before_fork)(&mut guard);
        Box::new(guard)
    }
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
    let used = USED.iter().filter_map(|lock| lock.load_full());
    let held = used.map(|lock| lock.take_for_fork()).collect();
    // A thread that forks while its thread-locals are destroyed has no place to keep the guards.
    let _ = HELD.try_with(|place| place.set(held));
}

extern "C" fn after() {
    let _ = HELD.try_with(Cell::take);
}

extern "C" fn after_in_child() {
    process_token::count_fork();
    copies::after_fork_in_child();
    dump::after_fork_in_child();
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

    /// One thread takes the inner lock while it holds the outer one; the other forks. The inner lock was used first.
    #[test]
    fn a_fork_waits_for_nested_locks() {
        static OUTER: ForkLock<()> = ForkLock::new(LockOrder::TestOuter, ());
        static INNER: ForkLock<()> = ForkLock::new(LockOrder::TestInner, ());
        a_child_can_take(|| {
            drop(INNER.lock());
            Box::new(OUTER.lock())
        });
        let (ask, asked) = channel();
        let (done, finished) = channel();
        thread::spawn(move || {
            let outer = OUTER.lock();
            ask.send(()).unwrap();
            // Long enough for the fork to begin; the outcome does not depend on it.
            thread::sleep(Duration::from_millis(20));
            drop(INNER.lock());
            drop(outer);
        });
        thread::spawn(move || {
            asked.recv().unwrap();
            let child = process::child(|| true).unwrap();
            done.send(process::wait(child, Some(Duration::from_secs(60))).unwrap()).unwrap();
        });
        let outcome = finished.recv_timeout(Duration::from_secs(60));
        assert_eq!(outcome, Ok(Some(true)), "a fork and a thread wait for each other");
    }
}
