//! Small worlds: a mount namespace of a process's own, and system calls that fail.
#![allow(dead_code, unsafe_code)]

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};

/// Gives this process mounts of its own; as a normal user also a user namespace in which it is root. False where the
/// machine does not allow it.
pub fn own_mounts() -> bool {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWNS;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    if unshare(flags).is_err() {
        return false;
    }
    if !uid.is_root() {
        let write = |file: &str, text: String| std::fs::write(format!("/proc/self/{file}"), text);
        write("setgroups", "deny".to_owned()).unwrap();
        write("uid_map", format!("{uid} {uid} 1")).unwrap();
        write("gid_map", format!("{gid} {gid} 1")).unwrap();
    }
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok()
}

/// Mounts an empty tmpfs at `path`.
pub fn tmpfs(path: &str, flags: MsFlags, options: &str) {
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).unwrap();
}

/// Mounts the directory `from` at `path`.
pub fn bind(from: &str, path: &str) {
    mount(Some(from), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// A system call that fails, and with which error; only where its argument of that index has that value.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub call: libc::c_long,
    pub argument: Option<(u32, u32)>,
    pub errno: Errno,
}

impl Refusal {
    pub fn of(call: libc::c_long, errno: Errno) -> Self {
        Refusal { call, argument: None, errno }
    }
}

/// Makes the system calls fail in this process, and in all that it starts.
pub fn refuse(refusals: &[Refusal]) {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = Vec::new();
    for refusal in refusals {
        let fail = step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | refusal.errno as u32);
        filter.push(step(LOAD, 0, 0, 0));
        let call = u32::try_from(refusal.call).unwrap();
        match refusal.argument {
            None => filter.extend([step(JUMP_IF_EQUAL, 0, 1, call), fail]),
            Some((index, value)) => filter.extend([
                step(JUMP_IF_EQUAL, 0, 3, call),
                // The low half of the argument.
                step(LOAD, 0, 0, 16 + 8 * index),
                step(JUMP_IF_EQUAL, 0, 1, value),
                fail,
            ]),
        }
    }
    filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program =
        libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: a call without pointers.
    let no_new = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program lives as long as the call.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &program) };
    assert_eq!((no_new, filtered), (0, 0), "{}", std::io::Error::last_os_error());
}

/// The calls that are later than Linux 4.18 or so: pidfd_open, clone3, close_range, openat2, memfd_secret, ….
pub fn later_than(first: libc::c_long, errno: Errno) -> Vec<Refusal> {
    // glibc starts no thread where clone3 fails otherwise than with ENOSYS.
    let error = |call| if call == libc::SYS_clone3 { Errno::ENOSYS } else { errno };
    (first..470).map(|call| Refusal::of(call, error(call))).collect()
}
