//! The set that a fleet shares.

use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use shmcreds::{
    Acquired, AssumeRole, Budget, Claim, Fleet, FleetKeys, FleetRole, FleetStatus, FleetStore,
    Identified, IotCore, Lead, Pem, Permit, Profile, Provider, Publication, SharedSession, Source,
    StoredSet, Storing, Turn,
    testing::{LocalSts, ManualClock, Settings},
};

use crate::{
    budget::{RARE, fleet},
    server::Server,
    support::{
        BASE_SECRET, Child, StopFile, assert_whole, assumed, child, instant, instant_set, name,
        role, until,
    },
};

pub const KEY: &str = "0f0e0d0c0b0a09080706050403020100f0e0d0c0b0a090807060504030201000";
pub const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000ff";
pub const VARIABLE: &str = "SHMCREDS_TEST_FLEET_KEY";
pub const SET: &str = "shmcreds:{web}:set";

/// The fleet of this process, which encrypts with these keys.
pub fn sharing(server: &Server, keys: &str) -> Fleet {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var(VARIABLE, keys) };
    fleet(server).hosts(1).share_set("web", FleetKeys::variable(VARIABLE))
}

pub fn open(source: impl Source, fleet: Fleet) -> SharedSession {
    named(&name("host"), source, fleet)
}

pub fn named(name: &str, source: impl Source, fleet: Fleet) -> SharedSession {
    SharedSession::builder(name).source(source).fleet(fleet).create().unwrap()
}

pub fn status(session: &SharedSession) -> FleetStatus {
    *session.status().unwrap().fleet().unwrap()
}

/// Runs `work` with a session in a process of its own, which stands for a host.
pub fn host(
    source: impl Source,
    fleet: impl FnOnce() -> Fleet,
    work: impl FnOnce(&SharedSession) -> String,
) -> String {
    child(|report| report.say(work(&open(source, fleet())))).finish()
}

fn key(session: &SharedSession) -> String {
    session.credentials().unwrap().access_key_id().to_owned()
}

pub fn sixty_four_hosts() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    sts.configure(Settings::new().latency(Duration::from_millis(300))).unwrap();
    let stop = StopFile::new(&name("fleet-64"));
    let mut hosts: Vec<Child> = (0..64)
        .map(|_| {
            child(|report| {
                let session = open(role(&sts), sharing(&server, KEY));
                report.say(format!("{}\n", key(&session)));
                until("the test is over", || stop.is_there());
                let (fleet, status) = (status(&session), session.status().unwrap());
                let role = fleet.role.as_str();
                report.say(format!(
                    "{role} {} {} {}",
                    status.source_calls(),
                    fleet.given,
                    fleet.taken
                ));
            })
        })
        .collect();
    let keys: BTreeSet<String> = hosts.iter_mut().map(Child::hear_line).collect();
    assert_eq!((keys.len(), assumed(&sts)), (1, 1), "{keys:?}");
    let mut said = stop.end(hosts);
    said.sort();
    let followers = vec!["follower 0 0 1".to_owned(); 63];
    assert_eq!((&said[..63], said[63].as_str()), (&followers[..], "leader 1 1 0"));
    // The expiry of a set has whole seconds: this one is later.
    sts.configure(Settings::new().lifetime(Duration::from_secs(7200))).unwrap();
    // A host that asks again gets a new set, and those that come later get that one.
    let refreshed = host(
        role(&sts),
        || sharing(&server, KEY),
        |session| {
            assert!(keys.contains(&key(session)));
            session.refresh().unwrap().access_key_id().to_owned()
        },
    );
    assert!(!keys.contains(&refreshed));
    assert_eq!(host(role(&sts), || sharing(&server, KEY), key), refreshed);
    assert_eq!(assumed(&sts), 2);
}

