//! `status`: the state of sessions, for people and for programs.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use serde_json::{Value, json};
use shmcreds::{ErrorKind, LeaseHolder, SharedSession, State, Status};

use crate::{
    command_error::{CommandError, Doing},
    log,
    roles_status::{self, Sort},
};

const ABSENT: u8 = 3;
/// A damaged session has the exit code of an empty one.
const UNREADABLE: u8 = 2;

/// How the entries of a pool are shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    pub(crate) sort: Sort,
    /// A text that they contain.
    pub(crate) filter: String,
}

pub(crate) fn run(
    name: Option<&str>,
    json: bool,
    entries: &Entries,
) -> Result<ExitCode, CommandError> {
    if let Some(name) = name
        && let Ok(Some(pool)) = roles_status::find(name)
    {
        let text = match json {
            true => format!("{}\n", pool.json(name, entries.sort, &entries.filter)),
            false => pool.table(name, entries.sort, &entries.filter),
        };
        crate::write(&text)?;
        return Ok(ExitCode::from(pool.severity()));
    }
    let names = name.map_or_else(SharedSession::list, |name| Ok(vec![name.to_owned()]));
    let names = names.doing("listing the sessions")?;
    let mut code = 0;
    let mut all = Vec::new();
    let mut pools = String::new();
    let mut objects = Vec::new();
    for name in names {
        if let Ok(Some(pool)) = roles_status::find(&name) {
            code = code.max(pool.severity());
            pools += &format!("{}\n", pool.summary(&name));
            objects.push(pool.json(&name, entries.sort, &entries.filter));
            continue;
        }
        match SharedSession::attach(&name).and_then(|session| session.status()) {
            Ok(status) => {
                code = code.max(severity(&status));
                objects.push(object(&name, &status));
                all.push((name, status));
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error.into()),
            Err(error) => {
                let absent = error.kind() == ErrorKind::Absent;
                code = code.max(if absent { ABSENT } else { UNREADABLE });
                let state = if absent { "absent" } else { "unreadable" };
                objects.push(json!({"name": name, "state": state, "error": error.to_string()}));
                log::say(&error.to_string());
            }
        }
    }
    let text = match (json, name) {
        (true, Some(_)) => objects.iter().map(|one| format!("{one}\n")).collect(),
        (true, None) => format!("{}\n", Value::from(objects)),
        (false, _) if all.is_empty() => pools,
        (false, _) => table(&all) + &pools,
    };
    if text.is_empty() && code == 0 {
        log::say("this user has no session");
    }
    crate::write(&text)?;
    Ok(ExitCode::from(code))
}

/// The exit code: 0 fresh, 1 degraded, 2 expired or empty.
pub(crate) fn severity(status: &Status) -> u8 {
    let works = status.lease_holder().is_none_or(|one| one.is_alive() && holds_its_lease(one));
    match status.state() {
        State::Expired | State::Empty => 2,
        State::Mandatory => 1,
        _ => u8::from(!works || status.last_failure().is_some()),
    }
}

fn holds_its_lease(refresher: &LeaseHolder) -> bool {
    !refresher.lease_left().is_zero()
}

/// The refresher's pid, and its problem if there is one.
pub(crate) fn refresher(status: &Status) -> String {
    match status.lease_holder() {
        None => "none".to_owned(),
        Some(one) if !one.is_alive() => format!("{} (dead)", one.pid()),
        Some(one) if !holds_its_lease(one) => format!("{} (hangs)", one.pid()),
        // Its pid is that of another pid namespace.
        Some(one) if !one.is_visible() => format!("{} (unseen)", one.pid()),
        Some(one) => one.pid().to_string(),
    }
}

fn object(name: &str, status: &Status) -> Value {
    let mut object = json!({ "name": name });
    if let (Some(object), Ok(Value::Object(rest))) =
        (object.as_object_mut(), serde_json::to_value(status))
    {
        object.extend(rest);
    }
    object
}

/// A heading and one line for each session. In colour on a terminal.
fn table(all: &[(String, Status)]) -> String {
    let colour = std::io::stdout().is_terminal() && colour_is_wanted();
    let heading =
        ["NAME", "STATE", "GEN", "KEY", "EXPIRES IN", "REFRESH IN", "REFRESHER", "CALLS", "FAILED"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(all.iter().map(|(name, status)| cells(name, status)));
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padded = format!("{cell:width$}  ");
            let paint = colour && number > 0 && column == 1;
            line += &if paint { painted(&padded, &all[number - 1].1) } else { padded };
        }
        text += line.trim_end();
        text.push('\n');
        if let Some(last) = number.checked_sub(1).and_then(|n| all[n].1.last_failure()) {
            let next = short(last.next_attempt_in());
            text += &format!(
                "  last failure ({}): {}; next attempt in {next}\n",
                last.failure().class(),
                last.failure()
            );
        }
        if let Some(fleet) = number.checked_sub(1).and_then(|n| all[n].1.fleet()) {
            text += &format!("  {fleet}\n");
        }
        if let Some(status) = number.checked_sub(1).map(|n| &all[n].1) {
            text += &place(status);
            if let Some(warning) = status.consumers_warning() {
                text += &format!("  {warning}\n");
            }
        }
    }
    text
}

/// A line about the directory of the session, if it is an unusual one.
fn place(status: &Status) -> String {
    match (status.disk(), status.directory()) {
        (Some(disk), _) => format!("  SECRETS ON A DISK: {disk}\n"),
        (None, None) => {
            "  in memory files, without a name: only processes that inherited it can use it\n"
                .to_owned()
        }
        (None, Some(_)) => String::new(),
    }
}

/// Whether colour is wanted: `NO_COLOR` turns it off.
pub(crate) fn colour_is_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn painted(text: &str, status: &Status) -> String {
    let colour = match severity(status) {
        0 => 32,
        1 => 33,
        _ => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

fn cells(name: &str, status: &Status) -> [String; 9] {
    [
        name.to_owned(),
        status.state().as_str().to_owned(),
        status.generation().to_string(),
        status.access_key_tail().map_or("-".to_owned(), |tail| format!("…{tail}")),
        short(status.expires_in()),
        short(status.refresh_in()),
        refresher(status),
        status.source_calls().to_string(),
        status.failed().to_string(),
    ]
}

/// `59m 59s`
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds}s"),
        _ => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let cases = [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (43_200, "12h 0m")];
        for (seconds, text) in cases {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
