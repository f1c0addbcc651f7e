//! Kernels and sandboxes that lack system calls: the same promises, although a death is noticed a little later.
#![allow(unsafe_code)]

mod support;
#[path = "support/worlds.rs"]
mod worlds;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::{errno::Errno, libc, sys::signal::Signal};
use shmcreds::{CredentialProcess, ErrorKind, Provider, Refresh, SharedSession};
use support::{Child, assert_whole, child, elected, instant, lives, lock, name, segment, until};
use worlds::{Refusal, later_than, own_mounts, refuse};

fn main() {
    support::run_forking(&[
        ("sessions_work_without_later_calls", sessions_work),
        ("a_death_is_noticed_without_pidfd_open", a_death_is_noticed),
        ("a_refresher_that_hangs_is_replaced_without_pidfd_open", a_refresher_that_hangs),
        ("a_program_that_leaves_a_child_is_done", a_program_that_leaves_a_child),
        ("a_seal_that_is_missing_is_told", a_seal_that_is_missing),
        ("secret_memory_that_is_missing_is_told", secret_memory_that_is_missing),
        ("nothing_waits_for_ever_where_nobody_may_wait", where_nobody_may_wait),
        ("limits_that_cannot_be_changed", limits_that_cannot_be_changed),
        ("memory_is_reserved_without_fallocate", memory_is_reserved),
        ("without_proc", without_proc),
    ]);
}

/// Everything since `pidfd_open` (Linux 5.3), or since `pidfd_send_signal` and so since 4.18: missing, or forbidden.
fn worlds() -> [Vec<Refusal>; 4] {
    [
        later_than(libc::SYS_pidfd_open, Errno::ENOSYS),
        later_than(libc::SYS_pidfd_open, Errno::EPERM),
        later_than(libc::SYS_pidfd_send_signal, Errno::ENOSYS),
        later_than(libc::SYS_pidfd_send_signal, Errno::EPERM),
    ]
}

fn gone(name: &str) -> bool {
    !Path::new(&segment(name)).exists() && !Path::new(&lock(name)).exists()
}

fn sessions_work() {
    for world in worlds() {
        for (refresh, sealed) in
            [(Refresh::Deferred, false), (Refresh::Eager, false), (Refresh::Eager, true)]
        {
            let name = name("works");
            child(|_| {
                refuse(&world);
                let builder = SharedSession::builder(&name).source(instant()).refresh(refresh);
                let session = if sealed { builder.sealed() } else { builder }.create().unwrap();
                assert_whole(&session.credentials().unwrap());
                let worker = child(|_| {
                    let worker = SharedSession::attach(&name).unwrap();
                    let first = worker.credentials().unwrap();
                    assert_ne!(worker.refresh().unwrap().access_key_id(), first.access_key_id());
                });
                worker.finish();
                assert_eq!(session.status().unwrap().source_calls(), 2);
            })
            .finish();
            until("nothing is left", || gone(&name));
        }
    }
}

/// The elected worker is killed in its call, which would take an hour.
fn a_death_is_noticed() {
    for world in worlds() {
        let name = name("death");
        let took = child(|report| {
            refuse(&world);
            let hour = Duration::from_secs(250);
            let slow = Provider::new("slow", move || async move {
                tokio::time::sleep(hour).await;
                support::instant_set()
            });
            let builder = SharedSession::builder(&name).source(slow.timeout(hour));
            let _session = builder.create().unwrap();
            let worker = |work: fn(&SharedSession)| {
                child(|report| {
                    let session = SharedSession::attach(&name).unwrap();
                    report.say("+");
                    work(&session);
                })
            };
            let mut first = worker(|session| drop(session.credentials()));
            first.hear();
            let reader = SharedSession::attach(&name).unwrap();
            until("the first worker is elected", || elected(&reader) == Some(first.pid));
            until("it asks", || reader.status().unwrap().source_calls() == 1);
            let mut second = worker(|session| drop(session.credentials()));
            second.hear();
            second.asleep();
            first.signal(Signal::SIGKILL);
            let killed = Instant::now();
            until("the second one asks", || reader.status().unwrap().source_calls() == 2);
            report.say(format!("{}", killed.elapsed().as_millis()));
            first.reap();
        })
        .finish();
        let took: u64 = took.parse().unwrap();
        // `death_watch` promises a second. The rest is for a busy machine. Not noticed, it would be the lease: 255 s.
        assert!(took < 3000, "{took} ms");
    }
}

