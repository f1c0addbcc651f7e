//! Sessions of this user that no process uses.

use super::{Finding, note, ok};
use crate::{
    name::SessionName,
    segment::{self, Places},
    session::SharedSession,
};

pub(super) fn look(findings: &mut Vec<Finding>) {
    let (subject, why) =
        ("sessions", "killed processes leave names; the next `create` of the name replaces them");
    let names = match SharedSession::list() {
        Ok(names) => names,
        Err(error) => {
            let text = format!("cannot be listed: {error}");
            return findings.push(note(subject, text, why, "see the line on the directory"));
        }
    };
    let (used, left): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| is_used(name));
    findings.push(ok(subject, format!("{} in use", used.len()), why));
    for name in left {
        let text = format!("{name:?} is left, and no process that this one can see has it open");
        findings.push(note(subject, text, why, &format!("shmcreds remove {name}")));
    }
}

fn is_used(name: &str) -> bool {
    let (Ok(name), Ok(places)) = (SessionName::new(name), Places::new(None, false)) else {
        return false;
    };
    places.with_leftovers(&name).any(|name| segment::user_of(&name).is_some())
}
