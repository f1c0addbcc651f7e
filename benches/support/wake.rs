//! How long a process that sleeps takes to see something: a publication, a byte in a pipe, a bare futex.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use nix::{
    libc,
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
};

use crate::support::{Helper, monotonic, words};

/// When this process last published a set.
pub static PUBLISHED: AtomicU64 = AtomicU64::new(0);

extern "C" fn published(_: i32) {
    PUBLISHED.store(monotonic(), Ordering::Relaxed);
}

/// Notes the time when this process, or one that it forks, gets SIGUSR1: the library sends it right after it has
/// published, where it is asked for that.
pub fn note_publications() {
    let action = SigAction::new(SigHandler::Handler(published), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler asks the clock and stores a word.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("a handler");
}

/// Two processes that want newer sets of `$session` at the same time: one fetches and publishes, the other sleeps. The key
/// id of a set says who fetched it, and when the source answered. Each runs `$first` before each set.
macro_rules! pair_of {
    ($library:ident, $session:expr, $first:expr) => {{
        let name = $session.name().to_owned();
        let pair: Vec<$crate::support::Helper> = (0..2)
            .map(|_| {
                let name = name.clone();
                $crate::support::Helper::start(move |rounds| {
                    use $library::SharedSession;
                    let session = SharedSession::attach(&name).expect("attached");
                    let us = std::process::id().to_string();
                    $crate::support::words((0..rounds).flat_map(|_| {
                        $first();
                        let set = session.refresh().expect("a set");
                        let seen = $crate::support::monotonic();
                        let (pid, at) = set.access_key_id().split_once('@').expect("a stamp");
                        let published = &$crate::support::wake::PUBLISHED;
                        let (slept, when) = match pid == us {
                            true => (0.0, published.load(std::sync::atomic::Ordering::Relaxed)),
                            false => (1.0, seen),
                        };
                        [at.parse().expect("a time"), slept, when as f64]
                    }))
                })
            })
            .collect();
        pair
    }};
}
pub(crate) use pair_of;

/// Microseconds from a publication to the sleeper's return, and from the source's answer to it.
pub fn publications(pair: &mut [Helper], rounds: u64) -> (Vec<f64>, Vec<f64>) {
    pair.iter_mut().for_each(|helper| helper.order(rounds));
    let told: Vec<f64> = pair.iter_mut().flat_map(Helper::answer).collect();
    let of = |who: f64| told.chunks(3).filter(move |one| one[1] == who).map(|one| (one[0], one[2]));
    let published: HashMap<u64, f64> = of(0.0).map(|(at, when)| (at as u64, when)).collect();
    let (mut seen, mut whole) = (Vec::new(), Vec::new());
    for (at, when) in of(1.0) {
        seen.extend(published.get(&(at as u64)).map(|published| (when - published) / 1e3));
        whole.push((when - at) / 1e3);
    }
    (seen, whole)
}

/// How long a sleeper sleeps: as long as the source of the bench takes.
const SLEEP: Duration = Duration::from_millis(2);

/// A process that sleeps on a pipe.
pub struct Pipe(Helper);

impl Pipe {
    pub fn new() -> Self {
        Pipe(Helper::start(|written| words([(monotonic() - written) as f64 / 1e3])))
    }

    /// Microseconds from a write to the sleeper's return.
    pub fn wakes(&mut self, count: u64) -> Vec<f64> {
        let wake = |_| {
            std::thread::sleep(SLEEP);
            self.0.order(monotonic());
            self.0.answer()[0]
        };
        (0..count).map(wake).collect()
    }
}

/// A process that sleeps on a futex, and has nothing else to do.
pub struct BareFutex {
    sleeper: Helper,
    word: &'static AtomicU32,
    woken: u32,
}

impl BareFutex {
    pub fn new() -> Self {
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        let bytes = 4096.try_into().expect("not zero");
        // SAFETY: the kernel chooses a free address.
        let memory = unsafe { mmap_anonymous(None, bytes, access, flags) }.expect("memory");
        // SAFETY: the mapping is zeroed, never unmapped, and used by atomics only.
        let word: &'static AtomicU32 = unsafe { memory.cast().as_ref() };
        let sleeper = Helper::start(move |wakes| {
            let first = word.load(Ordering::Acquire);
            words((1..=wakes as u32).map(|wake| {
                while word.load(Ordering::Acquire).wrapping_sub(first) < wake {
                    let seen = first.wrapping_add(wake - 1);
                    // SAFETY: the word lives as long as the process.
                    unsafe {
                        libc::syscall(
                            libc::SYS_futex,
                            word,
                            libc::FUTEX_WAIT,
                            seen,
                            std::ptr::null::<u8>(),
                        )
                    };
                }
                monotonic() as f64
            }))
        });
        BareFutex { sleeper, word, woken: 0 }
    }

    /// Microseconds from the store to the sleeper's return.
    pub fn wakes(&mut self, count: u64) -> Vec<f64> {
        self.sleeper.order(count);
        let stored: Vec<f64> = (0..count)
            .map(|_| {
                std::thread::sleep(SLEEP);
                let now = monotonic() as f64;
                self.woken = self.woken.wrapping_add(1);
                self.word.store(self.woken, Ordering::Release);
                // SAFETY: the word lives as long as the process.
                unsafe { libc::syscall(libc::SYS_futex, self.word, libc::FUTEX_WAKE, i32::MAX) };
                now
            })
            .collect();
        self.sleeper
            .answer()
            .iter()
            .zip(stored)
            .map(|(seen, stored)| (seen - stored) / 1e3)
            .collect()
    }
}