/// The keeper of a sealed session kills a refresher that is stopped beyond its lease.
fn a_refresher_that_hangs() {
    for world in worlds() {
        let (name, clock) = (name("hangs"), shmcreds::testing::ManualClock::new().unwrap());
        child(|_| {
            refuse(&world);
            let builder = SharedSession::builder(&name).source(instant()).clock(&clock);
            let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
            let refresher = elected(&session).unwrap();
            support::stop(refresher);
            clock.advance(Duration::from_secs(120));
            until("it is killed", || !lives(refresher));
            until("another one works", || elected(&session).is_some_and(|pid| pid != refresher));
        })
        .finish();
    }
}

/// It answers and ends. A child of its keeps its standard output open.
fn a_program_that_leaves_a_child() {
    const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s","SessionToken":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
    for world in worlds() {
        let name = name("program");
        let stop = support::StopFile::new(&support::name("stop"));
        let path = std::env::temp_dir().join(format!("{name}-fifo"));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        child(|_| {
            refuse(&world);
            // The child waits until the test opens the pipe.
            let script = format!("echo '{SET}'; (read line <{}) & exit 0", path.display());
            let source = CredentialProcess::new(["/bin/sh", "-c", &script]);
            let source = source.timeout(Duration::from_secs(100));
            let session = SharedSession::builder(&name).source(source).create().unwrap();
            let began = Instant::now();
            assert_eq!(session.credentials().unwrap().access_key_id(), "ASIAEXAMPLE");
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        })
        .finish();
        std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(stop);
    }
}

fn refused(refusals: &[Refusal], builder: fn(&str) -> shmcreds::SharedSessionBuilder) -> String {
    let name = name("refused");
    let said = child(|report| {
        refuse(refusals);
        let error = builder(&name).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        report.say(error.to_string());
    })
    .finish();
    assert!(gone(&name));
    said
}

/// Before Linux 5.1 `F_ADD_SEALS` does not know `F_SEAL_FUTURE_WRITE`.
fn a_seal_that_is_missing() {
    let seals = (libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL) as u32
        | libc::F_SEAL_FUTURE_WRITE as u32;
    let missing =
        Refusal { call: libc::SYS_fcntl, argument: Some((2, seals)), errno: Errno::EINVAL };
    let builder = |name: &str| {
        SharedSession::builder(name).source(instant()).refresh(Refresh::Eager).sealed()
    };
    let said = refused(&[missing], builder);
    assert!(said.contains("Linux 5.1") && said.contains("sealed"), "{said}");
}

fn secret_memory_that_is_missing() {
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        let builder = |name: &str| {
            let builder = SharedSession::builder(name).source(instant());
            builder.refresh(Refresh::Eager).sealed().secret_memory()
        };
        let said = refused(&[Refusal::of(libc::SYS_memfd_secret, errno)], builder);
        assert!(said.contains("Linux 5.14"), "{said}");
    }
}

/// The processes of an eager session, which wait for each other.
fn where_nobody_may_wait() {
    let calls = [vec![libc::SYS_wait4], vec![libc::SYS_wait4, libc::SYS_waitid]];
    for (calls, subreaper, sealed) in calls.iter().flat_map(|calls| {
        [(calls, false, false), (calls, false, true), (calls, true, false), (calls, true, true)]
    }) {
        let name = name("wait");
        let mut parent = child(|report| {
            // All that is left of the session becomes a child of this process.
            nix::sys::prctl::set_child_subreaper(subreaper).unwrap();
            let refusals: Vec<_> =
                calls.iter().map(|call| Refusal::of(*call, Errno::ENOSYS)).collect();
            refuse(&refusals);
            let builder = SharedSession::builder(&name).source(instant());
            let builder = builder.refresh(Refresh::Eager).wait_timeout(Duration::from_secs(20));
            let made = if sealed { builder.sealed() } else { builder }.create();
            match made {
                Ok(session) => report.say(session.credentials().unwrap().access_key_id()),
                Err(error) => report.say(format!("refused: {error}")),
            }
        });
        // The end of the report means that no process of the session has inherited it, either.
        let said = String::from_utf8(vec![parent.hear()]).unwrap() + &parent.finish();
        let works = calls.len() == 1;
        assert_eq!(!said.starts_with("refused"), works, "{said}");
        assert!(!said.contains("os error"), "{said}");
        until("no process is left", || !is_titled(&name));
        until("nothing is left", || gone(&name));
    }
}

