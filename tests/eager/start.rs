//! `create()` of an eager session: the first set, or the reason why there is none.

use std::{fs, os::fd::AsRawFd, path::Path, time::Duration};

use nix::{
    errno::Errno,
    sys::resource::{Resource, setrlimit},
    unistd::Pid,
};
use shmcreds::{
    Error, ErrorKind, Refresh, SharedSession, State,
    testing::{Fault, LocalSts, Times},
};

use crate::{
    eager, links,
    support::{LIMIT, assumed, child, instant, lock, name, role, segment, until, until_alone},
};

pub fn the_first_set_is_there() {
    let sts = LocalSts::fork().unwrap();
    let before = links(Pid::this()).len();
    let session = eager("first", &sts);
    let status = session.status().unwrap();
    assert_eq!((status.state(), status.generation(), assumed(&sts)), (State::Fresh, 1, 1));
    assert_eq!(status.mode(), Refresh::Eager);
    let found = *status.lease_holder().unwrap();
    assert!(found.is_alive() && found.lease_left() > Duration::ZERO, "{found:?}");
    assert_ne!(found.pid(), std::process::id());
    until_alone();
    assert_eq!(links(Pid::this()).len(), before + 2, "the segment and the lock file");
    session.credentials().unwrap();
    assert_eq!(assumed(&sts), 1);
}

pub fn the_first_error_is_that_of_create() {
    let sts = LocalSts::fork().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let name = name("denied");
    let error = SharedSession::builder(&name)
        .source(role(&sts))
        .refresh(Refresh::Eager)
        .create()
        .unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "create"));
    assert_eq!(assumed(&sts), 1);
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

pub fn a_first_failure_that_may_pass_is_tried_again() {
    let sts = LocalSts::fork().unwrap();
    let builder =
        |what: &str| SharedSession::builder(name(what)).source(role(&sts)).refresh(Refresh::Eager);
    for (what, sealed) in [("passes", false), ("passes-sealed", true)] {
        for fault in [Fault::Throttling, Fault::Status(503), Fault::Reset] {
            sts.inject(fault, Times::Next(2)).unwrap();
            let builder = builder(what).wait_timeout(Duration::from_secs(60));
            let builder = if sealed { builder.sealed() } else { builder };
            assert_eq!(builder.create().unwrap().status().unwrap().state(), State::Fresh);
        }
    }
    // The deadline ends it, with what the source said.
    sts.inject(Fault::Throttling, Times::UntilCleared).unwrap();
    let never = |deadline| builder("never").wait_timeout(deadline).create();
    let error = with_enough_time(Duration::from_secs(2), never).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceThrottled, "{error}");
}

/// What `create` gives before its deadline. A busy machine may not have come to a first answer by then: it has more time.
fn with_enough_time<T>(
    deadline: Duration,
    create: impl Fn(Duration) -> Result<T, Error>,
) -> Result<T, Error> {
    match create(deadline) {
        Err(error) if error.kind() == ErrorKind::Timeout => create(LIMIT / 2),
        outcome => outcome,
    }
}

pub fn several_threads_are_refused() {
    child(|_| {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        let name = name("threads");
        let error = SharedSession::builder(&name)
            .source(instant())
            .refresh(Refresh::Eager)
            .create()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Multithreaded);
        assert!(error.to_string().contains("2 threads"), "{error}");
        assert!(error.to_string().contains("run_refresher"), "{error}");
        assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
        drop(hold);
        let _ = thread.join();
    })
    .finish();
}

/// A process that may have fewer descriptors each time, and so may its refresher: some call of either fails.
pub fn a_refresher_says_what_it_lacks() {
    let refused = child(|report| {
        let used = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        let mut refused = 0;
        for limit in (used..=used + 40).rev() {
            setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
            // A lack of descriptors may pass: it is tried again until the deadline.
            let create = |deadline| {
                let name = name("shortage");
                let builder = SharedSession::builder(&name).source(instant());
                let outcome = builder.wait_timeout(deadline).refresh(Refresh::Eager).create();
                let outcome = outcome.map(drop);
                let is_left =
                    || [segment(&name), lock(&name)].iter().any(|file| Path::new(file).exists());
                until("nothing is left", || !is_left());
                outcome
            };
            match with_enough_time(Duration::from_secs(1), create) {
                Ok(()) => assert_eq!(refused, 0, "{limit} are not enough, but less are"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(Errno::EMFILE.desc()), "with {limit}: {text}");
                    refused += 1;
                }
            }
        }
        report.say(refused.to_string());
    })
    .finish();
    assert!((1..=40).contains(&refused.parse::<u32>().unwrap()), "{refused}");
}