pub fn a_wrong_key() {
    let server = Server::start();
    let first = host(instant(), || sharing(&server, KEY), key);
    let alone = host(
        instant(),
        || sharing(&server, OTHER),
        |session| {
            let set = session.credentials().unwrap();
            assert_whole(&set);
            assert_eq!((status(session).unusable, status(session).taken), (1, 0));
            let text = session.status().unwrap().to_string();
            assert!(text.contains(", sets taken 0, given 1, unusable 1"), "{text}");
            set.access_key_id().to_owned()
        },
    );
    assert_ne!(alone, first);
    // A key that disappears stops the sharing, not the credentials.
    host(
        instant(),
        || sharing(&server, KEY),
        |session| {
            // SAFETY: the process has one thread.
            unsafe { std::env::remove_var(VARIABLE) };
            key(session);
            assert_eq!((status(session).unusable, status(session).given), (1, 0));
            String::new()
        },
    );
}

pub fn keys_are_replaced() {
    let server = Server::start();
    let steps =
        [KEY, &format!("{KEY} {OTHER}"), &format!("{OTHER} {KEY}"), OTHER].map(str::to_owned);
    for (before, after) in steps.iter().zip(&steps[1..]) {
        let taken_by = |keys: &str, expected: &str| {
            let taken = host(
                instant(),
                || sharing(&server, keys),
                |session| {
                    let key = key(session);
                    assert_eq!(
                        (status(session).role, status(session).unusable),
                        (FleetRole::Follower, 0)
                    );
                    key
                },
            );
            assert_eq!(taken, expected);
        };
        // Half of the hosts have the new keys already, and each half fetches once.
        for (leader, follower) in [(before, after), (after, before)] {
            let set = host(
                instant(),
                || sharing(&server, leader),
                |session| {
                    session.credentials().unwrap();
                    session.refresh().unwrap().access_key_id().to_owned()
                },
            );
            taken_by(follower, &set);
        }
    }
}

pub fn an_older_or_a_foreign_set() {
    let server = Server::start();
    let other = |description: &str| Provider::new(description, || async { instant_set() });
    host(other("an older set"), || sharing(&server, KEY), key);
    server.say(&["COPY", SET, "older"], "1");
    server.say(&["DEL", SET], "1");
    let source = || other("an older set");
    host(
        source(),
        || sharing(&server, KEY),
        |session| {
            let newer = session.credentials().unwrap();
            // The store goes back to an older set: the host does not take it.
            server.say(&["COPY", "older", SET, "REPLACE"], "1");
            let next = session.refresh().unwrap();
            assert!(next.expiry() > newer.expiry());
            assert_eq!((status(session).taken, status(session).given), (0, 2));
            // The same, with a later expiry than the set itself has.
            server.say(&["COPY", "older", SET, "REPLACE"], "1");
            let hour = SystemTime::now() + Duration::from_secs(7200);
            let later = hour.duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
            server.say(&["HSET", SET, "expires", &later, "fresh_until", &later], "0");
            let last = session.refresh().unwrap();
            assert!(last.expiry() > next.expiry());
            assert_eq!((status(session).taken, status(session).unusable), (0, 1));
            String::new()
        },
    );
    // The set of another identity, under this name.
    server.say(&["DEL", SET], "1");
    host(other("another identity"), || sharing(&server, KEY), key);
    host(
        source(),
        || sharing(&server, KEY),
        |session| {
            assert_whole(&session.credentials().unwrap());
            assert_eq!((status(session).taken, status(session).unusable), (0, 1));
            String::new()
        },
    );
    // Values of other types and lengths.
    for (field, value) in [
        ("sealed", ""),
        ("sealed", "x"),
        ("expires", "nan"),
        ("expires", "1e300"),
        ("expires", "-1"),
        ("fresh_until", "x"),
        ("token", "inf"),
        ("lease", "1e300"),
        ("paused", "1e300"),
        ("failures", "-9"),
        ("failures", "1e300"),
        ("token", "1e17"),
    ] {
        server.say(&["DEL", SET], "1");
        host(source(), || sharing(&server, KEY), key);
        server.run(&["HSET", SET, field, value]);
        host(
            source(),
            || sharing(&server, KEY),
            |session| {
                assert_whole(&session.credentials().unwrap());
                session.refresh().map(|set| assert_whole(&set)).unwrap();
                String::new()
            },
        );
    }
}

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

