//! How long a process that sleeps takes to see something: a publication, a byte in a pipe, a bare futex.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous},
};

use crate::support::{Helper, monotonic, words};

/// Two processes that want newer sets of `$session` at the same time: one fetches and publishes, the other sleeps. The key
/// id of a set says who fetched it, and when the source answered. `$points` tells after each set when this process was last
/// at the points of [`Wakes`]; 0 for one where it was not.
macro_rules! pair_of {
    ($library:ident, $session:expr, $points:expr) => {{
        let name = $session.name().to_owned();
        let pair: Vec<$crate::support::Helper> = (0..2)
            .map(|_| {
                let name = name.clone();
                $crate::support::Helper::start(move |rounds| {
                    use $library::SharedSession;
                    let session = SharedSession::attach(&name).expect("attached");
                    let us = std::process::id().to_string();
                    $crate::support::words((0..rounds).flat_map(|_| {
                        let set = session.refresh().expect("a set");
                        let seen = $crate::support::monotonic();
                        let (pid, at) = set.access_key_id().split_once('@').expect("a stamp");
                        let slept = if pid == us { 0.0 } else { 1.0 };
                        let points: [f64; 4] = $points();
                        let set: [f64; 3] = [at.parse().expect("a time"), slept, seen as f64];
                        set.into_iter().chain(points)
                    }))
                })
            })
            .collect();
        pair
    }};
}
pub(crate) use pair_of;

/// Microseconds of one publication after the other.
#[derive(Default)]
pub struct Wakes {
    /// From the exchange of the version to the sleeper's return.
    pub seen: Vec<f64>,
    /// From the source's answer to the sleeper's return.
    pub whole: Vec<f64>,
    /// From the exchange to the end of the publisher's wake.
    pub announced: Vec<f64>,
    /// From the exchange to the sleeper's return from the kernel.
    pub woken: Vec<f64>,
    /// From there until the sleeper has copied, checked and decoded the set.
    pub decoded: Vec<f64>,
    /// From there to the sleeper's return.
    pub returned: Vec<f64>,
}

/// So many publications of a pair that [`pair_of`] made.
pub fn publications(pair: &mut [Helper], rounds: u64) -> Wakes {
    pair.iter_mut().for_each(|helper| helper.order(rounds));
    let told: Vec<f64> = pair.iter_mut().flat_map(Helper::answer).collect();
    let sets = || told.chunks(7);
    let publishers: HashMap<u64, &[f64]> =
        sets().filter(|set| set[1] == 0.0).map(|set| (set[0] as u64, set)).collect();
    let mut wakes = Wakes::default();
    for sleeper in sets().filter(|set| set[1] == 1.0) {
        let [at, _, seen, _, _, woken, decoded] = *sleeper else { unreachable!("seven numbers") };
        wakes.whole.push((seen - at) / 1e3);
        let Some([_, _, _, exchanged, announced, ..]) = publishers.get(&(at as u64)) else {
            continue;
        };
        wakes.seen.push((seen - exchanged) / 1e3);
        // One that came too late to sleep was woken for an earlier set.
        if woken > *exchanged && decoded > woken {
            wakes.announced.push((announced - exchanged) / 1e3);
            wakes.woken.push((woken - exchanged) / 1e3);
            wakes.decoded.push((decoded - woken) / 1e3);
            wakes.returned.push((seen - decoded) / 1e3);
        }
    }
    wakes
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
