//! What benches of reads share: floors, ready futures, and threads that run at the same time.

use std::{
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use aws_credential_types::{Credentials, provider::ProvideCredentials};
use nix::time::{ClockId, clock_gettime};

use crate::support::cpu;

/// One look at the coarse clock.
pub fn coarse() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock").tv_nsec()
}

/// The floor of an owned read: one look at the coarse clock, and the clone and the drop of the SDK's object.
///
/// Loops of reads look at a result in its place. A loop that moves it copies it right after it was written, with wider
/// loads than the stores were. Some processors wait then until the stores are in the cache, which takes as long as the
/// read. No floor and no read here has such a copy, unless the SDK makes it.
#[inline(always)]
pub fn clone_once(own: &Credentials) {
    black_box(coarse());
    let set = black_box(own).clone();
    black_box(&set);
}

/// The floor of an awaited read: one look at the coarse clock, and the SDK's own future of a fixed set.
#[inline(always)]
pub async fn await_once(own: &Credentials) {
    black_box(coarse());
    let set = black_box(own).provide_credentials().await;
    black_box(&set);
}

pub fn repeat(calls: u32, mut work: impl FnMut()) {
    (0..calls).for_each(|_| work());
}

/// The value of a future that is ready.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it is not ready"),
    }
}

/// Nanoseconds that this thread spends on the CPU with `work`.
pub fn on_the_cpu(work: impl FnOnce()) -> f64 {
    let busy = cpu();
    work();
    (cpu() - busy) as f64
}

/// `rounds` times nanoseconds for each call, in CPU time: of one thread alone, and of one of two at once. Also what waits
/// for a cache line counts.
pub fn alone_and_both(rounds: usize, calls: u32, way: &(dyn Fn(u32) + Sync)) -> [Vec<f64>; 2] {
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    let gate = Gate::default();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            way(calls);
            (0..rounds).for_each(|_| {
                gate.meet();
                way(calls);
                gate.meet();
            });
        });
        way(calls);
        for _ in 0..rounds {
            alone.push(on_the_cpu(|| way(calls)) / f64::from(calls));
            gate.meet();
            both.push(on_the_cpu(|| way(calls)) / f64::from(calls));
            gate.meet();
        }
        other.join().expect("no panic");
    });
    [alone, both]
}

/// Where two threads meet: both are on a CPU when they go on, because both spin.
#[derive(Default)]
struct Gate(AtomicU64);

impl Gate {
    fn meet(&self) {
        let both = (self.0.fetch_add(1, Ordering::SeqCst) / 2 + 1) * 2;
        while self.0.load(Ordering::SeqCst) < both {
            std::hint::spin_loop();
        }
    }
}
