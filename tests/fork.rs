//! Forked processes: cold starts, kills, stops. On one thread, since a process with threads cannot
//! safely fork.
#![allow(unsafe_code)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::fd::AsRawFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_credential_types::Credentials;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
        wait::WaitStatus,
    },
};
use shmcreds::{
    ErrorKind, Provider, Refresh, SharedSession, SourceErrorClass,
    testing::{Fault, FaultPoint, LocalSts, ManualClock, Settings, Times, signal_at},
};
use support::{
    Child, StopFile, assert_whole, assumed, child, instant, lock, name, role, segment, until,
};

fn main() {
    support::run_forking(&[
        (
            "create_and_credentials_leave_nothing_behind",
            create_and_credentials_leave_nothing_behind,
        ),
        ("a_cold_start_is_one_call", a_cold_start_is_one_call),
        ("each_cycle_is_one_call", each_cycle_is_one_call),
        ("another_takes_over_when_the_elected_is_killed", another_takes_over),
        ("another_takes_over_a_call_whose_maker_is_killed", another_takes_over_a_call),
        ("a_call_that_never_ends_keeps_nobody_waiting", a_call_that_never_ends),
        ("who_watches_nobody_is_not_forgotten", who_watches_nobody),
        ("a_refresh_that_outlives_its_handles_stays_elected", a_refresh_outlives),
        ("attach_beside_create_finds_a_session_or_none", attach_beside_create),
        ("create_beside_those_who_attach_is_patient", create_beside_those_who_attach),
        ("a_child_has_not_locked_what_it_inherited", a_child_has_not_locked),
        ("a_stopped_refresher_neither_blocks_nor_overwrites", a_stopped_refresher),
        ("a_sleeper_may_fork_as_soon_as_it_wakes", a_sleeper_may_fork),
        ("a_joined_thread_is_in_nobodys_way", a_joined_thread_is_in_nobodys_way),
        ("a_fork_beside_busy_threads_hangs_nobody", a_fork_beside_busy_threads),
        ("a_fork_beside_a_first_wait_hangs_nobody", a_fork_beside_a_first_wait),
        ("a_thousand_kills_lose_nothing", a_thousand_kills),
        ("locked_bytes_are_an_error_that_names_the_process", locked_bytes_are_an_error),
        ("one_failure_is_one_call_for_all", one_failure_is_one_call),
        ("a_child_inherits_what_it_does_not_set", a_child_inherits_what_it_does_not_set),
        ("a_childs_drop_removes_nothing", a_childs_drop_removes_nothing),
        ("a_child_that_drops_its_handles_has_nothing", a_child_that_drops_its_handles),
        ("a_child_that_leaves_is_no_user", a_child_that_leaves_is_no_user),
        ("a_sealed_session_can_be_left", a_sealed_session_can_be_left),
        ("killed_processes_leave_a_name_that_can_be_reused", killed_processes_leave_a_name),
        ("a_live_session_names_its_user", a_live_session_names_its_user),
        ("jitter_differs_between_children", jitter_differs_between_children),
        ("full_or_missing_shared_memory_is_an_error", full_or_missing_shared_memory),
        ("whatever_a_process_lacks_nothing_is_left", whatever_a_process_lacks),
    ]);
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

/// What the open descriptors lead to.
fn descriptors() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    targets.map(|target| target.display().to_string()).filter(|t| !t.contains("/fd")).collect()
}

fn create_and_credentials_leave_nothing_behind() {
    let sts = LocalSts::fork().unwrap();
    // Where its `signal` feature is compiled in, tokio makes one socket pair for the life of the
    // process with the first runtime, whoever builds it: not ours to close.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    assert_eq!(entries("/proc/self/task"), 1);
    let before = descriptors();
    let session = SharedSession::builder(name("clean")).source(role(&sts)).create().unwrap();
    assert_eq!(entries("/proc/self/task"), 1);
    let created = descriptors();
    assert_eq!(created.len(), before.len() + 2, "the segment and the lock file: {created:?}");

    session.credentials().unwrap();
    // A joined thread may stand in /proc for a moment.
    until("no thread is left", || entries("/proc/self/task") == 1);
    assert_eq!(descriptors(), created);

    let path = segment(session.name());
    drop(session);
    assert_eq!(descriptors(), before);
    assert!(!Path::new(&path).exists());
}

