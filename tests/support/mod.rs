//! What the tests share: names, sources, forked children.
#![allow(dead_code, unsafe_code)]

mod leftovers;

use std::{
    fs::{DirEntry, File},
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, pipe2},
};
use shmcreds::{AssumeRole, Provider, SharedSession, SourceError, testing::LocalSts};

/// Nothing that a test waits for takes as long as this, on however busy a machine.
pub const LIMIT: Duration = Duration::from_secs(120);
pub const BASE_SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12";

/// Runs the tests of a binary that forks: on the main thread, one after the other.
pub fn run_forking(tests: &[(&'static str, fn())]) {
    run_forking_and_soaking(tests, &[]);
}

/// The same; `soaks` take long and run only when asked for: `cargo test --test NAME -- --ignored`.
pub fn run_forking_and_soaking(tests: &[(&'static str, fn())], soaks: &[(&'static str, fn())]) {
    // Before the first fork: the children are those of this binary.
    leftovers::binary();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trial = |&(name, test): &(&'static str, fn())| {
        Trial::test(name, move || {
            test();
            // The next test forks, and a refresh in the background goes on for a moment after its set is published.
            until_alone();
            Ok::<(), Failed>(())
        })
    };
    let soaks = soaks.iter().map(|soak| trial(soak).with_ignored_flag(true));
    libtest_mimic::run(&arguments, tests.iter().map(trial).chain(soaks).collect()).exit();
}

/// The threads of this process. The kernel lists a joined one for a moment longer.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until this process has one thread.
pub fn until_alone() {
    until("this process has one thread", || threads() == 1);
}

/// A session name that no other test has. A session of that name that is left is a failure of the test binary.
pub fn name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (binary, next) = (leftovers::binary(), NEXT.fetch_add(1, Ordering::Relaxed));
    match std::process::id() {
        pid if pid == binary => format!("t-{what}-{binary}-{next}"),
        // Children that were forked at the same time count alike.
        child => format!("t-{what}-{binary}-{next}.{child}"),
    }
}

/// The file of the session's segment.
pub fn segment(name: &str) -> String {
    format!("/dev/shm/shmcreds-{}-{name}", nix::unistd::geteuid())
}

/// The file of the session's locks.
pub fn lock(name: &str) -> String {
    segment(name) + "@lock"
}

/// A role at the embedded STS.
pub fn role(sts: &LocalSts) -> AssumeRole {
    AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .session_name("test")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .credentials_provider("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", BASE_SECRET, None, None, "base")
        })
}

/// The calls of AssumeRole that the embedded STS has seen.
pub fn assumed(sts: &LocalSts) -> usize {
    sts.count("AssumeRole").unwrap()
}

/// A source that answers at once with a set whose fields belong together and that no other has.
pub fn instant() -> Provider {
    Provider::new("instant", || async { instant_set() })
}

pub fn instant_set() -> Credentials {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let hour = SystemTime::now() + Duration::from_secs(3600);
    Credentials::new(&id, secret_of(&id), Some(token_of(&id)), Some(hour), "instant")
}

pub fn secret_of(id: &str) -> String {
    format!("secret-of-{id}")
}

pub fn token_of(id: &str) -> String {
    format!("token-of-{id};").repeat(40)
}

/// Panics when the fields of a set of [`instant`] do not belong together.
pub fn assert_whole(set: &Credentials) {
    let id = set.access_key_id();
    assert_eq!(set.secret_access_key(), secret_of(id));
    assert_eq!(set.session_token(), Some(token_of(id).as_str()));
}

/// Waits for `event`, asked again and again.
pub fn until(what: &str, mut event: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !event() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the process lives: one whose threads have all ended and that is not reaped does not.
pub fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let main_lives =
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'));
    // The first thread may end before the others, which hold all that the process has.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    main_lives || threads > 1
}

/// Stops all threads of a process. The signal alone does so when each next looks at its signals, and until then
/// they may run.
pub fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    let has_stopped = |task: DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    until("all its threads stand still", || {
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(has_stopped)
    });
}

/// The process that `pid` is a child of.
pub fn parent_of(pid: Pid) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    Pid::from_raw(fields.split_whitespace().nth(1).unwrap().parse().unwrap())
}

/// The process that is elected and alive.
pub fn elected(session: &SharedSession) -> Option<Pid> {
    let status = session.status().unwrap();
    let found = status.lease_holder().filter(|refresher| refresher.is_alive())?;
    Some(Pid::from_raw(i32::try_from(found.pid()).unwrap()))
}

/// A process that waits to be elected, and can be spared.
pub fn standby(session: &SharedSession) -> Child {
    let standby = child(|_| {
        let session = SharedSession::attach(session.name()).unwrap();
        session.run_refresher(&shmcreds::StopHandle::new()).unwrap();
    });
    standby.asleep();
    standby
}

