//! The points of a refresh at which a test can have the process die or stop.

/// A point of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
#[repr(u8)]
pub enum FaultPoint {
    /// The process is elected and has not called the source.
    Elected = 1,
    /// The source has answered and nothing is written.
    Answered = 2,
    /// Half the words of a record stand in the slot.
    MidWrite = 3,
    /// The set is published and nobody has been woken.
    Exchanged = 4,
    /// The set is published and the election is still held.
    Published = 5,
}

/// Says that the refresh has come to `point`: nothing, unless a test asked for a signal there.
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

    /// Sends `signal` to this process when its next refresh comes to `point`, once.
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