/// Whether a process has the title of the session's refresher.
fn is_titled(name: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().any(|process| {
        let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with(&format!("shmcreds: {name}\0"))
    })
}

/// The refresher must not dump its memory, and cannot say so by its limit.
fn limits_that_cannot_be_changed() {
    for errno in [Errno::EPERM, Errno::ENOSYS] {
        child(|_| {
            refuse(&[Refusal::of(libc::SYS_prlimit64, errno)]);
            for sealed in [false, true] {
                let builder = SharedSession::builder(name("limits")).source(instant());
                let builder = builder.refresh(Refresh::Eager);
                let session = if sealed { builder.sealed() } else { builder }.create().unwrap();
                let refresher = elected(&session).unwrap();
                // Of a process that is not dumpable, other users than root may read nothing.
                let status = std::fs::read_to_string(format!("/proc/{refresher}/status")).unwrap();
                assert!(status.contains("CoreDumping:"), "{status}");
                let mode = std::fs::metadata(format!("/proc/{refresher}/environ")).unwrap();
                use std::os::unix::fs::MetadataExt;
                assert_eq!(mode.uid(), 0);
            }
        })
        .finish();
    }
}

fn memory_is_reserved() {
    for errno in [Errno::ENOSYS, Errno::EPERM, Errno::EOPNOTSUPP] {
        child(|_| {
            refuse(&[Refusal::of(libc::SYS_fallocate, errno)]);
            let name = name("reserved");
            let session = SharedSession::builder(&name).source(instant()).create().unwrap();
            use std::os::unix::fs::MetadataExt;
            let file = std::fs::metadata(segment(&name)).unwrap();
            assert!(file.blocks() * 512 >= file.size(), "{} blocks", file.blocks());
            drop(session);
        })
        .finish();
    }
}

/// A jail. There a session without a name has no way to open its lock file again.
fn without_proc() {
    let said = child(|report| {
        if !own_mounts() {
            return report.say("not allowed here");
        }
        if nix::mount::umount2("/proc", nix::mount::MntFlags::MNT_DETACH).is_err() {
            return report.say("not allowed here");
        }
        for refresh in [Refresh::Deferred, Refresh::Eager] {
            let name = name("no-proc");
            let builder = SharedSession::builder(&name).source(instant()).refresh(refresh);
            let session = builder.create().unwrap();
            assert_whole(&session.credentials().unwrap());
            let worker: Child = child(|_| {
                let worker = SharedSession::attach(&name).unwrap();
                let first = worker.credentials().unwrap();
                assert_ne!(worker.refresh().unwrap().access_key_id(), first.access_key_id());
            });
            worker.finish();
            drop(session);
            until("nothing is left", || gone(&name));
        }
        let builder = SharedSession::builder(name("no-proc")).source(instant());
        let error = builder.refresh(Refresh::Eager).sealed().create().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/proc/self/fd") && text.contains("mount /proc"), "{text}");
        assert!(!text.contains("os error"), "{text}");
        // Several threads are noticed without `/proc`, too.
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        let builder = SharedSession::builder(name("no-proc")).source(instant());
        let error = builder.refresh(Refresh::Eager).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Multithreaded, "{error}");
        drop(hold);
        let _ = thread.join();
        report.say("done");
    })
    .finish();
    assert!(said == "done" || said == "not allowed here", "{said}");
}
