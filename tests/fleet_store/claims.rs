//! What stores tell of a shared set, and what they are told.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use shmcreds::{
    Acquired, Budget, Claim, Fleet, FleetKeys, FleetRole, FleetStore, Lead, Permit, Publication,
    SharedSession, StoredSet, Storing, Turn,
    testing::{LocalSts, ManualClock},
};

use crate::{
    server::Server,
    shared_set::{KEY, VARIABLE, host, key, open, sharing, status},
    support::{assert_whole, child, instant, name, role},
};

/// A store that gives what a test tells it, to everybody.
#[derive(Debug)]
struct Liar(Mutex<Acquired>);

impl FleetStore for &'static Liar {
    fn permit<'a>(&'a self, _: &'a Budget) -> Storing<'a, Permit> {
        Box::pin(async { Ok(Permit::Granted(Duration::ZERO)) })
    }

    fn acquire<'a>(&'a self, _: &'a Claim) -> Storing<'a, Acquired> {
        Box::pin(async { Ok(self.0.lock().unwrap().clone()) })
    }

    fn publish<'a>(&'a self, _: &'a Lead, set: &'a StoredSet) -> Storing<'a, Publication> {
        Box::pin(async {
            self.0.lock().unwrap().set = Some(set.clone());
            Ok(Publication::Stored)
        })
    }

    fn fail<'a>(&'a self, _: &'a Lead, _: Duration) -> Storing<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

pub fn a_lying_store() {
    // A lead of another host for ever: a host goes on alone after the time of a lease.
    let forever = child(|_| {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var(VARIABLE, KEY) };
        let acquired = Acquired { turn: Turn::Another(Duration::MAX), set: None, now: 0 };
        let liar: &'static Liar = Box::leak(Box::new(Liar(Mutex::new(acquired))));
        let keys = FleetKeys::variable(VARIABLE);
        let fleet =
            Fleet::new(liar).answer_limit(Duration::from_millis(100)).share_set("web", keys);
        let waiting = open(instant().timeout(Duration::from_secs(1)), fleet);
        let begun = Instant::now();
        assert_whole(&waiting.credentials().unwrap());
        assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    });
    child(|_| {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var(VARIABLE, KEY) };
        let lead = Lead { set: "web".into(), owner: 1, token: 1 };
        let leading = Turn::Caller(lead, u64::MAX);
        let acquired = Acquired { turn: leading.clone(), set: None, now: 0 };
        let liar: &'static Liar = Box::leak(Box::new(Liar(Mutex::new(acquired))));
        let says = |turn: &Turn, set: Option<StoredSet>, now: u64| {
            *liar.0.lock().unwrap() = Acquired { turn: turn.clone(), set, now };
        };
        let fleet = Fleet::new(liar)
            .hosts(1)
            .share_set("web", FleetKeys::variable(VARIABLE))
            .answer_limit(Duration::from_secs(1));
        let session = open(instant(), fleet);
        session.credentials().unwrap();
        let own = liar.0.lock().unwrap().set.clone().unwrap();
        let expires = own.expires;
        let sets = [
            ("the set of this host", own.clone()),
            ("a later expiry than the set has", StoredSet { expires: expires + 1, ..own.clone() }),
            ("an expiry in the past", StoredSet { expires: 1, ..own.clone() }),
            ("an expiry in a hundred years", StoredSet { expires: expires * 3, ..own.clone() }),
            ("the largest expiry", StoredSet { expires: u64::MAX, ..own.clone() }),
            ("another time to be fresh", StoredSet { fresh_until: u64::MAX, ..own.clone() }),
            ("nothing", StoredSet { sealed: Vec::new(), ..own.clone() }),
            ("much", StoredSet { sealed: vec![1; 4 << 20], ..own.clone() }),
        ];
        let turns = [
            Turn::Nobody,
            leading.clone(),
            Turn::Paused(Duration::MAX),
            Turn::Another(Duration::MAX),
        ];
        let mut newest = session.credentials().unwrap().expiry();
        for (what, set) in sets {
            for turn in &turns {
                let unusable = status(&session).unusable;
                says(turn, Some(set.clone()), u64::MAX);
                let answer =
                    session.refresh().unwrap_or_else(|error| panic!("{what}, {turn:?}: {error}"));
                assert_whole(&answer);
                assert!(answer.expiry() > newest, "{what}, {turn:?}: a set of its own");
                assert!(status(&session).unusable > unusable, "{what}, {turn:?}");
                newest = answer.expiry();
            }
        }
        says(&Turn::Nobody, None, 0);
        assert_whole(&session.refresh().unwrap());
        assert_eq!(status(&session).taken, 0);
        // A pause for ever: the host tells when it asks again.
        says(&Turn::Paused(Duration::MAX), None, 0);
        let paused = session.refresh().unwrap_err();
        assert!(paused.retry_after().unwrap() < Duration::from_secs(120), "{paused:?}");
        assert_whole(&session.credentials().unwrap());
    })
    .finish();
    forever.finish();
}