/// A forked child. Killed and reaped when dropped.
pub struct Child {
    pub pid: Pid,
    out: File,
    reaped: bool,
}

/// Where a child reports to its parent.
pub struct Report(File);

impl Report {
    pub fn say(&mut self, text: impl AsRef<str>) {
        self.0.write_all(text.as_ref().as_bytes()).unwrap();
    }

    /// The same, for another thread.
    pub fn again(&self) -> File {
        self.0.try_clone().unwrap()
    }

    /// The number of its descriptor.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Runs `work` in a child; it succeeds unless `work` panics.
pub fn child(work: impl FnOnce(&mut Report)) -> Child {
    // What a child starts is not to keep it open.
    let (read, write): (OwnedFd, OwnedFd) = pipe2(OFlag::O_CLOEXEC).unwrap();
    // SAFETY: the tests that fork run on the only thread of their process.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            drop(write);
            Child { pid: child, out: File::from(read), reaped: false }
        }
        ForkResult::Child => {
            drop(read);
            let mut report = Report(File::from(write));
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut report)));
            // SAFETY: ends the process without the parent's exit handlers.
            unsafe { nix::libc::_exit(i32::from(outcome.is_err())) }
        }
    }
}

impl Child {
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Waits until the child says something.
    pub fn hear(&mut self) -> u8 {
        self.readable(LIMIT);
        let mut byte = [0];
        self.out.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Waits until the child has said a line.
    pub fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(self.hear());
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Waits until the child has stopped itself.
    pub fn stopped(&self) {
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
        until("a child stops", || {
            matches!(waitpid(self.pid, Some(flags)), Ok(WaitStatus::Stopped(..)))
        });
    }

    /// Waits until the child's main thread sleeps.
    pub fn asleep(&self) {
        until("a child sleeps", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
            stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
        });
    }

    /// Waits for the child's end, which must be a success; gives all it has said.
    pub fn finish(self) -> String {
        self.finish_within(LIMIT)
    }

    /// The same for a child that may have nothing to say for so long.
    pub fn finish_within(mut self, limit: Duration) -> String {
        let mut said = String::new();
        let mut chunk = [0; 4096];
        loop {
            self.readable(limit);
            match self.out.read(&mut chunk).unwrap() {
                0 => break,
                n => said.push_str(std::str::from_utf8(&chunk[..n]).unwrap()),
            }
        }
        let status = self.reap();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        said
    }

    /// Waits for the child's end, however it comes.
    pub fn reap(&mut self) -> WaitStatus {
        self.reaped = true;
        waitpid(self.pid, None).unwrap()
    }

    fn readable(&self, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(1000u16)) {
                Ok(n) if n > 0 => return,
                _ => assert!(Instant::now() < end, "a child says nothing for {limit:?}"),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// A source whose calls wait until the test lets them go on.
pub struct Gate {
    calls: StopFile,
    open: StopFile,
}

impl Gate {
    pub fn new() -> Self {
        Gate { calls: StopFile::new(&name("calls")), open: StopFile::new(&name("open")) }
    }

    /// A source as [`instant`].
    pub fn source(&self) -> Provider {
        self.source_of(|| Ok(instant_set()))
    }

    /// A source whose calls end with what `answer` says then. They may take longer than any test.
    pub fn source_of(
        &self,
        answer: impl Fn() -> Result<Credentials, SourceError> + Clone + Send + Sync + 'static,
    ) -> Provider {
        let (calls, open) = (self.calls.0.clone(), self.open.0.clone());
        let ask = move || {
            let mut calls = File::options().append(true).create(true).open(&calls).unwrap();
            calls.write_all(b"x").unwrap();
            let (open, answer) = (open.clone(), answer.clone());
            async move {
                while !open.exists() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                answer()
            }
        };
        Provider::from_fn("gated", ask).timeout(3 * LIMIT)
    }

    /// How often it was asked.
    pub fn calls(&self) -> usize {
        std::fs::read(&self.calls.0).map_or(0, |calls| calls.len())
    }

    /// From now on, calls end.
    pub fn open(&self) {
        self.open.write();
    }

    /// Later calls wait again.
    pub fn close(&self) {
        std::fs::remove_file(&self.open.0).unwrap();
    }
}

/// Tells readers to end. The file is removed when dropped.
pub struct StopFile(PathBuf);

impl StopFile {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(name))
    }

    pub fn is_there(&self) -> bool {
        self.0.exists()
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Tells without waiting for anyone.
    pub fn write(&self) {
        std::fs::write(&self.0, "").unwrap();
    }

    /// Tells, and leaves the file there.
    pub fn keep(self) {
        self.write();
        std::mem::forget(self);
    }

    /// Ends the readers, which must have succeeded; gives what each said.
    pub fn end(self, readers: Vec<Child>) -> Vec<String> {
        std::fs::write(&self.0, "").unwrap();
        readers.into_iter().map(Child::finish).collect()
    }
}

impl Drop for StopFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
