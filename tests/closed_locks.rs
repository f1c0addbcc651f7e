//! The elected process loses its byte locks: something in it opens and closes the lock file.
#![allow(unsafe_code)]

mod support;

use std::{
    ffi::CString,
    fs::{self, File},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};
use shmcreds::{
    Provider, SharedSession,
    testing::{FaultPoint, ManualClock, signal_at},
};
use support::{Child, assert_whole, child, instant, instant_set, lock, name, until};

fn main() {
    support::run_forking(&[
        ("a_close_does_not_free_the_election", a_close_does_not_free_the_election),
        ("a_close_does_not_free_a_dedicated_refresher", a_close_does_not_free_a_dedicated),
        ("a_close_does_not_free_a_slot", a_close_does_not_free_a_slot),
    ]);
}

/// Opens and closes the lock file by its name, and by each descriptor that leads to it: as a backup agent's thread
/// does, or another copy of the library.
fn open_and_close(name: &str) {
    let path = lock(name);
    drop(File::open(&path).unwrap());
    for entry in fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path()) {
        if fs::read_link(&entry).is_ok_and(|target| target.to_str() == Some(path.as_str())) {
            drop(File::open(&entry).unwrap());
        }
    }
}

/// The names of the threads of a child.
fn threads(child: &Child) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.pid)).unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

/// Waits until the child fetches a set itself, or watches who does; true for the latter.
fn watches(child: &Child) -> bool {
    let mut threads = Vec::new();
    until("it fetches, or watches who does", || {
        threads = self::threads(child);
        threads.iter().any(|name| name == "shmcreds-watch" || name == "shmcreds-fetch")
    });
    threads.iter().any(|name| name == "shmcreds-watch")
}

fn a_close_does_not_free_the_election() {
    let name = name("closed");
    // Each process has a copy of it: only the first child sets its own.
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let source = Provider::new("slow", move || {
        let is_slow = is_slow.load(Ordering::Relaxed);
        async move {
            if is_slow {
                std::future::pending::<()>().await;
            }
            instant_set()
        }
    });
    // Who waits for the end of a lease does so for longer than any test.
    let source = source.timeout(3 * support::LIMIT);
    let session = SharedSession::builder(&name).source(source).create().unwrap();
    let mut elected = child(|report| {
        slow.store(true, Ordering::Relaxed);
        let session = SharedSession::attach(&name).unwrap();
        let own = session.clone();
        let call = std::thread::spawn(move || own.credentials());
        until("the call is under way", || session.status().unwrap().source_calls() == 1);
        std::thread::scope(|scope| drop(scope.spawn(|| open_and_close(&name))));
        report.say(".");
        let _ = call.join();
    });
    elected.hear();
    assert!(support::elected(&session).is_some(), "the status says that it is alive");
    let waiting = child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        assert_whole(&session.credentials().unwrap());
    });
    assert!(watches(&waiting), "a second call is under way");
    assert_eq!(session.status().unwrap().source_calls(), 1);
    elected.signal(Signal::SIGKILL);
    elected.reap();
    waiting.finish();
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.generation(), status.takeovers()), (2, 1, 1));
}

/// One that holds the election for long, in a process that does other things beside.
fn a_close_does_not_free_a_dedicated() {
    let name = name("closed-loop");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let mut dedicated = child(|report| {
        let session = SharedSession::attach(&name).unwrap();
        let (own, stop) = (session.clone(), shmcreds::StopHandle::new());
        let running = std::thread::spawn(move || own.run_refresher(&stop));
        until("it is elected", || session.status().unwrap().lease_holder().is_some());
        open_and_close(&name);
        report.say(".");
        let _ = running.join();
    });
    dedicated.hear();
    let pid = Some(dedicated.pid);
    assert_eq!(support::elected(&session), pid);
    let standby = support::standby(&session);
    assert!(watches(&standby));
    assert_eq!((support::elected(&session), session.status().unwrap().takeovers()), (pid, 0));
    dedicated.signal(Signal::SIGKILL);
    dedicated.reap();
    until("the standby is elected", || support::elected(&session) == Some(standby.pid));
}

/// The path that [`close_and_stop`] opens.
static PATH: OnceLock<CString> = OnceLock::new();

/// A signal handler that opens and closes the lock file, and stops the process.
extern "C" fn close_and_stop(_: i32) {
    let path = PATH.get().expect("it is set before the handler");
    // SAFETY: `open` is async-signal-safe, and the path is a C string that lives as long as the process.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    // SAFETY: `close` is async-signal-safe, and nothing else owns the new descriptor.
    unsafe { libc::close(fd) };
    // SAFETY: `raise` is async-signal-safe.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Its writer is stopped in the middle of writing for longer than its lease, and the others go on.
fn a_close_does_not_free_a_slot() {
    let name = name("closed-slot");
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(&name).source(instant());
    let session = builder.clock(&clock).create().unwrap();
    let victim = child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        PATH.set(CString::new(lock(&name)).unwrap()).unwrap();
        let action =
            SigAction::new(SigHandler::Handler(close_and_stop), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler makes system calls only.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        signal_at(FaultPoint::MidWrite, Signal::SIGUSR1 as i32);
        assert_whole(&session.credentials().unwrap());
    });
    victim.stopped();
    clock.advance(Duration::from_secs(60));
    // As often as it takes until a writer that does not know of the victim uses its slot again.
    let sets = 5;
    (0..sets).for_each(|_| assert_whole(&session.refresh().unwrap()));
    victim.signal(Signal::SIGCONT);
    victim.finish();
    child(|_| {
        let reader = SharedSession::attach(&name).unwrap();
        assert_whole(&reader.credentials().unwrap());
    })
    .finish();
    let status = session.status().unwrap();
    // The victim's call, and one for each set: none of them was damaged.
    assert_eq!((status.generation(), status.source_calls()), (sets, sets + 1));
}