/// A store that is asked, and knows nothing.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<u64>>);

impl Listener {
    /// The expiry that the last claim told.
    fn newer_than(&self) -> u64 {
        *self.0.lock().unwrap().last().unwrap()
    }
}

impl FleetStore for &'static Listener {
    fn permit<'a>(&'a self, _: &'a Budget) -> Storing<'a, Permit> {
        Box::pin(async { Ok(Permit::Granted(Duration::ZERO)) })
    }

    fn acquire<'a>(&'a self, claim: &'a Claim) -> Storing<'a, Acquired> {
        self.0.lock().unwrap().push(claim.newer_than);
        let lead = Lead { set: claim.set.clone(), owner: claim.owner, token: 1 };
        Box::pin(async { Ok(Acquired { turn: Turn::Caller(lead, 0), set: None, now: 0 }) })
    }

    fn publish<'a>(&'a self, _: &'a Lead, _: &'a StoredSet) -> Storing<'a, Publication> {
        Box::pin(async { Ok(Publication::Stored) })
    }

    fn fail<'a>(&'a self, _: &'a Lead, _: Duration) -> Storing<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// A claim tells the expiry of the host's set as the source gave it, whatever the clock of the host says.
pub fn what_a_claim_tells() {
    let sts = LocalSts::fork().unwrap();
    child(|_| {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var(VARIABLE, KEY) };
        let (clock, name) = (ManualClock::new().unwrap(), name("claim"));
        clock.step_wall(-1800);
        let listener: &'static Listener = Box::leak(Box::default());
        let fleet =
            || Fleet::new(listener).hosts(1).share_set("web", FleetKeys::variable(VARIABLE));
        let builder = || SharedSession::builder(&name).source(role(&sts)).clock(&clock);
        let session = builder().fleet(fleet()).create().unwrap();
        let milliseconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let issued = || {
            let call = sts.calls().unwrap().pop().unwrap();
            milliseconds(call.received) / 1000 * 1000 + 3_600_000
        };
        session.credentials().unwrap();
        assert_eq!(listener.newer_than(), 0, "it has none");
        let first = issued();
        let by_this_clock = milliseconds(session.credentials().unwrap().expiry().unwrap());
        assert!(first.abs_diff(by_this_clock) > 1_700_000, "{first} {by_this_clock}");
        session.refresh().unwrap();
        let told = listener.newer_than();
        assert!(told.abs_diff(first) < 60_000, "{told}, not {first}");
        // A process without the fleet publishes the newest set: what was noted is the expiry of another one.
        builder().attach().unwrap().refresh().unwrap();
        let newest = milliseconds(session.credentials().unwrap().expiry().unwrap());
        session.refresh().unwrap();
        assert_eq!(listener.newer_than(), newest);
    })
    .finish();
}

pub fn a_wrong_clock() {
    let server = Server::start();
    host(instant(), || sharing(&server, KEY), key);
    // The clock of a host is wrong by these minutes: for so many the host uses the set of the fleet.
    for (wrong, longest, role) in [
        (0, 60, FleetRole::Follower),
        // The store's clock makes the life shorter, and never longer.
        (-30, 60, FleetRole::Follower),
        (30, 30, FleetRole::Follower),
        // For such a clock each set has expired.
        (90, 0, FleetRole::None),
    ] {
        child(|_| {
            let clock = ManualClock::new().unwrap();
            clock.step_wall(wrong * 60);
            let builder = SharedSession::builder(name("clock")).source(instant()).clock(&clock);
            let session = builder.fleet(sharing(&server, KEY)).create().unwrap();
            let answer = session.credentials();
            let left = session.status().unwrap().expires_in();
            assert_eq!(answer.is_ok(), longest > 0, "{wrong}: {answer:?}");
            assert!(left <= Duration::from_secs(longest * 60), "{wrong}: {left:?}");
            assert!(left >= Duration::from_secs(longest * 59), "{wrong}: {left:?}");
            assert_eq!(status(&session).role, role, "{wrong}");
        })
        .finish();
    }
}
