//! Whether memory with secrets can get to a disk or into other hands.

use nix::sys::resource::{Resource, getrlimit};

use super::{Finding, note, ok, read};
use crate::segment;

pub(super) fn look(findings: &mut Vec<Finding>) {
    findings.push(locked());
    findings.push(swap());
    findings.push(cores());
    findings.push(ptrace());
}

fn locked() -> Finding {
    let (subject, why) = ("locked memory", "a locked segment never reaches swap");
    let advice = "raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK= of systemd)";
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if limit >= segment::BYTES => ok(subject, limit_text(limit), why),
        Ok((limit, _)) => note(subject, limit_text(limit), why, advice),
        Err(errno) => note(subject, format!("the limit is not told ({errno:?})"), why, ""),
    }
}

fn limit_text(limit: u64) -> String {
    match limit {
        nix::libc::RLIM_INFINITY => "no limit".to_owned(),
        limit => format!("{limit} bytes may be locked in each process"),
    }
}

fn swap() -> Finding {
    let (subject, why) =
        ("swap", "memory that is not locked, such as copies on the heap, can be written there");
    match read("/proc/swaps") {
        Some(swaps) if swaps.lines().count() > 1 => {
            let text = format!("{} in use", swaps.lines().count() - 1);
            note(subject, text, why, "encrypt it, or turn it off (swapoff -a)")
        }
        Some(_) => ok(subject, "none", why),
        None => note(subject, "not told: /proc/swaps cannot be read", why, ""),
    }
}

fn cores() -> Finding {
    let subject = "core dumps";
    let why = "a process that asks the source itself has copies of secrets on its heap, which a core dump contains";
    let limit = getrlimit(Resource::RLIMIT_CORE).map_or(0, |(soft, _)| soft);
    let pattern = read("/proc/sys/kernel/core_pattern").unwrap_or_default();
    // A limit of 0 does not keep the kernel from starting a program; 1 does.
    match pattern.starts_with('|') || limit > 0 {
        false => ok(subject, "none are written", why),
        true => {
            let to =
                if pattern.starts_with('|') { "a program gets them" } else { "files are written" };
            let text = format!("{to} (core_pattern {:?})", pattern.split(' ').next().unwrap_or(""));
            note(
                subject,
                text,
                why,
                "use an eager session, whose refresher dumps no core, or set RLIMIT_CORE to 0",
            )
        }
    }
}

fn ptrace() -> Finding {
    let subject = "ptrace_scope";
    let why =
        "every process of this user can read the memory of the others, where the kernel lets it";
    match read("/proc/sys/kernel/yama/ptrace_scope").as_deref() {
        Some("0") | None => ok(subject, "processes of one user may trace each other", why),
        Some(scope) => ok(subject, format!("restricted ({scope})"), why),
    }
}