/// Workers that attach, say so, and tell the key that four threads of theirs get.
fn workers(name: &str, count: usize) -> Vec<Child> {
    (0..count)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(name).unwrap();
                report.say(".");
                let threads: Vec<_> = (0..4)
                    .map(|_| session.clone())
                    .map(|session| std::thread::spawn(move || session.credentials().unwrap()))
                    .collect();
                for thread in threads {
                    report.say(format!("{}\n", thread.join().unwrap().access_key_id()));
                }
            })
        })
        .collect()
}

fn keys(workers: Vec<Child>) -> BTreeSet<String> {
    let said = workers.into_iter().map(Child::finish);
    said.flat_map(|said| said.replace('.', "").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn a_cold_start_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().latency(Duration::from_millis(200))).unwrap();
    let session = SharedSession::builder(name("cold")).source(role(&sts)).create().unwrap();
    let keys = keys(workers(session.name(), 64));
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!((assumed(&sts), session.status().unwrap().source_calls()), (1, 1));
}

fn each_cycle_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session =
        SharedSession::builder(name("cycles")).source(role(&sts)).clock(&clock).create().unwrap();
    let mut seen = BTreeSet::new();
    for cycle in 1..=3 {
        let fresh = keys(workers(session.name(), 64));
        assert_eq!(fresh.len(), 1, "{fresh:?}");
        assert!(seen.is_disjoint(&fresh), "an expired set was served");
        seen.extend(fresh);
        assert_eq!(assumed(&sts), cycle);
        assert_eq!(session.status().unwrap().generation(), cycle as u64);
        // Past its end, by the hour that it lives.
        clock.advance(Duration::from_secs(3700));
    }
}

/// A worker that stops itself when its refresh comes to `stage`.
fn victim(name: &str, stage: FaultPoint) -> Child {
    let victim = child(|report| {
        let session = SharedSession::attach(name).unwrap();
        signal_at(stage, Signal::SIGSTOP as i32);
        report.say(session.credentials().unwrap().access_key_id());
    });
    victim.stopped();
    victim
}

fn another_takes_over() {
    for (stage, calls, takeovers) in [
        (FaultPoint::Elected, 1, 1),
        (FaultPoint::Answered, 2, 1),
        (FaultPoint::MidWrite, 2, 1),
        (FaultPoint::Exchanged, 1, 0),
        (FaultPoint::Published, 1, 0),
    ] {
        let sts = LocalSts::fork().unwrap();
        // Shorter than the lease of the role's 15 s: who waits for its end fails.
        let session = SharedSession::builder(name("takeover"))
            .source(role(&sts))
            .wait_timeout(Duration::from_secs(10))
            .create()
            .unwrap();
        let mut victim = victim(session.name(), stage);
        let mut others = workers(session.name(), 3);
        for other in &mut others {
            other.hear();
            if ![FaultPoint::Exchanged, FaultPoint::Published].contains(&stage) {
                other.asleep();
            }
        }
        victim.signal(Signal::SIGKILL);
        assert!(matches!(victim.reap(), WaitStatus::Signaled(..)));
        assert_eq!(keys(others).len(), 1, "{stage:?}");
        assert_eq!(assumed(&sts), calls, "{stage:?}");
        let status = session.status().unwrap();
        assert_eq!((status.generation(), status.takeovers()), (1, takeovers), "{stage:?}");
        // And the next refresh finds everything in order.
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), 2, "{stage:?}");
    }
}

/// The call is on its way when the elected process dies.
fn another_takes_over_a_call() {
    let sts = LocalSts::fork().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    let session = SharedSession::builder(name("call")).source(role(&sts)).create().unwrap();
    let victim = child(|_| drop(SharedSession::attach(session.name()).unwrap().credentials()));
    until("the call is made", || assumed(&sts) == 1);
    let mut others = workers(session.name(), 3);
    for other in &mut others {
        other.hear();
        other.asleep();
    }
    victim.signal(Signal::SIGKILL);
    assert_eq!(keys(others).len(), 1);
    let status = session.status().unwrap();
    assert_eq!((assumed(&sts), status.generation(), status.takeovers()), (2, 1, 1));
}

