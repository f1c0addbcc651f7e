//! The dedicated refresher: how soon another one has a set when it is killed, and what it costs while
//! it has nothing to do.

mod support;

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use shmcreds::{Provider, Refresh, SharedSession};

use support::{Table, quantile, set};

const LATENCY: Duration = Duration::from_millis(100);
const KILLS: u32 = 60;

fn main() {
    let mut table = Table::default();
    idle(&mut table);
    killed(&mut table);
    table.print();
}

fn eager(what: &str) -> SharedSession {
    let source = Provider::new("bench", || async {
        tokio::time::sleep(LATENCY).await;
        set()
    });
    let name = format!("bench-{what}-{}", std::process::id());
    let builder = SharedSession::builder(name).source(source).refresh(Refresh::Eager);
    builder.create().expect("a session")
}

fn refresher(session: &SharedSession) -> i32 {
    let status = session.status().expect("a status");
    status.refresher().expect("one is elected").pid() as i32
}

/// From the kill of the refresher, in the middle of its call, to the new set of the creator, which waits
/// for one.
fn killed(table: &mut Table) {
    let mut samples: Vec<f64> =
        (0..KILLS).map(|round| takeover(&format!("kill-{round}"))).collect();
    table.note("the source's call", LATENCY.as_secs_f64() * 1e3, "ms");
    table.note("a new set after the refresher's kill, p50", quantile(&mut samples, 0.5), "ms");
    let limit = LATENCY.as_secs_f64() * 1e3 + 50.0;
    let p99 = quantile(&mut samples, 0.99);
    table.row("a new set after the refresher's kill, p99 of 60", p99, "call + 50 ms", limit, "ms");
}

fn takeover(what: &str) -> f64 {
    let session = eager(what);
    let pid = refresher(&session);
    let stamp = std::env::temp_dir().join(session.name());
    // SAFETY: this process has one thread.
    let killer = match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            // Another wants a set, too, and its wish is being served.
            while session.status().expect("a status").source_calls() < 2 {
                sleep(Duration::from_millis(1));
            }
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is there");
            let at = support::monotonic();
            fs::write(&stamp, at.to_string()).expect("a stamp");
            // SAFETY: ends the process without the parent's exit handlers.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    session.refresh().expect("a set");
    let now = support::monotonic();
    waitpid(killer, None).expect("the child");
    let at = fs::read_to_string(&stamp).expect("a stamp");
    fs::remove_file(&stamp).expect("removed");
    (now - at.parse::<u64>().expect("a time")) as f64 / 1e6
}

/// One minute without anything to do.
fn idle(table: &mut Table) {
    let session = eager("idle");
    let pid = refresher(&session);
    sleep(Duration::from_secs(1));
    let (ticks, wakes, start) = (cpu_ticks(pid), wake_ups(pid), Instant::now());
    sleep(Duration::from_secs(60));
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let used = (cpu_ticks(pid) - ticks) as f64;
    // A tick is 10 ms.
    table.row("idle refresher, CPU", used / (60.0 * minutes), "limit", 0.05, "%");
    let wakes = (wake_ups(pid) - wakes) as f64 / minutes;
    table.row("idle refresher, wake-ups a minute", wakes, "limit", 3.0, "");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let resident = field(&status, "VmRSS:") as f64 / 1024.0;
    table.row("idle refresher, resident", resident, "limit", 20.0, "MiB");
}

/// User and system time, in ticks of the clock.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

/// How often its threads have slept.
fn wake_ups(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum()
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the field");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}
