//! Terms beside sources of all kinds, and beside none.

use std::time::Duration;

use nix::sys::signal::Signal;
use shmcreds::{
    Election, ErrorKind, ManualSource, Refresh, SharedSession,
    testing::{LocalSts, ManualClock, Settings},
};

use crate::{
    HOUR, key, living, manual, session,
    support::{self, LIMIT, assumed, child, elected, instant, instant_set, name, role, until},
    term, valid,
};

pub fn others_wait_for_a_manual_source() {
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

    let empty = crate::session("nobody");
    let error = empty.credentials_within(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSource);
    assert!(error.to_string().contains("call elect()"), "{error}");
    assert_eq!(empty.status().unwrap().source_calls(), 0);
}

pub fn what_a_manual_source_cannot_do() {
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

pub fn an_eager_session_has_its_refresher() {
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

pub fn a_sealed_session_never_gives_a_term() {
    let builder = SharedSession::builder(name("sealed")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
    assert_eq!(valid(&session).generation(), 1);
    let Election::Valid(set) = session.elect_after(1, LIMIT).unwrap() else {
        panic!("only the refresher can write")
    };
    assert_eq!(set.generation(), 2);
}

pub fn a_process_without_a_source() {
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

pub fn any_source_can_be_asked_by_hand() {
    let sts = LocalSts::fork().unwrap();
    let session = SharedSession::builder(name("any")).source(role(&sts)).create().unwrap();
    let set = term(&session).publish(instant_set()).unwrap();
    assert_eq!(session.credentials().unwrap().access_key_id(), key(&set));
    assert_eq!(assumed(&sts), 0);
    session.refresh().unwrap();
    assert_eq!(assumed(&sts), 1);
}
