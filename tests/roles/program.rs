//! A refresher that a program runs itself, and what its process may lack.

use std::{io::Write, thread, time::Duration};

use nix::sys::signal::{Signal, kill};
use shmcreds::{
    AssumeRole, ErrorKind, Refresh, SharedRoles, StopHandle,
    testing::{LocalSts, ManualClock},
};

use crate::{
    asked::{has_files, refresher},
    assert_of, pool,
    support::{Child, assumed, child, lives, name, segment, stop, until, until_alone},
    tenant,
};

/// Runs the refresher of a pool in a process of its own.
pub fn running(roles: &SharedRoles) -> Child {
    let running = child(|_| {
        let roles = SharedRoles::attach(roles.name()).unwrap();
        roles.run_refresher(&StopHandle::new()).unwrap();
    });
    let pid = u32::try_from(running.pid.as_raw()).unwrap();
    let serves = |roles: &SharedRoles| {
        let status = roles.status().unwrap();
        status.refresher().is_some_and(|one| one.pid() == pid && one.is_alive())
    };
    until("it is elected", || serves(roles));
    running
}

/// A process that refreshes the pool itself: others ask it; another one stands by; it ends when it is told to.
pub fn a_program_runs_the_refresher() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("program")).create().unwrap();
    let first = running(&roles);
    let second = child(|_| {
        let roles = SharedRoles::attach(roles.name()).unwrap();
        roles.run_refresher(&StopHandle::new()).unwrap();
    });
    second.asleep();
    let read = |number| {
        let role = roles.role(tenant(&sts, number)).unwrap();
        assert_of(&role.credentials().unwrap(), number);
        role.status().unwrap().lease_holder().copied()
    };
    read(1);
    first.signal(Signal::SIGKILL);
    until("the other one takes over", || {
        let status = roles.status().unwrap();
        let pid = u32::try_from(second.pid.as_raw()).unwrap();
        status.refresher().is_some_and(|one| one.pid() == pid && one.is_alive())
    });
    read(2);
    drop(second);
    // Without one, this process makes its calls itself again.
    read(3);
    assert_eq!(assumed(&sts), 3);
    // On a thread of this process, which then has only one again.
    let stop_it = StopHandle::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| roles.run_refresher(&stop_it));
        until("it is elected", || {
            let status = roles.status().unwrap();
            let us = std::process::id();
            status.refresher().is_some_and(|one| one.pid() == us && one.is_alive())
        });
        read(4);
        stop_it.stop();
        running.join().unwrap().unwrap();
    });
    until_alone();
    assert!(!std::path::Path::new(&(segment(roles.name()) + "@ask")).exists());
    read(5);
    assert_eq!(assumed(&sts), 5);
    // Those that cannot be asked.
    let sealed = pool(&name("program-sealed")).sealed().create().unwrap();
    let error = sealed.run_refresher(&StopHandle::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let other = roles.role(AssumeRole::new("arn:aws:iam::123456789012:role/admin"));
    assert_eq!(other.unwrap_err().kind(), ErrorKind::NotAllowed);
}

/// It is stopped beyond its lease: others do its work, and it goes on with it afterwards.
pub fn a_programs_refresher_is_stopped() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let roles = pool(&name("program-stopped")).clock(&clock).create().unwrap();
    let running = running(&roles);
    let read = |number| {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    };
    read(1);
    // Stopped under the pool's lock, it would delay new roles.
    until("its call has ended", || {
        let status = roles.role(tenant(&sts, 1)).unwrap().status().unwrap();
        status.lease_holder().is_none()
    });
    stop(running.pid);
    clock.advance(Duration::from_secs(13));
    read(2);
    running.signal(Signal::SIGCONT);
    until("it serves again", || {
        roles.status().unwrap().refresher().is_some_and(|one| !one.lease_left().is_zero())
    });
    read(3);
    assert_eq!(assumed(&sts), 3);
}

