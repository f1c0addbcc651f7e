//! The dedicated refresher: its process, its duty, its death.
#![allow(unsafe_code)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::TcpListener,
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aws_credential_types::Credentials;
use nix::{
    errno::Errno,
    sys::{
        resource::{Resource, setrlimit},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getsid},
};
use shmcreds::{
    AssumeRole, ErrorKind, Provider, Refresh, SharedSession, State,
    testing::{Fault, FaultPoint, LocalSts, ManualClock, Settings, Times, signal_at},
};
use support::{
    Child, StopFile, assert_whole, assumed, child, instant, lives, lock, name, parent_of, role,
    segment, standby, stop, until,
};

fn main() {
    support::run_forking(&[
        ("the_first_set_is_there_and_the_parent_as_before", the_first_set_is_there),
        ("the_first_error_is_that_of_create", the_first_error_is_that_of_create),
        ("a_first_failure_that_may_pass", a_first_failure_that_may_pass_is_tried_again),
        ("several_threads_are_refused", several_threads_are_refused),
        ("a_refresher_says_what_it_lacks", a_refresher_says_what_it_lacks),
        ("the_process_is_a_good_citizen", the_process_is_a_good_citizen),
        ("one_who_adopts_orphans_does_not_see_it_either", one_who_adopts_orphans),
        ("a_runtime_used_before_does_no_harm", a_runtime_used_before_does_no_harm),
        ("a_runtime_entered_does_no_harm", a_runtime_entered_does_no_harm),
        ("what_the_server_writes_to_goes_nowhere", what_the_server_writes_to_goes_nowhere),
        ("a_closed_pipe_is_an_error_of_the_source", a_closed_pipe_is_an_error),
        ("signals_do_not_disturb_it", signals_do_not_disturb_it),
        ("it_ends_with_the_last_user", it_ends_with_the_last_user),
        ("killed_users_leave_nothing", killed_users_leave_nothing),
        ("the_refresher_needs_no_keeper", the_refresher_needs_no_keeper),
        (
            "a_late_refresher_leaves_the_next_session_alone",
            a_late_refresher_leaves_the_next_session_alone,
        ),
        ("a_stopped_keeper_holds_nothing", a_stopped_keeper_holds_nothing),
        ("a_living_refresher_never_looks_dead", a_living_refresher_never_looks_dead),
        ("each_cycle_is_one_call_and_readers_start_nothing", each_cycle_is_one_call),
        ("a_worker_goes_on_when_it_is_killed", a_worker_goes_on_when_it_is_killed),
        ("another_goes_on_when_it_is_stopped", another_goes_on_when_it_is_stopped),
        ("one_that_is_stopped_in_a_refresh_does_no_harm", one_that_is_stopped_in_a_refresh),
        ("a_standby_takes_over_at_once", a_standby_takes_over_at_once),
        ("a_hundred_rejections_are_one_call", a_hundred_rejections_are_one_call),
        ("an_outage_keeps_to_the_back_off", an_outage_keeps_to_the_back_off),
    ]);
}

fn eager(what: &str, sts: &LocalSts) -> SharedSession {
    SharedSession::builder(name(what)).source(role(sts)).refresh(Refresh::Eager).create().unwrap()
}

fn eager_with_clock(what: &str, sts: &LocalSts, clock: &ManualClock) -> SharedSession {
    let builder = SharedSession::builder(name(what)).source(role(sts)).clock(clock);
    builder.refresh(Refresh::Eager).create().unwrap()
}

/// Sets that are due sooner than a lease ends, so that a jump of the clock to that point is no hang.
fn short_lived(sts: &LocalSts) {
    sts.configure(Settings::new().lifetime(Duration::from_secs(60))).unwrap();
}

fn refresher(session: &SharedSession) -> Pid {
    let status = session.status().unwrap();
    Pid::from_raw(i32::try_from(status.lease_holder().unwrap().pid()).unwrap())
}

fn proc_file(pid: Pid, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn links(pid: Pid) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}

