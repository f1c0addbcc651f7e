//! `status NAME` of a pool of roles: a table of its entries, for people and for programs.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use shmcreds::{Fingerprint, RoleStatus, RolesStatus, SharedRoles, State};

use crate::{
    command_error::CommandError, role_book::hex, role_service::LIST, same_user, status::short,
};

/// The digits of a key that people see.
const KEY_DIGITS: usize = 8;

/// By what the entries are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// By name, and by ARN where no name is known.
    #[default]
    Role,
    /// The worst first.
    State,
    /// What expires next first.
    Expiry,
    /// Those that fail first, the newest failure at the top.
    Failure,
    /// What was used last first.
    Use,
}

impl Sort {
    /// The next one, for a key of the keyboard.
    #[cfg(feature = "watch")]
    pub(crate) fn next(self) -> Self {
        let all = Sort::value_variants();
        let place = all.iter().position(|one| *one == self).unwrap_or(0);
        all[(place + 1) % all.len()]
    }

    /// Its name on the command line.
    #[cfg(feature = "watch")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sort::Role => "role",
            Sort::State => "state",
            Sort::Expiry => "expiry",
            Sort::Failure => "failure",
            Sort::Use => "use",
        }
    }
}

/// A pool at one moment, with the names of its roles.
pub(crate) struct Pool {
    pub(crate) status: RolesStatus,
    /// By the key. Empty when no process of this user serves the pool.
    names: BTreeMap<String, String>,
}

impl Pool {
    pub(crate) fn look(name: &str) -> Result<Self, shmcreds::Error> {
        let status = SharedRoles::attach(name)?.status()?;
        let names = same_user::ask(name, LIST).unwrap_or_default();
        let pairs = names.as_object().into_iter().flatten();
        let pair = |(name, key): (&String, &Value)| Some((key.as_str()?.to_owned(), name.clone()));
        Ok(Pool { status, names: pairs.filter_map(pair).collect() })
    }

    fn name_of(&self, key: &Fingerprint) -> Option<&str> {
        self.names.get(&hex(key)).map(String::as_str)
    }

    /// 0: all is well; 1: roles fail, or their sets are about to expire. Roles that nobody uses expire, so that is well.
    pub(crate) fn severity(&self) -> u8 {
        let fails = |entry: &RoleStatus| {
            entry.status().last_failure().is_some() || entry.status().state() == State::Mandatory
        };
        u8::from(self.status.entries().iter().any(fails))
    }

