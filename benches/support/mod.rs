//! What the benches share: a source that answers at once, forked helpers, medians, and the table at
//! the end.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod threads;
pub mod wake;

use std::{
    fs::File,
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    time::{ClockId, clock_gettime},
    unistd::{ForkResult, Pid, fork},
};
use shmcreds::{Provider, SharedSession};

/// As long as the tokens of STS are.
pub const TOKEN: usize = 1200;

/// A set that lives an hour. Its key id says which process made it, and when it was done.
pub fn set() -> Credentials {
    set_for(Duration::from_secs(3600))
}

/// The same for another time.
pub fn set_for(life: Duration) -> Credentials {
    let (secret, token, end) = ("s".repeat(40), "t".repeat(TOKEN), SystemTime::now() + life);
    let key = format!("{}@{}", std::process::id(), monotonic());
    Credentials::new(key, secret, Some(token), Some(end), "bench")
}

/// A session whose source takes `latency`.
pub fn session(what: &str, latency: Duration) -> SharedSession {
    let source = Provider::new("bench", move || async move {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        set()
    });
    let name = format!("bench-{what}-{}", std::process::id());
    SharedSession::builder(name).source(source).create().expect("a session")
}

/// Nanoseconds of a clock that all processes share.
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Nanoseconds that this thread has spent on the CPU.
pub fn cpu() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Nanoseconds per call of `work`, called often.
pub fn per_call(calls: u32, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// A forked helper: does what it is told in lines, and answers in lines.
pub struct Helper {
    pid: Pid,
    orders: PipeWriter,
    answers: BufReader<PipeReader>,
}

impl Helper {
    /// Helpers are forked before anything has threads.
    pub fn start(mut work: impl FnMut(u64) -> String) -> Self {
        let (orders, order) = std::io::pipe().expect("a pipe");
        let (answers, mut answer) = std::io::pipe().expect("a pipe");
        // SAFETY: the only thread of the process; see above.
        match unsafe { fork() }.expect("a child") {
            ForkResult::Parent { child } => {
                Helper { pid: child, orders: order, answers: BufReader::new(answers) }
            }
            ForkResult::Child => {
                drop(order);
                for line in BufReader::new(orders).lines().map_while(Result::ok) {
                    let told = work(line.parse().expect("a number"));
                    writeln!(answer, "{told}").expect("an answer");
                }
                // SAFETY: ends the process without the parent's exit handlers.
                unsafe { nix::libc::_exit(0) }
            }
        }
    }

    pub fn order(&mut self, number: u64) {
        writeln!(self.orders, "{number}").expect("an order");
    }

    pub fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

pub fn words(samples: impl IntoIterator<Item = f64>) -> String {
    samples.into_iter().map(|sample| format!("{sample} ")).collect()
}

/// The value below which `share` of the samples are.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * share) as usize]
}

pub fn median(mut samples: Vec<f64>) -> f64 {
    quantile(&mut samples, 0.5)
}

/// What a ratio says about its limit.
fn verdict((low, high): (f64, f64), limit: f64) -> &'static str {
    if high <= limit {
        "reached"
    } else if low > limit {
        "MISSED"
    } else {
        "unclear"
    }
}

/// The quantile `share` of `measured` divided by that of `control`, and the 95 % confidence interval of this ratio.
///
/// The blocks were measured in turn, so what disturbs one of a pair disturbs both. The interval comes from ratios of
/// pairs that are drawn again and again, with repetition (the bootstrap).
pub fn ratio(measured: &[Vec<f64>], control: &[Vec<f64>], share: f64) -> (f64, (f64, f64)) {
    const DRAWS: usize = 1000;
    assert_eq!(measured.len(), control.len(), "measured in turn");
    let of = |blocks: &[Vec<f64>], chosen: &[usize]| {
        let mut all: Vec<f64> = chosen.iter().flat_map(|&at| blocks[at].iter().copied()).collect();
        quantile(&mut all, share)
    };
    let pairs = |chosen: &[usize]| of(measured, chosen) / of(control, chosen);
    let all: Vec<usize> = (0..measured.len()).collect();
    // Always the same draws (xorshift): a table does not depend on luck.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % measured.len()
    };
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| pairs(&all.iter().map(|_| draw()).collect::<Vec<_>>()))
        .filter(|ratio| ratio.is_finite())
        .collect();
    if ratios.is_empty() {
        return (f64::NAN, (0.0, f64::INFINITY));
    }
    let interval = (quantile(&mut ratios, 0.025), quantile(&mut ratios, 0.975));
    (pairs(&all), interval)
}

