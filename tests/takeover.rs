//! Many cycles, many deaths: readers that read on while others come and go.
#![allow(unsafe_code)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmcreds::{
    Provider, Refresh, SharedSession, SharedSessionBuilder,
    testing::{LocalSts, Settings},
};
use support::{Child, assert_whole, assumed, child, lives, lock, name, role, segment, until};

/// How long processes are killed.
const SHORT: Duration = Duration::from_secs(4);

/// The same when asked for: `SHMCREDS_SOAK_SECONDS`, a minute without it.
fn soak() -> Duration {
    let seconds = std::env::var("SHMCREDS_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.map_or(60, |text| text.parse().expect("a whole number")))
}

fn main() {
    let tests: &[(&str, fn())] = &[
        ("each_of_ten_short_lived_sets_is_fetched_once", sixteen_readers_over_ten_cycles),
        ("kills_every_300_ms", || kills_of_an_eager_session(SHORT)),
        ("kills_every_300_ms_of_a_sealed_session", || kills_of_a_sealed_session(SHORT)),
    ];
    let soaks: &[(&str, fn())] = &[
        ("soak", || kills_of_an_eager_session(soak())),
        ("soak_of_a_sealed_session", || kills_of_a_sealed_session(soak())),
    ];
    support::run_forking_and_soaking(tests, soaks);
}

/// Tells readers to end. The file is removed when dropped.
struct StopFile(PathBuf);

impl StopFile {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(name))
    }

    fn is_there(&self) -> bool {
        self.0.exists()
    }

    /// Ends the readers, which must have succeeded; gives what each said.
    fn end(self, readers: Vec<Child>) -> Vec<String> {
        fs::write(&self.0, "").unwrap();
        readers.into_iter().map(Child::finish).collect()
    }
}

impl Drop for StopFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Stands for the fields of a set that must not leave this process.
fn digest(set: &Credentials) -> u64 {
    let mut hasher = DefaultHasher::new();
    (set.secret_access_key(), set.session_token(), set.expiry()).hash(&mut hasher);
    hasher.finish()
}

/// Reads flat out until told to stop. Says which sets it saw.
fn read_flat_out(session: &SharedSession, stop: &StopFile) -> String {
    let mut sets = BTreeMap::new();
    let read = |sets: &mut BTreeMap<_, _>| {
        let set = session.credentials().unwrap();
        let known = *sets.entry(set.access_key_id().to_owned()).or_insert_with(|| digest(&set));
        assert_eq!(known, digest(&set), "two sets of one key");
    };
    while !stop.is_there() {
        (0..200).for_each(|_| read(&mut sets));
    }
    sets.iter().map(|(key, digest)| format!("{key} {digest}\n")).collect()
}

fn sixteen_readers_over_ten_cycles() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().lifetime(Duration::from_secs(2))).unwrap();
    // Next to no mandatory window: until the set expires, no reader has a reason to wait.
    let windows = (Duration::from_secs(2), Duration::from_millis(1));
    let builder = SharedSession::builder(name("flat-out")).source(role(&sts));
    let builder = builder.windows(windows.0, windows.1).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    let stop = StopFile::new(session.name());
    let reader = || {
        let mut reader = child(|report| {
            // On a busy machine it is the refresher's turn first, as it is with a core to spare.
            // SAFETY: changes a number of this process.
            unsafe { nix::libc::nice(10) };
            let session = SharedSession::attach(session.name()).unwrap();
            report.say(".");
            report.say(read_flat_out(&session, &stop));
        });
        reader.hear();
        reader
    };
    let readers: Vec<Child> = (0..16).map(|_| reader()).collect();
    until("ten sets", || session.status().unwrap().generation() >= 10);
    let said = stop.end(readers);

    // Unless the next one is on its way.
    until("each set is fetched once", || {
        let status = session.status().unwrap();
        (status.source_calls(), assumed(&sts) as u64) == (status.generation(), status.generation())
    });
    let status = session.status().unwrap();
    assert_eq!((status.failed(), status.takeovers()), (0, 0));
    let calls = sts.calls().unwrap();
    assert!((0..=1).contains(&(assumed(&sts) as u64 - status.generation())));
    let issued: Vec<_> = calls.iter().filter_map(|c| c.issued_access_key_id.as_deref()).collect();
    let mut sets = BTreeMap::new();
    for said in &said {
        for (key, digest) in said.lines().map(|line| line.split_once(' ').unwrap()) {
            assert!(issued.contains(&key), "{key} is not of this STS");
            assert_eq!(*sets.entry(key).or_insert(digest), digest, "two sets of one key");
        }
    }
    assert!(sets.len() >= 10);
}

