//! The errors of system calls in words: what the kernel says, its name, and what to do.

use std::io;

use nix::errno::Errno;

/// The error without its number, with advice where there is any.
pub(crate) fn told(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return error.to_string() };
    let errno = Errno::from_raw(number);
    let (text, name) = (errno.desc(), format!("{errno:?}"));
    match advice(errno) {
        Some(advice) => format!("{text} ({name}); {advice}"),
        None => format!("{text} ({name})"),
    }
}

/// What this process or this machine has too little of. It is nobody else's fault.
const SHORTAGES: [Errno; 6] =
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN, Errno::ENOSPC, Errno::EDQUOT];

/// Whether a text tells such an error, in the words of [`told`]. Processes read the failures of others as texts.
pub(crate) fn names_shortage(text: &str) -> bool {
    SHORTAGES.iter().any(|errno| text.contains(&format!("({errno:?})")))
}

fn advice(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ENOSYS => {
            "this kernel, or the sandbox around the process, lacks the system call; allow it there"
        }
        Errno::EPERM | Errno::EACCES => {
            "a permission is missing, or a sandbox (seccomp, SELinux, AppArmor) forbids it"
        }
        Errno::EMFILE => {
            "the process has too many open files; raise its limit (RLIMIT_NOFILE, `ulimit -n`)"
        }
        Errno::ENFILE => "the system has too many open files; raise `fs.file-max`",
        Errno::ENOMEM => {
            "raise the memory limit of the container (cgroup) or of the process (RLIMIT_AS)"
        }
        Errno::ENOSPC | Errno::EDQUOT => {
            "make room in that file system, mount a larger one (`--shm-size` for a container), or give another directory \
             (SHMCREDS_DIR)"
        }
        Errno::EROFS => "mount it writable, or give another directory on a tmpfs (SHMCREDS_DIR)",
        Errno::EAGAIN => {
            "raise the limit of processes and threads (RLIMIT_NPROC, `pids.max` of the cgroup)"
        }
        Errno::ENOENT => "it does not exist here",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_name_and_no_number() {
        for errno in [Errno::ENOSYS, Errno::EPERM, Errno::EMFILE, Errno::EIO] {
            let text = told(&io::Error::from(errno));
            assert!(text.contains(&format!("({errno:?})")) && !text.contains("os error"), "{text}");
        }
        assert_eq!(told(&io::Error::other("as it is")), "as it is");
    }

    #[test]
    fn a_shortage_is_named_in_the_text() {
        for (errno, is) in
            [(Errno::EMFILE, true), (Errno::ENOMEM, true), (Errno::ECONNREFUSED, false)]
        {
            assert_eq!(names_shortage(&told(&io::Error::from(errno))), is, "{errno:?}");
        }
    }
}
