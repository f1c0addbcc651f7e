//! The set that a fleet shares: one host leads and fetches, the others take its set from the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

use super::{
    Claim, Fleet, Lead, PATIENCE, Publication, SetSettings, StoredSet, Turn,
    key::Keys,
    seal::{self, Belonging},
};
use crate::{
    clock::Moment,
    refresh::gate::Passage,
    segment::FleetNote,
    source::{Exchange, Fetched, Fingerprint, Source, SourceError, SourceErrorClass},
    sys::random,
};

/// The time that a lease allows in addition to the call.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// A host asks again after a random part of this, then of twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After a failure of the leader, no host leads for a random part of this, doubled with each failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_FAILURE_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_THROTTLED_PAUSE: Duration = Duration::from_secs(60);
/// The longest lifetime of a set from STS is 36 hours. A later expiry is wrong.
const LONGEST_LIFE: u64 = 36 * 3_600_000 + 60_000;
/// A smaller difference between the clock of the store and that of the host does not count.
const SKEW_FLOOR: u64 = 3_000;

/// The error code of a leader's failure, on other hosts.
const LEADER_CODE: &str = "FleetLeaderFailed";

const LEADER: u64 = 1;
const FOLLOWER: u64 = 2;

pub(super) struct SharedSet<'a> {
    fleet: &'a Fleet,
    settings: &'a SetSettings,
}

/// What is constant during one passage.
struct Round<'r, 'p> {
    passage: &'r Passage<'p>,
    keys: Keys,
    identity: Fingerprint,
    /// The expiry of this host's set, 0 without one.
    newer_than: u64,
    owner: u128,
}

impl Round<'_, '_> {
    /// The lead of a claim whose answer was lost.
    fn unknown_lead(&self, set: &str) -> Lead {
        Lead { set: set.to_owned(), owner: self.owner, token: 0 }
    }
}

impl Lead {
    /// Whether the answer to the claim was lost.
    fn is_unknown(&self) -> bool {
        self.token == 0
    }
}

impl<'a> SharedSet<'a> {
    pub(super) fn of(fleet: &'a Fleet) -> Option<Self> {
        Some(SharedSet { fleet, settings: fleet.settings.set.as_ref()? })
    }

    /// How long the keys, the verbs, and the wait for another host, take at most.
    pub(super) fn delay(&self, source: &dyn Source) -> Duration {
        let limit = self.fleet.settings.answer_limit;
        self.settings.keys.limit() + self.lease(source) + LONGEST_PAUSE + limit * 4
    }

    /// A lease ends after the longest call.
    fn lease(&self, source: &dyn Source) -> Duration {
        let limit = self.fleet.settings.answer_limit;
        source.timeout() + PATIENCE + limit * 2 + LEASE_MARGIN
    }

    pub(super) async fn pass(&self, passage: &Passage<'_>) -> Result<Fetched, SourceError> {
        let keys = match self.settings.keys.read(passage.source).await {
            Ok(keys) => keys,
            Err(problem) => {
                passage.notes.count(FleetNote::Unusable);
                let session = passage.session;
                warn!(session, "the set is not shared with the fleet: {problem}");
                return self.fleet.ask_source(passage).await;
            }
        };
        let identity = passage.source.fingerprint();
        let newer_than = newer_than(passage);
        let round = Round { passage, keys, identity, newer_than, owner: owner()? };
        let fetched = self.obtain(&round).await?;
        note_expiry(passage, &fetched);
        Ok(fetched)
    }

