//! How it grows: with worker processes, threads, sessions, and the length of tokens.
//!
//! `SHMCREDS_SCALE_SECONDS` says how long each number of workers reads (5 by default), and `SHMCREDS_SCALE_WORKERS` how
//! many there are at most (4,000 by default).

mod support;

use std::{
    env,
    hint::black_box,
    io::{PipeReader, PipeWriter, Read},
    num::NonZeroUsize,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use nix::{
    libc,
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous},
        resource::{Resource, UsageWho, getrlimit, getrusage},
        time::TimeVal,
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use shmcreds::{Provider, SharedSession};

use support::{cpu, median, private_kib, quantile};

/// The life of a set, so that some are replaced during a measurement.
const LIFE: Duration = Duration::from_secs(8);
/// Between two reads of a worker.
const PAUSE: Duration = Duration::from_millis(100);
/// Refreshes of each phase.
const REFRESHES: u64 = 5;

fn main() {
    processor();
    workers();
    threads();
    sessions();
    tokens();
}

/// A figure means nothing without the machine.
fn processor() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(" unknown");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let count = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    println!(
        "{model}, {count} CPUs, Linux {}, load {}",
        kernel.trim(),
        read("/proc/loadavg").trim()
    );
}

fn session(what: &str, token: usize, life: Duration) -> SharedSession {
    let source = Provider::new("scale", move || async move {
        let (secret, token) = ("s".repeat(40), "t".repeat(token));
        let end = SystemTime::now() + life;
        Credentials::new("ASIAEXAMPLE", secret, Some(token), Some(end), "scale")
    });
    let name = format!("bench-scale-{what}-{}", std::process::id());
    SharedSession::builder(name).source(source).create().expect("a session")
}

/// What each worker tells, in shared memory: thousands of pipes would need thousands of descriptors.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Told {
    /// How many phases it has finished.
    Phases,
    /// Nanoseconds on the CPU: asleep beside refreshes, and waiting for them. The former has the wake-up at its end.
    Asleep,
    Waiting,
    Reads,
    Failed,
    /// Nanoseconds on the CPU of all its reads, with its sleep.
    Reading,
    /// Nanoseconds of its slowest read.
    Worst,
    PrivateKib,
    Count,
}

