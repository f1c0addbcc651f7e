//! What a process does between the kernel's wake-up and the return to its caller: the caller waits for it, on a CPU that
//! was idle.

use std::{
    fs::File,
    io::{PipeWriter, Read, Write},
    os::fd::OwnedFd,
    sync::{Arc, mpsc::channel},
    thread,
};

use nix::libc;
use shmcreds::{Provider, SharedSession};

use crate::{
    calls::{Traced, mark},
    support::{Child, assert_whole, child, instant_set, name},
};

const ROUNDS: usize = 4;

/// A process that makes a call of its source for each order. The call ends when it is told.
struct Publisher {
    process: Child,
    orders: PipeWriter,
    answers: PipeWriter,
}

impl Publisher {
    fn start(name: &str) -> Self {
        let [(order, orders), (answer, answers)] = [(); 2].map(|()| std::io::pipe().unwrap());
        let (mut order, answer) = (order, Arc::new(File::from(OwnedFd::from(answer))));
        let mut process = child(|report| {
            let called = Arc::new(report.again());
            let source = Provider::new("slow", move || {
                let (called, answer) = (Arc::clone(&called), Arc::clone(&answer));
                async move {
                    (&*called).write_all(b"c").unwrap();
                    (&*answer).read_exact(&mut [0]).unwrap();
                    instant_set()
                }
            });
            let session = SharedSession::builder(name).source(source).create().unwrap();
            session.credentials().unwrap();
            report.say(".");
            loop {
                let mut byte = [0];
                order.read_exact(&mut byte).unwrap();
                if byte == [0] {
                    return;
                }
                session.refresh().unwrap();
            }
        });
        (&answers).write_all(&[1]).unwrap();
        assert_eq!([process.hear(), process.hear()], *b"c.");
        Publisher { process, orders, answers }
    }

    /// Begins a call of the source.
    fn call(&mut self) {
        self.orders.write_all(&[1]).unwrap();
        assert_eq!(self.process.hear(), b'c');
    }

    fn answer(&mut self) {
        self.answers.write_all(&[1]).unwrap();
    }

    fn end(mut self) {
        self.orders.write_all(&[0]).unwrap();
        self.process.finish();
    }
}

/// The system calls that a thread makes after each of its sleeps, before it has the new set and has read it once more.
/// Other threads of its process have read the set before. A process that has a source watches the one that is elected.
fn calls_after_wakes(threads: usize, has_source: bool) -> [Vec<libc::c_long>; ROUNDS] {
    let name = name("wake");
    let mut publisher = Publisher::start(&name);
    let sleeper = Traced::start(|_| {
        let mut builder = SharedSession::builder(&name);
        if has_source {
            builder = builder.source(Provider::new("slow", || async { instant_set() }));
        }
        let session = builder.attach().unwrap();
        let read = || assert_whole(&session.credentials().unwrap());
        read();
        thread::scope(|scope| {
            let others: Vec<_> = (0..threads)
                .map(|_| {
                    let ((said, says), (end, ends)) = (channel(), channel::<()>());
                    scope.spawn(move || {
                        read();
                        said.send(()).unwrap();
                        let _ = ends.recv();
                    });
                    says.recv().unwrap();
                    end
                })
                .collect();
            mark();
            for _ in 0..ROUNDS {
                assert_whole(&session.refresh().unwrap());
                read();
                mark();
            }
            drop(others);
        });
    });
    let rounds = [(); ROUNDS].map(|()| {
        publisher.call();
        let (mut calls, mut is_answered) = (Vec::new(), false);
        loop {
            match sleeper.next_call() {
                call if call.is_mark() => break,
                call if call.is_shared_sleep() => {
                    calls.clear();
                    if !std::mem::replace(&mut is_answered, true) {
                        publisher.answer();
                    }
                }
                // The allocator's.
                call if call.number == libc::SYS_brk => {}
                call => calls.push(call.number),
            }
        }
        assert!(is_answered, "it has slept");
        calls
    });
    sleeper.finish();
    publisher.end();
    rounds
}

pub fn a_woken_sleeper_makes_no_system_call() {
    for has_source in [true, false] {
        for calls in calls_after_wakes(0, has_source) {
            assert!(calls.is_empty(), "{calls:?}");
        }
    }
}

/// The copies of the others are wiped. That needs a barrier in each of them.
pub fn a_woken_sleeper_beside_threads_makes_one_system_call() {
    for calls in calls_after_wakes(2, true) {
        assert_eq!(calls, [libc::SYS_membarrier]);
    }
}
