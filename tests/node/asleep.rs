//! A member of the group can move the sleepers of the segment's futex to a futex of its own, where no event wakes them.
//! They must not sleep on for all of their time.

use std::{
    fs::File,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{libc, sys::signal::Signal};
use shmcreds::StopHandle;

use crate::{
    Folder, GROUP, OWNER, become_user, builder,
    group::{Agent, member},
    key, shared,
    support::{Gate, child, elected, instant, name, until},
};

/// Moves as many sleepers.
fn move_sleepers(folder: &Folder, name: &str, number: libc::c_long) {
    member(|_| {
        let file = File::open(folder.file(OWNER, name)).unwrap();
        // SAFETY: maps a new range, at an address of the kernel's choice.
        let base = unsafe {
            let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), 65_536, read, shared, file.as_raw_fd(), 0)
        };
        assert_ne!(base, libc::MAP_FAILED);
        // The event word of the first entry: docs/PROTOCOL.md.
        let event = base.wrapping_byte_add(4096 + 128);
        let own = 0u32;
        let mut moved = 0;
        until("the sleepers are moved", || {
            let (wake, move_all): (libc::c_long, libc::c_long) = (0, i32::MAX.into());
            let own = std::ptr::from_ref(&own);
            // SAFETY: both words are mapped, and the kernel only looks at them.
            moved += unsafe {
                libc::syscall(libc::SYS_futex, event, libc::FUTEX_REQUEUE, wake, move_all, own)
            };
            moved >= number
        });
    })
    .finish();
}

pub fn who_waits_for_a_set() {
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o750), name("asleep"));
    let gate = Gate::new();
    let open = builder(&name, &folder).source(gate.source());
    let mut agent = Agent::start(open.clone().group(GROUP));
    agent.next[0].write();
    // Another process of the owner waits for the call of the first one.
    let mut waiter = child(|report| {
        become_user(OWNER, &[GROUP]);
        let session = open.attach().unwrap();
        report.say("waits\n");
        report.say(format!("{}\n", key(&session)));
    });
    assert_eq!(waiter.hear_line(), "waits");
    move_sleepers(&folder, &name, 2);
    let began = Instant::now();
    gate.open();
    assert_eq!(waiter.hear_line(), agent.process.hear_line());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    waiter.finish();
    agent.finish();
}

pub fn who_waits_to_be_elected() {
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o750), name("standby"));
    let open = builder(&name, &folder).source(instant());
    let mut keeper = child(|report| {
        become_user(OWNER, &[GROUP]);
        let session = shared(&name, &folder).create().unwrap();
        report.say(format!("{}\n", key(&session)));
        session.run_refresher(&StopHandle::new()).unwrap();
    });
    assert!(!keeper.hear_line().is_empty());
    let mut standby = child(|report| {
        become_user(OWNER, &[GROUP]);
        let session = open.attach().unwrap();
        until("the first one is elected", || elected(&session) == Some(keeper.pid));
        report.say("waits\n");
        session.run_refresher(&StopHandle::new()).unwrap();
    });
    assert_eq!(standby.hear_line(), "waits");
    let session = builder(&name, &folder).owner(OWNER).attach().unwrap();
    move_sleepers(&folder, &name, 1);
    keeper.signal(Signal::SIGKILL);
    keeper.reap();
    let began = Instant::now();
    until("the standby takes over", || elected(&session) == Some(standby.pid));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    standby.signal(Signal::SIGKILL);
    standby.reap();
}