/// The refresher dies between publishing and waking, and the sleeper has no source: it watches nobody.
fn who_watches_nobody() {
    let name = name("watches");
    // Longer than any test lasts.
    let hour = Duration::from_secs(3600);
    // Forked before, it does not inherit the source.
    let mut reader = child(|report| {
        let attach = || SharedSession::builder(&name).wait_timeout(hour).attach();
        until("there is a session", || attach().is_ok());
        let session = attach().unwrap();
        report.say(".");
        assert_whole(&session.credentials().unwrap());
    });
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    reader.hear();
    reader.asleep();
    let mut victim = child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        signal_at(FaultPoint::Exchanged, Signal::SIGKILL as i32);
        drop(session.credentials());
    });
    assert!(matches!(victim.reap(), WaitStatus::Signaled(..)));
    reader.finish();
    assert_eq!(session.status().unwrap().published(), 0, "it died before it counted");
}

/// To look at the name again would free the locks that the process has on its lock file.
fn a_refresh_outlives() {
    let name = name("outlives");
    let slow = || Provider::new("slow", || async { std::future::pending::<Credentials>().await });
    // Forked before, it has no handle of the creator's.
    let mut other = child(|report| {
        let attach = || {
            let builder = SharedSession::builder(&name).source(slow());
            builder.wait_timeout(Duration::from_millis(50)).attach()
        };
        until("there is a session", || attach().is_ok());
        assert_eq!(attach().unwrap().credentials().unwrap_err().kind(), ErrorKind::Timeout);
        let error = SharedSession::builder(&name).source(slow()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        report.say(".");
        std::thread::sleep(support::LIMIT);
    });
    let session = SharedSession::builder(&name).source(slow()).create().unwrap();
    other.hear();
    let status = session.status().unwrap();
    let elected = *status.lease_holder().unwrap();
    assert!(elected.is_alive() && elected.pid() == other.pid.as_raw() as u32);
}

fn attach_beside_create() {
    let name = name("beside");
    let stop = StopFile::new(&name);
    let creator = child(|_| {
        while !stop.is_there() {
            match SharedSession::builder(&name).source(instant()).create() {
                // Now and then somebody attaches meanwhile.
                Ok(_session) => std::thread::sleep(Duration::from_micros(100)),
                // Whoever does keeps the name in use for a moment.
                Err(error) => assert_eq!(error.kind(), ErrorKind::InUse, "{error}"),
            }
        }
    });
    let attaches = |_: &_| match SharedSession::attach(&name) {
        Ok(session) => {
            assert_eq!(session.status().unwrap().generation(), 0);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Absent, "{error}");
            false
        }
    };
    // On a busy machine either may not run for long.
    let (mut tries, mut attached) = (0, 0);
    until("some of many tries find a session", || {
        attached += (0..500).filter(attaches).count();
        tries += 500;
        tries >= 5000 && attached > 0
    });
    stop.end(vec![creator]);
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

/// What a killed process has left is looked at by others all the time.
fn create_beside_those_who_attach() {
    let name = name("beside");
    let stop = StopFile::new(&name);
    let attach = || {
        child(|_| {
            while !stop.is_there() {
                drop(SharedSession::attach(&name));
            }
        })
    };
    let attaching = vec![attach(), attach()];
    for _ in 0..40 {
        let mut creator = child(|report| {
            let _session = SharedSession::builder(&name).source(instant()).create().unwrap();
            report.say("c");
            until("it is killed", || false);
        });
        assert_eq!(creator.hear(), b'c');
        drop(creator);
        let created = SharedSession::builder(&name).source(instant()).create();
        created.expect("nobody uses the session");
    }
    stop.end(attaching);
}

fn a_child_has_not_locked() {
    let session = SharedSession::builder(name("locked")).source(instant()).create().unwrap();
    let locked = |session: &SharedSession| session.status().unwrap().locked_in_ram();
    let kib = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert_eq!(locked(&session), kib() > 0);
    child(|_| {
        assert_eq!((locked(&session), kib()), (false, 0));
        let own = SharedSession::attach(session.name()).unwrap();
        assert_eq!(locked(&own), kib() > 0);
    })
    .finish();
}

fn a_stopped_refresher() {
    for stage in [FaultPoint::Elected, FaultPoint::Answered, FaultPoint::MidWrite] {
        let sts = LocalSts::fork().unwrap();
        let clock = ManualClock::new().unwrap();
        let session = SharedSession::builder(name("stopped"))
            .source(role(&sts))
            .clock(&clock)
            .create()
            .unwrap();
        let victim = victim(session.name(), stage);
        clock.advance(Duration::from_secs(60));
        let key = session.credentials().unwrap().access_key_id().to_owned();
        assert_eq!(session.status().unwrap().takeovers(), 1, "{stage:?}");
        victim.signal(Signal::SIGCONT);
        // It publishes nothing older, and serves what is there.
        assert_eq!(victim.finish(), key, "{stage:?}");
        let status = session.status().unwrap();
        assert_eq!((status.generation(), status.published()), (1, 1), "{stage:?}");
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), 2, "{stage:?}");
    }
}