/// Each sample as a block of its own.
pub fn blocks(samples: &[f64]) -> Vec<Vec<f64>> {
    samples.iter().map(|&sample| vec![sample]).collect()
}

/// The table at the end: what was measured, beside its limit.
///
/// | row | its verdict |
/// | --- | --- |
/// | [`compare`](Self::compare), a time beside its control | `reached`, `MISSED`, or `unclear` where the confidence interval holds the limit |
/// | [`within`](Self::within), a time without a control | `reached` or `unclear`: on a busy machine a longer time means nothing |
/// | [`row`](Self::row), a count or a size | `reached` or `MISSED` |
#[derive(Default)]
pub struct Table(Vec<String>);

impl Table {
    /// A count or a size, which noise does not change.
    pub fn row(&mut self, what: &str, measured: f64, beside: &str, limit: f64, unit: &str) {
        let verdict = if measured <= limit { "reached" } else { "MISSED" };
        self.limited(what, measured, beside, limit, unit, verdict);
    }

    /// A time that has a limit and no control.
    pub fn within(&mut self, what: &str, measured: f64, beside: &str, limit: f64, unit: &str) {
        let verdict = if measured <= limit { "reached" } else { "unclear" };
        self.limited(what, measured, beside, limit, unit, verdict);
    }

    fn limited(&mut self, what: &str, got: f64, beside: &str, limit: f64, unit: &str, end: &str) {
        let ratio = got / limit;
        self.0.push(format!(
            "| {what} | {got:.1} {unit} | {beside}: {limit:.1} {unit} | {ratio:.2} | {end} |"
        ));
    }

    /// The quantile `share` of `measured` beside that of its control `beside`, measured in turn. At most `limit` times
    /// as long.
    pub fn compare(
        &mut self,
        what: &str,
        (measured, beside, control): (&[Vec<f64>], &str, &[Vec<f64>]),
        share: f64,
        limit: f64,
        unit: &str,
    ) {
        let (ratio, (low, high)) = ratio(measured, control, share);
        let [got, control] =
            [measured, control].map(|blocks| quantile(&mut blocks.concat(), share));
        // A peer has no limit.
        let verdict = match limit.is_finite() {
            true => format!("\u{2264} {limit:.2}: {}", verdict((low, high), limit)),
            false => String::new(),
        };
        self.0.push(format!(
            "| {what} | {got:.1} {unit} | {beside}: {control:.1} {unit} | {ratio:.2} \
             [{low:.2}, {high:.2}] | {verdict} |"
        ));
    }

    /// For comparing only.
    pub fn note(&mut self, what: &str, measured: f64, unit: &str) {
        self.0.push(format!("| {what} | {measured:.1} {unit} | | | |"));
    }

    pub fn print(&self) {
        println!(
            "\n| what | measured | limit or control | ratio [95 %] | |\n| --- | --- | --- | --- | --- |"
        );
        self.0.iter().for_each(|row| println!("{row}"));
    }
}

/// Memory of this process's private mappings that it shares with nobody, in KiB: pages that it has written, and pages that it
/// has only read. Of a shared mapping the kernel calls a page private as long as no other process has touched it.
pub fn private_kib() -> [f64; 2] {
    // Line by line: a process with many mappings has a text of a megabyte, which would be counted.
    let smaps = BufReader::new(File::open("/proc/self/smaps").expect("smaps"));
    let (mut is_private, mut kib) = (false, [0.0; 2]);
    for line in smaps.lines().map(|line| line.expect("a line")) {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        match first {
            "Private_Dirty:" if is_private => kib[0] += second.parse().unwrap_or(0.0),
            "Private_Clean:" if is_private => kib[1] += second.parse().unwrap_or(0.0),
            // A line of a mapping has its addresses and its permissions.
            _ if !first.ends_with(':') => is_private = second.ends_with('p'),
            _ => {}
        }
    }
    kib
}
