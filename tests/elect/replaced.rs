//! Sets that are due, rejected or not new enough, and whose time counts.

use std::time::{Duration, Instant};

use shmcreds::{Election, Fetched, State};

use crate::{
    HOUR, denied, key, living, session,
    support::{LIMIT, child, instant_set, until},
    term, valid, with_clock,
};

pub fn a_set_that_is_due_is_replaced_by_one() {
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

pub fn a_rejected_set_is_replaced() {
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

pub fn a_newer_set_on_request() {
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

pub fn the_time_of_the_server_counts() {
    let session = session("server-time");
    let now = std::time::SystemTime::now();
    // This machine's clock is an hour late.
    let mut set = instant_set();
    *set.expiry_mut() = Some(now + HOUR + HOUR);
    let fetched = Fetched::new(set).server_time(Some(now + HOUR));
    let set = term(&session).publish(fetched).unwrap();
    assert!(set.expires_in() <= HOUR && set.expires_in() > HOUR - LIMIT, "{set:?}");
}
