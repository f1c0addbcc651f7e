//! The refresher of a pool dies, or is stopped, in the middle of its work.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use shmcreds::{
    ErrorKind, SharedRoles, State,
    testing::{Fault, LocalSts, ManualClock, Times},
};

use crate::{
    asked::{KINDS, has_files, refresher},
    assert_of, pool,
    support::{LIMIT, StopFile, assumed, child, lives, name, parent_of, stop, until},
    tenant,
};

/// The refresher is killed in the middle of many first fetches. The next one takes over: each who waits gets its set, and an
/// interrupted call is made once more.
pub fn it_dies_in_the_middle_of_many_fetches() {
    const WORKERS: usize = 4;
    const EACH: usize = 20;
    const HANGING: usize = 10;
    for &(kind, with) in &KINDS[..2] {
        let sts = LocalSts::fork().unwrap();
        // These calls are on their way when it dies.
        sts.inject(Fault::BlackHole, Times::Next(HANGING)).unwrap();
        let builder = pool(&name(kind)).capacity(2000).wait_timeout(LIMIT);
        let roles = with(builder).create().unwrap();
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (roles, sts) = (&roles, &sts);
                child(move |_| {
                    let roles = SharedRoles::attach(roles.name()).unwrap();
                    thread::scope(|scope| {
                        for number in worker * EACH..worker * EACH + EACH {
                            let roles = &roles;
                            scope.spawn(move || {
                                // As long as a pool allows: the calls hang until it dies.
                                let slow = Duration::from_secs(60);
                                let role = tenant(sts, number).operation_timeout(slow);
                                let set = roles.role(role).unwrap().credentials().unwrap();
                                assert_of(&set, number);
                            });
                        }
                    });
                })
            })
            .collect();
        until("many calls are on their way", || assumed(&sts) > WORKERS * EACH / 4);
        let pid = refresher(&roles);
        kill(pid, Signal::SIGKILL).unwrap();
        workers.into_iter().for_each(|worker| drop(worker.finish()));
        let (all, status) = (WORKERS * EACH, roles.status().unwrap());
        assert_eq!(status.count(State::Fresh), all, "{kind}");
        assert_ne!(refresher(&roles), pid);
        let again = status.takeovers_of_all() as usize;
        assert!(again >= HANGING, "{kind}: {again} calls were interrupted");
        assert!(assumed(&sts) <= all + again, "{kind}: {} {again}", assumed(&sts));
        let most = status.entries().iter().map(|entry| entry.status().source_calls()).max();
        assert!(most.unwrap() <= 2, "{kind}: one extra call at most");
        let (keeper, pool_name) = (parent_of(refresher(&roles)), roles.name().to_owned());
        drop(roles);
        until("the keeper ends", || !lives(keeper));
        until("no file is left", || !has_files(&pool_name));
    }
}

/// A refresher that is stopped beyond its lease is replaced by its keeper.
pub fn it_is_stopped() {
    for (kind, with) in KINDS {
        let sts = LocalSts::fork().unwrap();
        let clock = ManualClock::new().unwrap();
        let roles = with(pool(&name(kind))).clock(&clock).create().unwrap();
        assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
        let pid = refresher(&roles);
        stop(pid);
        let worker = child(|_| {
            let roles = SharedRoles::attach(roles.name()).unwrap();
            assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
            assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
        });
        worker.asleep();
        clock.advance(Duration::from_secs(13));
        worker.finish();
        until("it is replaced", || !lives(pid));
        assert_eq!(assumed(&sts), 2, "{kind}");
    }
}

pub trait Takeovers {
    fn takeovers_of_all(&self) -> u64;
}

impl Takeovers for shmcreds::RolesStatus {
    fn takeovers_of_all(&self) -> u64 {
        self.entries().iter().map(|entry| entry.status().takeovers()).sum()
    }
}

/// The refresher is killed at random instructions, beside workers that fetch, refresh and evict. What they get is their own,
/// and all works afterwards.
pub fn it_is_killed_at_random() {
    const KILLS: u64 = 6;
    for &(kind, with) in &KINDS[..2] {
        let sts = LocalSts::fork().unwrap();
        let roles = with(pool(&name(kind)).capacity(6)).create().unwrap();
        let stop = StopFile::new(roles.name());
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (roles, sts, stop) = (&roles, &sts, &stop);
                child(move |report| {
                    let roles = SharedRoles::attach(roles.name()).unwrap();
                    let mut sets = 0;
                    for number in (0..9).cycle().skip(worker * 3) {
                        // A busy machine may have stopped it before its first set.
                        if sets > 0 && stop.is_there() {
                            break;
                        }
                        let Ok(role) = roles.role(tenant(sts, number)) else { continue };
                        let set = if number % 3 == 0 { role.refresh() } else { role.credentials() };
                        if let Ok(set) = set {
                            assert_of(&set, number);
                            sets += 1;
                        }
                        if number % 4 == 0 {
                            let _ = roles.evict(&tenant(sts, number));
                        }
                    }
                    report.say(sets.to_string());
                })
            })
            .collect();
        for kills in 0..KILLS {
            let pid = refresher(&roles);
            thread::sleep(Duration::from_micros(kills * 7919 % 40_000));
            // It may have ended by itself: by the kill before.
            let _ = kill(pid, Signal::SIGKILL);
            until("the next one is elected", || {
                let status = roles.status().unwrap();
                let next = status.refresher();
                next.is_some_and(|next| next.is_alive() && next.pid() != pid.as_raw() as u32)
            });
        }
        for said in stop.end(workers) {
            assert!(said.parse::<u64>().unwrap() > 0, "{kind}");
        }
        for number in 0..9 {
            let role = roles.role(tenant(&sts, number)).unwrap();
            assert_of(&role.refresh().unwrap(), number);
        }
        assert_eq!(roles.status().unwrap().entries().len(), 6, "{kind}");
    }
}

/// A sealed pool whose refresher and keeper are dead: what is there can be read, and everything else is an error in time.
pub fn a_sealed_pool_without_a_refresher() {
    let sts = LocalSts::fork().unwrap();
    let limit = Duration::from_millis(300);
    let roles = pool(&name("dead")).sealed().wait_timeout(limit).create().unwrap();
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    let pid = refresher(&roles);
    let keeper = parent_of(pid);
    kill(keeper, Signal::SIGKILL).unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    until("both are gone", || !lives(pid) && !lives(keeper));
    child(|_| {
        let roles = SharedRoles::attach(roles.name()).unwrap();
        let role = roles.role(tenant(&sts, 1)).unwrap();
        assert_of(&role.credentials().unwrap(), 1);
        let began = Instant::now();
        for error in [roles.role(tenant(&sts, 2)).unwrap_err(), role.refresh().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NoSource, "{error}");
        }
        assert_eq!(roles.evict(&tenant(&sts, 1)).unwrap_err().kind(), ErrorKind::NoSource);
        assert!(began.elapsed() >= limit * 3);
    })
    .finish();
    assert_eq!(assumed(&sts), 1);
}
