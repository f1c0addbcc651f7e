//! One passage: the permit, or the local share of the budget, before the source is asked.

use std::{future::Future, time::Duration};

use tracing::warn;

use super::{
    Budget, Fleet, PATIENCE, Permit, StoreError, local_share, shared_set::SharedSet,
    store::StoreErrorKind,
};
use crate::{
    refresh::gate::{Gate, Passage, Passing},
    segment::FleetNote,
    source::{Fetched, Source, SourceError, SourceErrorClass},
};

/// What is noted of an answer of the store. `FleetStoreState` has the same.
const ANSWERS: u64 = 1;
const UNREACHABLE: u64 = 2;
const SLOW: u64 = 3;
const WRONG: u64 = 4;

/// The error code of a call that the budget did not allow.
const BUDGET_CODE: &str = "FleetBudget";

impl Gate for Fleet {
    fn validate(&self, source: &dyn Source) -> Result<(), String> {
        self.check(source)
    }

    fn delay(&self, source: &dyn Source) -> Duration {
        let permit = PATIENCE + self.settings.answer_limit;
        match SharedSet::of(self) {
            Some(set) => set.delay(source) + permit,
            None => permit,
        }
    }

    fn pass<'a>(&'a self, passage: Passage<'a>) -> Passing<'a> {
        Box::pin(async move {
            match SharedSet::of(self) {
                Some(set) => set.pass(&passage).await,
                None => self.ask_source(&passage).await,
            }
        })
    }

    fn portable(&self) -> Option<serde_json::Value> {
        self.settings.redis.as_ref()?;
        serde_json::to_value(&self.settings).ok()
    }
}

impl Fleet {
    /// Asks the source, if the budget allows it.
    pub(super) async fn ask_source(&self, passage: &Passage<'_>) -> Result<Fetched, SourceError> {
        self.permit(passage).await?;
        (passage.ask)().await
    }

    async fn permit(&self, passage: &Passage<'_>) -> Result<(), SourceError> {
        let settings = &self.settings;
        let budget = Budget {
            name: settings.budget.clone(),
            calls_per_second: settings.calls_per_second,
            patience: PATIENCE,
        };
        match self.answer(passage, self.store.permit(&budget)).await {
            Some(Permit::Granted(wait)) if wait <= PATIENCE => {
                passage.notes.count(FleetNote::Granted);
                // A sleep of no time takes a millisecond: the timer has no finer steps.
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                Ok(())
            }
            Some(Permit::Granted(_)) => {
                note_answer(passage, Duration::ZERO, WRONG);
                self.take_local_share(passage)
            }
            Some(Permit::Refused(wait)) => {
                passage.notes.count(FleetNote::Refused);
                Err(refused("the budget of the fleet is used up", wait))
            }
            None => self.take_local_share(passage),
        }
    }

    fn take_local_share(&self, passage: &Passage<'_>) -> Result<(), SourceError> {
        let Passage { notes, clock, .. } = passage;
        let interval = local_share::interval(self.settings.calls_per_second, self.settings.hosts);
        match local_share::take(clock.boot(), notes.get(FleetNote::NextLocal), interval) {
            Ok(next) => {
                notes.set(FleetNote::NextLocal, next);
                notes.count(FleetNote::LocalShare);
                Ok(())
            }
            Err(wait) => {
                notes.count(FleetNote::Refused);
                Err(refused(
                    "the store of the fleet gives no answer, and the share of this host is used up",
                    wait,
                ))
            }
        }
    }

    /// The answer of the store, within its time. `None` if there is none, or a wrong one: that is noted.
    pub(super) async fn answer<T>(
        &self,
        passage: &Passage<'_>,
        verb: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let Passage { notes, clock, session, .. } = passage;
        let limit = self.settings.answer_limit;
        let asked = clock.boot();
        let begun = std::time::Instant::now();
        let answer = tokio::time::timeout(limit, verb).await;
        let answer = answer.unwrap_or_else(|_| Err(StoreError::slow(limit)));
        let kind = match &answer {
            Ok(_) => ANSWERS,
            Err(StoreError { kind: StoreErrorKind::Unreachable, .. }) => UNREACHABLE,
            Err(StoreError { kind: StoreErrorKind::Slow, .. }) => SLOW,
            Err(StoreError { kind: StoreErrorKind::Wrong, .. }) => WRONG,
        };
        note_answer(passage, begun.elapsed(), kind);
        notes.set(FleetNote::AskedAt, asked.max(1));
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                // The server wrote a part of the text.
                let error = SourceError::new(SourceErrorClass::Transient, error.to_string());
                warn!(session, store = ?self.store, "no use of the fleet's store: {}", error.message());
                None
            }
        }
    }
}

fn note_answer(passage: &Passage<'_>, latency: Duration, kind: u64) {
    let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX) & u64::MAX >> 8;
    passage.notes.set(FleetNote::Answer, microseconds << 8 | kind);
}

fn refused(why: &str, wait: Duration) -> SourceError {
    SourceError::of_known_text(SourceErrorClass::Throttled, why)
        .with_code(BUDGET_CODE)
        .with_retry_after(wait)
}
