//! Calls of the source that the program makes itself: `elect`, and the terms that it gives.
#![allow(unsafe_code)]

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use nix::sys::signal::Signal;
use shmcreds::{
    Election, Error, ErrorKind, Fetched, ManualSource, Refresh, SetSnapshot, SharedSession,
    SourceError, SourceErrorClass, State, Term,
    testing::{LocalSts, ManualClock, Settings},
};
use support::{
    LIMIT, StopFile, assert_whole, assumed, child, elected, instant, instant_set, lock, name, role,
    stop, until,
};

fn main() {
    support::run_forking(&[
        ("sixty_four_cold_processes_make_one_call", sixty_four_cold_processes),
        ("a_killed_holder_is_replaced_at_once", a_killed_holder_is_replaced_at_once),
        ("a_holder_stopped_beyond_its_lease_is_fenced", a_holder_stopped_beyond_its_lease),
        ("a_lease_that_ended_is_over_also_without_a_successor", a_lease_that_ended),
        ("a_failure_is_told_to_all", a_failure_is_told_to_all),
        ("a_dropped_term_is_a_transient_failure", a_dropped_term_is_a_transient_failure),
        ("a_forked_copy_does_nothing", a_forked_copy_does_nothing),
        ("jobs_that_die_in_their_term_have_a_back_off", jobs_that_die_in_their_term),
        ("a_set_that_is_due_is_replaced_by_one", a_set_that_is_due_is_replaced_by_one),
        ("a_rejected_set_is_replaced", a_rejected_set_is_replaced),
        ("a_newer_set_on_request", a_newer_set_on_request),
        ("a_useless_set_is_a_failure", a_useless_set_is_a_failure),
        ("the_time_of_the_server_counts", the_time_of_the_server_counts),
        ("threads_take_turns_and_a_term_may_move", threads_take_turns),
        ("others_wait_for_a_manual_source_and_never_ask_it", others_wait_for_a_manual_source),
        ("what_a_manual_source_cannot_do", what_a_manual_source_cannot_do),
        ("an_eager_session_has_its_refresher", an_eager_session_has_its_refresher),
        ("a_sealed_session_never_gives_a_term", a_sealed_session_never_gives_a_term),
        ("a_process_without_a_source_is_never_elected", a_process_without_a_source),
        ("holders_of_all_kinds_never_meet", holders_of_all_kinds_never_meet),
        ("any_source_can_be_asked_by_hand", any_source_can_be_asked_by_hand),
    ]);
}

fn manual() -> ManualSource {
    ManualSource::new("test").timeout(Duration::from_secs(10))
}

fn session(what: &str) -> SharedSession {
    SharedSession::builder(name(what)).source(manual()).create().unwrap()
}

fn with_clock(what: &str) -> (SharedSession, ManualClock) {
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name(what)).source(manual()).clock(&clock);
    (builder.create().unwrap(), clock)
}

fn term(session: &SharedSession) -> Term {
    match session.elect().unwrap() {
        Election::Elected(term) => term,
        Election::Valid(set) => panic!("no term, but {set:?}"),
    }
}

fn valid(session: &SharedSession) -> SetSnapshot {
    match session.elect().unwrap() {
        Election::Valid(set) => set,
        Election::Elected(term) => panic!("no set, but {term:?}"),
    }
}

fn refused(session: &SharedSession) -> Error {
    session.elect().unwrap_err()
}

fn key(set: &SetSnapshot) -> String {
    assert_whole(set.credentials());
    set.credentials().access_key_id().to_owned()
}

/// A set that lives so long on the clock of a test.
fn living(clock: &ManualClock, life: Duration) -> Credentials {
    let mut set = instant_set();
    *set.expiry_mut() = Some(clock.wall() + life);
    set
}

fn denied() -> SourceError {
    SourceError::new(SourceErrorClass::Terminal, "not authorized")
        .with_code("AccessDenied")
        .with_request_id("r-1")
        .with_http_status(403)
}

