//! The system refuses something: an error, and nothing is left.

use std::{
    fs,
    os::fd::AsRawFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use shmcreds::{ErrorKind, SharedSession};

use crate::{
    calls::{Call, Traced, mark},
    entries,
    support::{self, assert_whole, child, instant, lock, name, segment},
};

/// Another program of the user locks what is none of its own.
pub fn locked_bytes_are_an_error() {
    let name = name("locked");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let mut other = child(|report| {
        let file = fs::OpenOptions::new().read(true).write(true).open(lock(&name)).unwrap();
        let all = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 64,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_SETLK(&all)).unwrap();
        report.say(".");
        std::thread::sleep(support::LIMIT);
    });
    other.hear();
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains(&format!("process {}", other.pid)), "{error}");
    assert_eq!(session.status().unwrap().source_calls(), 0);
    drop(other);
    assert_whole(&session.credentials().unwrap());
}

/// In a mount namespace of its own, which only root can make.
pub fn full_or_missing_shared_memory() {
    use nix::{
        mount::{MntFlags, MsFlags, mount, umount2},
        sched::{CloneFlags, unshare},
    };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let said = child(|report| {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return report.say("not allowed here");
        }
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        // `create` goes on without a name: see tests/places.rs.
        let create = || SharedSession::builder(name("full")).source(instant()).attach_or_create();

        // Room for the names, and for less than a segment; then for the names alone.
        let flags = MsFlags::empty();
        mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), flags, Some("size=16k")).unwrap();
        for filled in [0, 16 << 10] {
            fs::write("/dev/shm/others", vec![0; filled]).unwrap();
            let error = create().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            assert_eq!(entries("/dev/shm"), 1, "nothing is created");
        }
        umount2("/dev/shm", MntFlags::MNT_DETACH).unwrap();

        // No file system at all where it should be.
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), flags, None::<&str>).unwrap();
        let error = create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        report.say("refused");
    })
    .finish();
    assert!(said == "refused" || said == "not allowed here", "{said}");
}

/// The first call of a source finds few free descriptors: an error says so. No panic hook of the program is called.
pub fn a_first_call_with_few_descriptors() {
    let name = name("few-descriptors");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let said = child(|report| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let panics = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&panics);
        std::panic::set_hook(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        let next = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        let mut refused = 0;
        for more in 0..100 {
            setrlimit(Resource::RLIMIT_NOFILE, next + more, hard).unwrap();
            let Err(error) = session.credentials() else { break };
            assert!(error.to_string().contains("EMFILE"), "{error}");
            refused += 1;
        }
        report.say(format!("{refused} {}", panics.load(Ordering::Relaxed)));
    })
    .finish();
    let said: Vec<u32> = said.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(matches!(said[..], [3..100, 0]), "{said:?}");
}

/// A process that may have few descriptors, little memory, or short files: some call of `create` fails.
pub fn whatever_a_process_lacks() {
    let name = name("shortage");
    let nothing_is_left =
        || !Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists();
    let refusals = |resource, used: u64, step: u64| {
        let (_, hard) = getrlimit(resource).unwrap();
        let mut refused = 0;
        for more in 0..100 {
            setrlimit(resource, used + more * step, hard).unwrap();
            let made = SharedSession::builder(&name).source(instant()).create();
            if made.is_ok() {
                break;
            }
            assert!(nothing_is_left(), "{resource:?} + {more}: {:?}", made.err());
            refused += 1;
        }
        setrlimit(resource, hard, hard).unwrap();
        assert!(nothing_is_left());
        refused
    };
    let said = child(|report| {
        // What the allocator needs meanwhile is there.
        drop(vec![1_u8; 100 << 10]);
        let next = fs::File::open("/dev/null").unwrap().as_raw_fd();
        report.say(format!("{}\n", refusals(Resource::RLIMIT_NOFILE, next as u64, 1)));
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        report.say(format!("{}\n", refusals(Resource::RLIMIT_AS, pages * 4096, 4096)));
        report.say(format!("{}\n", refusals(Resource::RLIMIT_FSIZE, 0, 4096)));
    })
    .finish();
    let refused: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(matches!(refused[..], [1..100, 1..100, 1..100]), "{refused:?}");
}

/// The kernel refuses any one of the locks that `create` takes.
pub fn a_refused_lock_leaves_no_name() {
    let is_lock = |call: &Call| {
        let locks = [libc::F_SETLK, libc::F_OFD_SETLK].map(|command| command as u64);
        call.number == libc::SYS_fcntl && locks.contains(&call.arguments[1])
    };
    for refused in 0.. {
        let name = name("refused");
        let traced = Traced::start(|report| {
            mark();
            let made = SharedSession::builder(&name).source(instant()).create();
            report.say(made.map_or_else(|error| error.to_string(), |_| "made".to_owned()));
            mark();
        });
        let mut locks = 0;
        loop {
            let call = traced.next_call();
            if call.is_mark() {
                break;
            }
            if is_lock(&call) {
                if locks == refused {
                    // No kind of a lock.
                    traced.spoil(call.arguments[2], 99);
                }
                locks += 1;
            }
        }
        let said = traced.finish();
        let left = [segment(&name), lock(&name)].map(|path| Path::new(&path).exists());
        let _ = SharedSession::remove(&name);
        if said == "made" {
            assert!(refused >= 3 && locks <= refused, "{refused} of {locks}");
            return;
        }
        assert!(said.contains("(EINVAL)"), "{said}");
        assert_eq!(left, [false; 2], "lock {refused}: {said}");
    }
}
