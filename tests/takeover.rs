//! Many cycles, many deaths: readers that read on while others come and go.
#![allow(unsafe_code)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    time::Duration,
};

use aws_credential_types::Credentials;
use shmcreds::{
    Refresh, SharedSession,
    testing::{LocalSts, Settings},
};
use support::{Child, assumed, child, name, role, until};

fn main() {
    support::run_forking(&[(
        "each_of_ten_short_lived_sets_is_fetched_once",
        sixteen_readers_over_ten_cycles,
    )]);
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