fn the_first_set_is_there() {
    let sts = LocalSts::fork().unwrap();
    let before = links(Pid::this()).len();
    let session = eager("first", &sts);
    let status = session.status().unwrap();
    assert_eq!((status.state(), status.generation(), assumed(&sts)), (State::Fresh, 1, 1));
    assert_eq!(status.mode(), Refresh::Eager);
    let found = *status.lease_holder().unwrap();
    assert!(found.is_alive() && found.lease_left() > Duration::ZERO, "{found:?}");
    assert_ne!(found.pid(), std::process::id());
    until("no thread is left", || fs::read_dir("/proc/self/task").unwrap().count() == 1);
    assert_eq!(links(Pid::this()).len(), before + 2, "the segment and the lock file");
    session.credentials().unwrap();
    assert_eq!(assumed(&sts), 1);
}

fn the_first_error_is_that_of_create() {
    let sts = LocalSts::fork().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let name = name("denied");
    let error = SharedSession::builder(&name)
        .source(role(&sts))
        .refresh(Refresh::Eager)
        .create()
        .unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "create"));
    assert_eq!(assumed(&sts), 1);
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

fn a_first_failure_that_may_pass_is_tried_again() {
    let sts = LocalSts::fork().unwrap();
    let builder =
        |what: &str| SharedSession::builder(name(what)).source(role(&sts)).refresh(Refresh::Eager);
    for (what, sealed) in [("passes", false), ("passes-sealed", true)] {
        for fault in [Fault::Throttling, Fault::Status(503), Fault::Reset] {
            sts.inject(fault, Times::Next(2)).unwrap();
            let builder = builder(what).wait_timeout(Duration::from_secs(60));
            let builder = if sealed { builder.sealed() } else { builder };
            assert_eq!(builder.create().unwrap().status().unwrap().state(), State::Fresh);
        }
    }
    // The deadline ends it, with what the source said.
    sts.inject(Fault::Throttling, Times::UntilCleared).unwrap();
    let error = builder("never").wait_timeout(Duration::from_secs(2)).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceThrottled, "{error}");
}

fn several_threads_are_refused() {
    child(|_| {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv());
        let name = name("threads");
        let error = SharedSession::builder(&name)
            .source(instant())
            .refresh(Refresh::Eager)
            .create()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Multithreaded);
        assert!(error.to_string().contains("2 threads"), "{error}");
        assert!(error.to_string().contains("run_refresher"), "{error}");
        assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
        drop(hold);
        let _ = thread.join();
    })
    .finish();
}

/// A process that may have fewer descriptors each time, and so may its refresher: some call of either fails.
fn a_refresher_says_what_it_lacks() {
    let refused = child(|report| {
        let used = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        let mut refused = 0;
        for limit in (used..=used + 40).rev() {
            setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
            let name = name("shortage");
            // A lack of descriptors may pass: it is tried again until the deadline.
            let deadline = Duration::from_secs(1);
            let builder = SharedSession::builder(&name).source(instant()).wait_timeout(deadline);
            match builder.refresh(Refresh::Eager).create() {
                Ok(_) => assert_eq!(refused, 0, "{limit} are not enough, but less are"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(Errno::EMFILE.desc()), "with {limit}: {text}");
                    refused += 1;
                }
            }
            let gone = || !Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists();
            until("nothing is left", gone);
        }
        report.say(refused.to_string());
    })
    .finish();
    assert!((1..=40).contains(&refused.parse::<u32>().unwrap()), "{refused}");
}

