//! A fork beside threads of the library and of the program.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use shmcreds::{
    ErrorKind, Refresh, SharedSession,
    testing::{FaultPoint, LocalSts, ManualClock},
};

use crate::{
    deaths::victim,
    support::{Child, assert_whole, child, instant, name, role},
};

/// Who has slept beside another's refresh has no thread when it forks, and neither has its child.
pub fn a_sleeper_may_fork() {
    // The lease of the victim does not end.
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let builder = SharedSession::builder(name("sleeper")).source(role(&sts)).clock(&clock);
    let session = builder.create().unwrap();
    let _victim = victim(session.name(), FaultPoint::Elected);
    let sleep = || {
        let moment = Duration::from_millis(20);
        let session = SharedSession::builder(session.name()).wait_timeout(moment).attach().unwrap();
        assert_eq!(session.credentials().unwrap_err().kind(), ErrorKind::Timeout);
        // It forks, and refuses to where there is more than one thread.
        let eager = SharedSession::builder(name("eager")).source(instant());
        eager.refresh(Refresh::Eager).create().unwrap();
    };
    for _ in 0..20 {
        child(|_| {
            sleep();
            child(|_| sleep()).finish();
        })
        .finish();
    }
}

pub fn a_joined_thread_is_in_nobodys_way() {
    // The kernel lists it for a moment longer.
    for _ in 0..1000 {
        std::thread::spawn(|| ()).join().unwrap();
        LocalSts::fork().unwrap();
    }
}

/// Threads of the parent have the list of sessions at the moment of the fork; the child must not find it
/// taken.
pub fn a_fork_beside_busy_threads() {
    let session = SharedSession::builder(name("busy")).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let busy = {
        let (name, done) = (session.name().to_owned(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                let again = SharedSession::attach(&name).unwrap();
                assert_whole(&again.credentials().unwrap());
            }
        }
    };
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(busy.clone())).collect();
    for _ in 0..200 {
        child(|_| {
            let session = SharedSession::attach(session.name()).unwrap();
            assert_whole(&session.credentials().unwrap());
        })
        .finish();
    }
    done.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Nobody in the process has waited before: what a first wait sets up is not to be found half-made.
pub fn a_fork_beside_a_first_wait() {
    // The lease of the victim does not end.
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let builder = SharedSession::builder(name("first-wait")).source(role(&sts)).clock(&clock);
    let session = builder.create().unwrap();
    let _victim = victim(session.name(), FaultPoint::Elected);
    let wait = || {
        let moment = Duration::from_millis(20);
        let session = SharedSession::builder(session.name()).wait_timeout(moment).attach().unwrap();
        assert_eq!(session.credentials().unwrap_err().kind(), ErrorKind::Timeout);
    };
    for round in 0..30 {
        child(|_| {
            std::thread::scope(|scope| {
                let first = scope.spawn(wait);
                std::thread::sleep(Duration::from_micros(30 * round));
                let children: Vec<Child> = (0..3).map(|_| child(|_| wait())).collect();
                children.into_iter().for_each(|child| drop(child.finish()));
                first.join().unwrap();
            });
        })
        .finish();
    }
}
