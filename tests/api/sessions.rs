//! Sessions of a process: their list, their settings, and the end of a refresher.

use std::time::Duration;

use shmcreds::{ErrorKind, SharedSession, StopHandle, testing::LocalSts};

use crate::{
    MINUTE, session,
    support::{self, instant, name, until},
};

#[test]
fn sessions_are_listed_and_a_live_one_is_not_removed() {
    let name = name("listed");
    let session = SharedSession::builder(&name).source(support::instant()).create().unwrap();
    assert!(SharedSession::list().unwrap().contains(&name));
    let error = SharedSession::remove(&name).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InUse, "remove"));
    session.credentials().unwrap();
    session.unlink();
    session.credentials().unwrap();
    assert!(!SharedSession::list().unwrap().contains(&name));
    drop(session);
    assert_eq!(SharedSession::remove(&name).unwrap_err().kind(), ErrorKind::Absent);
    std::fs::write(support::segment(&name), "left").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(support::segment(&name), mode).unwrap();
    SharedSession::remove(&name).unwrap();
    assert!(!SharedSession::list().unwrap().contains(&name));
}

#[test]
fn an_empty_session_is_not_a_damaged_one() {
    for _ in 0..300 {
        let session = SharedSession::builder(name("cold")).source(instant()).create().unwrap();
        let looks = |session: SharedSession| {
            while session.status().unwrap().generation() == 0 {
                std::hint::spin_loop();
            }
        };
        let other = session.clone();
        let looking = std::thread::spawn(move || looks(other));
        session.credentials().unwrap();
        looking.join().unwrap();
    }
}

#[test]
fn windows_given_to_attach_are_those_of_its_refreshes() {
    let sts = LocalSts::start().unwrap();
    let (session, _clock) = session(&sts, "windows");
    session.credentials().unwrap();
    let hour = 60 * MINUTE;
    let builder = SharedSession::builder(session.name());
    let other = builder
        .advisory_window(hour / 3)
        .mandatory_window(Duration::from_secs(5))
        .refresh_spread(0.0)
        .attach()
        .unwrap();
    other.refresh().unwrap();
    let status = other.status().unwrap();
    let window = status.expires_in() - status.refresh_in();
    assert!(window.abs_diff(hour / 3) < Duration::from_secs(2), "{window:?}");
    // The creator's are those by lifetime.
    session.refresh().unwrap();
    let narrow = SharedSession::builder(session.name())
        .advisory_window(MINUTE)
        .mandatory_window(MINUTE)
        .refresh_spread(0.5)
        .attach()
        .unwrap();
    narrow.refresh().unwrap();
    let status = narrow.status().unwrap();
    // Half of the room from minute 30 to minute 59.
    let window = status.expires_in() - status.refresh_in();
    assert!(window >= MINUTE - Duration::from_secs(2) && window <= MINUTE * 31 / 2, "{window:?}");
}

#[test]
fn a_stop_handle_ends_exactly_what_it_is_given_to() {
    let session = SharedSession::builder(name("stop")).source(instant()).create().unwrap();
    let run = |stop: &StopHandle| {
        let (session, stop) = (session.clone(), stop.clone());
        std::thread::spawn(move || session.run_refresher(&stop).unwrap())
    };
    // Before the start.
    let early = StopHandle::new();
    early.stop();
    run(&early).join().unwrap();
    assert!(early.is_stopped());

    let (first, second) = (StopHandle::new(), StopHandle::new());
    let running = [run(&first), run(&second)];
    until("one refreshes", || session.status().unwrap().generation() == 1);
    // One that is given to nobody ends nothing.
    StopHandle::new().stop();
    early.stop();
    let [one, other] = running;
    // One of them is elected and the other waits: either ends by its own handle.
    first.stop();
    one.join().unwrap();
    assert!(!other.is_finished() && !second.is_stopped());
    second.stop();
    second.stop();
    other.join().unwrap();
    // After the end, and once more.
    first.stop();
    run(&first).join().unwrap();
    assert_eq!(session.status().unwrap().source_calls(), 1);
}
