//! The dedicated refresher: how long readers wait for it, how soon another one has a set when it is
//! killed, and what it costs while it has nothing to do.

mod support;

use std::{
    fs,
    hint::black_box,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use shmcreds::{Provider, Refresh, SharedSession};

use support::{Helper, Table, cpu, quantile, set, set_for, words};

const LATENCY: Duration = Duration::from_millis(100);
const KILLS: u32 = 60;
const READERS: usize = 16;
const CYCLES: u64 = 10;
const LIFE: Duration = Duration::from_secs(2);

fn main() {
    let mut table = Table::default();
    flat_out(&mut table);
    idle(&mut table);
    killed(&mut table, "a session", false);
    killed(&mut table, "a sealed session", true);
    ended(&mut table);
    table.print();
}

fn eager(what: &str, sealed: bool) -> SharedSession {
    let source = Provider::new("bench", || async {
        tokio::time::sleep(LATENCY).await;
        set()
    });
    let name = format!("bench-{what}-{}", std::process::id());
    let builder = SharedSession::builder(name).source(source).refresh(Refresh::Eager);
    let builder = if sealed { builder.sealed() } else { builder };
    builder.create().expect("a session")
}

/// Readers that do nothing else, while one short-lived set follows the other.
fn flat_out(table: &mut Table) {
    let source = Provider::new("bench", || async { set_for(LIFE) });
    let name = format!("bench-flat-out-{}", std::process::id());
    let builder = SharedSession::builder(&name).source(source).refresh(Refresh::Eager);
    // As soon as they may be refreshed, sets are; and nobody waits for that before they expire.
    let session = builder
        .advisory_window(LIFE)
        .mandatory_window(Duration::from_millis(1))
        .create()
        .expect("a session");
    let mut readers: Vec<Helper> =
        (0..READERS).map(|_| Helper::start(|cycles| reads(&name, cycles))).collect();
    readers.iter_mut().for_each(|reader| reader.order(CYCLES));
    let told: Vec<Vec<f64>> = readers.iter_mut().map(Helper::answer).collect();
    let status = session.status().expect("a status");
    let of = |column: usize| told.iter().map(move |numbers| numbers[column]);
    let slowest = |column| of(column).fold(0.0, f64::max);
    let over = |what: &str| format!("{what}, {READERS} readers flat out over {CYCLES} sets");
    table.note(&over("reads"), of(0).sum(), "");
    table.within(&over("the longest wait of a read"), slowest(1), "limit", 1.0, "ms");
    table.within(&over("the slowest read on the CPU"), slowest(2), "limit", 1.0, "ms");
    table.note("the same by the wall clock, preemption included", slowest(3), "ms");
    let calls = status.source_calls() as f64;
    table.row("calls of the source meanwhile", calls, "sets", status.generation() as f64, "");
}

/// Reads until so many sets have come; tells how often, and the milliseconds of the longest wait, of
/// the slowest read on the CPU, and of the slowest one.
fn reads(name: &str, cycles: u64) -> String {
    let session = SharedSession::attach(name).expect("attached");
    let last = session.status().expect("a status").generation() + cycles;
    let (mut count, mut waited, mut worked, mut took) = (0, 0.0_f64, 0.0_f64, 0.0_f64);
    while session.status().expect("a status").generation() < last {
        for _ in 0..1000 {
            let (sleeps, start, busy) = (sleeps(), Instant::now(), cpu());
            black_box(session.credentials().expect("a set"));
            let (busy, wall) = ((cpu() - busy) as f64 / 1e6, start.elapsed().as_secs_f64() * 1e3);
            (worked, took) = (worked.max(busy), took.max(wall));
            if self::sleeps() > sleeps {
                waited = waited.max(wall - busy);
            }
            count += 1;
        }
    }
    words([f64::from(count), waited, worked, took])
}

/// How often this thread has given up the CPU in order to wait.
fn sleeps() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).expect("its usage").voluntary_context_switches()
}

fn refresher(session: &SharedSession) -> i32 {
    let status = session.status().expect("a status");
    status.lease_holder().expect("one is elected").pid() as i32
}

/// From the kill of the refresher, in the middle of its call, to the new set of the creator, which waits
/// for one.
fn killed(table: &mut Table, kind: &str, sealed: bool) {
    let mut samples: Vec<f64> =
        (0..KILLS).map(|round| takeover(&format!("kill-{round}"), sealed)).collect();
    let what = format!("{kind}: a new set after the refresher's kill in its call");
    table.note(&format!("{what}, p50"), quantile(&mut samples, 0.5), "ms");
    let limit = LATENCY.as_secs_f64() * 1e3 + 50.0;
    let p99 = quantile(&mut samples, 0.99);
    table.within(&format!("{what}, p99 of {KILLS}"), p99, "call + 50 ms", limit, "ms");
}

/// From the drop of the last user's handle to the end of the refresher.
fn ended(table: &mut Table) {
    let life = |round| {
        let session = eager(&format!("end-{round}"), false);
        let stat = format!("/proc/{}/stat", refresher(&session));
        drop(session);
        let start = Instant::now();
        // It is no child of this process: its new parent may take a while to reap it.
        let runs = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            sleep(Duration::from_micros(100));
        }
        start.elapsed().as_secs_f64() * 1e3
    };
    let slowest = (0..20).map(life).fold(0.0, f64::max);
    table.within(
        "the refresher's end after its last user, slowest of 20",
        slowest,
        "limit",
        1e3,
        "ms",
    );
}

fn takeover(what: &str, sealed: bool) -> f64 {
    let session = eager(what, sealed);
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
    let session = eager("idle", false);
    let pid = refresher(&session);
    sleep(Duration::from_secs(1));
    let (ticks, wakes, start) = (cpu_ticks(pid), wake_ups(pid), Instant::now());
    sleep(Duration::from_secs(60));
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let used = (cpu_ticks(pid) - ticks) as f64;
    // A tick is 10 ms.
    table.within("idle refresher, CPU", used / (60.0 * minutes), "limit", 0.05, "%");
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
