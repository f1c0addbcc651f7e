//! The segment and the lock file of a session as a hostile process of the same user would leave them.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use shmcreds::{Provider, SharedSession, SourceError, SourceErrorClass};

use crate::choices::Choices;

/// How long a caller waits for credentials that do not come.
const DEADLINE: Duration = Duration::from_millis(50);
/// More than all calls together may take: some wait a second for a better set.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the fields are that decide something.
const PLACES: [usize; 32] = [
    // The header.
    0,
    8,
    16,
    24,
    32,
    40,
    80,
    88,
    96,
    FLAGS,
    CHECKSUM,
    256,
    264,
    272,
    DESCRIPTION,
    // The entry: published, event, election and its notes, failed, counters, claims.
    ENTRY,
    ENTRY + 128,
    ENTRY + 256,
    ENTRY + 264,
    ENTRY + 272,
    ENTRY + 280,
    ENTRY + 288,
    ENTRY + 296,
    ENTRY + 384,
    COUNTERS,
    COUNTERS + 32,
    COUNTERS + 40,
    ENTRY + 640,
    ENTRY + 648,
    ENTRY + 680,
    // The first words of its slots.
    FAILURES,
    SETS,
];
pub const INSTANCE: usize = 80;
pub const FLAGS: usize = 136;
const CHECKSUM: usize = 144;
const DESCRIPTION: usize = 512;
const ENTRY: usize = 4096;
const COUNTERS: usize = ENTRY + 512;
const FAILURES: usize = ENTRY + 768;
const FAILURE_SLOT: usize = 1024;
pub const SETS: usize = ENTRY + 3840;
pub const SET_SLOT: usize = 17_024;
pub const SET_SLOTS: usize = 3;

/// The files of a healthy session.
pub struct Template {
    pub segment: Vec<u8>,
    pub locks: Vec<u8>,
}

/// A session with two sets; with `failure` the source has failed after that.
pub fn template(failure: bool) -> &'static Template {
    static HEALTHY: OnceLock<Template> = OnceLock::new();
    static FAILED: OnceLock<Template> = OnceLock::new();
    if failure {
        FAILED.get_or_init(|| record(true))
    } else {
        HEALTHY.get_or_init(|| record(false))
    }
}

fn record(failure: bool) -> Template {
    let name = unique("template");
    let calls = AtomicU32::new(0);
    let source = source(move || !failure || calls.fetch_add(1, Ordering::Relaxed) < 2);
    let session = SharedSession::builder(&name).source(source).create().unwrap();
    session.credentials().unwrap();
    session.refresh().unwrap();
    assert_eq!(session.refresh().is_err(), failure);
    let [segment, locks] = paths(&name).map(|path| fs::read(path).unwrap());
    Template { segment, locks }
}

/// A source whose sets are told from those of others; it fails where `well` says no.
pub fn source(well: impl Fn() -> bool + Send + Sync + 'static) -> Provider {
    Provider::from_fn("hostile", move || {
        let well = well();
        async move {
            match well {
                true => Ok(set()),
                false => Err(SourceError::new(SourceErrorClass::Transient, "refused")),
            }
        }
    })
}

fn set() -> Credentials {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("ASIA{:08}", NEXT.fetch_add(1, Ordering::Relaxed));
    let hour = SystemTime::now() + Duration::from_secs(3600);
    Credentials::new(&id, format!("secret-of-{id}"), Some(token(&id)), Some(hour), "hostile")
}

fn token(id: &str) -> String {
    format!("token-of-{id};").repeat(4)
}

/// Panics when the set is none that the source has made.
fn assert_known(set: &Credentials) {
    let id = set.access_key_id();
    assert!(id.len() == 12 && id.starts_with("ASIA"), "foreign set");
    assert_eq!(set.secret_access_key(), format!("secret-of-{id}"), "torn set");
    assert_eq!(set.session_token(), Some(token(id).as_str()), "torn set");
}

/// Which checksums the attacker has made right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    AsTheyWere,
    OfTheHeader,
    /// Then a forged set is as good as any.
    OfAll,
}

/// Changes the bytes of a segment as `choices` say.
pub fn damage_segment(bytes: &mut Vec<u8>, choices: &mut Choices) -> Sums {
    for _ in 0..choices.byte() % 6 {
        let slot = match choices.byte() % 3 {
            0 => 0,
            1 => SETS + choices.below(SET_SLOTS) * SET_SLOT,
            _ => FAILURES + choices.below(3) * FAILURE_SLOT,
        };
        let at = match (slot, choices.byte() % 3) {
            (0, 0 | 1) => choices.one(&PLACES),
            (slot, 0 | 1) => slot + 8 * choices.below(10),
            _ => choices.below(bytes.len()),
        };
        let word = choices.word().to_le_bytes();
        let new = if choices.yes() { choices.bytes(255) } else { &word[..] };
        for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
            *byte = *new;
        }
    }
    let sums = choices.one(&[Sums::AsTheyWere, Sums::OfTheHeader, Sums::OfAll]);
    if sums != Sums::AsTheyWere {
        seal_header(bytes);
    }
    if sums == Sums::OfAll {
        (0..SET_SLOTS).for_each(|slot| seal_record(bytes, SETS + slot * SET_SLOT, SET_SLOT));
        (0..3).for_each(|slot| seal_record(bytes, FAILURES + slot * FAILURE_SLOT, FAILURE_SLOT));
    }
    change_length(bytes, choices);
    sums
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Makes the checksum of the header right again.
pub fn seal_header(bytes: &mut [u8]) {
    let text = DESCRIPTION + 8;
    let length = usize::try_from(word(bytes, DESCRIPTION)).map_or(0, |n| n.min(ENTRY - text));
    let sum = crc32fast::hash(&[&bytes[8..CHECKSUM], &bytes[text..text + length]].concat());
    bytes[CHECKSUM..CHECKSUM + 8].copy_from_slice(&u64::from(sum).to_le_bytes());
}