/// Who has slept beside another's refresh has no thread when it forks, and neither has its child.
fn a_sleeper_may_fork() {
    let sts = LocalSts::fork().unwrap();
    let session = SharedSession::builder(name("sleeper")).source(role(&sts)).create().unwrap();
    let _victim = victim(session.name(), FaultPoint::Elected);
    let sleep = || {
        let moment = Duration::from_millis(20);
        let session = SharedSession::builder(session.name()).wait_timeout(moment).attach().unwrap();
        assert_eq!(session.credentials().unwrap_err().kind(), ErrorKind::Timeout);
        // It forks, and refuses to where there is more than one thread.
        let eager = SharedSession::builder(name("eager")).source(instant());
        eager.refresh(Refresh::Eager).create().unwrap();
    };
    for _ in 0..20 {
        child(|_| {
            sleep();
            child(|_| sleep()).finish();
        })
        .finish();
    }
}

fn a_joined_thread_is_in_nobodys_way() {
    // The kernel lists it for a moment longer.
    for _ in 0..1000 {
        std::thread::spawn(|| ()).join().unwrap();
        LocalSts::fork().unwrap();
    }
}

/// Threads of the parent have the list of sessions at the moment of the fork; the child must not find it
/// taken.
fn a_fork_beside_busy_threads() {
    let session = SharedSession::builder(name("busy")).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let busy = {
        let (name, done) = (session.name().to_owned(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                let again = SharedSession::attach(&name).unwrap();
                assert_whole(&again.credentials().unwrap());
            }
        }
    };
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(busy.clone())).collect();
    for _ in 0..200 {
        child(|_| {
            let session = SharedSession::attach(session.name()).unwrap();
            assert_whole(&session.credentials().unwrap());
        })
        .finish();
    }
    done.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn a_thousand_kills() {
    let session = SharedSession::builder(name("kills")).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let stop = StopFile::new(session.name());
    let readers: Vec<Child> = (0..2)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let (mut reads, mut last) = (0u64, 0);
                while !stop.is_there() {
                    for _ in 0..100 {
                        assert_whole(&session.credentials().unwrap());
                    }
                    let generation = session.status().unwrap().generation();
                    assert!(generation >= last, "a set was lost");
                    (reads, last) = (reads + 100, generation);
                }
                report.say(reads.to_string());
            })
        })
        .collect();
    for round in 0..1000u64 {
        let mut writer = child(|report| {
            let session = SharedSession::attach(session.name()).unwrap();
            report.say(".");
            loop {
                assert_whole(&session.refresh().unwrap());
            }
        });
        writer.hear();
        // Spread over the microseconds of a refresh; no two runs are alike anyway.
        std::thread::sleep(Duration::from_micros(round * 7919 % 1500));
        writer.signal(Signal::SIGKILL);
        assert!(matches!(writer.reap(), WaitStatus::Signaled(..)));
    }
    let before = session.status().unwrap().generation();
    assert_whole(&session.refresh().unwrap());
    assert_eq!(session.status().unwrap().generation(), before + 1);
    assert!(before > 100, "the writers were killed before they wrote: {before}");
    let reads: u64 = stop.end(readers).iter().map(|said| said.parse::<u64>().unwrap()).sum();
    assert!(reads > 0);
}

