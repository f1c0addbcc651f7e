//! Eager and sealed pools: workers ask the refresher, which makes all calls.

use std::{path::Path, process::Command, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Gid, Pid, Uid, geteuid, setgid, setuid},
};
use shmcreds::{
    AssumeRole, ErrorKind, Refresh, SharedRoles, SharedRolesBuilder, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    arn_of, assert_of, pool,
    support::{assumed, child, lives, lock, name, segment, until, until_alone},
    tenant,
};

/// Adds how a pool is refreshed.
type With = fn(SharedRolesBuilder) -> SharedRolesBuilder;

/// The ways in which a pool has a refresher, by a name for each.
pub const KINDS: [(&str, With); 3] = [
    ("eager", |pool| pool.refresh(Refresh::Eager)),
    ("sealed", |pool| pool.sealed()),
    ("both", |pool| pool.refresh(Refresh::Eager).sealed()),
];

pub fn refresher(roles: &SharedRoles) -> Pid {
    let status = roles.status().unwrap();
    Pid::from_raw(status.refresher().unwrap().pid().try_into().unwrap())
}

/// Whether the pool has left any of its files.
pub fn has_files(name: &str) -> bool {
    [segment(name), lock(name), segment(name) + "@ask"].iter().any(|path| Path::new(path).exists())
}

pub fn workers_ask_the_refresher() {
    for (kind, with) in KINDS {
        let sts = LocalSts::fork().unwrap();
        let roles = with(pool(&name(kind))).create().unwrap();
        assert_eq!(has_files(roles.name()), kind == "eager", "{kind}");
        // The parent may fork.
        until_alone();
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                child(|_| {
                    let roles = SharedRoles::attach(roles.name()).unwrap();
                    for step in 0..20 {
                        let number = (step * 7 + worker) % 20;
                        let role = roles.role(tenant(&sts, number)).unwrap();
                        assert_of(&role.credentials().unwrap(), number);
                        assert_eq!(role.status().unwrap().source_calls(), 1);
                    }
                    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                    let ours = |line: &&str| line.contains(roles.name()) && !line.contains("@lock");
                    let writable = maps.lines().filter(ours).any(|line| line.contains(" rw"));
                    assert!(!writable, "a worker has the pool mapped for writing");
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| drop(worker.finish()));
        assert_eq!(assumed(&sts), 20, "{kind}");
        let status = roles.status().unwrap();
        assert_eq!((status.count(State::Fresh), status.refused_requests()), (20, 0), "{kind}");
        assert_ne!(status.refresher().unwrap().pid(), std::process::id());
        let (pid, pool_name) = (refresher(&roles), roles.name().to_owned());
        drop(roles);
        until("the refresher ends with the last user", || !lives(pid));
        until("no file is left", || !has_files(&pool_name));
    }
}

/// A wait without an end is as good as any other.
pub fn a_worker_waits_for_any_time_that_it_is_told() {
    for (kind, with) in [KINDS[0], KINDS[1], ("deferred", |pool| pool)] {
        let sts = LocalSts::fork().unwrap();
        let huge = |pool: SharedRolesBuilder| {
            let pool = pool.wait_timeout(Duration::MAX);
            pool.advisory_window(Duration::MAX).mandatory_window(Duration::MAX)
        };
        let roles = huge(with(pool(&name(kind)))).create().unwrap();
        child(|_| {
            let builder = SharedRoles::builder(roles.name()).wait_timeout(Duration::MAX);
            let role = builder.attach().unwrap().role(tenant(&sts, 1)).unwrap();
            assert_of(&role.credentials().unwrap(), 1);
            assert_of(&role.credentials_within(Duration::MAX).unwrap(), 1);
            let error = role.credentials_valid_for(Duration::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooShort, "{error}");
            until("it is evicted", || roles.evict(&tenant(&sts, 1)).unwrap());
        })
        .finish();
    }
}

/// Refreshes, rejections and evictions are requests, too.
pub fn the_verbs_of_a_worker_that_cannot_write() {
    for (kind, with) in KINDS {
        let sts = LocalSts::fork().unwrap();
        let clock = ManualClock::new().unwrap();
        let roles = with(pool(&name(kind))).clock(&clock).create().unwrap();
        child(|_| {
            let roles = SharedRoles::attach(roles.name()).unwrap();
            let role = roles.role(tenant(&sts, 1)).unwrap();
            let first = role.credentials().unwrap();
            let second = role.refresh().unwrap();
            assert_of(&second, 1);
            assert_ne!(first.access_key_id(), second.access_key_id());
            assert!(role.invalidate(second.access_key_id()).unwrap());
            assert!(!role.invalidate(first.access_key_id()).unwrap());
            // A rejected set of less than 5 s stays.
            clock.advance(Duration::from_secs(5));
            until("it is replaced", || {
                role.credentials().unwrap().access_key_id() != second.access_key_id()
            });
            assert_eq!(assumed(&sts), 3);
            // The process that published may be elected for a moment longer.
            until("it is evicted", || roles.evict(&tenant(&sts, 1)).unwrap());
            assert!(!roles.evict(&tenant(&sts, 1)).unwrap(), "it is gone");
            assert_of(&role.credentials().unwrap(), 1);
            assert_eq!(assumed(&sts), 4);
        })
        .finish();
        let status = roles.status().unwrap();
        assert_eq!((status.evictions(), status.insertions()), (1, 2), "{kind}");
    }
}

pub fn a_failure_reaches_all_who_wait() {
    for (kind, with) in KINDS {
        let sts = LocalSts::fork().unwrap();
        sts.configure(Settings::new().latency(Duration::from_millis(200))).unwrap();
        sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
        // The failure stands as long as the clock does.
        let clock = ManualClock::new().unwrap();
        let roles = with(pool(&name(kind))).clock(&clock).create().unwrap();
        let fail = || {
            let roles = SharedRoles::attach(roles.name()).unwrap();
            let error = roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceTerminal, "{error}");
            assert!(error.retry_after().unwrap() > Duration::ZERO);
        };
        let workers: Vec<_> = (0..4).map(|_| child(|_| fail())).collect();
        workers.into_iter().for_each(|worker| drop(worker.finish()));
        assert_eq!(assumed(&sts), 1, "{kind}");
        // Another tenant is not told of it.
        child(|_| {
            let roles = SharedRoles::attach(roles.name()).unwrap();
            assert_of(&roles.role(tenant(&sts, 2)).unwrap().credentials().unwrap(), 2);
        })
        .finish();
    }
}