fn sixty_four_cold_processes() {
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

fn a_killed_holder_is_replaced_at_once() {
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

fn a_holder_stopped_beyond_its_lease() {
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

fn a_lease_that_ended() {
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

fn a_failure_is_told_to_all() {
    let session = session("denied");
    let holding = term(&session);
    let waiting = |wait: fn(&SharedSession) -> Error| {
        let mut waiting = child(|report| {
            let session = SharedSession::attach(session.name()).unwrap();
            report.say("!");
            let error = wait(&session);
            assert_eq!(error.kind(), ErrorKind::SourceTerminal, "{error}");
            assert_eq!(error.source_error(), Some(&denied()));
            report.say(error.to_string());
        });
        waiting.hear();
        waiting.asleep();
        waiting
    };
    let mut all: Vec<_> = (0..8).map(|_| waiting(refused)).collect();
    all.push(waiting(|session| session.credentials().unwrap_err()));
    holding.fail(denied()).unwrap();
    for one in all {
        let said = one.finish();
        assert!(said.contains("AccessDenied: not authorized (request id r-1)"), "{said}");
    }
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (1, 1));
    // Who asks later is told, too, as long as the clock stands still.
    let (session, _clock) = with_clock("denied");
    term(&session).fail(denied()).unwrap();
    let error = refused(&session);
    assert_eq!(error.kind(), ErrorKind::SourceTerminal, "the back-off holds");
    assert!(error.retry_after() > Some(Duration::from_secs(1)), "{error}");
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (1, 1));
}

fn a_dropped_term_is_a_transient_failure() {
    // The back-off may be a tenth of a second.
    let (session, _clock) = with_clock("dropped");
    drop(term(&session));
    let error = refused(&session);
    assert_eq!(error.kind(), ErrorKind::SourceTransient);
    assert!(error.to_string().contains("ended without an answer"), "{error}");
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (1, 1));
    assert_eq!(elected(&session), None);
}

fn a_forked_copy_does_nothing() {
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

fn jobs_that_die_in_their_term() {
    let (session, clock) = with_clock("jobs");
    let die = || {
        let mut job = child(|_| {
            let _term = term(&session);
            // SAFETY: ends the process without a drop.
            unsafe { nix::libc::_exit(0) }
        });
        job.reap();
    };
    die();
    // The first death is retried at once, and counts when the next process is elected.
    die();
    let wait = || session.elect_within(Duration::from_millis(50)).unwrap_err();
    let error = wait();
    assert_eq!(error.kind(), ErrorKind::Timeout, "it waits for the back-off: {error}");
    let failure = session.status().unwrap().last_failure().unwrap().clone();
    assert_eq!((failure.failure().code(), failure.in_a_row()), (Some("RefresherDied"), 2));
    let pause = failure.next_attempt_in();
    assert!(pause >= Duration::from_millis(900), "{pause:?}");
    let mut waiting = child(|report| {
        report.say("!");
        report.say(key(&term(&session).publish(instant_set()).unwrap()));
    });
    waiting.hear();
    let moment = Duration::from_millis(1);
    clock.advance(pause - moment);
    assert_eq!(wait().kind(), ErrorKind::Timeout);
    assert_eq!(session.status().unwrap().source_calls(), 2, "nobody was elected");
    clock.advance(moment);
    assert_eq!(waiting.finish(), key(&valid(&session)));
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (3, 0), "no failure of the source");
}

const HOUR: Duration = Duration::from_secs(3600);

fn a_set_that_is_due_is_replaced_by_one() {
    let (session, clock) = with_clock("due");
    let first = term(&session).publish(living(&clock, HOUR)).unwrap();
    clock.advance(HOUR - Duration::from_secs(600));
    assert_eq!(session.snapshot().unwrap().unwrap().state(), State::Advisory);
    let holding = term(&session);
    assert_eq!(holding.generation(), 1);
    // Others have a valid set and do not wait.
    let other = child(|report| report.say(key(&valid(&session))));
    assert_eq!(other.finish(), key(&first));
    assert_eq!(key(&valid(&session)), key(&first), "nor do other threads of this process");
    let second = holding.publish(living(&clock, HOUR)).unwrap();
    assert_eq!((second.generation(), second.state()), (2, State::Fresh));
    assert_eq!(key(&valid(&session)), key(&second));

    // In the last minute they wait a moment, once.
    clock.advance(HOUR - Duration::from_secs(30));
    let mut holder = child(|report| {
        let term = term(&session);
        report.say("!");
        until("it is killed", || false);
        drop(term);
    });
    holder.hear();
    let began = Instant::now();
    assert_eq!(key(&valid(&session)), key(&second));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    // Many, so that no pause of a busy machine takes as long as their waits would.
    let began = Instant::now();
    (0..100).for_each(|_| assert_eq!(key(&valid(&session)), key(&second)));
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    // A process that died in its call has a back-off, beside a valid set at once.
    drop(holder);
    clock.advance(Duration::from_secs(1));
    assert_eq!(key(&valid(&session)), key(&second));
    let died = session.status().unwrap().last_failure().unwrap().clone();
    assert_eq!(died.failure().code(), Some("RefresherDied"));
    clock.advance(died.next_attempt_in());
    // A failure beside a valid set is no error.
    clock.advance(Duration::from_secs(1));
    term(&session).fail(denied()).unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(key(&valid(&session)), key(&second));
    assert_eq!(session.status().unwrap().failed(), 1);
}

fn a_rejected_set_is_replaced() {
    let (session, clock) = with_clock("rejected");
    let first = term(&session).publish(living(&clock, HOUR)).unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(session.invalidate(&key(&first)).unwrap());
    assert!(valid(&session).is_rejected(), "a set younger than 5 s stays");
    clock.advance(Duration::from_secs(5));
    let second = term(&session).publish(living(&clock, HOUR)).unwrap();
    assert!(!second.is_rejected());
    assert_eq!(key(&valid(&session)), key(&second));
}

fn a_newer_set_on_request() {
    let session = session("newer");
    let first = term(&session).publish(instant_set()).unwrap();
    let Election::Elected(second) = session.elect_after(1, LIMIT).unwrap() else {
        panic!("a newer set needs a call")
    };
    let other = child(|report| {
        report.say("!");
        let Election::Valid(set) = session.elect_after(1, LIMIT).unwrap() else {
            panic!("another process makes the call")
        };
        report.say(key(&set));
    });
    other.asleep();
    let second = second.publish(instant_set()).unwrap();
    assert_ne!(key(&first), key(&second));
    assert_eq!(other.finish(), format!("!{}", key(&second)));
    assert_eq!(key(&valid(&session)), key(&second), "no further call is needed");
}

fn a_useless_set_is_a_failure() {
    let hour = std::time::SystemTime::now() + HOUR;
    let past = std::time::SystemTime::now() - HOUR;
    let set = |id: &str, expiry| Credentials::new(id, "secret", None, expiry, "test");
    for (what, set, kind, said) in [
        ("no-expiry", set("id", None), ErrorKind::SourceMisconfigured, "no expiry"),
        ("expired", set("id", Some(past)), ErrorKind::SourceTransient, "expired already"),
        ("empty", set("", Some(hour)), ErrorKind::SourceTransient, "AccessKeyId is empty"),
        (
            "long",
            set(&"x".repeat(129), Some(hour)),
            ErrorKind::TooLarge,
            "129 bytes; a slot holds 128",
        ),
    ] {
        let (session, _clock) = with_clock(what);
        let error = term(&session).publish(set).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (kind, "publish"), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        let told = refused(&session);
        assert_eq!(told.kind(), kind);
        assert!(told.to_string().contains(said), "all are told: {told}");
    }
}

fn the_time_of_the_server_counts() {
    let session = session("server-time");
    let now = std::time::SystemTime::now();
    // This machine's clock is an hour late.
    let mut set = instant_set();
    *set.expiry_mut() = Some(now + HOUR + HOUR);
    let fetched = Fetched::new(set).server_time(Some(now + HOUR));
    let set = term(&session).publish(fetched).unwrap();
    assert!(set.expires_in() <= HOUR && set.expires_in() > HOUR - LIMIT, "{set:?}");
}

fn threads_take_turns() {
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

fn others_wait_for_a_manual_source() {
    let session = session("readers");
    let holding = term(&session);
    let mut reader = child(|report| {
        let session = SharedSession::attach(session.name()).unwrap();
        report.say("!");
        report.say(session.credentials().unwrap().access_key_id());
    });
    reader.hear();
    reader.asleep();
    let set = holding.publish(instant_set()).unwrap();
    assert_eq!(reader.finish(), key(&set));

    let empty = self::session("nobody");
    let error = empty.credentials_within(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource);
    assert!(error.to_string().contains("call elect()"), "{error}");
    assert_eq!(empty.status().unwrap().source_calls(), 0);
}

fn what_a_manual_source_cannot_do() {
    let builder = || SharedSession::builder(name("refused")).source(manual());
    for builder in [builder().refresh(Refresh::Eager), builder().refresh(Refresh::Eager).sealed()] {
        let error = builder.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("only the program can ask a manual source"), "{error}");
    }
    let session = builder().create().unwrap();
    let error = session.run_refresher(&shmcreds::StopHandle::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource);
    assert!(error.to_string().contains("call elect()"), "{error}");
    let other = ManualSource::new("other");
    let error = SharedSession::builder(session.name()).source(other).attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongSource);
}

