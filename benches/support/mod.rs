//! What the benches share: a source that answers at once, forked helpers, medians, and the table at
//! the end.
#![allow(dead_code)]

use std::{
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

/// The table at the end: what was measured, beside its limit.
#[derive(Default)]
pub struct Table(Vec<String>);

impl Table {
    /// `measured` and `limit` in the same unit, of the same run.
    pub fn row(&mut self, what: &str, measured: f64, beside: &str, limit: f64, unit: &str) {
        let verdict = if measured <= limit { "reached" } else { "MISSED" };
        self.0.push(format!(
            "| {what} | {measured:.1} {unit} | {beside}: {limit:.1} {unit} | {:.2} | {verdict} |",
            measured / limit
        ));
    }

    /// For comparing only.
    pub fn note(&mut self, what: &str, measured: f64, unit: &str) {
        self.0.push(format!("| {what} | {measured:.1} {unit} | | | |"));
    }

    pub fn print(&self) {
        println!(
            "\n| what | measured | limit | measured / limit | |\n| --- | --- | --- | --- | --- |"
        );
        self.0.iter().for_each(|row| println!("{row}"));
    }
}
