//! Failures belong to their roles, and calls to the budget of all.

use std::time::{Duration, Instant};

use shmcreds::{
    ErrorKind, SharedRoles,
    testing::{Fault, LocalSts, ManualClock, Times},
};

use crate::{
    assert_of, pool,
    support::{assumed, child, name},
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
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("budget"))
        .calls_per_second(20)
        .wait_timeout(Duration::from_millis(200))
        .create()
        .unwrap();
    let began = Instant::now();
    let workers: Vec<_> = (0..16)
        .map(|worker| {
            let (roles, sts) = (&roles, &sts);
            child(move |report| {
                let mut throttled = 0;
                for number in worker * 5..worker * 5 + 5 {
                    match roles.role(tenant(sts, number)).unwrap().credentials() {
                        Ok(set) => assert_of(&set, number),
                        Err(error) => {
                            // On a busy machine the call may take too long, too.
                            if error.kind() == ErrorKind::SourceThrottled {
                                assert!(
                                    error.to_string().contains("budget of this pool"),
                                    "{error}"
                                );
                                throttled += 1;
                            } else {
                                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                            }
                        }
                    }
                }
                report.say(throttled.to_string());
            })
        })
        .collect();
    let throttled: usize = workers.into_iter().map(|w| w.finish().parse::<usize>().unwrap()).sum();
    // The calls of one second at once, and then the rate.
    let allowed = 20.0 + 20.0 * (began.elapsed().as_secs_f64() + 0.2);
    assert!(assumed(&sts) as f64 <= allowed, "{} {allowed}", assumed(&sts));
    assert!(throttled > 0, "the budget is used up at once");
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