/// A process forks while one of its threads refreshes the pool. The child asks that thread, and its end disturbs nothing.
pub fn a_fork_beside_the_refresher() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("program-forks")).create().unwrap();
    let stop_it = StopHandle::new();
    let read = |number| {
        assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
    };
    thread::scope(|scope| {
        let running = scope.spawn(|| roles.run_refresher(&stop_it));
        until("it is elected", || roles.status().unwrap().refresher().is_some());
        for number in 1..4 {
            child(|_| {
                read(number);
                stop_it.stop();
                drop(roles.clone());
            })
            .finish();
        }
        assert!(!stop_it.is_stopped());
        assert_eq!(roles.role(tenant(&sts, 1)).unwrap().status().unwrap().source_calls(), 1);
        read(4);
        stop_it.stop();
        running.join().unwrap().unwrap();
    });
    assert_eq!(assumed(&sts), 4);
}

/// Other code of the process closes all descriptors, as one does that makes a daemon.
pub fn closed_descriptors() {
    let close_all = || {
        for number in 3..256 {
            let _ = nix::unistd::close(number);
        }
    };
    let sts = LocalSts::fork().unwrap();
    let named = pool(&name("closed")).refresh(Refresh::Eager).create().unwrap();
    let sealed = pool(&name("closed-sealed")).sealed().create().unwrap();
    let role = sealed.role(tenant(&sts, 1)).unwrap();
    assert_of(&role.credentials().unwrap(), 1);
    child(|_| {
        close_all();
        assert_of(&named.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
        for error in [sealed.role(tenant(&sts, 2)).unwrap_err(), role.refresh().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::DescriptorClosed, "{error}");
        }
        assert_of(&role.credentials().unwrap(), 1);
    })
    .finish();
}

/// The creator has removed the name. Those who have the pool go on, also when the refresher is a new one.
pub fn a_pool_without_its_name() {
    let sts = LocalSts::fork().unwrap();
    let roles = pool(&name("unlinked")).refresh(Refresh::Eager).create().unwrap();
    let pool_name = roles.name().to_owned();
    assert_of(&roles.role(tenant(&sts, 1)).unwrap().credentials().unwrap(), 1);
    roles.unlink();
    assert!(!has_files(&pool_name));
    for number in 2..4 {
        child(|_| {
            assert_of(&roles.role(tenant(&sts, number)).unwrap().credentials().unwrap(), number);
            assert_of(&roles.role(tenant(&sts, 1)).unwrap().refresh().unwrap(), 1);
        })
        .finish();
        let pid = refresher(&roles);
        kill(pid, Signal::SIGKILL).unwrap();
        until("the next one is elected", || refresher(&roles) != pid);
    }
    assert_eq!(assumed(&sts), 5);
    let pid = refresher(&roles);
    drop(roles);
    until("the refresher ends", || !lives(pid));
    assert!(!has_files(&pool_name), "a refresher without a name makes no socket");
}

/// There is no memory for another role: that is an error of the role, and the refresher goes on.
pub fn a_full_file_system() {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    let sts = LocalSts::fork().unwrap();
    child(|_| {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return;
        }
        let (private, flags) = (MsFlags::MS_PRIVATE | MsFlags::MS_REC, MsFlags::empty());
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), flags, Some("size=1m")).unwrap();
        let roles = pool(&name("small")).capacity(2000).refresh(Refresh::Eager).create().unwrap();
        let read = |number| roles.role(tenant(&sts, number)).and_then(|role| role.credentials());
        assert_of(&read(1).unwrap(), 1);
        let pid = refresher(&roles);
        let mut others = std::fs::File::create("/dev/shm/others").unwrap();
        while others.write_all(&[0; 512]).is_ok() {}
        // The page of an entry may have room for some more. So may those of cells.
        let mut outcomes = (2..50).map(|number| roles.role(tenant(&sts, number)));
        let error = outcomes.find_map(Result::err).expect("the file system is full");
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert_of(&read(1).unwrap(), 1);
        std::fs::remove_file("/dev/shm/others").unwrap();
        drop(others);
        assert_of(&read(50).unwrap(), 50);
        assert_eq!(refresher(&roles), pid, "it lives");
    })
    .finish();
}
