//! Failures belong to their roles, and calls to the budget of all.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use shmcreds::{
    ErrorKind, SharedRoles,
    testing::{Fault, LocalSts, ManualClock, Times},
};

use crate::{
    assert_of, pool,
    support::{self, assumed, child, name, until},
    tenant,
};

pub fn a_failing_tenant_is_alone() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("failing")).clock(&clock).create().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let fail = |roles: &SharedRoles| {
        let error = roles.role(tenant(&sts, 0)).unwrap().credentials().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceTerminal, "{error}");
        assert!(error.to_string().contains("AccessDenied"), "{error}");
        error.retry_after().unwrap()
    };
    // The first call, and those after 5 s, 10 s, 20 s, …, up to 10 minutes.
    let mut wait = fail(&roles);
    assert_eq!(assumed(&sts), 1);
    let mut waits = vec![wait.as_secs()];
    for call in 2..=10 {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                child(|_| {
                    assert!(fail(&SharedRoles::attach(roles.name()).unwrap()) > Duration::ZERO)
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| drop(worker.finish()));
        assert_eq!(assumed(&sts), call - 1, "all are told what the one call said");
        clock.advance(wait + Duration::from_millis(1));
        wait = fail(&roles);
        assert_eq!(assumed(&sts), call);
        waits.push(wait.as_secs());
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    // Another tenant is not told of it, and not delayed.
    sts.clear_faults().unwrap();
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    assert_eq!(assumed(&sts), 11);
    // An entry that another role gets has no failure.
    assert!(roles.evict(&tenant(&sts, 0)).unwrap());
    assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
    assert_of(&roles.role(tenant(&sts, 0)).unwrap().credentials().unwrap(), 0);
}

pub fn the_budget_limits_calls() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let wait = Duration::from_millis(200);
    let builder = pool(&name("budget")).calls_per_second(20).wait_timeout(wait).clock(&clock);
    let roles = builder.capacity(1000).create().unwrap();
    for second in 0..3 {
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                let (roles, sts) = (&roles, &sts);
                let first = 5 * (16 * second + worker);
                child(move |report| {
                    let mut throttled = 0;
                    for number in first..first + 5 {
                        match roles.role(tenant(sts, number)).unwrap().credentials() {
                            Ok(set) => assert_of(&set, number),
                            Err(error) if error.kind() == ErrorKind::SourceThrottled => {
                                let said = error.to_string();
                                assert!(said.contains("budget of this pool"), "{said}");
                                throttled += 1;
                            }
                            // On a busy machine the call may take too long, too.
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                        }
                    }
                    report.say(throttled.to_string());
                })
            })
            .collect();
        let throttled: usize =
            workers.into_iter().map(|w| w.finish().parse::<usize>().unwrap()).sum();
        // The calls of one second at once, and then the rate. Some of the next 200 ms are reserved.
        let allowed = 20 + 20 * second + 4;
        assert!(assumed(&sts) <= allowed, "{} {allowed}", assumed(&sts));
        assert!(throttled > 0, "the budget is used up at once");
        clock.advance(SECOND);
    }
}

pub fn a_throttled_pool_slows_down() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("throttled")).calls_per_second(40).create().unwrap();
    sts.inject(Fault::Throttling, Times::Next(3)).unwrap();
    for number in 0..3 {
        let error = roles.role(tenant(&sts, number)).unwrap().credentials().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceThrottled);
    }
    let status = roles.status().unwrap();
    assert_eq!(status.throttles(), 3);
    // 40 calls per second, halved three times, and a little back for each call.
    let began = Instant::now();
    for number in 3..15 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}

/// What a thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Its lease does not end before its call.
pub fn a_call_that_waits_for_the_budget() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let builder = pool(&name("lease")).calls_per_second(1).clock(&clock);
    let roles = builder.wait_timeout(support::LIMIT).create().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    let fetch = |number| {
        let (roles, sts) = (&roles, &sts);
        child(move |_| {
            let set = roles.role(tenant(sts, number)).unwrap().credentials().unwrap();
            assert_of(&set, number);
        })
    };
    let holder = |number| {
        let status = roles.role(tenant(&sts, number)).unwrap().status().unwrap();
        status.lease_holder().copied()
    };
    // The one call of this second. It hangs.
    let hangs = fetch(1);
    until("it calls STS", || assumed(&sts) == 1);
    // The next call may be made in a second. The thread that makes it starts when all else is done.
    let waits = fetch(2);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", waits.pid)).unwrap().count();
    until("it waits for the budget", || threads() == 2 && holder(2).is_some());
    let (one, two) = (holder(1).unwrap(), holder(2).unwrap());
    assert_eq!(two.lease_left(), one.lease_left() + SECOND);
    assert_eq!((two.pid(), two.is_alive()), (waits.pid.as_raw().cast_unsigned(), true));
    assert_eq!(assumed(&sts), 1);
    clock.advance(SECOND);
    waits.finish();
    assert_eq!(assumed(&sts), 2);
    drop(hangs);
}

/// A call that the budget does not allow in time leaves nothing: neither an elected process nor a warning.
pub fn what_the_budget_refuses() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let roles = pool(&name("refuses")).calls_per_second(1).refresh_spread(0.0).clock(&clock);
    let roles = roles.create().unwrap();
    let role = |number| roles.role(tenant(&sts, number)).unwrap();
    let is_vacant = |number| role(number).status().unwrap().lease_holder().is_none();
    assert_of(&role(1).credentials().unwrap(), 1);
    let error = role(2).credentials_within(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceThrottled, "{error}");
    assert_eq!(error.retry_after(), Some(SECOND));
    assert!(is_vacant(2));
    assert!(role(2).status().unwrap().last_failure().is_none(), "STS did not fail");
    clock.advance(SECOND);
    assert_of(&role(2).credentials().unwrap(), 2);
    // Past the advisory point of both. After more than half of a second, the budget is not scarce, and has no call.
    clock.advance(Duration::from_secs(46 * 60));
    assert_of(&role(3).credentials().unwrap(), 3);
    clock.advance(SECOND * 6 / 10);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        assert_of(&role(1).credentials().unwrap(), 1);
        assert!(is_vacant(1));
    });
    assert_eq!(String::from_utf8_lossy(&log.0.lock().unwrap()), "");
    assert_eq!(assumed(&sts), 3);
}

/// A refresh that has time does not take the last half of the budget.
pub fn first_calls_have_half_of_the_budget() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let roles = pool(&name("scarce")).calls_per_second(4).refresh_spread(0.0).clock(&clock);
    let roles = roles.create().unwrap();
    let role = |number| roles.role(tenant(&sts, number)).unwrap();
    let set = |number| assert_of(&role(number).credentials().unwrap(), number);
    set(1);
    clock.advance(Duration::from_secs(46 * 60));
    // Three of four calls of this second.
    [2, 3, 4].into_iter().for_each(set);
    // A refresh would hang, and so be seen.
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    set(1);
    assert!(role(1).status().unwrap().lease_holder().is_none(), "the refresh has time");
    sts.clear_faults().unwrap();
    set(5);
    assert_eq!(assumed(&sts), 5);
    clock.advance(SECOND);
    set(1);
    until("it is refreshed", || role(1).status().unwrap().generation() == 2);
    assert_eq!(assumed(&sts), 6);
}