#[derive(Clone, Copy)]
struct Board(&'static [AtomicU64]);

impl Board {
    fn new(workers: usize) -> Self {
        let count = workers * Told::Count as usize;
        let bytes = NonZeroUsize::new(count * 8).expect("workers");
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: the kernel chooses a free address.
        let memory = unsafe { mmap_anonymous(None, bytes, access, flags) }.expect("memory");
        // SAFETY: the mapping is that long, zeroed, never unmapped, and used by atomics only.
        Board(unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), count) })
    }

    fn of(self, worker: usize, told: Told) -> &'static AtomicU64 {
        &self.0[worker * Told::Count as usize + told as usize]
    }

    fn all(self, told: Told) -> Vec<f64> {
        let workers = self.0.len() / Told::Count as usize;
        (0..workers).map(|worker| self.of(worker, told).load(Relaxed) as f64).collect()
    }

    fn sum(self, told: Told) -> f64 {
        self.all(told).iter().sum()
    }

    fn wait_for(self, phase: u64) {
        let end = Instant::now() + Duration::from_secs(300);
        while self.all(Told::Phases).iter().any(|&done| done < phase as f64) {
            assert!(Instant::now() < end, "workers do not finish phase {phase}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Phases begin for all workers when the writing end of a pipe is closed.
struct Starts(Vec<(PipeReader, Option<PipeWriter>)>);

impl Starts {
    fn new() -> Self {
        let pipe = || std::io::pipe().map(|(end, start)| (end, Some(start))).expect("a pipe");
        Starts((0..3).map(|_| pipe()).collect())
    }

    fn start(&mut self, phase: usize) {
        self.0[phase].1 = None;
    }

    fn wait_for(&mut self, phase: usize) {
        let _ = self.0[phase].0.read(&mut [0]);
    }
}

/// The numbers of workers that the machine allows.
fn allowed() -> Vec<usize> {
    let wanted = env::var("SHMCREDS_SCALE_WORKERS").ok().and_then(|text| text.parse().ok());
    let processes = getrlimit(Resource::RLIMIT_NPROC).map_or(u64::MAX, |(soft, _)| soft);
    let number = |path: &str, label: &str| -> u64 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default();
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(u64::MAX)
    };
    let (pids, free) =
        (number("/proc/sys/kernel/pid_max", ""), number("/proc/meminfo", "MemAvailable:"));
    // A forked worker has page tables, stacks and copies of its own: some 600 KiB.
    let most = (processes / 2).min(pids / 2).min(free / 2 / 600);
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(wanted.unwrap_or(4000));
    println!(
        "at most {most} workers: by processes {processes}, pids {pids}, free memory {free} KiB"
    );
    [1, 16, 256, 1000, 4000].into_iter().filter(|&count| count <= most).collect()
}

fn workers() {
    let seconds = env::var("SHMCREDS_SCALE_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(5));
    let counts = allowed();
    println!(
        "\n| workers | calls of the source | failed reads | µs of CPU for a read with its sleep | CPU of a refresh, \
         nobody waits (all together) | CPU of a refresh, all wait (all together) | worst read p50 | p99 | max | \
         private memory of a worker | shared memory |\n|{}",
        " --- |".repeat(11)
    );
    for count in counts {
        some_workers(count, time);
    }
}

fn some_workers(count: usize, time: Duration) {
    let session = session(&format!("workers-{count}"), support::TOKEN, LIFE);
    session.credentials().expect("a set");
    let (board, mut starts) = (Board::new(count), Starts::new());
    let pids: Vec<Pid> = (0..count)
        .map(|index| {
            // SAFETY: this is the only thread of the process.
            match unsafe { fork() }.expect("a worker") {
                ForkResult::Parent { child } => child,
                ForkResult::Child => {
                    starts.0.iter_mut().for_each(|(_, start)| *start = None);
                    work(session.name(), board, index, &mut starts, time);
                    // SAFETY: ends the process without the parent's exit handlers.
                    unsafe { libc::_exit(0) }
                }
            }
        })
        .collect();
    board.wait_for(1);
    // Nobody waits: the workers sleep.
    let own = of_process();
    for _ in 0..REFRESHES {
        session.refresh().expect("a set");
    }
    let asleep = of_process() - own;
    let before = session.status().expect("a status").source_calls();
    // All want a newer set at the same moment.
    starts.start(0);
    board.wait_for(2);
    let refreshes = (session.status().expect("a status").source_calls() - before).max(1);
    let asleep = asleep + board.sum(Told::Asleep);
    starts.start(1);
    board.wait_for(3);
    starts.start(2);
    let calls = session.status().expect("a status").source_calls();
    for pid in pids {
        waitpid(pid, None).expect("its end");
    }
    let mut worst = board.all(Told::Worst);
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(&mut worst, share) / 1e3);
    println!(
        "| {count} | {calls} | {} | {:.1} | {:.0} µs | {:.0} µs | {p50:.0} µs | {p99:.0} µs | {max:.0} µs | {:.0} KiB | {} KiB |",
        board.sum(Told::Failed),
        board.sum(Told::Reading) / board.sum(Told::Reads) / 1e3,
        asleep / REFRESHES as f64 / 1e3,
        board.sum(Told::Waiting) / refreshes as f64 / 1e3,
        median(board.all(Told::PrivateKib)),
        shared_kib(session.name()),
    );
}

/// What a worker does.
fn work(name: &str, board: Board, index: usize, starts: &mut Starts, time: Duration) {
    let memory: f64 = private_kib().iter().sum();
    let session = SharedSession::attach(name).expect("attached");
    let read = || session.credentials().is_ok();
    assert!(read());
    let told = |told: Told, value: f64| board.of(index, told).store(value as u64, Relaxed);
    told(Told::PrivateKib, private_kib().iter().sum::<f64>() - memory);
    let done = |phase: f64| told(Told::Phases, phase);
    let busy = of_process();
    done(1.0);
    starts.wait_for(0);
    told(Told::Asleep, of_process() - busy);
    let busy = of_process();
    let refreshed = session.refresh().is_ok();
    told(Told::Waiting, of_process() - busy);
    done(2.0);
    starts.wait_for(1);
    let (busy, end) = (of_process(), Instant::now() + time);
    let (mut reads, mut failed, mut worst) = (0, u64::from(!refreshed), Duration::ZERO);
    // Not all at the same moment.
    thread::sleep(PAUSE.mul_f64(index as f64 % 97.0 / 97.0));
    while Instant::now() < end {
        let start = Instant::now();
        failed += u64::from(!read());
        worst = worst.max(start.elapsed());
        reads += 1;
        thread::sleep(PAUSE);
    }
    told(Told::Reading, of_process() - busy);
    told(Told::Reads, f64::from(reads));
    told(Told::Failed, failed as f64);
    told(Told::Worst, worst.as_nanos() as f64);
    done(3.0);
    starts.wait_for(2);
}

/// Nanoseconds that this process has spent on the CPU, with its threads that have ended.
fn of_process() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a usage");
    let nanos = |time: TimeVal| time.tv_sec() as f64 * 1e9 + time.tv_usec() as f64 * 1e3;
    nanos(usage.user_time()) + nanos(usage.system_time())
}

/// The files of the session.
fn shared_kib(name: &str) -> u64 {
    let path = format!("/dev/shm/shmcreds-{}-{name}", nix::unistd::geteuid());
    let bytes = |path: &str| std::fs::metadata(path).map_or(0, |file| file.len());
    (bytes(&path) + bytes(&format!("{path}@lock"))) / 1024
}

/// Microseconds on the CPU of the slowest reads, the look at its clock included: p50, p99 and the maximum of the slowest
/// of each thousand.
fn slowest(mut read: impl FnMut()) -> [f64; 3] {
    let mut slowest: Vec<f64> = (0..40)
        .map(|_| {
            let times = (0..1000).map(|_| {
                let busy = cpu();
                read();
                (cpu() - busy) as f64 / 1e3
            });
            times.fold(0.0, f64::max)
        })
        .collect();
    [0.5, 0.99, 1.0].map(|share| quantile(&mut slowest, share))
}

fn threads() {
    const READS: u32 = 200_000;
    println!(
        "\n| threads | ns of CPU for a read | worst of 1,000 reads p50 | p99 | max | memory of a thread |\n|{}",
        " --- |".repeat(6)
    );
    for count in [1, 2, 4, 16, 256] {
        let session = session(&format!("threads-{count}"), support::TOKEN, 450 * LIFE);
        session.credentials().expect("a set");
        let (start, warm, go) =
            (Barrier::new(count + 1), Barrier::new(count + 1), Barrier::new(count));
        let mut memory = 0.0;
        let told: Vec<(f64, [f64; 3])> = thread::scope(|scope| {
            let work = || {
                start.wait();
                drop(black_box(session.credentials()));
                warm.wait();
                go.wait();
                let reads = READS / count.max(4) as u32 * 4;
                let busy = cpu();
                for _ in 0..reads {
                    drop(black_box(session.credentials()));
                }
                let each = (cpu() - busy) as f64 / f64::from(reads);
                (each, slowest(|| drop(black_box(session.credentials()))))
            };
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            start.wait();
            let before = heap_kib();
            warm.wait();
            memory = (heap_kib() - before) / count as f64;
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let each = median(told.iter().map(|one| one.0).collect());
        let [p50, p99, max] =
            [0, 1, 2].map(|at| told.iter().map(|one| one.1[at]).fold(0.0, f64::max));
        println!(
            "| {count} | {each:.1} ns | {p50:.1} µs | {p99:.1} µs | {max:.1} µs | {memory:.1} KiB |"
        );
    }
}

/// What the program has taken from its allocator and not given back.
fn heap_kib() -> f64 {
    // SAFETY: it reads the allocator's statistics.
    unsafe { libc::mallinfo2() }.uordblks as f64 / 1024.0
}

/// Nanoseconds on the CPU for each call of `work`.
fn on_the_cpu(calls: u32, mut work: impl FnMut()) -> f64 {
    let busy = cpu();
    (0..calls).for_each(|_| work());
    (cpu() - busy) as f64 / f64::from(calls)
}

fn sessions() {
    const READS: u32 = 200_000;
    println!(
        "\n| sessions | ns for a read, one after the other | heap of a session | shared memory |\n|{}",
        " --- |".repeat(4)
    );
    for count in [1, 10, 100] {
        let before = heap_kib();
        let made: Vec<SharedSession> = (0..count)
            .map(|index| session(&format!("sessions-{count}-{index}"), support::TOKEN, 450 * LIFE))
            .collect();
        made.iter().for_each(|session| drop(session.credentials().expect("a set")));
        let memory = (heap_kib() - before) / count as f64;
        let mut next = made.iter().cycle();
        let read = || drop(black_box(next.next().map(SharedSession::credentials)));
        let each = on_the_cpu(READS, read);
        let shared: u64 = made.iter().map(|session| shared_kib(session.name())).sum();
        println!("| {count} | {each:.1} ns | {memory:.1} KiB | {shared} KiB |");
    }
}

fn tokens() {
    const READS: u32 = 200_000;
    println!(
        "\n| bytes of the token | ns for a read | first read of a set | heap of a copy | shared memory |\n|{}",
        " --- |".repeat(5)
    );
    for bytes in [400, 1200, 4096, 8192] {
        let session = session(&format!("token-{bytes}"), bytes, 450 * LIFE);
        session.credentials().expect("a set");
        let attach = |_| SharedSession::attach(session.name()).expect("attached");
        let handles: Vec<SharedSession> = (0..64).map(attach).collect();
        let before = heap_kib();
        let first = |handle: &SharedSession| {
            let start = Instant::now();
            drop(black_box(handle.credentials().expect("a set")));
            start.elapsed().as_nanos() as f64 / 1e3
        };
        let first = median(handles.iter().map(first).collect());
        let memory = (heap_kib() - before) / handles.len() as f64;
        let each = on_the_cpu(READS, || drop(black_box(session.credentials())));
        let shared = shared_kib(session.name());
        println!("| {bytes} | {each:.1} ns | {first:.1} µs | {memory:.1} KiB | {shared} KiB |");
    }
}
