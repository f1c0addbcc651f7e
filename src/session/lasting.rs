//! A set that is valid for long enough: for a URL that is presigned, or a program that cannot change its keys.

use std::{sync::Arc, time::Duration};

use super::{
    Election, SharedSession,
    asynchronous::on_thread,
    inner::Inner,
    look::SetSnapshot,
    snapshot::{Phase, Snapshot},
    timing::Limit,
    wait::{Aim, End, Need},
};
use crate::{
    clock::as_nanos,
    error::{Error, ErrorKind, Fault},
    refresh::policy,
};

/// Sets of an hour live a moment less: a source tells whole seconds, and its answer takes time. A caller who asks for an hour
/// of them asks for the whole life.
const LEEWAY: Duration = Duration::from_secs(10);

/// What a set is to a caller that needs it for some time.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is valid for long enough, or for as long as callers may have it now.
    Usable,
    /// A new set would be valid for long enough.
    Short,
    /// No set of this source lives so long.
    TooShort,
}

impl SharedSession {
    /// A set that is valid for at least `duration` from now: for what dies with the set that signed it, such as a
    /// presigned URL, or a program that keeps the keys. If the current set is valid for less, one process fetches a new
    /// one for all, although it is not due yet. Callers that ask meanwhile wait for that set.
    ///
    /// A source gives sets of one life, `L`: what the newest set had when it was fetched. Role sessions live as long as
    /// the role's `duration` says.
    ///
    /// | `duration` | this gives |
    /// | --- | --- |
    /// | up to 7/8 of `L` | a set that is valid for `duration` |
    /// | more, up to `L` and 10 s | such a set as far as it lives, unless the newest one is younger than `L`/8: then that one, which is valid for at least 7/8 of `L` |
    /// | more | [`TooShort`](ErrorKind::TooShort), without a call of the source |
    ///
    /// So callers cause at most eight calls in `L`, however many ask, and for however long.
    /// [`expires_in`](SetSnapshot::expires_in) tells how long the set is valid.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{ErrorKind, Provider, SharedSession};
    /// # let make = || async {
    /// #     let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
    /// # };
    /// # let name = format!("doc-valid-for-{}", std::process::id());
    /// # let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
    /// let half_an_hour = Duration::from_secs(1800);
    /// let set = session.credentials_valid_for(half_an_hour)?;
    /// assert!(set.expires_in() >= half_an_hour);
    /// // Sign with set.credentials().
    ///
    /// let error = session.credentials_valid_for(Duration::from_secs(12 * 3600)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TooShort);
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`SharedSession`]. A failure of the source is an error also while the current set is valid: it is not valid
    /// for long enough. A member of the group that may only read gets `NoSource` then.
    /// [`TooShort`](ErrorKind::TooShort) names both times, and the settings that make sets live longer.
    pub fn credentials_valid_for(&self, duration: Duration) -> Result<SetSnapshot, Error> {
        let work = |inner: &Arc<Inner>| {
            let end = inner.lasting(duration, Aim::Fetch, inner.limit())?;
            Ok(inner.seen_now(end.set()))
        };
        self.inner().on_latest(work).map_err(|fault| self.too_short(fault))
    }

    /// [`credentials_valid_for`](Self::credentials_valid_for) for async callers. A thread waits in their place. A caller
    /// that goes away does not end the refresh.
    ///
    /// ```
    /// # async fn example(session: shmcreds::SharedSession) -> Result<(), shmcreds::Error> {
    /// use std::time::Duration;
    ///
    /// let set = session.credentials_valid_for_async(Duration::from_secs(1800)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`credentials_valid_for`](Self::credentials_valid_for).
    pub async fn credentials_valid_for_async(
        &self,
        duration: Duration,
    ) -> Result<SetSnapshot, Error> {
        if let Some(set) = self.inner().latest().lasts_already(duration) {
            return Ok(set);
        }
        let session = self.clone();
        let work = move |_: &dyn Fn() -> bool| Some(session.credentials_valid_for(duration));
        on_thread(self.inner(), "credentials_valid_for", work).await?
    }

    /// As [`credentials_valid_for`](Self::credentials_valid_for), but the program makes the call itself, as with
    /// [`elect_within`](Self::elect_within). `Valid` is the set that `credentials_valid_for` gives. Waits at most `limit`.
    ///
    /// # Errors
    /// Those of [`credentials_valid_for`](Self::credentials_valid_for) and of [`elect_within`](Self::elect_within). A set
    /// that the program publishes itself is not looked at: call this again.
    pub fn elect_valid_for(&self, duration: Duration, limit: Duration) -> Result<Election, Error> {
        let limit = Limit::of_call(limit);
        let work =
            |inner: &Arc<Inner>| Ok(inner.election(inner.lasting(duration, Aim::Term, limit)?));
        self.inner().on_latest(work).map_err(|fault| self.too_short(fault))
    }

    fn too_short(&self, fault: Fault) -> Error {
        self.inner().fault("credentials_valid_for", fault)
    }
}

impl Inner {
    /// A set that lasts for `duration`, or the election of this process.
    fn lasting(&self, duration: Duration, aim: Aim, limit: Limit) -> Result<End, Fault> {
        // First as all other callers: what is due is refreshed anyway.
        let end = match aim {
            Aim::Fetch => End::Set(self.obtain_here(limit)?),
            Aim::Term => self.stand(limit)?,
        };
        let End::Set(set) = &end else { return Ok(end) };
        let generation = set.life.version.generation();
        match self.judge(set, duration) {
            Verdict::Usable => return Ok(end),
            Verdict::TooShort => return Err(self.cannot_last(set, duration)),
            Verdict::Short => {}
        }
        self.requests()?.request_longer(generation);
        let end = self.wait_for(Need::Longer(generation), aim, limit)?;
        match &end {
            // The source gives shorter sets now.
            End::Set(set) if self.judge(set, duration) == Verdict::TooShort => {
                Err(self.cannot_last(set, duration))
            }
            _ => Ok(end),
        }
    }

    /// The newest set, if it is fresh and lasts for `duration`.
    fn lasts_already(&self, duration: Duration) -> Option<SetSnapshot> {
        let set = self.newest().ok()??;
        let fresh = set.life.phase(self.shared.clock.boot()) == Phase::Fresh;
        (fresh && self.judge(&set, duration) == Verdict::Usable).then(|| self.seen_now(set))
    }

    fn judge(&self, set: &Snapshot, duration: Duration) -> Verdict {
        let (now, life) = (self.shared.clock.boot(), set.life);
        let end = now.saturating_add(as_nanos(duration));
        if end <= life.points.expires {
            Verdict::Usable
        } else if duration > life.length() + LEEWAY.min(life.length() / 8) {
            Verdict::TooShort
        } else if now < policy::may_be_replaced(life.fetched, life.points.expires) {
            Verdict::Usable
        } else {
            Verdict::Short
        }
    }

    fn cannot_last(&self, set: &Snapshot, duration: Duration) -> Fault {
        let left = set.life.points.expires.saturating_sub(self.shared.clock.boot());
        let [life, left] =
            [set.life.length(), Duration::from_nanos(left)].map(|time| time.as_secs());
        let text = format!(
            "asked for a set that is valid for {} s, and the sets of this source live for {life} s; the current one is \
             valid for another {left} s. Ask for less, or let the sets live longer: raise duration (DurationSeconds) of \
             the role, and MaxSessionDuration in IAM if that is shorter; a role that is assumed with the credentials of \
             another role (role chaining) never gives more than 3600 s",
            duration.as_secs(),
        );
        Fault::new(ErrorKind::TooShort, text)
    }
}