fn the_process_is_a_good_citizen() {
    let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _pipe = std::io::pipe().unwrap();
    let _sockets = std::os::unix::net::UnixStream::pair().unwrap();
    let _file = tempfile::tempfile().unwrap();
    let session =
        SharedSession::builder(name("citizen")).source(instant()).refresh(Refresh::Eager).create();
    let session = session.unwrap();
    let pid = refresher(&session);
    // No child, not even one that has ended.
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
    // It has opened the session's two anew; what has no number in its name can be anyone's.
    let (ours, theirs) = (links(Pid::this()), links(pid));
    for link in &theirs {
        let known = ["/dev/null", "/dev/shm/", "anon_inode:"].iter().any(|k| link.starts_with(k));
        let own = ["socket:", "pipe:"].iter().any(|kind| link.starts_with(kind));
        assert!(known || own && !ours.contains(link), "{link} in {theirs:?}");
    }
    let shared = theirs.iter().filter(|link| link.starts_with("/dev/shm/"));
    assert_eq!(shared.collect::<BTreeSet<_>>().len(), 2, "{theirs:?}");

    let title = format!("shmcreds: {}", session.name());
    assert!(title.starts_with(proc_file(pid, "comm").trim_end()));
    assert!(proc_file(pid, "comm").starts_with("shmcreds: "));
    let arguments = proc_file(pid, "cmdline");
    let shown = arguments.trim_end_matches('\0');
    assert!(shown.starts_with("shmcreds: ") && title.starts_with(shown), "{shown}");

    let status = proc_file(pid, "status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    // Libc keeps signals 32 to 34 for itself.
    let ours = |name: &str| field(name) & !(0b111 << 31);
    assert_eq!((ours("SigBlk:"), ours("SigIgn:"), ours("SigCgt:")), (0, 0, 0));
    // A session of its own: no terminal sends it anything.
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), nix::unistd::getpgid(Some(pid)).unwrap());
    assert_ne!(nix::unistd::getsid(Some(pid)).unwrap(), nix::unistd::getsid(None).unwrap());
}

fn a_runtime_entered_does_no_harm() {
    child(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        runtime.block_on(async {
            let sts = LocalSts::fork().unwrap();
            let builder = SharedSession::builder(name("entered")).source(role(&sts));
            let session = builder.refresh(Refresh::Eager).create().unwrap();
            assert_eq!(session.status().unwrap().generation(), 1);
            let session =
                SharedSession::builder(name("within")).source(instant()).create().unwrap();
            let stop = shmcreds::StopHandle::new();
            let (watched, stopped) = (session.clone(), stop.clone());
            let stopper = std::thread::spawn(move || {
                until("it fetches", || watched.status().unwrap().generation() == 1);
                stopped.stop();
            });
            session.run_refresher(&stop).unwrap();
            stopper.join().unwrap();
            assert_eq!(session.status().unwrap().failed(), 0);
        });
        drop(guard);
    })
    .finish();
}

/// A logger or a client of the server, of which the refresher has a copy, knows its descriptors by number.
fn what_the_server_writes_to_goes_nowhere() {
    let files: Vec<_> = (0..20).map(|_| tempfile::tempfile().unwrap()).collect();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.push(ours.as_raw_fd());
    let source = Provider::new("writes", move || {
        let numbers = numbers.clone();
        async move {
            let noise = [b'x'; 1 << 16];
            for number in numbers.iter().cycle().take(10 * numbers.len()) {
                // SAFETY: the bytes are there, and a number that leads nowhere is an error.
                unsafe { nix::libc::write(*number, noise.as_ptr().cast(), noise.len()) };
            }
            support::instant_set()
        }
    });
    let builder = SharedSession::builder(name("noise")).source(source).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    for generation in 2..4 {
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), generation);
    }
    assert_eq!(session.status().unwrap().source_calls(), 3);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() == 0));
    let requests = fs::read(lock(session.name())).unwrap();
    assert!(requests.len() == 4096 && !requests.contains(&b'x'), "{} bytes", requests.len());
}

/// The process has the default dispositions; its source is spared what they would do.
fn a_closed_pipe_is_an_error() {
    let source = Provider::new("pipe", || async {
        let (read, mut write) = std::io::pipe().unwrap();
        drop(read);
        let error = write.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        support::instant_set()
    });
    let builder = SharedSession::builder(name("pipe")).source(source).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    let first = refresher(&session);
    session.refresh().unwrap();
    assert_eq!((refresher(&session), session.status().unwrap().takeovers()), (first, 0));
}

/// The states of this process's children, those included that no ordinary `waitpid` sees.
fn states_of_children() -> Vec<char> {
    let us = std::process::id().to_string();
    let stat = |pid: String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()? == us).then_some(state)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| stat(entry.file_name().into_string().ok()?)).collect()
}