fn an_eager_session_has_its_refresher() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().lifetime(Duration::from_secs(900))).unwrap();
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name("eager")).source(role(&sts)).clock(&clock);
    let session = builder.refresh(Refresh::Eager).create().unwrap();
    assert_eq!(valid(&session).generation(), 1);
    // The refresher serves a wish for another set, too.
    let Election::Valid(set) = session.elect_after(1, LIMIT).unwrap() else {
        panic!("the refresher is elected")
    };
    assert_eq!((set.generation(), assumed(&sts)), (2, 2));
    let refresher = elected(&session).unwrap();
    nix::sys::signal::kill(refresher, Signal::SIGKILL).unwrap();
    until("it is dead", || elected(&session).is_none());
    assert_eq!(valid(&session).generation(), 2, "a fresh set needs no call");
    clock.advance(Duration::from_secs(899));
    clock.advance(Duration::from_secs(2));
    let set = term(&session).publish(living(&clock, HOUR)).unwrap();
    assert_eq!((set.generation(), assumed(&sts)), (3, 2), "the program made the call");
    assert_eq!(session.credentials().unwrap().access_key_id(), key(&set));
}

fn a_sealed_session_never_gives_a_term() {
    let builder = SharedSession::builder(name("sealed")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
    assert_eq!(valid(&session).generation(), 1);
    let Election::Valid(set) = session.elect_after(1, LIMIT).unwrap() else {
        panic!("only the refresher can write")
    };
    assert_eq!(set.generation(), 2);
}

fn a_process_without_a_source() {
    let (name, asked) = (name("name-only"), support::StopFile::new(&name("asked")));
    let mut creator = child(|report| {
        let session = SharedSession::builder(&name).source(manual()).create().unwrap();
        report.say("!");
        until("another process has asked for a set", || asked.is_there());
        let set = term(&session).publish(instant_set()).unwrap();
        report.say(format!("{}\n", key(&set)));
        until("it is killed", || false);
    });
    creator.hear();
    let session = SharedSession::attach(&name).unwrap();
    let error = session.elect_within(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource);
    asked.write();
    assert_eq!(key(&valid(&session)), creator.hear_line());
    let error = session.elect_after(1, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource);
    drop(creator);
    drop(session);
    SharedSession::remove(&name).unwrap();
}

/// Processes that publish, fail, drop, die and fork in their terms: no two of them live in a term at a time.
fn holders_of_all_kinds_never_meet() {
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

fn any_source_can_be_asked_by_hand() {
    let sts = LocalSts::fork().unwrap();
    let session = SharedSession::builder(name("any")).source(role(&sts)).create().unwrap();
    let set = term(&session).publish(instant_set()).unwrap();
    assert_eq!(session.credentials().unwrap().access_key_id(), key(&set));
    assert_eq!(assumed(&sts), 0);
    session.refresh().unwrap();
    assert_eq!(assumed(&sts), 1);
}
