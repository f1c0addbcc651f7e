//! The kernel, and the system calls that it or a sandbox may lack.

use super::{Finding, Level, fault, finding, ok, read};
use crate::{errno, sys::probe};

/// A system call, from which kernel on it exists, and what is lost without it.
struct Need {
    call: &'static str,
    since: &'static str,
    lost: &'static str,
    level: Level,
}

const NEEDS: [Need; 9] = [
    Need {
        call: "fcntl F_OFD_SETLK",
        since: "3.15",
        lost: "no session can be created or opened",
        level: Level::Fault,
    },
    Need {
        call: "memfd_create",
        since: "3.17",
        lost: "sealed sessions, and sessions where no directory can hold one",
        level: Level::Note,
    },
    Need {
        call: "madvise MADV_WIPEONFORK",
        since: "4.14",
        lost: "a raw clone without fork handlers is not noticed",
        level: Level::Note,
    },
    Need {
        call: "fcntl F_SEAL_FUTURE_WRITE",
        since: "5.1",
        lost: "sealed sessions",
        level: Level::Note,
    },
    Need {
        call: "pidfd_open",
        since: "5.3",
        lost: "nothing but time: a death is noticed up to a second later",
        level: Level::Note,
    },
    Need {
        call: "openat2",
        since: "5.6",
        lost: "nothing: paths are opened part by part",
        level: Level::Ok,
    },
    Need { call: "memfd_secret", since: "5.14", lost: "secret memory", level: Level::Note },
    Need {
        call: "fallocate",
        since: "2.6.23",
        lost: "nothing: memory is reserved by writing to it",
        level: Level::Ok,
    },
    Need {
        call: "getrandom",
        since: "3.17",
        lost: "no session can be created",
        level: Level::Fault,
    },
];

pub(super) fn look(findings: &mut Vec<Finding>) {
    let release = probe::release();
    findings.push(ok("kernel", format!("Linux {release}"), "older kernels lack system calls"));
    for (call, outcome) in probe::calls() {
        let Some(need) = NEEDS.iter().find(|need| need.call == call) else { continue };
        let why = format!("without it: {}", need.lost);
        findings.push(match outcome {
            Ok(()) => ok(call, "works", &why),
            Err(error) => {
                let found = format!("does not work: {}", errno::told(&error.into()));
                let advice = match need.level {
                    Level::Ok => String::new(),
                    _ => format!("allow it in the sandbox, or use Linux {} or later", need.since),
                };
                finding(need.level, call, found, &why, &advice)
            }
        });
    }
    findings.push(proc());
}

fn proc() -> Finding {
    let why = "an eager session counts threads there and opens its lock file again; deaths are told apart by it";
    match read("/proc/self/stat") {
        Some(_) => ok("/proc", "is mounted", why),
        None => fault(
            "/proc",
            "is missing",
            "sealed sessions need it, and sessions that no directory can hold",
            "mount /proc (mount -t proc proc /proc)",
        ),
    }
}