/// Nobody in the process has waited before: what a first wait sets up is not to be found half-made.
fn a_fork_beside_a_first_wait() {
    let sts = LocalSts::fork().unwrap();
    let session = SharedSession::builder(name("first-wait")).source(role(&sts)).create().unwrap();
    let _victim = victim(session.name(), FaultPoint::Elected);
    let wait = || {
        let moment = Duration::from_millis(20);
        let session = SharedSession::builder(session.name()).wait_timeout(moment).attach().unwrap();
        assert_eq!(session.credentials().unwrap_err().kind(), ErrorKind::Timeout);
    };
    for round in 0..30 {
        child(|_| {
            std::thread::scope(|scope| {
                let first = scope.spawn(wait);
                std::thread::sleep(Duration::from_micros(30 * round));
                let children: Vec<Child> = (0..3).map(|_| child(|_| wait())).collect();
                children.into_iter().for_each(|child| drop(child.finish()));
                first.join().unwrap();
            });
        })
        .finish();
    }
}

/// Not even the one who made it, once somebody else has a set.
fn a_call_that_never_ends() {
    let clock = ManualClock::new().unwrap();
    let name = name("blocks");
    let builder = || SharedSession::builder(&name).clock(&clock);
    let good = Provider::new("same", || async { support::instant_set() });
    let session = builder().source(good).create().unwrap();
    let blocked = child(|report| {
        let blocks = Provider::new("same", || async {
            loop {
                std::thread::park();
            }
            #[allow(unreachable_code)]
            support::instant_set()
        });
        let session = builder().source(blocks).attach().unwrap();
        report.say(session.credentials().unwrap().access_key_id());
    });
    until("it asks its source", || session.status().unwrap().source_calls() == 1);
    // Past the lease.
    clock.advance(Duration::from_secs(600));
    let set = session.credentials().unwrap();
    assert_eq!(blocked.finish(), set.access_key_id());
    assert_eq!(session.status().unwrap().takeovers(), 1);
}

fn a_child_inherits_what_it_does_not_set() {
    let (advisory, minute) = (Duration::from_secs(1500), Duration::from_secs(60));
    let builder = || SharedSession::builder(name("inherits")).source(instant());
    let session = builder().advisory_window(advisory).mandatory_window(minute).create().unwrap();
    let name = session.name();
    for with_source in [true, false] {
        child(|_| {
            let builder = SharedSession::builder(name).wait_timeout(minute);
            let builder = if with_source { builder.source(instant()) } else { builder };
            builder.attach().unwrap().refresh().unwrap();
        })
        .finish();
        // Of an hour; the jitter takes at most a tenth of the window.
        let due = session.status().unwrap().refresh_in();
        assert!(due <= Duration::from_secs(3600) - advisory + advisory / 10, "{due:?}");
    }
}

/// Another program of the user locks what is none of its own.
fn locked_bytes_are_an_error() {
    let name = name("locked");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let mut other = child(|report| {
        let file = fs::OpenOptions::new().read(true).write(true).open(lock(&name)).unwrap();
        let all = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 64,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_SETLK(&all)).unwrap();
        report.say(".");
        std::thread::sleep(support::LIMIT);
    });
    other.hear();
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains(&format!("process {}", other.pid)), "{error}");
    assert_eq!(session.status().unwrap().source_calls(), 0);
    drop(other);
    assert_whole(&session.credentials().unwrap());
}

fn one_failure_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let session =
        SharedSession::builder(name("denied")).source(role(&sts)).clock(&clock).create().unwrap();
    let workers: Vec<Child> = (0..16)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let error = session.credentials().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SourceTerminal);
                let said = error.source_error().unwrap();
                assert_eq!((said.code(), said.http_status()), (Some("AccessDenied"), Some(403)));
                assert_eq!(said.class(), SourceErrorClass::Terminal);
                report.say(format!("{} {}", said.request_id().unwrap(), said.message()));
            })
        })
        .collect();
    let mut said: Vec<String> = workers.into_iter().map(Child::finish).collect();
    said.dedup();
    assert_eq!((said.len(), assumed(&sts)), (1, 1), "{said:?}");
    // The status shows the same, also beside other handles.
    let last = session.status().unwrap().last_failure().unwrap().failure().clone();
    assert_eq!(said[0], format!("{} {}", last.request_id().unwrap(), last.message()));
    assert_eq!(last.http_status(), Some(403));
    // After the back-off somebody may ask again, and the error is gone with its cause.
    sts.clear_faults().unwrap();
    clock.advance(Duration::from_secs(6));
    session.credentials().unwrap();
    assert_eq!(assumed(&sts), 2);
}

