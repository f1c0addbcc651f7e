//! A status as one line for people, and, with the feature `serde`, as a map for programs.

use std::fmt;

use super::{
    fleet_status::{FleetRole, FleetStatus},
    status::Status,
};

/// One line: the state, the set, when it is refreshed and expires, and the last failure.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, generation {}", self.state().as_str(), self.generation())?;
        if let Some(tail) = self.access_key_tail() {
            let (refresh, expiry) = (self.refresh_in().as_secs(), self.expires_in().as_secs());
            write!(f, ", key …{tail}, refresh in {refresh} s, expires in {expiry} s")?;
        }
        if let Some(last) = self.last_failure() {
            let next = last.next_attempt_in().as_secs_f64();
            write!(f, "; last failure: {}; next attempt in {next:.1} s", last.failure())?;
        }
        if self.lease_holder().is_some_and(|holder| !holder.is_visible()) {
            f.write_str("; this process cannot see the one that refreshes")?;
        }
        if let Some(fleet) = self.fleet() {
            write!(f, "; {fleet}")?;
        }
        if self.directory().is_none() {
            f.write_str("; in memory files, without a name")?;
        }
        if let Some(warning) = self.consumers_warning() {
            write!(f, "; {warning}")?;
        }
        if let Some(disk) = self.disk() {
            write!(f, "; SECRETS ON A DISK: {disk}")?;
        }
        Ok(())
    }
}

/// One line: the store, the role, and the counts.
impl fmt::Display for FleetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FleetStatus { store, latency, role, permits, refused, local_share, .. } = self;
        let milliseconds = latency.as_secs_f64() * 1e3;
        write!(f, "fleet: its store {} ({milliseconds:.1} ms)", store.as_str())?;
        let FleetStatus { taken, given, unusable, .. } = self;
        if *role != FleetRole::None {
            write!(f, ", {}", role.as_str())?;
        }
        if *role != FleetRole::None || *unusable > 0 {
            write!(f, ", sets taken {taken}, given {given}, unusable {unusable}")?;
        }
        write!(f, ", permits {permits}, refused {refused}, by the local share {local_share}")
    }
}

#[cfg(feature = "serde")]
mod map {
    use std::collections::BTreeMap;

    use aws_smithy_types::{DateTime, date_time::Format};
    use serde::{Serialize, Serializer, ser::SerializeMap};

    use super::Status;
    use crate::session::{FleetStatus, LastFailure, LeaseHolder, Refresh};

    /// A map of what the methods tell. Durations are seconds, points in time are RFC 3339.
    impl Serialize for Status {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let by_class: BTreeMap<_, _> =
                self.failed_by_class().map(|(class, count)| (class.as_str(), count)).collect();
            let mode = if self.mode() == Refresh::Eager { "eager" } else { "deferred" };
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("source", self.source())?;
            map.serialize_entry("mode", mode)?;
            map.serialize_entry("state", self.state().as_str())?;
            map.serialize_entry("generation", &self.generation())?;
            map.serialize_entry("access_key_tail", &self.access_key_tail())?;
            map.serialize_entry("expires_in_seconds", &self.expires_in().as_secs_f64())?;
            map.serialize_entry("refresh_in_seconds", &self.refresh_in().as_secs_f64())?;
            map.serialize_entry("clock_skew_seconds", &self.clock_skew_seconds())?;
            map.serialize_entry("age_seconds", &self.age().map(|age| age.as_secs_f64()))?;
            map.serialize_entry("refresher", &self.lease_holder())?;
            map.serialize_entry("source_calls", &self.source_calls())?;
            map.serialize_entry("published", &self.published())?;
            map.serialize_entry("failed", &self.failed())?;
            map.serialize_entry("failed_by_class", &by_class)?;
            map.serialize_entry("takeovers", &self.takeovers())?;
            map.serialize_entry("invalidations", &self.invalidations())?;
            map.serialize_entry("early_refreshes", &self.early_refreshes())?;
            map.serialize_entry("consumers_keep_seconds", &self.consumers_keep().as_secs())?;
            map.serialize_entry("consumers_warning", &self.consumers_warning())?;
            map.serialize_entry("last_failure", &self.last_failure())?;
            map.serialize_entry("fleet", &self.fleet())?;
            map.serialize_entry("locked_in_ram", &self.locked_in_ram())?;
            map.serialize_entry("directory", &self.directory())?;
            map.serialize_entry("disk", &self.disk())?;
            map.end()
        }
    }

    impl Serialize for FleetStatus {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(10))?;
            map.serialize_entry("store", self.store.as_str())?;
            map.serialize_entry("latency_seconds", &self.latency.as_secs_f64())?;
            map.serialize_entry("asked_seconds_ago", &self.asked.as_secs_f64())?;
            map.serialize_entry("role", self.role.as_str())?;
            map.serialize_entry("permits", &self.permits)?;
            map.serialize_entry("refused", &self.refused)?;
            map.serialize_entry("local_share", &self.local_share)?;
            map.serialize_entry("sets_taken", &self.taken)?;
            map.serialize_entry("sets_given", &self.given)?;
            map.serialize_entry("sets_unusable", &self.unusable)?;
            map.end()
        }
    }

    impl Serialize for LeaseHolder {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(5))?;
            map.serialize_entry("pid", &self.pid())?;
            map.serialize_entry("alive", &self.is_alive())?;
            map.serialize_entry("visible", &self.is_visible())?;
            map.serialize_entry("elected_for_seconds", &self.elected_for().as_secs_f64())?;
            map.serialize_entry("lease_left_seconds", &self.lease_left().as_secs_f64())?;
            map.end()
        }
    }

    impl Serialize for LastFailure {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let at = DateTime::from(self.at()).fmt(Format::DateTime).ok();
            let mut map = serializer.serialize_map(Some(8))?;
            map.serialize_entry("class", self.failure().class().as_str())?;
            map.serialize_entry("code", &self.failure().code())?;
            map.serialize_entry("request_id", &self.failure().request_id())?;
            map.serialize_entry("http_status", &self.failure().http_status())?;
            map.serialize_entry("message", self.failure().message())?;
            map.serialize_entry("at", &at)?;
            map.serialize_entry("in_a_row", &self.in_a_row())?;
            map.serialize_entry("next_attempt_in_seconds", &self.next_attempt_in().as_secs_f64())?;
            map.end()
        }
    }
}
