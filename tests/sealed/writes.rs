//! A worker reads and asks, and cannot write, whatever it tries.

use std::{
    fs::{self, File, OpenOptions},
    num::NonZeroUsize,
    os::{fd::AsFd, unix::fs::FileExt},
    path::PathBuf,
    ptr::NonNull,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::{
        mman::{MapFlags, ProtFlags, mmap, mprotect},
        signal::{Signal, kill},
    },
    unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid},
};
use shmcreds::{ErrorKind, Refresh, SharedSession, testing::ManualClock};

use crate::{
    programs::{said, start},
    refresher, sealed,
    support::{assert_whole, child, instant, name, segment, until},
};

pub fn workers_read_and_ask() {
    let name = name("ask");
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(&name).source(instant()).refresh(Refresh::Eager);
    let session = builder.sealed().clock(&clock).create().unwrap();
    assert!(!PathBuf::from(segment(&name)).exists());
    let first = session.credentials().unwrap().access_key_id().to_owned();
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        let read = session.credentials().unwrap();
        assert_whole(&read);
        assert_eq!(read.access_key_id(), first);
        // Ask for a new one, and have that rejected.
        let second = session.refresh().unwrap().access_key_id().to_owned();
        assert_ne!(second, first);
        assert!(session.invalidate(&second).unwrap());
        assert!(!session.invalidate(&second).unwrap(), "already said");
        clock.advance(Duration::from_secs(6));
        until("the successor", || session.status().unwrap().generation() == 3);
        assert_ne!(session.credentials().unwrap().access_key_id(), second);
        // This one may not refresh.
        let error = session.run_refresher(&shmcreds::StopHandle::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSource);
    })
    .finish();
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.invalidations()), (3, 1));
    // Nobody else finds it.
    assert!(
        !fs::read_dir("/dev/shm")
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_str().unwrap().contains(&name) })
    );
}

/// The descriptor of the segment in this process.
fn descriptor(name: &str) -> PathBuf {
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| {
            let target = target.to_str().unwrap().to_owned();
            target.starts_with("/memfd:") && target.contains(name) && !target.contains("@lock")
        })
    };
    entries.into_iter().find(is_it).unwrap()
}

/// The mappings of the segment in this process, and whether any may be written.
fn mappings(name: &str) -> Vec<(usize, usize, bool)> {
    mappings_of(name)
}

fn mappings_of(name: &str) -> Vec<(usize, usize, bool)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter(|line| line.contains(name) && !line.contains("@lock"));
    lines
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let parse = |hex| usize::from_str_radix(hex, 16).unwrap();
            (parse(start), parse(end), rest.as_bytes()[1] == b'w')
        })
        .collect()
}

/// Every way to write that a process has, each refused.
pub fn try_to_write(name: &str) {
    let path = descriptor(name);
    let number: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    // SAFETY: the descriptor is the session's, which outlives this.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let length = NonZeroUsize::new(4096).unwrap();
    let write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping; it is refused.
    let mapped = unsafe { mmap(None, length, write, MapFlags::MAP_SHARED, fd, 0) };
    assert_eq!(mapped.unwrap_err(), Errno::EPERM, "a writable mapping");

    let found = mappings(name);
    assert!(!found.is_empty());
    for (start, end, writable) in found {
        assert!(!writable, "an inherited writable mapping");
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(start)).unwrap();
        // SAFETY: the protection of memory that nobody writes; it is refused.
        let changed = unsafe { mprotect(start, end - start.as_ptr() as usize, write) };
        assert_eq!(changed.unwrap_err(), Errno::EACCES, "mprotect");
    }

    let inherited = File::from(fd.try_clone_to_owned().unwrap());
    let refused = |what: &str, result: std::io::Result<()>| {
        let error = result.expect_err(what).raw_os_error();
        assert!(
            [Some(libc_eperm()), Some(Errno::EACCES as i32)].contains(&error),
            "{what}: {error:?}"
        );
    };
    refused("pwrite", inherited.write_at(b"x", 0).map(drop));
    refused("ftruncate to less", inherited.set_len(0));
    refused("ftruncate to more", inherited.set_len(1 << 20));
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    assert_eq!(fallocate(inherited.as_fd(), hole, 0, 4096).unwrap_err(), Errno::EPERM);
    let reopened = OpenOptions::new().read(true).write(true).open(&path);
    refused("/proc/self/fd", reopened.and_then(|file| file.write_at(b"x", 0).map(drop)));
}

fn libc_eperm() -> i32 {
    Errno::EPERM as i32
}

pub fn a_worker_cannot_write() {
    let name = name("write");
    let session = sealed(&name);
    try_to_write(&name);
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        try_to_write(&name);
        assert_whole(&session.credentials().unwrap());
    })
    .finish();
    assert_whole(&session.credentials().unwrap());
}

pub fn a_worker_that_dropped_its_uid() {
    if !geteuid().is_root() {
        return;
    }
    let name = name("uid");
    let session = sealed(&name);
    child(|_| {
        setgroups(&[]).unwrap();
        setgid(Gid::from_raw(65534)).unwrap();
        setuid(Uid::from_raw(65534)).unwrap();
        let worker = SharedSession::attach(&name).unwrap();
        assert_whole(&worker.credentials().unwrap());
        try_to_write(&name);
        // It may still ask.
        assert_whole(&worker.refresh().unwrap());
        assert_eq!(worker.status().unwrap().generation(), 2);
    })
    .finish();
    assert_eq!(session.status().unwrap().generation(), 2);
}

/// Whether `/proc/self/mem` reads the memory at `address`.
fn debugger_reads(address: usize) -> bool {
    let mut bytes = [0; 64];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, address as u64).is_ok()
}

pub fn secret_memory_is_read_by_workers_alone() {
    let builder = SharedSession::builder(name("secret")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().secret_memory().create();
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            // Where the kernel lacks it, the error says so.
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            return assert!(error.to_string().contains("secret_memory: "), "{error}");
        }
    };
    child(|_| {
        let session = SharedSession::attach(session.name()).unwrap();
        assert_whole(&session.credentials().unwrap());
        assert_whole(&session.refresh().unwrap());
        let secret = mappings_of("/secretmem");
        assert!(!secret.is_empty() && secret.iter().all(|(_, _, writable)| !writable));
        assert!(secret.iter().all(|(start, _, _)| !debugger_reads(*start)));
        // The control page is shared memory as any other, and holds no set.
        let control = mappings(session.name());
        assert!(control.iter().all(|(start, _, _)| debugger_reads(*start)));
        let key = session.credentials().unwrap();
        for (start, end, _) in control {
            let mut bytes = vec![0; end - start];
            let memory = File::open("/proc/self/mem").unwrap();
            memory.read_exact_at(&mut bytes, start as u64).unwrap();
            let needle = key.secret_access_key().as_bytes();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    })
    .finish();
    assert_eq!(said(&start(&session, true, "read")), "read 2");
    kill(refresher(&session), Signal::SIGKILL).unwrap();
    assert_whole(&session.refresh().unwrap());
}
