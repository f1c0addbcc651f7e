//! Leaders whose source fails: what they take in its place, and what they tell the store.

use std::{
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use shmcreds::{
    Acquired, Budget, Claim, Fleet, FleetKeys, FleetRole, FleetStore, Lead, Permit, Provider,
    Publication, SourceError, SourceErrorClass, StoredSet, Storing, Turn,
};

use crate::{
    shared_set::{KEY, VARIABLE, open, status},
    support::{child, instant_set},
};

/// A store that lets everybody lead. It keeps what it is told.
#[derive(Debug, Default)]
struct Leading {
    set: Mutex<Option<StoredSet>>,
    /// How many failures in a row it tells.
    failures: Mutex<u64>,
    pauses: Mutex<Vec<Duration>>,
}

impl FleetStore for &'static Leading {
    fn permit<'a>(&'a self, _: &'a Budget) -> Storing<'a, Permit> {
        Box::pin(async { Ok(Permit::Granted(Duration::ZERO)) })
    }

    fn acquire<'a>(&'a self, claim: &'a Claim) -> Storing<'a, Acquired> {
        Box::pin(async {
            let lead = Lead { set: claim.set.clone(), owner: claim.owner, token: 1 };
            let turn = Turn::Caller(lead, *self.failures.lock().unwrap());
            Ok(Acquired { turn, set: self.set.lock().unwrap().clone(), now: 0 })
        })
    }

    fn publish<'a>(&'a self, _: &'a Lead, set: &'a StoredSet) -> Storing<'a, Publication> {
        Box::pin(async {
            *self.set.lock().unwrap() = Some(set.clone());
            Ok(Publication::Stored)
        })
    }

    fn fail<'a>(&'a self, _: &'a Lead, pause: Duration) -> Storing<'a, ()> {
        Box::pin(async move {
            self.pauses.lock().unwrap().push(pause);
            Ok(())
        })
    }
}

fn leading() -> (&'static Leading, Fleet) {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var(VARIABLE, KEY) };
    let store: &'static Leading = Box::leak(Box::default());
    (store, Fleet::new(store).hosts(1).share_set("web", FleetKeys::variable(VARIABLE)))
}

/// A source that gives a set, or fails so.
fn source(failure: Option<(SourceErrorClass, Option<Duration>)>) -> Provider {
    Provider::from_fn("now and then", move || async move {
        let Some((class, retry_after)) = failure else { return Ok(instant_set()) };
        let error = SourceError::new(class, "refused");
        Err(retry_after.map_or(error.clone(), |after| error.with_retry_after(after)))
    })
}

/// In the last quarter of its life a set is for those only who get no other.
pub fn a_set_in_its_last_quarter() {
    child(|_| {
        let (store, fleet) = leading();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let begun = now();
        let first = open(source(None), fleet.clone());
        let key = first.credentials().unwrap().access_key_id().to_owned();
        let set = store.set.lock().unwrap().clone().unwrap();
        let (longest, shortest) = (set.expires - begun, set.expires - now());
        let quarter = set.expires - set.fresh_until;
        assert!((shortest / 4..=longest / 4).contains(&quarter), "{quarter} of {longest}");
        // This host leads, since the set is not fresh any more, and its source refuses.
        let late = open(source(Some((SourceErrorClass::Transient, None))), fleet);
        assert_eq!(late.credentials().unwrap().access_key_id(), key, "better than none");
        assert_eq!((status(&late).role, status(&late).taken), (FleetRole::Follower, 1));
        assert_eq!(store.pauses.lock().unwrap().len(), 1, "the failure is told to the fleet");
    })
    .finish();
}

pub fn failures_have_these_pauses() {
    use SourceErrorClass::{Terminal, Throttled, Transient};
    child(|_| {
        let (store, fleet) = leading();
        let seconds = Duration::from_secs;
        let after = |failures: u64, class, retry_after| {
            *store.failures.lock().unwrap() = failures;
            let session = open(source(Some((class, retry_after))), fleet.clone());
            session.credentials().unwrap_err();
            store.pauses.lock().unwrap().pop().unwrap()
        };
        // A random part of the last half. It doubles with each failure.
        for class in [Transient, Terminal] {
            for (failures, longest) in [(0, 1), (1, 2), (2, 4), (3, 5), (u64::MAX, 5)] {
                let pause = after(failures, class, None);
                assert!(pause >= seconds(longest) / 2 && pause <= seconds(longest), "{pause:?}");
            }
        }
        let pause = after(6, Throttled, None);
        assert!(pause >= seconds(30) && pause <= seconds(60), "{pause:?}");
        // What the server asks for counts, within the same limits.
        assert_eq!(after(0, Throttled, Some(seconds(40))), seconds(40));
        assert_eq!(after(0, Throttled, Some(seconds(4000))), seconds(60));
        assert_eq!(after(0, Transient, Some(seconds(40))), seconds(5));
    })
    .finish();
}
