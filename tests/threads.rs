//! Threads that share a session: what becomes of a set that was replaced, and what many threads take.
#![allow(unsafe_code)]

#[path = "support/memory.rs"]
mod memory;
mod support;
#[path = "support/worlds.rs"]
mod worlds;

use std::{
    cell::RefCell,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

use memory::masked;
use nix::{errno::Errno, libc};
use shmcreds::SharedSession;
use support::{Child, assert_whole, child, instant, name};
use worlds::{Refusal, refuse};

fn main() {
    support::run_forking(&[
        ("an_old_set_is_gone_from_the_whole_process", an_old_set_is_gone),
        ("an_old_set_is_gone_in_sandboxes", an_old_set_is_gone_in_sandboxes),
        ("an_old_set_is_gone_in_a_later_sandbox", an_old_set_is_gone_in_a_later_sandbox),
        ("a_set_is_gone_with_its_session", a_set_is_gone_with_its_session),
        ("an_old_set_is_gone_in_a_forked_child", an_old_set_is_gone_in_a_forked_child),
        ("a_fork_beside_reading_threads", a_fork_beside_reading_threads),
        ("threads_that_come_and_go_leave_nothing", threads_that_come_and_go),
        ("a_thousand_threads_take_little_memory", a_thousand_threads),
        ("a_destructor_of_a_thread_reads_and_drops_the_session", a_destructor_reads),
    ]);
}

/// Whether the secret is anywhere in the private memory of this process. The segment, which is shared, keeps an old set
/// until its slot is used again.
fn is_in_memory(masked: &[u8]) -> bool {
    memory::is_in(memory::private(), masked)
}

/// The secrets of the present set, masked: those that a search looks for. Nothing of it stays in this thread.
fn secrets(session: &SharedSession) -> [Vec<u8>; 2] {
    let set = session.credentials().unwrap();
    assert_whole(&set);
    [masked(set.secret_access_key()), masked(set.session_token().unwrap())]
}

/// Threads that have read the set of a session. Some have ended; the others sleep until `wake` is dropped.
struct Threads {
    wake: Sender<()>,
    sleepers: Vec<JoinHandle<()>>,
}

impl Threads {
    fn read(session: &SharedSession) -> Self {
        let (wake, woken) = channel();
        let woken = Arc::new(std::sync::Mutex::new(woken));
        let start = |sleeps: bool| {
            let (session, woken) = (session.clone(), Arc::clone(&woken));
            let (read, has_read) = channel();
            let thread = thread::spawn(move || {
                for _ in 0..100 {
                    assert_whole(&session.credentials().unwrap());
                }
                read.send(()).unwrap();
                if sleeps {
                    let _ = woken.lock().unwrap().recv();
                }
            });
            has_read.recv().unwrap();
            thread
        };
        // All at once, so that each of them has a place of its own.
        let sleepers: Vec<_> = (0..4).map(|_| start(true)).collect();
        start(false).join().unwrap();
        Threads { wake, sleepers }
    }

    fn end(self) {
        drop(self.wake);
        self.sleepers.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A process that publishes a new set for each line of `orders`.
struct Publisher {
    process: Child,
    orders: std::io::PipeWriter,
}

impl Publisher {
    fn start(name: &str) -> Self {
        use std::io::Read;
        let (mut told, orders) = std::io::pipe().unwrap();
        let orders_of_parent = orders.try_clone().unwrap();
        let mut orders = Some(orders);
        let mut process = child(|report| {
            drop((orders.take(), orders_of_parent.try_clone()));
            let session = SharedSession::builder(name).source(instant()).create().unwrap();
            session.credentials().unwrap();
            report.say(".");
            loop {
                let mut order = [0];
                told.read_exact(&mut order).unwrap();
                if order == [0] {
                    return;
                }
                session.refresh().unwrap();
                report.say(".");
            }
        });
        process.hear();
        Publisher { process, orders: orders_of_parent }
    }

    fn publish(&mut self) {
        use std::io::Write;
        self.orders.write_all(&[1]).unwrap();
        self.process.hear();
    }

    fn end(mut self) {
        use std::io::Write;
        self.orders.write_all(&[0]).unwrap();
        self.process.finish();
    }
}

fn an_old_set_is_gone() {
    old_set_is_gone(&[]);
}

/// Without the system call, the copies end in the same way.
fn an_old_set_is_gone_in_sandboxes() {
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        old_set_is_gone(&[Refusal::of(libc::SYS_membarrier, errno)]);
    }
}

/// The system call is refused after threads have begun to rely on it.
fn an_old_set_is_gone_in_a_later_sandbox() {
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        let name = name("later");
        let mut publisher = Publisher::start(&name);
        child(|_| {
            let session = SharedSession::attach(&name).unwrap();
            let threads = Threads::read(&session);
            let old = secrets(&session);
            refuse(&[Refusal::of(libc::SYS_membarrier, errno)]);
            publisher.publish();
            assert_ne!(secrets(&session), old);
            // It cannot be known whether they are reading.
            threads.end();
            secrets(&session);
            assert!(!old.iter().any(|secret| is_in_memory(secret)));
        })
        .finish();
        publisher.end();
    }
}

fn old_set_is_gone(refused: &[Refusal]) {
    let name = name("gone");
    let mut publisher = Publisher::start(&name);
    child(|_| {
        if !refused.is_empty() {
            refuse(refused);
        }
        let session = SharedSession::attach(&name).unwrap();
        let threads = Threads::read(&session);
        let old = secrets(&session);
        assert!(old.iter().all(|secret| is_in_memory(secret)), "the search finds what is there");
        publisher.publish();
        assert!(old.iter().all(|secret| is_in_memory(secret)), "nobody has looked yet");
        let new = secrets(&session);
        assert_ne!(old, new);
        for (what, secret) in ["the secret access key", "the session token"].iter().zip(&old) {
            assert!(!is_in_memory(secret), "{what} of the replaced set is left in the process");
        }
        assert!(new.iter().all(|secret| is_in_memory(secret)));
        threads.end();
        assert_eq!(secrets(&session), new);
    })
    .finish();
    publisher.end();
}

/// Threads live that have read it.
fn a_set_is_gone_with_its_session() {
    let name = name("dropped");
    let publisher = Publisher::start(&name);
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        // They hold no handle while they sleep.
        let (wake, woken) = channel::<()>();
        let borrowed = SharedSession::attach(&name).unwrap();
        let read = Arc::new(Barrier::new(2));
        let sleeper = thread::spawn({
            let read = Arc::clone(&read);
            move || {
                assert_whole(&borrowed.credentials().unwrap());
                drop(borrowed);
                read.wait();
                let _ = woken.recv();
            }
        });
        read.wait();
        let old = secrets(&session);
        assert!(is_in_memory(&old[0]));
        drop(session);
        assert!(!old.iter().any(|secret| is_in_memory(secret)));
        drop(wake);
        sleeper.join().unwrap();
    })
    .finish();
    publisher.end();
}

