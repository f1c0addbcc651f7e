//! The election lock: at most one thread of each process takes part in the election.
//!
//! Byte locks do not exclude threads of one process, and the close of any descriptor of the lock file frees all of
//! them. So a process has one descriptor of the lock file, and this lock in memory in front of it.
//!
//! The lock stores the token of the process in which it was taken. In a forked child the token differs, so the lock
//! counts as free.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    error::Fault,
    segment::{EntryWriter, RequestPage, Segment},
    sys::{lock::LockFile, process_token::ProcessToken},
};

/// Set when a thread waits for the election lock to become free.
const WANTED: u64 = 1 << 63;

/// The lock file of a session and the lock in front of it. All handles of the session in a process share one.
#[derive(Debug)]
pub(crate) struct ElectionLock {
    file: Arc<LockedFile>,
    /// The lock of the pool, for that of an entry. It keeps the lock file known as open in this process.
    pool: Option<Arc<ElectionLock>>,
    /// The token of the process in which the lock is taken, and `WANTED`; 0 when it is free.
    guard: AtomicU64,
    /// How many sessions of the process use it.
    sessions: AtomicUsize,
}

/// The lock file and its requests. The entries of a pool share them.
#[derive(Debug)]
struct LockedFile {
    locks: LockFile,
    requests: RequestPage,
}

impl ElectionLock {
    pub(crate) fn new(locks: LockFile) -> Result<Arc<Self>, Fault> {
        let requests = RequestPage::open(&locks, 0)?;
        Ok(ElectionLock::of(Arc::new(LockedFile { locks, requests }), None))
    }

    /// The election lock of one entry of the pool whose lock this is.
    pub(crate) fn for_entry(self: &Arc<Self>) -> Arc<Self> {
        ElectionLock::of(Arc::clone(&self.file), Some(Arc::clone(self)))
    }

    fn of(file: Arc<LockedFile>, pool: Option<Arc<ElectionLock>>) -> Arc<Self> {
        let (guard, sessions) = (AtomicU64::new(0), AtomicUsize::new(0));
        Arc::new(ElectionLock { file, pool, guard, sessions })
    }

    /// Counts one more session of this process.
    pub(crate) fn enter(&self) {
        // Relaxed, here and in `exit`: the count orders nothing. The last exit acts on the kernel's locks only.
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one session less. True for the last one.
    pub(crate) fn exit(&self) -> bool {
        self.sessions.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// This process uses the session no longer. True when no other process does: then it holds the presence lock
    /// exclusively.
    pub(crate) fn leave(&self) -> Result<bool, Fault> {
        self.file.locks.leave(|fd| self.file.requests.move_to(fd))
    }

    /// The page with the requests of all processes.
    pub(crate) fn requests(&self) -> &RequestPage {
        &self.file.requests
    }

    /// The lock file. A thread must hold the election lock while it locks bytes of the file.
    pub(crate) fn locks(&self) -> &LockFile {
        &self.file.locks
    }

    /// Whether a thread of this process holds the election lock.
    pub(crate) fn is_taken(&self) -> bool {
        self.guard.load(Ordering::Relaxed) & !WANTED == ProcessToken::current().word()
    }

    /// Takes the election lock. `None` when another thread of this process holds it.
    pub(crate) fn try_lock_election(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
    ) -> Option<ElectionGuard> {
        self.lock_for(segment, 0)
    }

    /// As [`try_lock_election`](Self::try_lock_election). When it returns `None`, the thread that holds the lock counts an
    /// event in the segment when it frees it, which wakes the caller.
    pub(crate) fn try_lock_or_notify(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
    ) -> Option<ElectionGuard> {
        self.lock_for(segment, WANTED)
    }

    fn lock_for(self: &Arc<Self>, segment: &Arc<Segment>, mark: u64) -> Option<ElectionGuard> {
        let us = ProcessToken::current().word();
        loop {
            let seen = self.guard.load(Ordering::Relaxed);
            let taken = seen & !WANTED == us;
            let next = if taken { seen | mark } else { us };
            // Acquire pairs with the release in `ElectionGuard::drop`: this thread sees all changes that the
            // previous holder made to the byte locks.
            let exchanged =
                self.guard.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed);
            match exchanged {
                Ok(_) if taken => return None,
                Ok(_) => {
                    let (election_lock, segment) = (Arc::clone(self), Arc::clone(segment));
                    return Some(ElectionGuard { election_lock, segment, elected: None });
                }
                Err(_) => {}
            }
        }
    }
}

/// The right of one thread to stand for election. Dropping it frees the election lock. The drop wakes all waiters after
/// an election, or when a thread of this process waits for the lock.
#[derive(Debug)]
pub(crate) struct ElectionGuard {
    election_lock: Arc<ElectionLock>,
    segment: Arc<Segment>,
    /// The writable segment, after this thread was elected.
    elected: Option<Arc<EntryWriter>>,
}

impl ElectionGuard {
    pub(crate) fn locks(&self) -> &LockFile {
        self.election_lock.locks()
    }