    async fn obtain(&self, round: &Round<'_, '_>) -> Result<Fetched, SourceError> {
        let passage = round.passage;
        let lease = self.lease(passage.source);
        let begun = tokio::time::Instant::now();
        let (mut pause, mut except) = (FIRST_PAUSE, 0);
        loop {
            let claim = Claim {
                set: self.settings.name.clone(),
                owner: round.owner,
                lease,
                newer_than: round.newer_than,
                except,
            };
            let Some(acquired) = self.fleet.answer(passage, self.fleet.store.acquire(&claim)).await
            else {
                // The store may have granted the claim: if so, it takes the set, and the others do not wait.
                return self.lead(round, &round.unknown_lead(&self.settings.name), 0).await;
            };
            let first = except == 0;
            let taken = acquired.set.as_ref().and_then(|set| {
                self.open(round, set, acquired.now).map_err(|()| except = set.expires).ok()
            });
            let unusable = acquired.set.is_some() && taken.is_none();
            let wait = match (acquired.turn, taken) {
                (Turn::Caller(lead, failures), taken) => {
                    let outcome = self.lead(round, &lead, failures).await;
                    // A set that is not fresh is better than none.
                    return outcome.or_else(|failure| match taken {
                        Some(taken) => Ok(self.take(passage, taken)),
                        None => Err(failure),
                    });
                }
                (_, Some(taken)) => return Ok(self.take(passage, taken)),
                // The next claim does not count the set that does not open. A store that gives such a set again is wrong.
                (_, None) if unusable && first => Duration::ZERO,
                (_, None) if unusable => return self.fleet.ask_source(passage).await,
                (Turn::Nobody, None) => return self.fleet.ask_source(passage).await,
                (Turn::Paused(wait), None) => return Err(paused(wait)),
                (Turn::Another(left), None) => {
                    let wait = pause.mul_f64(0.5 + random::fraction().unwrap_or(0.5) / 2.0);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    wait.min(left)
                }
            };
            // A store that lets this host wait for longer than a lease is wrong.
            if begun.elapsed() > lease {
                return self.fleet.ask_source(passage).await;
            }
            tokio::time::sleep(wait.max(Duration::from_millis(5))).await;
        }
    }

    /// Fetches for the fleet.
    async fn lead(
        &self,
        round: &Round<'_, '_>,
        lead: &Lead,
        failures: u64,
    ) -> Result<Fetched, SourceError> {
        let passage = round.passage;
        let outcome = self.fleet.ask_source(passage).await;
        match &outcome {
            Ok(fetched) => self.publish(round, lead, fetched).await,
            Err(failure) => self.fail(passage, lead, failure, failures).await,
        }
        outcome
    }

    async fn publish(&self, round: &Round<'_, '_>, lead: &Lead, fetched: &Fetched) {
        let (passage, session) = (round.passage, round.passage.session);
        let credentials = &fetched.credentials;
        let now = unix(passage.clock.wall());
        let expires = credentials.expiry().map_or(0, unix);
        let is_whole =
            !credentials.access_key_id().is_empty() && !credentials.secret_access_key().is_empty();
        if expires <= now || expires > now + LONGEST_LIFE || !is_whole {
            // The session refuses it, with an error that says why; or the clock of this host is wrong.
            return self.fail_silently(passage, lead, FAILURE_PAUSE).await;
        }
        // In the last quarter of its life a set is handed out only if nobody fetches another one.
        let fresh_until = expires - (expires - now) / 4;
        let belonging = self.belonging(&round.identity);
        let sealed = seal::seal(&round.keys, belonging, credentials, (expires, fresh_until));
        let set = match sealed {
            Ok(set) => set,
            Err(problem) => {
                warn!(session, "the set is not shared with the fleet: {problem}");
                return self.fail_silently(passage, lead, FAILURE_PAUSE).await;
            }
        };
        let before = passage.notes.get(FleetNote::Answer);
        match self.fleet.answer(passage, self.fleet.store.publish(lead, &set)).await {
            // The claim was not granted. What the store answered to the claim is how it is.
            Some(Publication::Fenced) if lead.is_unknown() => {
                passage.notes.set(FleetNote::Answer, before);
            }
            Some(Publication::Stored) => {
                passage.notes.count(FleetNote::Given);
                passage.notes.set(FleetNote::Role, LEADER);
                info!(session, "gave the set to the fleet");
            }
            Some(Publication::Fenced) => {
                warn!(session, "another host has led the fleet since; the set stays on this host");
            }
            Some(Publication::NotLater) => {
                warn!(
                    session,
                    "the fleet has a set that expires later; the new one stays on this host"
                );
            }
            None => {}
        }
    }

