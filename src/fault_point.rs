//! Fault points: points of a refresh at which a test can kill or stop the process.

/// A point of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
#[repr(u8)]
pub enum FaultPoint {
    /// The process is elected and has not called the source yet.
    Elected = 1,
    /// The source has answered, and nothing is written yet.
    Answered = 2,
    /// Half the words of a record are in the slot.
    MidWrite = 3,
    /// The set is published, and no process has been woken yet.
    Exchanged = 4,
    /// The set is published, and the process is still elected.
    Published = 5,
    /// An entry of a pool is taken, and does not have its key yet.
    PoolEntryTaken = 6,
    /// An entry of a pool has its key, and is not in the index yet.
    PoolKeyWritten = 7,
    /// An entry of a pool is not in the index any more, and still has its key.
    PoolUnindexed = 8,
    /// A cell of a pool is taken, and no entry owns it yet.
    PoolCellTaken = 9,
    /// No entry owns a cell of a pool any more, and it is not in the list of free ones yet.
    PoolCellReleased = 10,
    /// The set of an entry is retired, and the entry still has its key.
    PoolRetired = 11,
    /// The processes that waited for the set are woken, and the slot is not free yet.
    Announced = 12,
    /// A process that waits was woken, and has not looked at the state yet.
    Woken = 13,
    /// The newest set is copied, checked and decoded, and older copies are not wiped yet.
    Decoded = 14,
    /// The process has looked at the state, and is about to stand for election.
    Candidate = 15,
    /// The process knows that the owner of a session is dead, and has not taken its place yet.
    OwnerDead = 16,
}

/// Marks that the refresh reached `point`. Has no effect unless a test requested a signal there, or the times of points.
#[inline]
pub(crate) fn hit(point: FaultPoint) {
    #[cfg(feature = "testing")]
    armed::hit(point);
    #[cfg(not(feature = "testing"))]
    let _ = point;
}

#[cfg(feature = "testing")]
pub(crate) mod armed {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        time::Duration,
    };

    use nix::sys::signal::{Signal, raise};
    use rustix::time::{ClockId, clock_gettime};

    use super::FaultPoint;

    /// One more than the last point.
    const POINTS: usize = FaultPoint::OwnerDead as usize + 1;

    /// `point << 32 | signal`; 0 when nothing is armed.
    static ARMED: AtomicU64 = AtomicU64::new(0);

    /// Sends `signal` to this process once, when a refresh next reaches `point`.
    pub fn signal_at(point: FaultPoint, signal: i32) {
        ARMED.store((point as u64) << 32 | signal as u64, Ordering::Relaxed);
    }

    static IS_TIMED: AtomicBool = AtomicBool::new(false);
    /// When this process was last at each point; 0 before the first time.
    static TIMES: [AtomicU64; POINTS] = [const { AtomicU64::new(0) }; POINTS];

    /// Notes the time whenever this process, or one that it forks later, reaches a point: see [`time_of`].
    pub fn time_points() {
        IS_TIMED.store(true, Ordering::Relaxed);
    }

    /// When this process was last at `point`, on `CLOCK_MONOTONIC`, which all processes share. `None` before the first time,
    /// and without [`time_points`].
    pub fn time_of(point: FaultPoint) -> Option<Duration> {
        let time = TIMES[point as usize].load(Ordering::Relaxed);
        (time > 0).then(|| Duration::from_nanos(time))
    }

    pub(super) fn hit(point: FaultPoint) {
        if IS_TIMED.load(Ordering::Relaxed) {
            let now = clock_gettime(ClockId::Monotonic);
            let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
            TIMES[point as usize].store(now, Ordering::Relaxed);
        }
        let armed = ARMED.load(Ordering::Relaxed);
        if armed >> 32 != point as u64 || ARMED.swap(0, Ordering::Relaxed) != armed {
            return;
        }
        if let Ok(signal) = Signal::try_from(armed as u32 as i32) {
            let _ = raise(signal);
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::{
        FaultPoint,
        armed::{time_of, time_points},
        hit,
    };

    #[test]
    fn the_times_of_points_are_noted_once_they_are_asked_for() {
        hit(FaultPoint::PoolRetired);
        assert_eq!(time_of(FaultPoint::PoolRetired), None);
        time_points();
        hit(FaultPoint::PoolRetired);
        let first = time_of(FaultPoint::PoolRetired).expect("a time");
        hit(FaultPoint::PoolRetired);
        assert!(time_of(FaultPoint::PoolRetired).expect("a later time") > first);
    }
}
