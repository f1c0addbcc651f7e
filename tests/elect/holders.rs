//! One process holds a term at a time, and another one follows.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shmcreds::{Election, ErrorKind, SharedSession, SourceError, SourceErrorClass, State, Term};

use crate::{
    denied, key, living, session,
    support::{self, LIMIT, StopFile, child, elected, instant_set, lock, stop, until},
    term, valid, with_clock,
};

pub fn sixty_four_cold_processes() {
    let session = session("cold");
    let workers: Vec<_> = (0..64)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let set = match session.elect().unwrap() {
                    Election::Elected(term) => {
                        thread::sleep(Duration::from_millis(100));
                        term.publish(instant_set()).unwrap()
                    }
                    Election::Valid(set) => set,
                };
                report.say(key(&set));
            })
        })
        .collect();
    let mut keys: Vec<String> = workers.into_iter().map(|worker| worker.finish()).collect();
    keys.dedup();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.published(), status.failed()), (1, 1, 0));
}

pub fn a_killed_holder_is_replaced_at_once() {
    let session = session("killed");
    let mut holder = child(|report| {
        let _term = term(&session);
        report.say("!");
        until("it is killed", || false);
    });
    holder.hear();
    assert_eq!(elected(&session), Some(holder.pid));
    let waiting = child(|report| {
        report.say("!");
        let began = Instant::now();
        let set = term(&session).publish(instant_set()).unwrap();
        // Its lease lasts 15 s.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        report.say(key(&set));
    });
    waiting.asleep();
    holder.signal(Signal::SIGKILL);
    let said = waiting.finish();
    assert_eq!(said, format!("!{}", key(&valid(&session))));
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.takeovers(), status.failed()), (2, 1, 0));
}

pub fn a_holder_stopped_beyond_its_lease() {
    let (session, clock) = with_clock("stopped");
    let go = StopFile::new(session.name());
    let mut holder = child(|report| {
        let term = term(&session);
        report.say("!");
        until("it may publish", || go.is_there());
        let error = term.publish(living(&clock, Duration::from_secs(9000))).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::TermOver, "publish"));
        report.say(error.to_string());
    });
    holder.hear();
    stop(holder.pid);
    let error = session.elect_within(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "the lease runs");
    clock.advance(Duration::from_secs(16));
    let set = term(&session).publish(living(&clock, Duration::from_secs(900))).unwrap();
    go.write();
    holder.signal(Signal::SIGCONT);
    let said = holder.finish();
    assert!(said.contains("its lease of 15s has ended"), "{said}");
    assert_eq!(key(&valid(&session)), key(&set), "the later set stays");
    assert_eq!(session.status().unwrap().published(), 1);
}

pub fn a_lease_that_ended() {
    let ends: [fn(Term); 3] = [
        |term| assert_eq!(term.publish(instant_set()).unwrap_err().kind(), ErrorKind::TermOver),
        |term| assert_eq!(term.fail(denied()).unwrap_err().kind(), ErrorKind::TermOver),
        drop,
    ];
    for end in ends {
        let (session, clock) = with_clock("late");
        let late = term(&session);
        assert!(late.lease_left() > Duration::from_secs(14), "{late:?}");
        clock.advance(Duration::from_secs(15));
        assert_eq!(late.lease_left(), Duration::ZERO);
        end(late);
        let status = session.status().unwrap();
        assert_eq!((status.state(), status.failed()), (State::Empty, 0));
        // It counts as a process that hung in its call. The first one is retried at once.
        drop(term(&session));
        let status = session.status().unwrap();
        assert_eq!((status.failed(), status.last_failure().unwrap().in_a_row()), (1, 2));
    }
}

