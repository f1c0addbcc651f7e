//! Limits of this process that decide whether a session can be made.

use nix::sys::resource::{Resource, getrlimit};

use super::{Finding, fault, note, ok};
use crate::segment;

/// `exec` and servers were tried with this limit.
const OPEN_FILES: u64 = 64;

pub(super) fn look(findings: &mut Vec<Finding>) {
    findings.push(file_size());
    findings.push(open_files());
}

fn file_size() -> Finding {
    let (subject, why) = ("file size", "a segment is a file in memory");
    let advice = "raise RLIMIT_FSIZE (`ulimit -f`, LimitFSIZE= of systemd)";
    match limit(Resource::RLIMIT_FSIZE) {
        None => ok(subject, "no limit", why),
        Some(limit) if limit >= segment::BYTES => ok(subject, format!("{limit} bytes"), why),
        Some(limit) => {
            let text = format!("{limit} bytes, and a session needs {} bytes", segment::BYTES);
            fault(subject, text, why, advice)
        }
    }
}

fn open_files() -> Finding {
    let (subject, why) =
        ("open files", "a refresh needs descriptors for its async runtime and its connections");
    match limit(Resource::RLIMIT_NOFILE) {
        None => ok(subject, "no limit", why),
        Some(limit) if limit >= OPEN_FILES => ok(subject, limit.to_string(), why),
        Some(limit) => {
            let text = format!("{limit}, and fewer than {OPEN_FILES} were not tried");
            note(subject, text, why, "raise RLIMIT_NOFILE (`ulimit -n`, LimitNOFILE= of systemd)")
        }
    }
}

/// `None` without a limit. A limit that the kernel does not tell may be none.
fn limit(resource: Resource) -> Option<u64> {
    let (limit, _) = getrlimit(resource).ok()?;
    (limit != nix::libc::RLIM_INFINITY).then_some(limit)
}