/// The child has the copies of its parent's threads, and not the threads.
fn an_old_set_is_gone_in_a_forked_child() {
    let name = name("forked");
    let mut publisher = Publisher::start(&name);
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        let threads = Threads::read(&session);
        let old = secrets(&session);
        let publisher = &mut publisher;
        child(|_| {
            assert!(is_in_memory(&old[0]), "the child finds warm copies");
            publisher.publish();
            assert_ne!(secrets(&session), old);
            assert!(!old.iter().any(|secret| is_in_memory(secret)));
        })
        .finish();
        threads.end();
    })
    .finish();
    publisher.end();
}

/// Some of them are in the middle of a read at the moment of the fork.
fn a_fork_beside_reading_threads() {
    let name = name("beside");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (session, done) = (session.clone(), Arc::clone(&done));
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_whole(&session.credentials().unwrap());
                }
            })
        })
        .collect();
    for round in 0..100 {
        child(|_| {
            let old = secrets(&session);
            if round % 10 == 0 {
                session.refresh().unwrap();
                assert_ne!(secrets(&session), old);
            }
            let read = || assert_whole(&session.credentials().unwrap());
            thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(read))));
            let mut reader = session.reader();
            assert_whole(reader.credentials().unwrap());
        })
        .finish();
    }
    done.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What the program has taken from its allocator and not given back.
fn heap_bytes() -> usize {
    // SAFETY: it reads the allocator's statistics.
    unsafe { libc::mallinfo2() }.uordblks
}

/// While sets are replaced.
fn threads_that_come_and_go() {
    let name = name("come-and-go");
    child(|_| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        let rounds = |count: usize| {
            for round in 0..count {
                if round % 50 == 0 {
                    session.refresh().unwrap();
                }
                let read = || assert_whole(&session.credentials().unwrap());
                thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(read))));
            }
        };
        rounds(50);
        let before = heap_bytes();
        rounds(500);
        let grown = heap_bytes().saturating_sub(before);
        assert!(grown < 64 << 10, "{grown} bytes are left of 2,000 threads");
    })
    .finish();
}

fn a_thousand_threads() {
    const THREADS: usize = 1000;
    let name = name("thousand");
    child(|_| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        session.credentials().unwrap();
        let (start, read, end) =
            (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let spawned =
                    thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || {
                        start.wait();
                        assert_whole(&session.credentials().unwrap());
                        read.wait();
                        end.wait();
                    });
                spawned.unwrap();
            }
            start.wait();
            let before = heap_bytes();
            read.wait();
            let taken = heap_bytes().saturating_sub(before);
            println!("1,000 threads that read take {} KiB", taken >> 10);
            // A record for each thread, and copies for each CPU.
            let bound = THREADS * 512 + 256 * 4096;
            assert!(taken < bound, "{taken} bytes");
            end.wait();
        });
    })
    .finish();
}

thread_local! {
    /// Made before the thread reads for the first time, so destroyed after what the library has in the thread.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// Reads when the thread ends, and drops the last handle.
struct Last(SharedSession, Sender<String>);

impl Drop for Last {
    fn drop(&mut self) {
        for _ in 0..3 {
            assert_whole(&self.0.credentials().unwrap());
        }
        let set = self.0.refresh().unwrap();
        let mut reader = self.0.reader();
        assert_eq!(reader.credentials().unwrap().access_key_id(), set.access_key_id());
        self.1.send(set.access_key_id().to_owned()).unwrap();
    }
}

fn a_destructor_reads() {
    for reads_first in [true, false] {
        let name = name("destructor");
        child(|_| {
            let session = SharedSession::builder(&name).source(instant()).create().unwrap();
            let first = session.credentials().unwrap().access_key_id().to_owned();
            let (said, says) = channel();
            let thread = thread::spawn(move || {
                let read = || assert_whole(&session.credentials().unwrap());
                if reads_first {
                    read();
                    LAST.set(Some(Last(session, said)));
                } else {
                    LAST.set(Some(Last(session.clone(), said)));
                    read();
                    drop(session);
                }
            });
            thread.join().unwrap();
            assert_ne!(says.recv().unwrap(), first);
            let gone = SharedSession::attach(&name).unwrap_err();
            assert_eq!(gone.kind(), shmcreds::ErrorKind::Absent, "the last handle is dropped");
        })
        .finish();
    }
}