/// As the first process of a container does.
fn one_who_adopts_orphans() {
    child(|_| {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let no_child = || assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        for round in 0..4 {
            let builder = SharedSession::builder(name("adopts")).source(instant());
            let session = builder.refresh(Refresh::Eager).create().unwrap();
            no_child();
            assert_whole(&session.refresh().unwrap());
            if round % 2 == 1 {
                let refresher = refresher(&session);
                let keeper = parent_of(refresher);
                kill(keeper, Signal::SIGKILL).unwrap();
                until("the refresher has another parent", || parent_of(refresher) != keeper);
                no_child();
                assert_whole(&session.refresh().unwrap());
            }
            drop(session);
            // What stood between ends, too, and the next one buries it.
            until("all is over", || states_of_children() == ['Z']);
            no_child();
        }
    })
    .finish();
}

fn a_runtime_used_before_does_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    drop(runtime);
    let sts = LocalSts::fork().unwrap();
    let session = eager("runtime", &sts);
    session.refresh().unwrap();
    let status = session.status().unwrap();
    assert_eq!((status.generation(), status.failed(), assumed(&sts)), (2, 0, 2));
    assert_ne!(status.lease_holder().unwrap().pid(), std::process::id());
}

/// A handler without `SA_RESTART` ends system calls early, as a profiler's does.
fn signals_do_not_disturb_it() {
    extern "C" fn nothing(_: i32) {}
    child(|_| {
        let action =
            SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        let often = nix::libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = nix::libc::itimerval { it_interval: often, it_value: often };
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
        // SAFETY: the new value lives during the call, and null means that the old value is not wanted.
        let set =
            unsafe { nix::libc::setitimer(nix::libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
        assert_eq!(set, 0);
        for _ in 0..10 {
            let builder = SharedSession::builder(name("signals")).source(instant());
            let session = builder.refresh(Refresh::Eager).create().unwrap();
            assert_whole(&session.refresh().unwrap());
        }
    })
    .finish();
}

fn it_ends_with_the_last_user() {
    let session =
        SharedSession::builder(name("end")).source(instant()).refresh(Refresh::Eager).create();
    let session = session.unwrap();
    let pid = refresher(&session);
    let worker = child(|report| {
        let session = SharedSession::attach(session.name()).unwrap();
        report.say(".");
        std::thread::sleep(support::LIMIT);
        drop(session);
    });
    let mut worker = worker;
    worker.hear();
    drop(session);
    // The worker still uses it.
    std::thread::sleep(Duration::from_millis(100));
    assert!(lives(pid));
    drop(worker);
    until("the refresher ends", || !lives(pid));
}

/// Creates an eager session in a process that tells the refresher's pid, and sleeps beside a worker.
fn server(name: &str) -> (Child, Pid, Pid) {
    let mut server = child(|report| {
        let session = SharedSession::builder(name).source(instant()).refresh(Refresh::Eager);
        let session = session.create().unwrap();
        let worker = child(|_| {
            let _session = SharedSession::attach(name).unwrap();
            std::thread::sleep(support::LIMIT);
        });
        report.say(format!("{} {}\n", refresher(&session), worker.pid));
        std::thread::sleep(support::LIMIT);
    });
    let said = server.hear_line();
    let mut pids = said.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
    (server, pids.next().unwrap(), pids.next().unwrap())
}

fn killed_users_leave_nothing() {
    let name = name("killed");
    let (mut server, refresher, worker) = server(&name);
    server.signal(Signal::SIGKILL);
    server.reap();
    assert!(lives(refresher), "the worker still needs it");
    kill(worker, Signal::SIGKILL).unwrap();
    until("the refresher ends", || !lives(refresher));
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());

    // The same if the refresher is killed with all the others: its keeper sees to it.
    let (mut server, refresher, worker) = self::server(&name);
    for pid in [refresher, worker, server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    until("nothing is left", || !Path::new(&segment(&name)).exists());
    until("nothing is left", || !Path::new(&lock(&name)).exists());

    // And if that is killed, too, the name can be used again.
    let (mut server, refresher, worker) = self::server(&name);
    let keeper = parent_of(refresher);
    for pid in [keeper, refresher, worker, server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    until("all of them end", || ![keeper, refresher, worker].into_iter().any(lives));
    drop(SharedSession::builder(&name).source(instant()).create().unwrap());
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

/// It learns late that its users are dead, when the name has become another session's.
fn a_late_refresher_leaves_the_next_session_alone() {
    let name = name("late");
    let (mut server, refresher, worker) = server(&name);
    stop(refresher);
    for pid in [worker, server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    until("the worker is dead", || !lives(worker));
    let sts = LocalSts::fork().unwrap();
    let builder = SharedSession::builder(&name).source(role(&sts)).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    kill(refresher, Signal::SIGCONT).unwrap();
    until("the late one ends", || !lives(refresher));
    assert!(Path::new(&segment(&name)).exists() && Path::new(&lock(&name)).exists());
    for generation in 2..5 {
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), generation);
        assert_eq!(assumed(&sts) as u64, generation);
    }
}

/// It is killed at its very end, and its keeper does not run.
fn a_stopped_keeper_holds_nothing() {
    for _ in 0..10 {
        let name = name("stopped");
        let (mut server, refresher, worker) = server(&name);
        let keeper = parent_of(refresher);
        stop(keeper);
        for pid in [worker, server.pid, refresher] {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        server.reap();
        until("they are dead", || !lives(refresher) && !lives(worker));
        drop(SharedSession::builder(&name).source(instant()).create().unwrap());
        kill(keeper, Signal::SIGCONT).unwrap();
        until("the keeper ends", || !lives(keeper));
    }
}

/// Not even while it renews its lease.
fn a_living_refresher_never_looks_dead() {
    let builder = SharedSession::builder(name("alive")).source(instant()).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    let _busy = child(|_| {
        loop {
            session.refresh().unwrap();
        }
    });
    until("it is busy", || session.status().unwrap().generation() > 100);
    for _ in 0..100_000 {
        assert!(session.status().unwrap().lease_holder().unwrap().is_alive());
    }
}

fn the_refresher_needs_no_keeper() {
    let name = name("keeper");
    let (mut server, refresher, worker) = server(&name);
    let keeper = parent_of(refresher);
    kill(keeper, Signal::SIGKILL).unwrap();
    until("the keeper is dead", || !lives(keeper));
    assert!(lives(refresher) && Path::new(&segment(&name)).exists());
    kill(worker, Signal::SIGKILL).unwrap();
    server.signal(Signal::SIGKILL);
    server.reap();
    until("the refresher ends", || !lives(refresher));
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

/// Workers that read flat out until told to stop; each tells how many keys it saw.
fn readers(
    session: &SharedSession,
    clock: Option<&ManualClock>,
    count: usize,
) -> (Vec<Child>, StopFile) {
    let stop = StopFile::new(session.name());
    let readers = (0..count)
        .map(|_| {
            child(|report| {
                let builder = SharedSession::builder(session.name());
                let session = match clock {
                    Some(clock) => builder.clock(clock).attach().unwrap(),
                    None => builder.attach().unwrap(),
                };
                report.say(".");
                let mut keys = BTreeSet::new();
                while !stop.is_there() {
                    for _ in 0..200 {
                        keys.insert(session.credentials().unwrap().access_key_id().to_owned());
                    }
                }
                let threads = fs::read_dir("/proc/self/task").unwrap().count();
                report.say(format!("{} {threads}\n", keys.len()));
            })
        })
        .map(|mut child| {
            child.hear();
            child
        })
        .collect();
    (readers, stop)
}

fn each_cycle_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    short_lived(&sts);
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("cycles", &sts, &clock);
    let pid = refresher(&session);
    let (readers, stop) = readers(&session, Some(&clock), 16);
    for cycle in 2..=10 {
        // Into the advisory window: readers have a valid set all along.
        let due = session.status().unwrap().refresh_in();
        clock.advance(due + Duration::from_secs(1));
        until("the next set", || session.status().unwrap().generation() == cycle);
    }
    for said in stop.end(readers) {
        let (_, threads) = said.trim().rsplit_once(' ').unwrap();
        assert_eq!(threads, "1", "a reader has started something");
    }
    let status = session.status().unwrap();
    assert_eq!((assumed(&sts), status.source_calls(), status.takeovers()), (10, 10, 0));
    assert_eq!(refresher(&session), pid);
}

fn a_worker_goes_on_when_it_is_killed() {
    let sts = LocalSts::fork().unwrap();
    short_lived(&sts);
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("takeover", &sts, &clock);
    let first = refresher(&session);
    kill(first, Signal::SIGKILL).unwrap();
    until("it is gone", || !session.status().unwrap().lease_holder().unwrap().is_alive());
    let (workers, stop) = readers(&session, Some(&clock), 4);
    for cycle in 2..=4 {
        clock.advance(session.status().unwrap().refresh_in() + Duration::from_secs(1));
        until("the next set", || session.status().unwrap().generation() == cycle);
    }
    let status = session.status().unwrap();
    let found = *status.lease_holder().unwrap();
    assert!(found.is_alive() && found.pid() != first.as_raw() as u32);
    assert!(workers.iter().any(|worker| worker.pid.as_raw() as u32 == found.pid()));
    assert_eq!((assumed(&sts), status.takeovers()), (4, 1), "eager stays eager");
    stop.end(workers);
}

fn another_goes_on_when_it_is_stopped() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("hang", &sts, &clock);
    let first = refresher(&session);
    for round in 0..50 {
        let status = session.status().unwrap();
        let (pid, generation) = (status.lease_holder().map(|r| r.pid()), status.generation());
        if pid == Some(first.as_raw() as u32) {
            stop(first);
        }
        // Past its lease, and past the refresh point.
        clock.advance(status.refresh_in() + Duration::from_secs(60));
        until("another refreshes", || {
            // Time passes: a process looks only every now and then whether somebody refreshes.
            clock.advance(Duration::from_millis(60));
            session.credentials().unwrap();
            session.status().unwrap().published() > generation
        });
        kill(first, Signal::SIGCONT).unwrap();
        assert_eq!(assumed(&sts) as u64, session.status().unwrap().source_calls(), "{round}");
    }
    let status = session.status().unwrap();
    assert_eq!((status.published(), status.failed()), (status.generation(), 0));
    assert_eq!(status.source_calls(), status.generation());
    assert!(status.takeovers() >= 1);
}

/// The role, of which the dedicated process stops itself when its second refresh comes to `stage`.
fn stopping_role(sts: &LocalSts, stage: FaultPoint) -> AssumeRole {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    CALLS.store(0, Ordering::Relaxed);
    let ours = getsid(None);
    // The source is called after the first stage and before the others.
    let last = if stage == FaultPoint::Elected { 1 } else { 2 };
    role(sts).credentials_provider("base", move || async move {
        let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        // Only the dedicated process has left the creator's session.
        if getsid(None) != ours && call == last {
            signal_at(stage, Signal::SIGSTOP as i32);
        }
        Credentials::new("AKIAIOSFODNN7EXAMPLE", support::BASE_SECRET, None, None, "base")
    })
}

fn one_that_is_stopped_in_a_refresh() {
    let stages =
        [FaultPoint::Elected, FaultPoint::Answered, FaultPoint::MidWrite, FaultPoint::Published];
    for (round, stage) in stages.into_iter().cycle().take(50).enumerate() {
        let sts = LocalSts::fork().unwrap();
        short_lived(&sts);
        let clock = ManualClock::new().unwrap();
        let builder = SharedSession::builder(name("mid")).source(stopping_role(&sts, stage));
        let session = builder.clock(&clock).refresh(Refresh::Eager).create().unwrap();
        let first = refresher(&session);
        let (workers, stop) = readers(&session, Some(&clock), 2);
        clock.advance(session.status().unwrap().refresh_in() + Duration::from_secs(1));
        until("it stops", || proc_file(first, "stat").contains(") T "));
        let generation = session.status().unwrap().generation();
        assert_eq!(generation, if stage == FaultPoint::Published { 2 } else { 1 }, "{stage:?}");
        // Past its lease: whoever needs a set goes on without it.
        clock.advance(Duration::from_secs(60));
        // A worker that ended between publishing and counting would not have counted.
        until("another refreshes", || session.status().unwrap().published() > generation);
        let found = session.credentials().unwrap().access_key_id().to_owned();
        let after = session.status().unwrap();
        assert_ne!(after.lease_holder().map(|r| r.pid()), Some(first.as_raw() as u32));

        kill(first, Signal::SIGCONT).unwrap();
        until("it goes on", || !proc_file(first, "stat").contains(") T "));
        stop.end(workers);
        // With its late refresh behind it, it stands by, and is elected as the only one that is left.
        until("it is elected again", || {
            let status = session.status().unwrap();
            status.lease_holder().is_some_and(|r| r.is_alive() && r.pid() == first.as_raw() as u32)
        });
        assert_eq!(session.credentials().unwrap().access_key_id(), found, "{stage:?}, {round}");
        let status = session.status().unwrap();
        assert_eq!(status.generation(), after.generation(), "{stage:?}, {round}");
        assert_eq!((status.published(), status.failed()), (status.generation(), 0), "{stage:?}");
        assert_eq!(assumed(&sts) as u64, status.source_calls(), "{stage:?}, {round}");
        // One call for each set, and one in vain where the source had been asked.
        let vain = u64::from(matches!(stage, FaultPoint::Answered | FaultPoint::MidWrite));
        assert_eq!(status.source_calls(), status.generation() + vain, "{stage:?}, {round}");
    }
}

fn a_standby_takes_over_at_once() {
    let sts = LocalSts::fork().unwrap();
    let session = eager("standby", &sts);
    let first = refresher(&session);
    let standby = standby(&session);
    kill(first, Signal::SIGKILL).unwrap();
    until("the standby is elected", || {
        let status = session.status().unwrap();
        status
            .lease_holder()
            .is_some_and(|r| r.is_alive() && r.pid() == standby.pid.as_raw() as u32)
    });
    let status = session.status().unwrap();
    assert_eq!((status.takeovers(), assumed(&sts)), (1, 1), "the set was still fresh");
    // It does what it is asked for.
    session.refresh().unwrap();
    assert_eq!((assumed(&sts), session.status().unwrap().generation()), (2, 2));
}

fn a_hundred_rejections_are_one_call() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("rejected", &sts, &clock);
    let key = session.credentials().unwrap().access_key_id().to_owned();
    let reject = || {
        (0..100)
            .map(|_| {
                child(|report| {
                    let session = SharedSession::attach(session.name()).unwrap();
                    report.say(if session.invalidate(&key).unwrap() { "1" } else { "0" });
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|child| child.finish().parse::<usize>().unwrap())
            .sum::<usize>()
    };
    // Too young to be replaced for that: everyone still gets it.
    assert_eq!(reject(), 1);
    assert_eq!(session.credentials().unwrap().access_key_id(), key);
    assert_eq!(assumed(&sts), 1);
    clock.advance(Duration::from_secs(6));
    until("the successor", || session.status().unwrap().generation() == 2);
    assert_ne!(session.credentials().unwrap().access_key_id(), key);
    // A key that is no longer current.
    assert_eq!(reject(), 0);
    assert_eq!((assumed(&sts), session.status().unwrap().invalidations()), (2, 1));
}

fn an_outage_keeps_to_the_back_off() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session = SharedSession::builder(name("outage"))
        .source(role(&sts).max_attempts(1))
        .clock(&clock)
        .refresh(Refresh::Eager)
        .create()
        .unwrap();
    let (workers, stop) = readers(&session, Some(&clock), 16);
    sts.inject(Fault::Throttling, Times::UntilCleared).unwrap();
    clock.advance(session.status().unwrap().refresh_in() + Duration::from_secs(1));
    // Each failure says when the next attempt is; nobody asks before.
    for attempt in 2..=6 {
        until("an attempt", || session.status().unwrap().failed() == attempt - 1);
        assert_eq!(assumed(&sts) as u64, attempt);
        let wait = session.status().unwrap().last_failure().unwrap().next_attempt_in();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(300), "{wait:?}");
        if attempt < 6 {
            clock.advance(wait);
        }
    }
    sts.clear_faults().unwrap();
    clock.advance(session.status().unwrap().last_failure().unwrap().next_attempt_in());
    until("the outage is over", || session.status().unwrap().generation() == 2);
    stop.end(workers);
    assert!(session.status().unwrap().last_failure().is_none());
}