/// A source that takes its time, so that kills find it at work; its sets live 2 s.
fn short_lived() -> Provider {
    Provider::new("short", || async {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let end = SystemTime::now() + Duration::from_secs(2);
        let (secret, token) = (support::secret_of(&id), support::token_of(&id));
        Credentials::new(&id, secret, Some(token), Some(end), "short")
    })
}

fn short_session(name: &str) -> SharedSessionBuilder {
    SharedSession::builder(name).source(short_lived()).refresh(Refresh::Eager)
}

/// The process that is elected and alive.
fn elected(session: &SharedSession) -> Option<Pid> {
    let status = session.status().unwrap();
    let found = status.refresher().filter(|refresher| refresher.is_alive())?;
    Some(Pid::from_raw(i32::try_from(found.pid()).unwrap()))
}

/// A reader that checks all it gets until told to stop.
fn checking_reader(name: &str, stop: &StopFile) -> Child {
    child(|report| {
        // One that was forked before the session was made finds it later, and has no source.
        until("there is a session", || SharedSession::attach(name).is_ok());
        let session = SharedSession::attach(name).unwrap();
        report.say(".");
        let mut newest = 0;
        while !stop.is_there() {
            for _ in 0..100 {
                assert_whole(&session.credentials().unwrap());
            }
            let generation = session.status().unwrap().generation();
            assert!(generation >= newest, "from {newest} back to {generation}");
            newest = generation;
        }
    })
}

/// A process that waits to be elected, and can be spared.
fn standby(session: &SharedSession) -> Child {
    let standby = child(|_| {
        let session = SharedSession::attach(session.name()).unwrap();
        session.run_refresher(&session.stop_handle()).unwrap();
    });
    standby.asleep();
    standby
}

const PERIOD: Duration = Duration::from_millis(300);

/// Kills whoever is elected in each period; what is killed of the standbys is replaced. Gives the
/// number of kills.
fn kill_the_elected(
    session: &SharedSession,
    readers: &[Child],
    standbys: &mut [Child],
    time: Duration,
) -> u64 {
    let mut kills = 0;
    for _ in 0..time.as_millis() / PERIOD.as_millis() {
        sleep(PERIOD);
        let Some(victim) = elected(session) else { continue };
        assert!(victim != Pid::this() && readers.iter().all(|reader| reader.pid != victim));
        kill(victim, Signal::SIGKILL).unwrap();
        kills += 1;
        until("it is dead", || !lives(victim));
        if let Some(killed) = standbys.iter_mut().find(|standby| standby.pid == victim) {
            *killed = standby(session);
        }
    }
    kills
}

/// Everything still works, and no call was made that neither a set nor a kill accounts for.
fn check_after(session: &SharedSession, stop: StopFile, readers: Vec<Child>, kills: u64) {
    assert!(kills > 0);
    let before = session.status().unwrap().generation();
    assert_whole(&session.refresh().unwrap());
    until("the sets go on", || session.status().unwrap().generation() >= before + 3);
    stop.end(readers);
    until("calls are sets, or were killed", || {
        let status = session.status().unwrap();
        status.source_calls() <= status.generation() + kills
    });
    let status = session.status().unwrap();
    assert_eq!((status.failed(), status.published()), (0, status.generation()));
    assert!(status.takeovers() > 0 && status.takeovers() <= kills);
}

fn kills_of_an_eager_session(time: Duration) {
    let name = name("kills");
    let stop = StopFile::new(&name);
    // Forked before: without a source none of them is elected, so none of them is killed.
    let mut readers: Vec<Child> = (0..4).map(|_| checking_reader(&name, &stop)).collect();
    let session = short_session(&name).create().unwrap();
    for reader in &mut readers {
        reader.hear();
    }
    let mut standbys = [standby(&session), standby(&session)];
    let kills = kill_the_elected(&session, &readers, &mut standbys, time);
    check_after(&session, stop, readers, kills);
    drop((standbys, session));
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

fn kills_of_a_sealed_session(time: Duration) {
    let name = name("sealed-kills");
    let stop = StopFile::new(&name);
    let session = short_session(&name).sealed().create().unwrap();
    let mut readers: Vec<Child> = (0..4).map(|_| checking_reader(&name, &stop)).collect();
    for reader in &mut readers {
        reader.hear();
    }
    let kills = kill_the_elected(&session, &readers, &mut [], time);
    check_after(&session, stop, readers, kills);
    let last = elected(&session).unwrap();
    drop(session);
    until("the refresher ends with the last user", || !lives(last));
}
