//! A session of one user that a group of others may read.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind as Io,
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink},
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use shmcreds::{Election, ErrorKind, Refresh, SharedSession, SharedSessionBuilder};

use crate::{
    Folder, GROUP, MEMBER, OWNER, STRANGER, become_user, builder, key, shared,
    support::{Child, StopFile, child, instant, name, until},
};

/// The process that keeps the session. It makes sets when it is told to.
pub struct Agent {
    pub process: Child,
    pub next: [StopFile; 2],
    end: StopFile,
}

impl Agent {
    pub fn start(builder: SharedSessionBuilder) -> Self {
        let file = |what| StopFile::new(&name(what));
        let (next, end) = ([file("next"), file("next")], file("end"));
        let mut process = child(|report| {
            become_user(OWNER, &[GROUP]);
            let session = builder.create().unwrap();
            report.say("made\n");
            for next in &next {
                until("it is told to go on", || next.is_there() || end.is_there());
                if end.is_there() {
                    break;
                }
                let before = session.status().unwrap().generation();
                let set =
                    if before == 0 { session.credentials() } else { session.refresh() }.unwrap();
                report.say(format!("{}\n", set.access_key_id()));
            }
            until("it is told to end", || end.is_there());
        });
        assert_eq!(process.hear_line(), "made");
        Agent { process, next, end }
    }

    /// Makes set number `number`, and gives its key.
    fn make(&mut self, number: usize) -> String {
        self.next[number].write();
        self.process.hear_line()
    }

    pub fn finish(self) {
        self.end.write();
        self.process.finish();
    }
}

pub fn member(work: impl FnOnce(&mut crate::support::Report)) -> Child {
    child(|report| {
        become_user(MEMBER, &[GROUP]);
        work(report);
    })
}

pub fn reads_and_waits() {
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o750), name("group"));
    let mut agent = Agent::start(shared(&name, &folder));
    let modes = [("", 0o640), ("@lock", 0o600)].map(|(part, mode)| {
        let path = folder.file(OWNER, &name).to_str().unwrap().to_owned() + part;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{path}");
        path
    });
    let mut reader = member(|report| {
        // The directory says whose session it is.
        let session = builder(&name, &folder).attach().unwrap();
        assert!(session.snapshot().unwrap().is_none());
        report.say("attached\n");
        let began = Instant::now();
        let first = key(&session);
        let set = session.snapshot().unwrap().unwrap();
        assert_eq!((set.generation(), set.credentials().access_key_id()), (1, &*first));
        // A set can be read before it is counted.
        until("the set is counted", || session.status().unwrap().published() == 1);
        let status = session.status().unwrap();
        assert_eq!(status.source_calls(), 1);
        assert_eq!(status.directory(), Some(&*folder.0));
        assert!(began.elapsed() < Duration::from_secs(60));
        // It requests nothing, and is told so at once.
        for error in [
            session.refresh().unwrap_err(),
            session.refresh_after(1, Duration::from_secs(60)).unwrap_err(),
            session.elect_after(1, Duration::from_secs(60)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NoSource, "{error}");
            assert!(error.to_string().contains("may only read it and wait"), "{error}");
        }
        assert!(!session.invalidate(&first).unwrap());
        let Election::Valid(_) = session.elect().unwrap() else { panic!("it was elected") };
        // What is forked from it reads on.
        child(|_| assert_eq!(key(&session), first)).finish();
        session.leave();
        // Only now may the agent make the next set.
        report.say(format!("{first}\n"));
        let changed = until_another(&session, &first);
        report.say(format!("{changed}\n"));
    });
    assert_eq!(reader.hear_line(), "attached");
    reader.asleep();
    let first = agent.make(0);
    assert_eq!(reader.hear_line(), first);
    let second = agent.make(1);
    assert_eq!(reader.hear_line(), second);
    reader.finish();
    assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
    agent.finish();
    assert!(modes.iter().all(|path| !Path::new(path).exists()));
}

fn until_another(session: &SharedSession, key_before: &str) -> String {
    let mut seen = key(session);
    until("another set is there", || {
        seen = key(session);
        seen != key_before
    });
    seen
}

fn denied<T>(what: &str, done: std::io::Result<T>) {
    let Err(error) = done else { panic!("{what} was allowed") };
    let expected = matches!(error.kind(), Io::PermissionDenied | Io::InvalidInput)
        || error.raw_os_error() == Some(libc::EBADF);
    assert!(expected, "{what}: {error}");
}

fn refused_by_the_kernel(what: &str, result: i64) {
    let error = std::io::Error::last_os_error();
    assert!(result < 0, "{what} was allowed");
    denied(what, Err::<(), _>(error));
}