pub fn a_forked_copy_does_nothing() {
    let session = session("forked");
    let inherited = std::cell::Cell::new(Some(term(&session)));
    let copy = |end: fn(Term)| {
        child(|_| {
            let copy = inherited.take().unwrap();
            assert_eq!(copy.lease_left(), Duration::ZERO);
            end(copy);
        })
        .finish();
        assert_eq!(session.status().unwrap().failed(), 0);
        assert_eq!(elected(&session), Some(nix::unistd::Pid::this()), "the term goes on");
    };
    copy(drop);
    copy(|copy| {
        let error = copy.publish(instant_set()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TermOver);
        let parent = nix::unistd::Pid::parent();
        assert!(error.to_string().contains(&format!("process {parent}, which forked")), "{error}");
    });
    copy(|copy| assert_eq!(copy.fail(denied()).unwrap_err().kind(), ErrorKind::TermOver));
    // The child stands for election like any process, also when it drops its copy meanwhile.
    child(|_| {
        let copy = inherited.take();
        let error = session.elect_within(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        drop(copy);
        let error = session.elect_within(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    })
    .finish();
    // A child that is elected itself, and drops an inherited copy only then, keeps its own election.
    let heir = child(|_| {
        let copy = inherited.take();
        until("the parent has published", || session.snapshot().unwrap().is_some());
        let Election::Elected(own) = session.elect_after(1, LIMIT).unwrap() else {
            panic!("nobody else makes the call")
        };
        drop(copy);
        assert!(own.lease_left() > Duration::ZERO);
        assert_eq!(own.publish(instant_set()).unwrap().generation(), 2);
    });
    let set = inherited.take().unwrap().publish(instant_set()).unwrap();
    assert_eq!(set.generation(), 1);
    heir.finish();
    assert_eq!(valid(&session).generation(), 2);
}

pub fn threads_take_turns() {
    fn assert_send<T: Send>() {}
    assert_send::<Term>();
    let session = session("threads");
    // The thread that was elected is gone, and then the lock, too: other code closes the lock file.
    let holding = thread::scope(|scope| scope.spawn(|| term(&session)).join().unwrap());
    let still_held = || {
        let error = session.elect_within(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    };
    still_held();
    child(|_| still_held()).finish();
    drop(std::fs::File::open(lock(session.name())).unwrap());
    child(|_| still_held()).finish();
    let set = thread::scope(|scope| {
        let waiting = scope.spawn(|| key(&valid(&session)));
        let set = scope.spawn(|| holding.publish(instant_set()).unwrap()).join().unwrap();
        assert_eq!(waiting.join().unwrap(), key(&set));
        set
    });
    assert_eq!(key(&valid(&session)), key(&set));
    assert_eq!(session.status().unwrap().source_calls(), 1);
}

/// Processes that publish, fail, drop, die and fork in their terms: no two of them live in a term at a time.
pub fn holders_of_all_kinds_never_meet() {
    let session = session("crowd");
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("holder");
    // By the number of sets and not by time: after a failure all wait for the end of a back-off.
    let enough = || session.status().unwrap().published() >= 8;
    let end = Instant::now() + Duration::from_secs(120);
    let act = |seed: u64| {
        let generation = session.snapshot().unwrap().map_or(0, |set| set.generation());
        let elected = session.elect_after(generation, Duration::from_millis(20));
        let Ok(Election::Elected(term)) = elected else { return };
        let pid = std::process::id().to_string();
        if let Ok(other) = std::fs::read_to_string(&marker) {
            let other = nix::unistd::Pid::from_raw(other.parse().unwrap_or(i32::MAX));
            assert!(!support::lives(other), "two holders at a time");
        }
        std::fs::write(&marker, &pid).unwrap();
        thread::sleep(Duration::from_millis(3));
        if seed.is_multiple_of(11) {
            // SAFETY: ends the process in its term, without a drop.
            unsafe { nix::libc::_exit(0) }
        }
        let term = std::cell::Cell::new(Some(term));
        if seed.is_multiple_of(5) {
            child(|_| drop(term.take())).finish();
        }
        assert_eq!(std::fs::read_to_string(&marker).unwrap(), pid, "two holders at a time");
        std::fs::remove_file(&marker).unwrap();
        let term = term.take().unwrap();
        match seed % 7 {
            0 => drop(term),
            1 => term.fail(SourceError::new(SourceErrorClass::Transient, "busy")).unwrap(),
            _ => drop(term.publish(instant_set()).unwrap()),
        }
    };
    let workers: Vec<_> = (0..12u64)
        .map(|worker| {
            child(|_| {
                let mut seed = worker;
                while !enough() && Instant::now() < end {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    act(seed >> 33);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| drop(worker.finish()));
    let status = session.status().unwrap();
    assert!(status.published() >= 8 && status.published() <= status.source_calls(), "{status}");
    assert_eq!(status.generation(), status.published());
    until("the back-off is over, and all goes on", || {
        let elected = session.elect_after(status.generation(), Duration::from_secs(1));
        let Ok(Election::Elected(term)) = elected else { return false };
        term.publish(instant_set()).is_ok()
    });
}
