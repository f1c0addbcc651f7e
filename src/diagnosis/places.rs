//! The directories that may hold a session.

use super::{Finding, fault, note, ok};
use crate::{
    error::ErrorKind,
    segment::{self, Places},
};

const SUBJECT: &str = "directory";
const WHY: &str = "processes find a session by its name there; its file system must be memory";

pub(super) fn look(findings: &mut Vec<Finding>) {
    let places = match Places::new(None, false) {
        Ok(places) => places,
        Err(problem) => {
            let advice = "give an absolute path, or unset SHMCREDS_DIR";
            return findings.push(fault(SUBJECT, problem.message, WHY, advice));
        }
    };
    let mut usable = false;
    for path in places.directories() {
        let found = look_at(&places, path, usable);
        usable |= found.as_ref().is_some_and(|(_, usable)| *usable);
        findings.extend(found.map(|(finding, _)| finding));
    }
    if !usable && !places.is_chosen() {
        findings.push(note(
            SUBJECT,
            "none can hold a session",
            "`exec` and forked workers use memory files; `serve`, `attach_or_create()` and processes that attach by name \
             need a directory",
            "mount a tmpfs, and name it in SHMCREDS_DIR",
        ));
    }
}

/// What was found, and whether a session can be there. `None` for a directory that nobody needs.
fn look_at(places: &Places, path: &str, have_another: bool) -> Option<(Finding, bool)> {
    let checked = places.check(path).and_then(|()| places.facts(path));
    let facts = match checked {
        Ok(facts) => facts,
        Err(problem) if problem.kind == ErrorKind::NoSpace && have_another => return None,
        Err(problem) if problem.kind == ErrorKind::NoSpace => {
            return Some((note(SUBJECT, problem.message, WHY, ""), false));
        }
        Err(problem) => {
            let advice = "mount a tmpfs there, or give another directory (SHMCREDS_DIR)";
            return Some((fault(SUBJECT, problem.message, WHY, advice), false));
        }
    };
    let kib = |bytes: u64| bytes / 1024;
    let text = format!(
        "{path} is on {}, mode {:04o}, {} KiB of {} KiB free",
        facts.kind,
        facts.mode,
        kib(facts.free),
        kib(facts.size)
    );
    let needed = segment::BYTES;
    if let Some(disk) = facts.disk {
        let why =
            format!("secrets are in files on {disk}: SHMCREDS_DANGEROUS_SECRETS_ON_DISK allows it");
        let advice = "give a directory on a tmpfs (SHMCREDS_DIR), and unset that variable";
        return Some((fault(SUBJECT, text, &why, advice), true));
    }
    if !facts.writable {
        let advice = "mount it writable, or give another directory (SHMCREDS_DIR)";
        let text = format!("{text}, and this process may not write to it");
        return Some((problem(places, text, advice), false));
    }
    if facts.size != 0 && facts.free < needed {
        let text = format!("{text}; a session needs {} KiB", needed.div_ceil(1024));
        let advice = "make room, or mount it larger (`--shm-size` for a container)";
        return Some((problem(places, text, advice), false));
    }
    Some((ok(SUBJECT, text, WHY), true))
}

/// A fault where the directory was chosen. Otherwise another one, or memory files, take its place.
fn problem(places: &Places, text: String, advice: &str) -> Finding {
    match places.is_chosen() {
        true => fault(SUBJECT, text, WHY, advice),
        false => note(SUBJECT, text, WHY, advice),
    }
}