/// What this process has of the session: open files, and mappings.
fn traces_of(name: &str) -> Vec<String> {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let files = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let all = files.map(|file| file.display().to_string()).chain(maps.lines().map(str::to_owned));
    all.filter(|line| line.contains(name)).collect()
}

/// What was inherited is dropped as any handle, and the parent keeps its own.
fn a_child_that_drops_its_handles() {
    for eager in [false, true] {
        let name = name("child-drops");
        let refresh = if eager { Refresh::Eager } else { Refresh::Deferred };
        let builder = SharedSession::builder(&name).source(instant()).refresh(refresh);
        let handles = std::cell::Cell::new(Some(builder.create().unwrap()));
        child(|_| {
            let session = handles.take().unwrap();
            let (clone, reader) = (session.clone(), session.reader());
            assert!(traces_of(&name).len() >= 4, "{:?}", traces_of(&name));
            drop((session, clone, reader));
            assert_eq!(traces_of(&name), [""; 0]);
        })
        .finish();
        assert_whole(&handles.take().unwrap().credentials().unwrap());
    }
}

fn a_child_that_leaves_is_no_user() {
    for leaves in [true, false] {
        let (name, go) = (name("child-leaves"), StopFile::new(&name("child-leaves-go")));
        let mut server = child(|report| {
            let session = SharedSession::builder(&name).source(instant()).create().unwrap();
            let number = report.number();
            let helper = child(|_| {
                // SAFETY: the copy of the descriptor is not used: the parent's report has its own.
                unsafe { libc::close(number) };
                session.credentials().unwrap();
                if leaves {
                    session.leave();
                    // The handle goes on.
                    assert_whole(&session.refresh().unwrap());
                }
                until("it is told to end", || go.is_there());
            });
            until("the helper has read", || {
                session.status().unwrap().generation() == if leaves { 2 } else { 1 }
            });
            report.say(format!("{}\n", helper.pid));
            until("it is killed", || false);
        });
        let helper = server.hear_line();
        server.signal(Signal::SIGKILL);
        server.reap();
        let outcome = SharedSession::builder(&name).source(instant()).create();
        match outcome {
            Ok(next) => assert!(leaves && next.status().unwrap().generation() == 0),
            Err(error) => {
                assert!(!leaves && error.kind() == ErrorKind::InUse, "{error}");
                assert!(error.to_string().contains(&helper), "{error}");
            }
        }
        go.write();
        let helper = nix::unistd::Pid::from_raw(helper.parse().unwrap());
        until("the helper has ended", || !support::lives(helper));
        let _ = SharedSession::remove(&name);
    }
}

fn a_sealed_session_can_be_left() {
    let builder = SharedSession::builder(name("sealed-leave")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
    let refresher = support::elected(&session).unwrap();
    child(|_| {
        session.leave();
        assert_whole(&session.credentials().unwrap());
        assert_whole(&session.refresh().unwrap());
        let again = SharedSession::attach(session.name()).unwrap();
        assert_whole(&again.credentials().unwrap());
    })
    .finish();
    assert!(support::lives(refresher));
    session.leave();
    until("nobody uses it", || !support::lives(refresher));
    assert_whole(&session.credentials().unwrap());
}

fn a_childs_drop_removes_nothing() {
    let session = SharedSession::builder(name("child-drop")).source(instant()).create().unwrap();
    let inherited = session.clone();
    child(|_| {
        drop(SharedSession::attach(inherited.name()).unwrap());
        drop(session.clone());
    })
    .finish();
    assert!(Path::new(&segment(session.name())).exists());
    assert!(Path::new(&lock(session.name())).exists());
    session.credentials().unwrap();
}

fn killed_processes_leave_a_name() {
    let name = name("killed");
    let mut creator = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        session.credentials().unwrap();
        report.say(".");
        std::thread::sleep(support::LIMIT);
    });
    creator.hear();
    creator.signal(Signal::SIGKILL);
    creator.reap();
    assert!(Path::new(&segment(&name)).exists(), "a kill leaves the name");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    assert_eq!(session.status().unwrap().generation(), 0);
    session.credentials().unwrap();
}

