//! The mark of a thread: one word of shared memory that identifies it. A later thread with the same id has another
//! mark.
//!
//! | bits | meaning |
//! | --- | --- |
//! | 0–21 | the thread id, as `/proc` shows it; the kernel uses no larger ids |
//! | 22–31 | the lowest bits of the inode of its pid namespace |
//! | 32–63 | CRC-32 of the thread id, the inode, the start time of the thread, and the purpose of the mark |

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::errno::Errno;

use super::process_token::ProcessToken;

const NUMBER_BITS: u32 = 22;
const NAMESPACE_BITS: u32 = 10;

/// The mark. 0, the default, marks no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskMark(u64);

/// The state of a marked thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The thread exists; it may be stopped.
    Alive,
    /// There is no such thread, or it is exiting.
    Gone,
    /// The thread is in another pid namespace, so this process cannot tell.
    Unseen,
}

/// A process that `/proc` shows. A later process with the same id is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    number: u64,
    start: u64,
}

impl Task {
    /// `None` when there is no such process, or no `/proc`.
    pub(super) fn of(number: u32) -> Option<Self> {
        Task::read(&format!("/proc/{number}/stat"))
    }

    /// Whether it lives: a process lives as long as any of its threads.
    pub(super) fn lives(&self) -> bool {
        let now = Task::read(&format!("/proc/{}/stat", self.number));
        now.as_ref() == Some(self) && !is_ending(self.number)
    }

    /// The thread that a file of `/proc` describes.
    fn read(stat: &str) -> Option<Self> {
        let stat = read_stat(stat).ok()?;
        let number = stat.split(' ').next()?.parse().ok()?;
        // The name in parentheses may contain anything. After it, the start time is the 20th field.
        let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Task { number, start })
    }
}

impl TaskMark {
    /// The mark of the calling thread for `purpose`. 0 when `/proc` cannot be read.
    pub(crate) fn of_this_thread(purpose: u64) -> Self {
        ThisThread::known().map_or(TaskMark(0), |known| known.mark(purpose))
    }

    /// The mark of this process for `purpose`. 0 when `/proc` cannot be read.
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

    /// The state of the thread or process that was marked for `purpose`. A process lives as long as any of its
    /// threads.
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
        Some(TaskMark::of(&Task::read(stat)?, namespace, purpose))
    }

    fn of(task: &Task, namespace: u64, purpose: u64) -> Self {
        let parts = [task.number, namespace, task.start, purpose];
        let sum = u64::from(crc32fast::hash(bytemuck::cast_slice(&parts)));
        TaskMark(task.number | namespace_bits(namespace) | sum << 32)
    }
}

/// What `/proc` says about a thread. It stays the same for as long as the thread lives, and `/proc` takes longer than all
/// else that a thread does to be elected. So a thread reads it once.
#[derive(Clone, Copy)]
struct ThisThread {
    /// A forked child has the memory of the thread that forked, and is another thread.
    process: ProcessToken,
    task: Task,
    namespace: u64,
}

thread_local! {
    /// Without a destructor.
    static THIS_THREAD: Cell<Option<ThisThread>> = const { Cell::new(None) };
}

impl ThisThread {
    /// `None` when `/proc` cannot be read.
    fn known() -> Option<Self> {
        let process = ProcessToken::current();
        let known = THIS_THREAD.get().filter(|known| known.process == process);
        known.or_else(|| {
            let (task, namespace) = (Task::read("/proc/thread-self/stat")?, namespace().ok()?);
            let read = ThisThread { process, task, namespace };
            THIS_THREAD.set(Some(read));
            Some(read)
        })
    }

    fn mark(&self, purpose: u64) -> TaskMark {
        TaskMark::of(&self.task, self.namespace, purpose)
    }
}

/// Reads a `stat` file of `/proc`, which the kernel makes anew for each read of it.
fn read_stat(path: impl AsRef<Path>) -> io::Result<String> {
    // About 300 bytes in practice: 52 numbers and a name of 64 bytes at most.
    let mut bytes = [0; 2048];
    let mut file = File::open(path)?;
    let length = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// Whether the task is exiting or gone.
pub(super) fn is_exiting(task: &Path) -> io::Result<bool> {
    const PF_EXITING: u64 = 0x4;
    let stat = match read_stat(task.join("stat")) {
        // The task ended after the directory was listed, or during the read.
        Err(error) if is_gone(&error) => return Ok(true),
        stat => stat?,
    };
    // The name in parentheses may contain anything. After it come the state, five numbers and the flags.
    let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6));
    Ok(flags.is_none_or(|flags| flags.parse().is_ok_and(|flags: u64| flags & PF_EXITING != 0)))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// Whether the thread and all other threads of its process are exiting. The first thread of a process may exit
/// before the others, which then still hold the resources of the process.
fn is_ending(number: u64) -> bool {
    let folder = format!("/proc/{number}");
    let ends = |task: &str| is_exiting(task.as_ref()).unwrap_or(true);
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
        time::Duration,
    };

    use super::*;
    use crate::sys::process;

    #[test]
    fn a_thread_is_alive_until_it_ends() {
        let (send, marks) = channel();
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(TaskMark::of_this_thread(1)).unwrap();
            let _ = stopped.recv();
        });
        let mark = marks.recv().unwrap();
        assert_eq!(mark.presence(1), Presence::Alive);
        assert_eq!(mark.presence(2), Presence::Gone, "the mark has another purpose");
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
    fn the_mark_of_a_thread_is_the_one_that_others_read() {
        let here = || TaskMark::read("/proc/thread-self/stat", namespace().unwrap(), 1).unwrap();
        for _ in 0..2 {
            assert_eq!(TaskMark::of_this_thread(1), here());
        }
        assert_ne!(TaskMark::of_this_thread(2), here());
        let other = std::thread::spawn(|| TaskMark::of_this_thread(1)).join().unwrap();
        assert_ne!(other, here());
    }

    /// A child that is forked from a thread which knows its mark.
    #[test]
    fn a_forked_child_has_a_mark_of_its_own() {
        let parents = TaskMark::of_this_thread(1);
        let child = process::child(|| {
            let mark = TaskMark::of_this_thread(1);
            mark != parents && mark.presence(1) == Presence::Alive
        });
        let ended = process::wait(child.unwrap(), Some(Duration::from_secs(60))).unwrap();
        assert_eq!(ended, Some(true));
    }

    #[test]
    fn a_later_process_with_the_same_id_is_another() {
        let mark = TaskMark::of_this_process(1);
        let mut child = Command::new("sleep").arg("100").stdout(Stdio::null()).spawn().unwrap();
        let number = (1 << NUMBER_BITS) - 1;
        let theirs = TaskMark(mark.0 & !number | u64::from(child.id()));
        assert_eq!(theirs.presence(1), Presence::Gone);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_mark_of_another_namespace_is_unseen() {
        let mark = TaskMark::of_this_thread(1);
        assert_eq!(TaskMark(mark.0 ^ 1 << NUMBER_BITS).presence(1), Presence::Unseen);
    }
}
