//! The mark of a thread: one word of shared memory that names it, and that no later thread of the same number
//! can be taken for.
//!
//! | bits | meaning |
//! | --- | --- |
//! | 0–21 | the number of the thread, as `/proc` shows it; the kernel gives none beyond |
//! | 22–31 | the lowest bits of the inode of its pid namespace |
//! | 32–63 | CRC-32 of the number, the inode, when the thread was started, and what the mark is for |

use std::{fs, io, os::unix::fs::MetadataExt};

const NUMBER_BITS: u32 = 22;
const NAMESPACE_BITS: u32 = 10;

/// The mark. 0, as by default, is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskMark(u64);

/// What can be said of a marked thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It lives, be it stopped.
    Alive,
    /// There is no such thread, or it is about to end.
    Gone,
    /// It belongs to a pid namespace that this process does not see.
    Unseen,
}

impl TaskMark {
    /// The mark of the calling thread, made for `purpose`. Where `/proc` does not tell, it is that of nobody.
    pub(crate) fn of_this_thread(purpose: u64) -> Self {
        let mark = || TaskMark::read("/proc/thread-self/stat", namespace().ok()?, purpose);
        mark().unwrap_or(TaskMark(0))
    }

    /// The mark of this process, as [`of_this_thread`](Self::of_this_thread).
    pub(crate) fn of_this_process(purpose: u64) -> Self {
        let mark = || TaskMark::read("/proc/self/stat", namespace().ok()?, purpose);
        mark().unwrap_or(TaskMark(0))
    }

    pub(crate) fn from_word(word: u64) -> Self {
        TaskMark(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Whether what was marked for `purpose` lives. A process does as long as one of its threads.
    pub(crate) fn presence(self, purpose: u64) -> Presence {
        if self.0 == 0 {
            return Presence::Gone;
        }
        let Ok(namespace) = namespace() else { return Presence::Unseen };
        if (self.0 ^ namespace_bits(namespace)) & namespace_bits(u64::MAX) != 0 {
            return Presence::Unseen;
        }
        let number = self.0 & ((1 << NUMBER_BITS) - 1);
        let stat = format!("/proc/{number}/stat");
        let is_it = TaskMark::read(&stat, namespace, purpose) == Some(self);
        if is_it && !is_ending(number) { Presence::Alive } else { Presence::Gone }
    }

    /// The mark of the thread that a file of `/proc` describes.
    fn read(stat: &str, namespace: u64, purpose: u64) -> Option<Self> {
        let stat = fs::read_to_string(stat).ok()?;
        let number: u64 = stat.split(' ').next()?.parse().ok()?;
        // After the name, which may hold anything: the start is the 20th field of the rest.
        let start: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let parts = [number, namespace, start, purpose];
        let sum = u64::from(crc32fast::hash(bytemuck::cast_slice(&parts)));
        Some(TaskMark(number | namespace_bits(namespace) | sum << 32))
    }
}

/// Whether the thread is about to end, and all others of its process are: the first thread of a process may end
/// before the others, which hold all that the process has.
fn is_ending(number: u64) -> bool {
    let folder = format!("/proc/{number}");
    let ends = |task: &str| super::process::is_exiting(task.as_ref()).unwrap_or(true);
    let tasks = || fs::read_dir(format!("{folder}/task")).into_iter().flatten().flatten();
    ends(&folder) && tasks().all(|task| task.path().to_str().is_none_or(ends))
}

/// The inode of this process's pid namespace.
fn namespace() -> io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino())
}

fn namespace_bits(inode: u64) -> u64 {
    (inode & ((1 << NAMESPACE_BITS) - 1)) << NUMBER_BITS
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        sync::mpsc::channel,
    };

    use super::*;

    #[test]
    fn a_thread_is_there_until_it_ends() {
        let (send, marks) = channel();
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(TaskMark::of_this_thread(1)).unwrap();
            let _ = stopped.recv();
        });
        let mark = marks.recv().unwrap();
        assert_eq!(mark.presence(1), Presence::Alive);
        assert_eq!(mark.presence(2), Presence::Gone, "it was made for something else");
        drop(stop);
        thread.join().unwrap();
        while mark.presence(1) == Presence::Alive {
            std::thread::yield_now();
        }
        assert_eq!(mark.presence(1), Presence::Gone);
        assert_eq!(TaskMark::of_this_process(3).presence(3), Presence::Alive);
        assert_eq!(TaskMark(0).presence(0), Presence::Gone);
    }

    #[test]
    fn a_later_process_of_the_number_is_another() {
        let mark = TaskMark::of_this_process(1);
        let mut child = Command::new("sleep").arg("100").stdout(Stdio::null()).spawn().unwrap();
        let number = (1 << NUMBER_BITS) - 1;
        let theirs = TaskMark(mark.0 & !number | u64::from(child.id()));
        assert_eq!(theirs.presence(1), Presence::Gone);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn another_namespace_is_not_seen() {
        let mark = TaskMark::of_this_thread(1);
        assert_eq!(TaskMark(mark.0 ^ 1 << NUMBER_BITS).presence(1), Presence::Unseen);
    }
}
