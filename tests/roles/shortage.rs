//! No memory is left, and a process dies while many roles get their first sets.

use std::time::Duration;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{signal::Signal, wait::WaitStatus},
    unistd::Uid,
};
use shmcreds::{ErrorKind, SharedRoles, testing::LocalSts};

use crate::{
    assert_of, pool,
    support::{assumed, child, name, until},
    tenant,
};

/// Takes the place of `/dev/shm` for this process alone, with so many MiB.
fn small_dev_shm(mebibytes: usize) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let size = format!("size={mebibytes}m,mode=1777");
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some(&*size)).unwrap();
}

fn resize(size: &str) {
    let (none, size) = (None::<&str>, format!("size={size},mode=1777"));
    mount(none, "/dev/shm", none, MsFlags::MS_REMOUNT, Some(&*size)).unwrap();
}

/// A pool for 10,000 roles where the memory is enough for some of them: an error, and no SIGBUS. What is there goes on.
pub fn a_small_dev_shm() {
    if !Uid::effective().is_root() {
        return;
    }
    let sts = LocalSts::fork().unwrap();
    let [some, none] = ["some", "none"].map(name);
    child(|_| {
        small_dev_shm(8);
        sets_and_then_no_space(&sts, &some);
        resize("2m");
        no_space_for_sets(&sts, &none);
    })
    .finish();
}

fn sets_and_then_no_space(sts: &LocalSts, name: &str) {
    let roles = pool(name).capacity(10_000).create().unwrap();
    let read = |number| {
        assert_of(&roles.role(tenant(sts, number)).unwrap().credentials().unwrap(), number);
    };
    (0..5).for_each(read);
    let error = (5..10_000).find_map(|number| roles.role(tenant(sts, number)).err());
    let error = error.expect("not all entries have memory");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    let inserted = roles.status().unwrap().insertions();
    assert!((2000..7000).contains(&inserted), "{inserted}");
    assert_eq!(roles.role(tenant(sts, 9_999)).unwrap_err().kind(), ErrorKind::NoSpace);
    // Another process, which maps the pool anew.
    child(|_| {
        let roles = SharedRoles::attach(roles.name()).unwrap();
        (0..5).for_each(|number| {
            assert_of(&roles.role(tenant(sts, number)).unwrap().credentials().unwrap(), number);
        });
    })
    .finish();
    assert_of(&roles.role(tenant(sts, 1)).unwrap().refresh().unwrap(), 1);
    // An entry that becomes free has its memory.
    assert!(roles.evict(&tenant(sts, 5)).unwrap());
    read(9_999);
    assert_eq!(assumed(sts), 7);
}

/// The entries take the memory before there is a set.
fn no_space_for_sets(sts: &LocalSts, name: &str) {
    let roles = pool(name).capacity(10_000).wait_timeout(Duration::from_secs(10)).create().unwrap();
    let error = (0..10_000).find_map(|number| roles.role(tenant(sts, number)).err());
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::NoSpace));
    let error = roles.role(tenant(sts, 1)).unwrap().credentials().unwrap_err();
    assert!(error.to_string().contains("reserving"), "{error}");
    assert!(error.is_retryable(), "{error}");
    // An administrator makes it larger.
    resize("16m");
    until("the set is there", || match roles.role(tenant(sts, 1)).unwrap().credentials() {
        Ok(set) => {
            assert_of(&set, 1);
            true
        }
        Err(_) => false,
    });
}

/// A process is killed in its calls while many roles get their first sets. The others make the rest of the calls, and no
/// read fails.
pub fn a_death_among_many_first_fetches() {
    first_fetches(250);
}

pub fn a_death_among_a_thousand_first_fetches() {
    first_fetches(1000);
}

fn first_fetches(count: usize) {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("first")).capacity(count).create().unwrap();
    let mut workers: Vec<_> = (0..4)
        .map(|worker| {
            let (roles, sts) = (&roles, &sts);
            child(move |_| {
                let roles = SharedRoles::attach(roles.name()).unwrap();
                for step in 0..count {
                    let number = (step + worker * count / 4) % count;
                    let role = roles.role(tenant(sts, number)).unwrap();
                    assert_of(&role.credentials().unwrap(), number);
                }
            })
        })
        .collect();
    until("half of the sets are there", || assumed(&sts) >= count / 2);
    let mut victim = workers.remove(0);
    victim.signal(Signal::SIGKILL);
    assert!(matches!(victim.reap(), WaitStatus::Signaled(..)), "it was not done");
    workers.into_iter().for_each(|worker| drop(worker.finish()));
    let calls = assumed(&sts);
    assert!((count..=count + 1).contains(&calls), "{calls} calls for {count} roles");
    assert_eq!(roles.status().unwrap().entries().len(), count);
}