/// What a member of the group tries with all that it can open.
pub fn changes_nothing() {
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o750), name("attack"));
    let mut agent = Agent::start(shared(&name, &folder).refresh(Refresh::Eager));
    let segment = folder.file(OWNER, &name);
    let lock = folder.file(OWNER, &format!("{name}@lock"));
    let owner = agent.process.pid;
    let mut attacker = member(|report| {
        let session = builder(&name, &folder).attach().unwrap();
        let before = key(&session);
        for flags in [libc::O_RDONLY, libc::O_RDWR, libc::O_PATH | libc::O_RDWR] {
            let mut options = OpenOptions::new();
            options.read(true).write(flags & libc::O_RDWR != 0).custom_flags(flags);
            if flags & libc::O_PATH == 0 {
                denied("opening the lock file", options.open(&lock));
            }
        }
        denied("writing the segment", OpenOptions::new().write(true).open(&segment));
        let open = File::open(&segment).unwrap();
        let by_proc = format!("/proc/self/fd/{}", open.as_raw_fd());
        denied("opening it again for writing", OpenOptions::new().write(true).open(by_proc));
        denied("its size", open.set_len(0));
        denied("its mode", fs::set_permissions(&segment, fs::Permissions::from_mode(0o666)));
        denied("its owner", chown(&segment, Some(MEMBER), None));
        denied("its name", fs::rename(&segment, folder.0.join("other")));
        denied("removing it", fs::remove_file(&segment));
        denied("removing the lock file", fs::remove_file(&lock));
        denied("a link", symlink("/etc/passwd", folder.0.join("link")));
        denied("a file", File::create(folder.file(MEMBER, &name)));
        denied("the directory", fs::rename(&folder.0, folder.0.with_extension("moved")));
        let fd = open.as_raw_fd();
        let (shared, both) = (libc::MAP_SHARED, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: maps a new range, at an address of the kernel's choice.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, both, shared, fd, 0) };
        refused_by_the_kernel("a writable mapping", mapped as i64);
        // SAFETY: as above.
        let page =
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, shared, fd, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: the range is mapped, and only this function uses it.
        let upgraded = unsafe { libc::mprotect(page, 4096, both) };
        refused_by_the_kernel("an upgrade of a mapping", upgraded.into());
        let whole = |kind: i32| libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: the structure lives as long as the call.
        let locked = unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &whole(libc::F_WRLCK)) };
        refused_by_the_kernel("a write lock", locked.into());
        // What the kernel allows on the segment stops nobody: the owner's processes lock bytes of the lock file only.
        // SAFETY: as above.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETLK, &whole(libc::F_RDLCK)) }, 0);
        // SAFETY: a call without pointers.
        let _ = unsafe { libc::flock(fd, libc::LOCK_EX) };
        for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
            assert!(kill(owner, signal).is_err(), "{signal}");
            let holder = session.status().unwrap().lease_holder().unwrap().pid();
            assert!(kill(Pid::from_raw(holder.cast_signed()), signal).is_err(), "{signal}");
        }
        assert_eq!(key(&session), before);
        report.say("tried\n");
        // It keeps its locks while the owner refreshes.
        report.say(until_another(&session, &before) + "\n");
    });
    assert_eq!(attacker.hear_line(), "tried");
    let second = agent.make(0);
    assert_eq!(attacker.hear_line(), second);
    attacker.finish();
    agent.finish();
}

/// The owner is killed, and another session gets the name. No lock tells the readers.
pub fn goes_on_with_the_next_session() {
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o750), name("next"));
    let mut agent = Agent::start(shared(&name, &folder));
    let first = agent.make(0);
    let mut reader = member(|report| {
        let session = builder(&name, &folder).attach().unwrap();
        let first = key(&session);
        report.say(format!("{first}\n"));
        report.say(format!("{}\n", until_another(&session, &first)));
        assert_eq!(session.status().unwrap().generation(), 1, "it is another session");
    });
    assert_eq!(reader.hear_line(), first);
    agent.process.signal(Signal::SIGKILL);
    agent.process.reap();
    // Readers do not keep the session in use.
    let mut next = Agent::start(shared(&name, &folder));
    let second = next.make(0);
    assert_eq!(reader.hear_line(), second);
    reader.finish();
    next.finish();
}

/// The owner is killed, and its next session has no set yet. A valid set is no error.
pub fn keeps_its_set() {
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o750), name("keeps"));
    let empty = StopFile::new(&crate::support::name("empty"));
    let mut agent = Agent::start(shared(&name, &folder));
    let first = agent.make(0);
    let mut reader = member(|report| {
        let session = builder(&name, &folder).attach().unwrap();
        assert_eq!(key(&session), first);
        report.say("reads\n");
        until("the next session is there", || empty.is_there());
        for _ in 0..3 {
            // It looks for the session, unlike a read in the same tick of the clock.
            let set = session.elect_within(Duration::ZERO).unwrap();
            let Election::Valid(set) = set else { panic!("it was elected") };
            assert_eq!(set.credentials().access_key_id(), first);
        }
        report.say("keeps it\n");
        report.say(until_another(&session, &first) + "\n");
    });
    assert_eq!(reader.hear_line(), "reads");
    agent.process.signal(Signal::SIGKILL);
    agent.process.reap();
    let mut next = Agent::start(shared(&name, &folder));
    empty.write();
    assert_eq!(reader.hear_line(), "keeps it");
    let second = next.make(0);
    assert_eq!(reader.hear_line(), second);
    reader.finish();
    next.finish();
}