pub fn host_bound_sources() {
    let server = Server::start();
    let role = || AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("test");
    let pem = || Pem::file("/no/such/file");
    let bound: [(Create, &str); 8] = [
        (refused(Provider::imds), "the instance metadata identify this host"),
        // The identity that a program gives does not change what the source is.
        (
            refused(|| Identified::new(Provider::imds(), Provider::imds().fingerprint())),
            "the instance metadata identify this host",
        ),
        (refused(Provider::container), "the container endpoint identifies this host"),
        (refused(Provider::default_chain), "the default chain may lead to"),
        (refused(|| Provider::profile("app")), "a profile may lead to"),
        (refused(|| Profile::new("app")), "a profile may lead to"),
        (
            refused(move || {
                role().mfa("arn:aws:iam::123456789012:mfa/a", || async {
                    Ok::<_, String>("1".to_owned())
                })
            }),
            "an MFA device confirms",
        ),
        (
            refused(move || {
                IotCore::new(
                    "abc.credentials.iot.eu-central-1.amazonaws.com",
                    "alias",
                    pem(),
                    pem(),
                )
                .thing_name("a")
            }),
            "the certificate identifies",
        ),
    ];
    for (create, reason) in bound {
        let error = create(sharing(&server, KEY));
        assert!(
            error.to_string().contains(&format!("fleet: share_set: {reason}")),
            "{reason}: {error}"
        );
        // The budget alone is for each source.
        let error = create(fleet(&server));
        assert!(!error.to_string().contains("fleet"), "{error}");
    }
}

/// Makes a session in a fleet, which fails.
type Create = Box<dyn Fn(Fleet) -> shmcreds::Error>;

/// The error of a session of this source.
fn refused<S: Source>(source: impl Fn() -> S + 'static) -> Create {
    Box::new(move |fleet| {
        let builder = SharedSession::builder(name("bound")).source(source()).fleet(fleet);
        // Without its directory no session is made, but its settings are checked.
        builder.directory("/no/such/directory").create().unwrap_err()
    })
}

pub fn nothing_is_secret() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    let said = host(
        role(&sts).external_id("tenant-42-secret"),
        // The store forgets a budget soon after its calls are due again.
        || sharing(&server, KEY).budget("default", RARE),
        |session| {
            let set = session.credentials().unwrap();
            format!(
                "{} {} {}",
                set.access_key_id(),
                set.secret_access_key(),
                set.session_token().unwrap()
            )
        },
    );
    let dump = server.dump();
    let has = |text: &str| dump.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(
        has(SET) && has("sealed") && has("shmcreds:{default}:budget"),
        "the dump shows what is in clear"
    );
    let secrets = said.split(' ').chain([
        KEY,
        &KEY[..16],
        BASE_SECRET,
        "AKIAIOSFODNN7EXAMPLE",
        "tenant-42",
        "arn:aws",
        "123456789012",
    ]);
    for secret in secrets {
        assert!(secret.len() >= 7 && !has(secret), "{secret} is in the store");
        assert!(!has(&secret[secret.len() / 2..]) || secret.len() < 20, "a part of {secret}");
    }
}

pub fn a_lost_store() {
    let mut server = Server::start();
    let first = host(instant(), || sharing(&server, KEY), key);
    let stop = StopFile::new(&name("fleet-lost"));
    let mut keeper = child(|report| {
        let session = open(instant(), sharing(&server, KEY));
        report.say(format!("{}\n", key(&session)));
        until("the store is lost", || stop.is_there());
        // The set stays. A refresh goes on without the store.
        let before = key(&session);
        let after = session.refresh().unwrap().access_key_id().to_owned();
        assert_ne!(before, after);
        report.say(format!("{before} {}", status(&session).local_share));
    });
    assert_eq!(keeper.hear_line(), first);
    server.kill();
    stop.write();
    assert_eq!(keeper.finish(), format!("{first} 1"));
    server.restart_empty();
    let second = host(instant(), || sharing(&server, KEY), key);
    assert_ne!(second, first);
    assert_eq!(host(instant(), || sharing(&server, KEY), key), second);
}

/// What a host of the tests gets.
pub fn a_set(session: &SharedSession) -> Credentials {
    session.credentials().unwrap()
}