    /// Tells the fleet of a failure. The class decides how long no host asks.
    async fn fail(&self, passage: &Passage<'_>, lead: &Lead, failure: &SourceError, before: u64) {
        let longest = match failure.class() {
            SourceErrorClass::Throttled => LONGEST_THROTTLED_PAUSE,
            _ => LONGEST_FAILURE_PAUSE,
        };
        let ceiling = FAILURE_PAUSE.saturating_mul(1 << before.min(6)).min(longest);
        let random = ceiling.mul_f64(0.5 + random::fraction().unwrap_or(0.5) / 2.0);
        let asked_for = failure.retry_after().unwrap_or_default();
        self.fail_silently(passage, lead, random.max(asked_for).min(longest)).await;
    }

    async fn fail_silently(&self, passage: &Passage<'_>, lead: &Lead, pause: Duration) {
        let before = passage.notes.get(FleetNote::Answer);
        self.fleet.answer(passage, self.fleet.store.fail(lead, pause)).await;
        // The store ignores the failure of a claim that it did not grant, and does not say so.
        if lead.is_unknown() {
            passage.notes.set(FleetNote::Answer, before);
        }
    }

    /// The stored set, if it opens and is what this host may use.
    fn open(&self, round: &Round<'_, '_>, set: &StoredSet, store_now: u64) -> Result<Fetched, ()> {
        let passage = round.passage;
        let now = unix(passage.clock.wall());
        let opened = if set.expires <= round.newer_than {
            Err("it is not newer than the set of this host")
        } else if set.expires <= now {
            Err("it has expired")
        } else if set.expires > now + LONGEST_LIFE {
            Err("its expiry is too far away")
        } else {
            seal::open(&round.keys, self.belonging(&round.identity), set)
        };
        match opened {
            Ok(credentials) => {
                let exchange = Exchange {
                    asked: Moment::now(passage.clock),
                    answered: Moment::now(passage.clock),
                };
                // The clock of the store counts only where it makes the life shorter.
                let is_later = store_now > now + SKEW_FLOOR && store_now < set.expires;
                let store_time = UNIX_EPOCH + Duration::from_millis(store_now);
                let fetched = Fetched::new(credentials).within(exchange);
                Ok(fetched.server_time(is_later.then_some(store_time)))
            }
            Err(problem) => {
                passage.notes.count(FleetNote::Unusable);
                let session = passage.session;
                warn!(session, "the fleet's set counts as none: {problem}");
                Err(())
            }
        }
    }

    fn take(&self, passage: &Passage<'_>, fetched: Fetched) -> Fetched {
        passage.notes.count(FleetNote::Taken);
        passage.notes.set(FleetNote::Role, FOLLOWER);
        info!(session = passage.session, "took the set of the fleet");
        fetched
    }

    fn belonging<'b>(&'b self, identity: &'b Fingerprint) -> Belonging<'b> {
        Belonging { name: &self.settings.name, identity }
    }
}

/// The expiry of this host's set, as its source gave it. If the noted one is of another set, it is the one that the host
/// computed: the two differ where the clock of the host is wrong.
fn newer_than(passage: &Passage<'_>) -> u64 {
    let notes = passage.notes;
    match notes.get(FleetNote::SetGeneration) == passage.generation && passage.generation > 0 {
        true => notes.get(FleetNote::SetExpiry),
        false => passage.expires,
    }
}

fn note_expiry(passage: &Passage<'_>, fetched: &Fetched) {
    let expires = fetched.credentials.expiry().map_or(0, unix);
    passage.notes.set(FleetNote::SetExpiry, expires);
    passage.notes.set(FleetNote::SetGeneration, passage.generation + 1);
}

fn paused(wait: Duration) -> SourceError {
    let text =
        "the call of another host of the fleet has failed; the hosts wait before the next one";
    SourceError::of_known_text(SourceErrorClass::Transient, text)
        .with_code(LEADER_CODE)
        .with_retry_after(wait)
}

/// Milliseconds since 1970; 0 before.
fn unix(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn owner() -> Result<u128, SourceError> {
    let half = || random::number().map(u128::from);
    let whole = half().and_then(|high| Ok(high << 64 | half()?));
    whole.map_err(|fault| SourceError::new(SourceErrorClass::Transient, fault.message))
}
