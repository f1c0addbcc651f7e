//! The parent: forks the workers, replaces the dead, passes on the end. It has one thread, and
//! learns everything from blocked signals that it waits for.

use std::{
    collections::HashMap,
    io::{PipeReader, Read},
    net::TcpListener,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, User, alarm, fork, getpid, getppid},
};
use shmcreds::{SharedSession, testing::LocalSts};

use crate::{Fallible, args::Args, drive, say, watch::Watch, worker};

/// A worker that dies sooner is replaced only after as long, so that a crash loop does not spin.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// How many seconds the session is not looked at, at most.
const LOOK: u32 = 1;

/// Serves until SIGTERM, Ctrl-C, or the end of the drive.
pub fn serve(
    args: &Args,
    user: Option<&User>,
    listener: &TcpListener,
    session: &SharedSession,
    sts: Option<&LocalSts>,
) -> Fallible<()> {
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGALRM];
    let signals = SigSet::from_iter(signals);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
    let (reports, report) = std::io::pipe()?;
    let start = || {
        child(|| worker::serve(args.json, user, listener, session.name(), report.try_clone()?))
            .inspect(|pid| say!(args.json, "worker {pid} started"))
    };
    let mut workers = HashMap::new();
    for _ in 0..args.workers {
        workers.insert(start()?, Instant::now());
    }
    let driver = drive::start(args, listener)?;

    let mut watch = Watch::new(args.json, session);
    let mut ending = false;
    while !workers.is_empty() {
        watch.look();
        alarm::set(LOOK);
        let end = match signals.wait()? {
            Signal::SIGALRM => false,
            Signal::SIGCHLD => driver.as_ref().is_some_and(|driver| ended(driver.pid)),
            signal => {
                say!(args.json, "{signal}: shutting down");
                true
            }
        };
        if end && !std::mem::replace(&mut ending, true) {
            for pid in workers.keys() {
                let _ = kill(*pid, Signal::SIGTERM);
            }
            // Without the workers it would wait for answers; it may have ended by itself already.
            if let Some(driver) = &driver {
                let _ = kill(driver.pid, Signal::SIGTERM);
            }
        }
        for (pid, how) in dead(&workers) {
            let born = workers.remove(&pid);
            if ending {
                say!(args.json, "worker {pid} {how}");
                continue;
            }
            say!(args.json, "worker {pid} {how}: replacing it");
            if born.is_some_and(|born| born.elapsed() < SHORTEST_LIFE) {
                std::thread::sleep(SHORTEST_LIFE);
            }
            workers.insert(start()?, Instant::now());
        }
    }
    watch.look();
    drop(report);
    match driver {
        Some(driver) => {
            let outcome = driver.outcome()?;
            drive::summary(args, session, sts, outcome, &heard(reports)?)
        }
        None => Ok(()),
    }
}

/// Runs `work` in a forked child, which dies with this process.
pub fn child(work: impl FnOnce() -> Fallible<()>) -> Fallible<Pid> {
    let parent = getpid();
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let outcome = set_pdeathsig(Signal::SIGTERM).map_err(Into::into).and_then(|()| {
                // The parent may have died before the line above.
                if getppid() == parent { work() } else { Ok(()) }
            });
            if let Err(error) = &outcome {
                eprintln!("process {}: {error}", getpid());
            }
            std::process::exit(i32::from(outcome.is_err()))
        }
    }
}

/// The workers that have ended, and how. Only those: other children belong to others.
fn dead(workers: &HashMap<Pid, Instant>) -> Vec<(Pid, String)> {
    let ended = workers.keys().filter_map(|pid| {
        let how = match waitpid(*pid, Some(WaitPidFlag::WNOHANG)).ok()? {
            WaitStatus::Exited(_, code) => format!("exited with {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
            _ => return None,
        };
        Some((*pid, how))
    });
    ended.collect()
}

/// Whether a child has ended; leaves it to be waited for.
fn ended(pid: Pid) -> bool {
    use nix::sys::wait::{Id, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

fn heard(mut reports: PipeReader) -> std::io::Result<String> {
    let mut text = String::new();
    reports.read_to_string(&mut text)?;
    Ok(text)
}
