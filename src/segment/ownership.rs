//! The owner of a session, and whether the session was ended on purpose: the words of the header page that change.

use std::sync::atomic::Ordering;

use super::{EntryWriter, Segment, layout};
use crate::sys::task::TaskMark;

/// The process that owns a session: it created the session, or took it over from a dead owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    /// Made for the session's instance.
    pub(crate) mark: TaskMark,
}

impl Segment {
    /// Whether the session was ended on purpose. Then another session may use its name.
    pub(crate) fn is_ended(&self) -> bool {
        self.ownership()[0] != 0
    }

    /// The process that owns the session.
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
        // Relaxed: the word orders no other memory. The names were removed before.
        self.file.word(layout::ENDED).store(1, Ordering::Relaxed);
    }

    /// Makes this process the owner of the session `instance`, in place of the owner `seen`. False when another process
    /// became the owner first.
    pub(crate) fn own(&self, seen: TaskMark, instance: u64) -> bool {
        let mark = TaskMark::of_this_process(instance);
        let words = self.file.words(layout::ENDED, 3);
        // Relaxed: only the winner matters, and the pid is for people.
        let owned = words[2]
            .compare_exchange(seen.word(), mark.word(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if owned {
            words[1].store(std::process::id().into(), Ordering::Relaxed);
        }
        owned
    }
}