    /// One line about the pool.
    pub(crate) fn summary(&self, name: &str) -> String {
        let status = &self.status;
        let states = State::all().map(|state| (state.as_str(), status.count(state)));
        let states = states.filter(|(_, count)| *count > 0);
        let states: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).collect();
        let (used, capacity) = (status.entries().len(), status.capacity());
        let expiry = status.soonest_expiry().map_or("-".to_owned(), short);
        format!(
            "{name}: a pool with {used} of {capacity} roles ({}); soonest expiry {expiry}; {} calls of STS, {} throttled; \
             budget of {} calls a second used by {:.0} %; {} evictions",
            states.join(", "),
            status.source_calls(),
            status.throttles(),
            status.calls_per_second(),
            status.budget_used() * 100.0,
            status.evictions(),
        )
    }

    /// The entries that contain the `filter`, in order.
    pub(crate) fn entries(&self, sort: Sort, filter: &str) -> Vec<&RoleStatus> {
        let filter = filter.to_lowercase();
        let fits = |entry: &&RoleStatus| {
            filter.is_empty()
                || self.cells(entry).iter().any(|cell| cell.to_lowercase().contains(&filter))
        };
        let mut entries: Vec<_> = self.status.entries().iter().filter(fits).collect();
        entries.sort_by_cached_key(|entry| {
            let by = match sort {
                Sort::Role => 0,
                Sort::State => rank(entry.status().state()),
                Sort::Expiry => nanos(entry.status().expires_in()),
                Sort::Use => nanos(entry.used_before()),
                Sort::Failure => failed_ago(entry).unwrap_or(u64::MAX),
            };
            let name = self.name_of(entry.key()).map(str::to_owned);
            (by, Reverse(name.is_some()), name, entry.arn().map(str::to_owned), *entry.key())
        });
        entries
    }

    /// The cells of an entry, in the order of [`HEADING`].
    pub(crate) fn cells(&self, entry: &RoleStatus) -> [String; COLUMNS] {
        let status = entry.status();
        let failure = status.last_failure().map_or_else(String::new, |last| {
            let what = last.failure().code().unwrap_or(last.failure().class().as_str());
            format!("{what}, next attempt in {}", short(last.next_attempt_in()))
        });
        [
            self.name_of(entry.key()).unwrap_or("-").to_owned(),
            entry.arn().unwrap_or("-").to_owned(),
            hex(entry.key())[..KEY_DIGITS].to_owned(),
            status.state().as_str().to_owned(),
            short(status.expires_in()),
            short(status.refresh_in()),
            used(entry.used_before()),
            status.source_calls().to_string(),
            status.failed().to_string(),
            failure,
        ]
    }

    pub(crate) fn json(&self, name: &str, sort: Sort, filter: &str) -> Value {
        let status = &self.status;
        let counts =
            State::all().map(|state| (state.as_str().to_owned(), status.count(state).into()));
        let entry = |entry: &&RoleStatus| {
            let mut object = Map::new();
            object.insert("role".into(), self.name_of(entry.key()).into());
            object.insert("arn".into(), entry.arn().into());
            object.insert("key".into(), hex(entry.key()).into());
            object.insert("used_seconds_ago".into(), entry.used_before().as_secs().into());
            if let Ok(Value::Object(rest)) = serde_json::to_value(entry.status()) {
                // What belongs to the whole pool is not told for each entry.
                let of_the_pool = ["source", "mode", "fleet", "locked_in_ram", "directory", "disk"];
                object.extend(rest.into_iter().filter(|(name, _)| !of_the_pool.contains(&&**name)));
            }
            Value::Object(object)
        };
        json!({
            "name": name,
            "kind": "pool",
            "capacity": status.capacity(),
            "states": counts.collect::<Map<String, Value>>(),
            "calls_per_second": status.calls_per_second(),
            "budget_used": status.budget_used(),
            "budget_queue_seconds": status.budget_queue().as_secs_f64(),
            "soonest_expiry_seconds": status.soonest_expiry().map(|left| left.as_secs_f64()),
            "source_calls": status.source_calls(),
            "throttles": status.throttles(),
            "insertions": status.insertions(),
            "evictions": status.evictions(),
            "refusals": status.refusals(),
            "rebuilds": status.rebuilds(),
            "entries": self.entries(sort, filter).iter().map(entry).collect::<Vec<_>>(),
        })
    }

    /// The summary, a heading and a line for each entry.
    pub(crate) fn table(&self, name: &str, sort: Sort, filter: &str) -> String {
        let entries = self.entries(sort, filter);
        let mut text = self.summary(name) + "\n";
        if !entries.is_empty() {
            let rows: Vec<_> = entries.iter().map(|entry| self.cells(entry)).collect();
            text += &lines(&rows).into_iter().map(|line| line + "\n").collect::<String>();
        }
        text
    }
}

const COLUMNS: usize = 10;
const HEADING: [&str; COLUMNS] = [
    "ROLE",
    "ARN",
    "KEY",
    "STATE",
    "EXPIRES IN",
    "REFRESH IN",
    "USED",
    "CALLS",
    "FAILED",
    "LAST FAILURE",
];

/// The heading and the rows, in columns.
pub(crate) fn lines(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let heading = HEADING.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    all().map(line).collect()
}

/// The pool `name`; `None` if the name is that of a session.
///
/// # Errors
/// What is wrong with the pool.
pub(crate) fn find(name: &str) -> Result<Option<Pool>, CommandError> {
    match Pool::look(name) {
        Ok(pool) => Ok(Some(pool)),
        Err(error) if error.kind() == shmcreds::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// About how long ago, in minutes: that is how exactly the pool notes it.
fn used(before: Duration) -> String {
    match before.as_secs() / 60 {
        0 => "now".to_owned(),
        _ => format!("{} ago", short(before)),
    }
}

/// How long ago the role failed.
fn failed_ago(entry: &RoleStatus) -> Option<u64> {
    let at = entry.status().last_failure()?.at();
    Some(nanos(at.elapsed().unwrap_or_default()))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn rank(state: State) -> u64 {
    match state {
        State::Mandatory => 0,
        State::Expired => 1,
        State::Empty => 2,
        State::Advisory => 3,
        _ => 4,
    }
}