fn a_live_session_names_its_user() {
    let name = name("live");
    let mut creator = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        // A worker goes on when the creator is killed.
        let worker = child(|_| std::thread::sleep(support::LIMIT));
        session.credentials().unwrap();
        report.say(format!("{}\n", worker.pid));
        std::thread::sleep(support::LIMIT);
    });
    let worker = creator.hear_line();
    let in_use = |pid: &str| {
        let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains(&format!("process {pid} ")), "{error}");
    };
    in_use(&creator.pid.to_string());
    creator.signal(Signal::SIGKILL);
    creator.reap();
    in_use(&worker);
    // The worker's session still serves whoever attaches.
    let reader = SharedSession::attach(&name).unwrap();
    assert_whole(&reader.credentials().unwrap());
    drop(reader);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(worker.trim().parse().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    until("the name is free", || SharedSession::builder(&name).source(instant()).create().is_ok());
}

fn jitter_differs_between_children() {
    let points: BTreeSet<String> = (0..8)
        .map(|_| {
            child(|report| {
                let clock = ManualClock::new().unwrap();
                let session = SharedSession::builder(name("jitter"))
                    .source(instant())
                    .clock(&clock)
                    .create()
                    .unwrap();
                session.credentials().unwrap();
                let status = session.status().unwrap();
                report.say(format!("{:?}", status.expires_in() - status.refresh_in()));
            })
        })
        .map(Child::finish)
        .collect();
    assert!(points.len() >= 7, "{points:?}");
}

/// In a mount namespace of its own, which only root can make.
fn full_or_missing_shared_memory() {
    use nix::{
        mount::{MntFlags, MsFlags, mount, umount2},
        sched::{CloneFlags, unshare},
    };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let said = child(|report| {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return report.say("not allowed here");
        }
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        // `create` goes on without a name: see tests/places.rs.
        let create = || SharedSession::builder(name("full")).source(instant()).attach_or_create();

        // Room for the names, and for less than a segment; then for the names alone.
        let flags = MsFlags::empty();
        mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), flags, Some("size=16k")).unwrap();
        for filled in [0, 16 << 10] {
            fs::write("/dev/shm/others", vec![0; filled]).unwrap();
            let error = create().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            assert_eq!(entries("/dev/shm"), 1, "nothing is created");
        }
        umount2("/dev/shm", MntFlags::MNT_DETACH).unwrap();

        // No file system at all where it should be.
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), flags, None::<&str>).unwrap();
        let error = create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        report.say("refused");
    })
    .finish();
    assert!(said == "refused" || said == "not allowed here", "{said}");
}

/// A process that may have few descriptors, little memory, or short files: some call of `create` fails.
fn whatever_a_process_lacks() {
    let name = name("shortage");
    let nothing_is_left =
        || !Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists();
    let refusals = |resource, used: u64, step: u64| {
        let (_, hard) = getrlimit(resource).unwrap();
        let mut refused = 0;
        for more in 0..100 {
            setrlimit(resource, used + more * step, hard).unwrap();
            let made = SharedSession::builder(&name).source(instant()).create();
            if made.is_ok() {
                break;
            }
            assert!(nothing_is_left(), "{resource:?} + {more}: {:?}", made.err());
            refused += 1;
        }
        setrlimit(resource, hard, hard).unwrap();
        assert!(nothing_is_left());
        refused
    };
    let said = child(|report| {
        // What the allocator needs meanwhile is there.
        drop(vec![1_u8; 100 << 10]);
        let next = fs::File::open("/dev/null").unwrap().as_raw_fd();
        report.say(format!("{}\n", refusals(Resource::RLIMIT_NOFILE, next as u64, 1)));
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        report.say(format!("{}\n", refusals(Resource::RLIMIT_AS, pages * 4096, 4096)));
        report.say(format!("{}\n", refusals(Resource::RLIMIT_FSIZE, 0, 4096)));
    })
    .finish();
    let refused: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(matches!(refused[..], [1..100, 1..100, 1..100]), "{refused:?}");
}
