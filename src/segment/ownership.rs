//! Whose a session is, and whether it was ended on purpose: words of the header page that change.

use std::sync::atomic::Ordering;

use super::{EntryWriter, Segment, layout};
use crate::sys::task::TaskMark;

/// The process that a session belongs to: it created the session, or took it over from one that died.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// Made for the session's instance.
    pub(crate) mark: TaskMark,
}

impl Segment {
    /// Whether the session was ended on purpose: another one may have its name.
    pub(crate) fn is_ended(&self) -> bool {
        self.ownership()[0] != 0
    }

    /// The process that the session belongs to.
    pub(crate) fn owner(&self) -> Owner {
        let [_, pid, mark] = self.ownership();
        Owner { pid: u32::try_from(pid).unwrap_or(0), mark: TaskMark::from_word(mark) }
    }

    fn ownership(&self) -> [u64; 3] {
        let mut values = self.memory.file.words(layout::ENDED, 3).values();
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }
}

impl EntryWriter {
    /// Marks the session as ended on purpose.
    pub(crate) fn end(&self) {
        // Relaxed: it orders nothing, and the names have been removed before.
        self.file.word(layout::ENDED).store(1, Ordering::Relaxed);
    }

    /// Makes this process the owner of the session `instance`; false when another one has become that since `seen`.
    pub(crate) fn own(&self, seen: TaskMark, instance: u64) -> bool {
        let mark = TaskMark::of_this_process(instance);
        let words = self.file.words(layout::ENDED, 3);
        // Relaxed: which process wins is all that counts, and the pid is for people.
        let owned = words[2]
            .compare_exchange(seen.word(), mark.word(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if owned {
            words[1].store(std::process::id().into(), Ordering::Relaxed);
        }
        owned
    }
}