/// A call that hangs does not delay the others, and a pool whose entries are all being refreshed says so.
pub fn hanging_calls() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("hanging")).capacity(3).refresh(Refresh::Eager).create().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(2)).unwrap();
    let busy: Vec<_> = (0..2)
        .map(|number| {
            let (roles, sts) = (&roles, &sts);
            let slow = tenant(sts, number).operation_timeout(Duration::from_secs(60));
            child(move |_| drop(roles.role(slow).unwrap().credentials()))
        })
        .collect();
    until("both call STS", || assumed(&sts) == 2);
    for number in 2..5 {
        // The entry before is free a moment after its set is there.
        let mut role = Err(());
        until("there is an entry", || {
            role = roles.role(tenant(&sts, number)).map_err(|e| assert!(e.is_retryable(), "{e}"));
            role.is_ok()
        });
        assert_of(&role.unwrap().credentials().unwrap(), number);
    }
    let status = roles.status().unwrap();
    assert_eq!(status.count(State::Empty), 2, "the two still hang");
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    let third = child(|_| {
        until("it has an entry", || roles.role(tenant(&sts, 5)).is_ok());
        drop(roles.role(tenant(&sts, 5)).unwrap().credentials());
    });
    until("the third calls STS", || assumed(&sts) == 6);
    // Each time: a refusal that is told again is another one.
    for _ in 0..3 {
        let error = roles.role(tenant(&sts, 6)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    }
    let error = roles.evict(&tenant(&sts, 5));
    assert!(!error.unwrap(), "it is being refreshed");
    assert_eq!(roles.status().unwrap().refused_requests(), 0);
    drop((busy, third));
}

/// A worker that dropped its user asks, too: it has inherited the pool.
pub fn a_worker_that_dropped_its_user_asks() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("dropped")).refresh(Refresh::Eager).sealed().create().unwrap();
    child(|_| {
        if geteuid().is_root() {
            setgid(Gid::from_raw(65_534)).unwrap();
            setuid(Uid::from_raw(65_534)).unwrap();
        }
        let roles = SharedRoles::attach(roles.name()).unwrap();
        assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    })
    .finish();
    assert_eq!(assumed(&sts), 1);
}

/// A process without a base source asks the refresher; in a deferred pool it could only read.
pub fn a_process_without_a_source_asks() {
    let sts = LocalSts::fork().unwrap();
    let name = name("sourceless");
    // Forked before, it inherits nothing.
    let mut worker = child(|report| {
        until("there is a pool", || SharedRoles::attach(&name).is_ok());
        let roles = SharedRoles::attach(&name).unwrap();
        assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
        report.say(".");
        let proxied = tenant(&sts, 2).proxy("http://127.0.0.1:1");
        let error = roles.role(proxied).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("proxy: "), "{error}");
    });
    let roles = pool(&name).refresh(Refresh::Eager).create().unwrap();
    worker.hear();
    worker.finish();
    let status = roles.status().unwrap();
    assert_eq!((assumed(&sts), status.insertions()), (1, 1));
}

/// Makes this program a worker that was started by `exec`: the value is the name of the pool.
pub const STARTED: &str = "SHMCREDS_TEST_POOL";
const URL: &str = "SHMCREDS_TEST_URL";

/// The worker that was started.
pub fn started(pool: &str) {
    let role = AssumeRole::new(arn_of(1)).session_name("test").external_id("tenant-1");
    let role = role.region("us-east-1").endpoint_url(std::env::var(URL).unwrap());
    let roles = SharedRoles::attach(pool).unwrap();
    assert_of(&roles.role(role).unwrap().credentials().unwrap(), 1);
}

/// A program that a worker starts asks, too, if it is passed the pool.
pub fn a_started_program_asks() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("started")).sealed().create().unwrap();
    for is_passed in [true, false] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(STARTED, roles.name()).env(URL, sts.url());
        if is_passed {
            roles.pass_to(&mut command).unwrap();
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), is_passed, "{output:?}");
    }
    assert_eq!(assumed(&sts), 1);
}

/// Without the refresher and its keeper, workers of a pool with a name do the work themselves.
pub fn workers_go_on_without_a_refresher() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("orphaned")).refresh(Refresh::Eager).create().unwrap();
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    let pid = refresher(&roles);
    let keeper = crate::support::parent_of(pid);
    kill(keeper, Signal::SIGKILL).unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    until("both are gone", || !lives(pid) && !lives(keeper));
    assert_eq!(waitpid(keeper, None), Err(Errno::ECHILD), "it was no child");
    for number in 1..4 {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    }
    assert_eq!(assumed(&sts), 3);
    let pool_name = roles.name().to_owned();
    drop(roles);
    assert!(!has_files(&pool_name));
}
