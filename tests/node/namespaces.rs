//! Processes of one user in pid and time namespaces of their own, as in containers of a node.

use std::{fs, time::Duration};

use nix::{
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use shmcreds::testing::ManualClock;

use crate::{
    Folder, GROUP, MEMBER, OWNER, become_user, builder, key, shared,
    support::{Child, Gate, LIMIT, Report, StopFile, child, instant, lives, name, stop, until},
    worlds::own_mounts,
};

/// A process that is pid 1 of a pid namespace, with its own `/proc`. `before` runs between the new namespaces and the
/// fork into them. It dies with the child that stands for it here.
fn pod_with(flags: CloneFlags, before: impl FnOnce(), work: impl FnOnce(&mut Report)) -> Child {
    child(|report| {
        assert!(own_mounts());
        unshare(flags | CloneFlags::CLONE_NEWPID).unwrap();
        before();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).unwrap();
                assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
            }
            ForkResult::Child => {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
                mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
                work(report);
            }
        }
    })
}

fn pod(work: impl FnOnce(&mut Report)) -> Child {
    pod_with(CloneFlags::empty(), || (), work)
}

/// The pid here of the process in the pod.
fn inner(pod: &Child) -> Pid {
    let path = format!("/proc/{}/task/{}/children", pod.pid, pod.pid);
    let mut children = String::new();
    until("the pod runs", || {
        children = fs::read_to_string(&path).unwrap();
        !children.trim().is_empty()
    });
    Pid::from_raw(children.trim().parse().unwrap())
}

/// Two pods, the first one elected and in its call, the second one waiting for it.
struct Two {
    folder: Folder,
    name: String,
    gate: Gate,
    first: Child,
    second: Child,
}

fn two(clock: &ManualClock) -> Two {
    let (folder, name) = (Folder::new(0, 0, 0o700), name("pid"));
    let gate = Gate::new();
    let open = || builder(&name, &folder).source(gate.source()).clock(clock);
    let mut first = pod(|report| {
        let session = open().create().unwrap();
        report.say("made\n");
        report.say(format!("{}\n", key(&session)));
        until("it is killed", || false);
    });
    assert_eq!(first.hear_line(), "made");
    until("it calls its source", || gate.calls() == 1);
    let mut second = pod(|report| {
        let session = open().attach().unwrap();
        let status = session.status().unwrap();
        let holder = status.lease_holder().unwrap();
        assert!(holder.is_alive() && !holder.is_visible(), "{status:?}");
        assert!(status.to_string().contains("cannot see the one that refreshes"), "{status}");
        report.say("waits\n");
        report.say(format!("{}\n", key(&session)));
    });
    assert_eq!(second.hear_line(), "waits");
    Two { folder, name, gate, first, second }
}

pub fn a_holder_is_waited_for() {
    let mut two = two(&ManualClock::new().unwrap());
    // Many looks at what it cannot see.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(two.gate.calls(), 1);
    two.gate.open();
    let key = two.first.hear_line();
    assert_eq!(two.second.hear_line(), key);
    assert_eq!(two.gate.calls(), 1, "one call for both pods");
    two.second.finish();
    drop((two.first, two.folder, two.name));
}

/// The kernel frees its lock: nobody waits for the end of its lease.
pub fn a_dead_holder() {
    let mut two = two(&ManualClock::new().unwrap());
    two.first.signal(Signal::SIGKILL);
    until("another pod calls", || two.gate.calls() == 2);
    two.gate.open();
    assert!(!two.second.hear_line().is_empty());
    two.second.finish();
}

/// Its lock stays: its lease ends.
pub fn a_stopped_holder() {
    let clock = ManualClock::new().unwrap();
    let mut two = two(&clock);
    stop(inner(&two.first));
    assert_eq!(two.gate.calls(), 1);
    // Longer than the lease, which has 5 s more than a call.
    clock.advance(3 * LIMIT + Duration::from_secs(60));
    two.gate.open();
    assert!(!two.second.hear_line().is_empty());
    assert_eq!(two.gate.calls(), 2);
    two.second.finish();
}

/// `serve` takes over the session of one that has died: not that of one that it only cannot see.
pub fn an_owner() {
    let (folder, name) = (Folder::new(0, 0, 0o700), name("owner"));
    let open = || builder(&name, &folder).source(instant());
    let mut first = pod(|report| {
        let session = open().create().unwrap();
        report.say(format!("{}\n", key(&session)));
        until("it is killed", || false);
    });
    let theirs = first.hear_line();
    let end = StopFile::new(&crate::support::name("end"));
    let mut reader = pod(|report| {
        let session = builder(&name, &folder).attach().unwrap();
        report.say(format!("{}\n", key(&session)));
        until("it is told to end", || end.is_there());
    });
    assert_eq!(reader.hear_line(), theirs);
    let take_over = || {
        pod(|report| match open().create_or_take_over() {
            Ok(session) => report.say(key(&session)),
            Err(error) => report.say(format!("{:?}: {error}", error.kind())),
        })
        .finish()
    };
    let said = take_over();
    assert!(said.starts_with("InUse: ") && said.contains("cannot see"), "{said}");
    let holder = inner(&first);
    first.signal(Signal::SIGKILL);
    first.reap();
    // It dies a moment after the process that stands for it, and has the session until then.
    until("the process in the pod is gone", || !lives(holder));
    assert_eq!(take_over(), theirs, "the session goes on");
    end.write();
    reader.finish();
}

/// Times of the segment are on the boot clock of its creator's time namespace.
pub fn another_boot_clock() {
    let folder = Folder::new(OWNER, GROUP, 0o755);
    let (name, end) = (name("clock"), StopFile::new(&crate::support::name("end")));
    let mut agent = child(|report| {
        become_user(OWNER, &[GROUP]);
        let session = shared(&name, &folder).create().unwrap();
        report.say(format!("{}\n", key(&session)));
        until("it is told to end", || end.is_there());
    });
    let theirs = agent.hear_line();
    // A clock that is ahead by two hours: there each set looks expired. One that is behind: there none ever expires.
    for offset in ["7200", "-60"] {
        for proc_is_there in [true, false] {
            for uid in [OWNER, MEMBER] {
                let shift = || {
                    fs::write("/proc/self/timens_offsets", format!("boottime {offset} 0")).unwrap()
                };
                let said =
                    pod_with(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME), shift, |report| {
                        if !proc_is_there {
                            crate::worlds::tmpfs("/proc", MsFlags::empty(), "");
                        }
                        become_user(uid, &[GROUP]);
                        match builder(&name, &folder).owner(OWNER).attach() {
                            Ok(session) => report.say(format!("{:?}", session.status())),
                            Err(error) => report.say(format!("{:?}: {error}", error.kind())),
                        }
                    })
                    .finish();
                assert!(
                    said.starts_with("Unsupported: "),
                    "{offset}, {proc_is_there}, {uid}: {said}"
                );
                assert!(said.contains("time namespace"), "{said}");
            }
        }
    }
    // Without `/proc`, in the same time namespace.
    let said = pod(|report| {
        crate::worlds::tmpfs("/proc", MsFlags::empty(), "");
        become_user(MEMBER, &[GROUP]);
        report.say(key(&builder(&name, &folder).attach().unwrap()));
    });
    assert_eq!(said.finish(), theirs);
    end.write();
    agent.finish();
}