pub fn what_is_refused() {
    let attach = |name: &str, folder: &Folder, owner: Option<u32>| {
        let builder = builder(name, folder);
        let builder = owner.map_or(builder.clone(), |owner| builder.owner(owner));
        builder.attach()
    };
    let expect = |uid: u32,
                  attach: &dyn Fn() -> Result<SharedSession, shmcreds::Error>,
                  kind: ErrorKind,
                  text: &str| {
        child(|_| {
            let groups: &[u32] = if uid == MEMBER { &[GROUP] } else { &[] };
            become_user(uid, groups);
            let error = attach().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error}, not {text}");
            assert!(!error.to_string().contains("os error"), "{error}");
        })
        .finish();
    };
    let (folder, name) = (Folder::new(OWNER, GROUP, 0o755), name("refused"));
    let agent = Agent::start(shared(&name, &folder));
    let (segment, them) = (folder.file(OWNER, &name), || attach(&name, &folder, None));
    expect(STRANGER, &them, ErrorKind::ForeignOwner, "not in that group");
    let other = || attach(&name, &folder, Some(STRANGER));
    expect(MEMBER, &other, ErrorKind::ForeignOwner, "belongs to uid 61237");
    folder.set_mode(0o700);
    expect(MEMBER, &them, ErrorKind::Misconfigured, "let the group enter its directory");
    folder.set_mode(0o755);
    for (mode, kind, text) in [
        (0o660, ErrorKind::InsecureMode, "mode 0660"),
        (0o644, ErrorKind::InsecureMode, "mode 0644"),
        (0o600, ErrorKind::Uninitialized, "shares the session with no group"),
    ] {
        fs::set_permissions(&segment, fs::Permissions::from_mode(mode)).unwrap();
        expect(MEMBER, &them, kind, text);
    }
    fs::set_permissions(&segment, fs::Permissions::from_mode(0o640)).unwrap();
    folder.set_mode(0o775);
    expect(MEMBER, &them, ErrorKind::InsecureMode, "others could replace its files");
    folder.set_mode(0o755);
    agent.finish();

    // A user whom nobody trusts makes the files, or links, in a directory that all may write.
    let open = Folder::new(0, 0, 0o1777);
    let theirs = || builder(&name, &open).owner(OWNER).attach();
    let path = open.file(OWNER, &name);
    expect(MEMBER, &theirs, ErrorKind::Absent, "of uid 61237");
    let agent = Agent::start(shared(&name, &open));
    child(|_| {
        become_user(MEMBER, &[GROUP]);
        theirs().unwrap();
    })
    .finish();
    agent.finish();
    child(|_| {
        become_user(STRANGER, &[GROUP]);
        fs::write(&path, [0; 65_536]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        chown(&path, None, Some(GROUP)).unwrap();
    })
    .finish();
    expect(MEMBER, &theirs, ErrorKind::ForeignOwner, "the session's owner is uid 61237");
    fs::remove_file(&path).unwrap();
    child(|_| {
        become_user(STRANGER, &[]);
        symlink("/dev/zero", &path).unwrap();
    })
    .finish();
    expect(MEMBER, &theirs, ErrorKind::NotAFile, "not a regular file");

    // To open a pipe for reading would wait for a writer.
    fs::remove_file(&path).unwrap();
    child(|_| {
        become_user(STRANGER, &[]);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    })
    .finish();
    expect(MEMBER, &theirs, ErrorKind::NotAFile, "not a regular file");

    // Root takes no session that a directory implies: any user could lend it one.
    let lent = Folder::new(OWNER, GROUP, 0o755);
    let agent = Agent::start(shared(&name, &lent));
    let error = attach(&name, &lent, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignOwner, "{error}");
    attach(&name, &lent, Some(OWNER)).unwrap();
    agent.finish();
    // A session that its owner keeps for itself is not for root either.
    let private = builder(&name, &lent).source(instant());
    let agent = Agent::start(private);
    let error = attach(&name, &lent, Some(OWNER)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignOwner, "{error}");
    assert!(error.to_string().contains("shares it with no group"), "{error}");
    agent.finish();
}

pub fn settings_are_checked() {
    let made = |change: &dyn Fn(SharedSessionBuilder) -> SharedSessionBuilder| {
        change(SharedSession::builder(name("settings")).source(instant())).create().unwrap_err()
    };
    let stranger = geteuid().as_raw() ^ STRANGER;
    for (error, text) in [
        (made(&|b| b.group(1).refresh(Refresh::Eager).sealed()), "group: a sealed session"),
        (made(&|b| b.group(u32::MAX)), "group: is 4294967295"),
        (made(&|b| b.owner(stranger)), "owner: is another user"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    if !geteuid().is_root() {
        return;
    }
    // A group that the process is not in.
    let folder = Folder::new(OWNER, GROUP, 0o700);
    child(|_| {
        become_user(OWNER, &[]);
        let error = shared("no-member", &folder).create().unwrap_err();
        assert!(error.to_string().contains("a group that this process is a member of"), "{error}");
    })
    .finish();
    assert_eq!(folder.names(), [""; 0]);
}