    /// Whether a process has requested a successor of `generation` that is valid for longer. Unknown in a pool, whose
    /// entries share the page.
    pub(crate) fn is_longer_requested(&self, generation: u64) -> bool {
        let lock = &self.election_lock;
        lock.pool.is_none() && lock.requests().is_longer_requested(generation)
    }

    /// Notes that this thread was elected and writes through `view`.
    pub(crate) fn win(&mut self, view: &Arc<EntryWriter>) {
        self.elected = Some(Arc::clone(view));
    }
}

impl Drop for ElectionGuard {
    fn drop(&mut self) {
        // Release pairs with the acquire in `lock_for`.
        let wanted = self.election_lock.guard.swap(0, Ordering::Release) & WANTED != 0;
        match &self.elected {
            Some(view) => view.announce(),
            None if wanted => self.segment.announce(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::{name::SessionName, segment::Header, sys::object};

    fn election_lock(name: &str) -> (Arc<ElectionLock>, Arc<Segment>) {
        let name = SessionName::new(name).unwrap().in_directory(&"/dev/shm".into());
        let (object, _) = object::open_or_create(&name.lock()).unwrap();
        object::remove(&name.lock()).unwrap();
        let header = Header {
            instance: 1,
            creator: process::id(),
            time_namespace: 0,
            fingerprint: [0; 32],
            description: "test".into(),
            eager: false,
            sealed: false,
            secret: false,
            last_user_removes: false,
            readers: None,
            pool: None,
            consumers_keep: 0,
        };
        let segment = Arc::new(Segment::create(&name, header).unwrap());
        object::remove(&name.segment()).unwrap();
        (ElectionLock::new(LockFile::new(object).reserved(4096).unwrap()).unwrap(), segment)
    }

    #[test]
    fn one_thread_holds_the_lock_and_a_waiting_thread_is_woken() {
        let (election_lock, segment) = election_lock(&format!("election_lock-{}", process::id()));
        let event = || segment.view().latest_event();
        let before = event();
        let guard = election_lock.try_lock_election(&segment).unwrap();
        assert!(election_lock.try_lock_election(&segment).is_none());
        drop(guard);
        assert_eq!(event(), before, "no thread waits");
        let guard = election_lock.try_lock_election(&segment).unwrap();
        assert!(election_lock.try_lock_or_notify(&segment).is_none());
        drop(guard);
        assert_ne!(event(), before, "a thread waits");
        let before = event();
        drop(election_lock.try_lock_or_notify(&segment).unwrap());
        assert_eq!(event(), before, "no thread waits any more");
        let mut guard = election_lock.try_lock_election(&segment).unwrap();
        guard.win(&Arc::new(segment.writable().unwrap()));
        drop(guard);
        assert_ne!(event(), before, "after an election all waiters are woken");
    }

    #[test]
    fn a_lock_taken_in_another_process_is_free() {
        let (election_lock, segment) =
            election_lock(&format!("election_lock-of-parent-{}", process::id()));
        election_lock.guard.store(ProcessToken::current().word() ^ 2, Ordering::Relaxed);
        assert!(election_lock.try_lock_election(&segment).is_some());
    }
}