fn seal_record(bytes: &mut [u8], slot: usize, size: usize) {
    let Ok(words) = usize::try_from(word(bytes, slot + 8)) else { return };
    if words == 0 || words > size / 8 - 2 {
        return;
    }
    let record = slot + 16;
    let sum = crc32fast::hash(&bytes[record + 8..record + words * 8]);
    bytes[record..record + 8].copy_from_slice(&u64::from(sum).to_le_bytes());
}

/// Seldom makes the file shorter or longer.
pub fn change_length(bytes: &mut Vec<u8>, choices: &mut Choices) {
    match choices.byte() {
        0..8 => bytes.truncate(choices.below(bytes.len())),
        8..12 => bytes.resize(bytes.len() + choices.below(100_000), 0xff),
        _ => {}
    }
}

/// Changes the bytes of a lock file.
pub fn damage_locks(bytes: &mut Vec<u8>, choices: &mut Choices) {
    for _ in 0..choices.byte() % 4 {
        let at = choices.one(&[0, 4, 8, 16, 24, 2048]);
        bytes[at..at + 8].copy_from_slice(&choices.word().to_le_bytes());
    }
    change_length(bytes, choices);
}

/// Leaves the files of a session as `data` says, and does with it all that a program can do.
pub fn attack(data: &[u8]) {
    let choices = &mut Choices::new(data);
    let template = template(choices.yes());
    let (mut segment, mut locks) = (template.segment.clone(), template.locks.clone());
    let sums = damage_segment(&mut segment, choices);
    damage_locks(&mut locks, choices);
    let name = unique("files");
    let [segment_path, locks_path] = paths(&name);
    write(&segment_path, &segment);
    write(&locks_path, &locks);
    let began = Instant::now();
    let (with_source, well) = (choices.yes(), choices.yes());
    let mut builder = SharedSession::builder(&name).wait_timeout(DEADLINE);
    if with_source {
        builder = builder.source(source(move || well));
    }
    match builder.attach() {
        Ok(session) => use_it(&session, sums),
        Err(error) => drop(format!("{error} {error:?}")),
    }
    let took = began.elapsed();
    assert!(took < LIMIT, "it took {took:?}");
    // What is left of it is not its business: nobody created it.
    let _ = SharedSession::remove(&name);
    for path in [segment_path, locks_path] {
        let _ = fs::remove_file(path);
    }
}

/// Counters that no session comes to.
pub fn counters_are_huge() {
    let template = template(false);
    let mut segment = template.segment.clone();
    segment[COUNTERS..COUNTERS + 64].fill(0xff);
    let name = unique("counters");
    let [segment_path, locks_path] = paths(&name);
    write(&segment_path, &segment);
    write(&locks_path, &template.locks);
    let session = SharedSession::attach(&name).unwrap();
    let status = session.status().unwrap();
    assert_eq!((status.failed(), status.source_calls()), (u64::MAX, u64::MAX));
    drop(session);
    SharedSession::remove(&name).unwrap();
}

/// Calls everything that reads, and what writes.
pub fn use_it(session: &SharedSession, sums: Sums) {
    let check = |set: &Credentials| {
        if sums != Sums::OfAll {
            assert_known(set);
        }
    };
    look(session);
    if let Ok(set) = session.credentials() {
        check(&set);
    }
    if let Ok(set) = session.reader().credentials() {
        check(set);
    }
    if let Ok(set) = session.refresh() {
        check(&set);
        let _ = session.invalidate(set.access_key_id());
    }
    if let Ok(set) = session.credentials() {
        check(&set);
    }
    look(session);
}

/// Reads all of the status.
fn look(session: &SharedSession) {
    let Ok(status) = session.status() else { return };
    let failure = status.last_failure().map(|last| {
        (last.at(), last.next_attempt_in(), last.in_a_row(), last.failure().to_string())
    });
    let refresher = status.lease_holder().map(|one| (one.elected_for(), one.lease_left()));
    let life = (status.expires_in(), status.refresh_in(), status.age());
    drop(format!("{status:?} {failure:?} {refresher:?} {session:?} {life:?} {}", status.failed()));
    assert!(status.source().len() <= 3 * ENTRY, "a description without bound");
}

/// A name that no other case has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("hostile-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn paths(name: &str) -> [String; 2] {
    let segment = format!("/dev/shm/shmcreds-{}-{name}", nix::unistd::geteuid());
    let locks = format!("{segment}@lock");
    [segment, locks]
}

pub fn write(path: &str, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).unwrap();
}
