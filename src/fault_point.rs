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
}

/// Marks that the refresh reached `point`. Has no effect unless a test requested a signal there.
#[inline]
pub(crate) fn hit(point: FaultPoint) {
    #[cfg(feature = "testing")]
    armed::hit(point);
    #[cfg(not(feature = "testing"))]
    let _ = point;
}

#[cfg(feature = "testing")]
pub(crate) mod armed {
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    use super::FaultPoint;

    /// `point << 32 | signal`; 0 when nothing is armed.
    static ARMED: AtomicU64 = AtomicU64::new(0);

    /// Sends `signal` to this process once, when a refresh next reaches `point`.
    pub fn signal_at(point: FaultPoint, signal: i32) {
        ARMED.store((point as u64) << 32 | signal as u64, Ordering::Relaxed);
    }

    pub(super) fn hit(point: FaultPoint) {
        let armed = ARMED.load(Ordering::Relaxed);
        if armed >> 32 != point as u64 || ARMED.swap(0, Ordering::Relaxed) != armed {
            return;
        }
        if let Ok(signal) = Signal::try_from(armed as u32 as i32) {
            let _ = raise(signal);
        }
    }
}
