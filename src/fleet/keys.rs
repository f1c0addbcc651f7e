//! Where the keys that encrypt sets in the store come from. They are read for each refresh, so a changed file counts at once.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

#[cfg(feature = "fleet-kms")]
use super::kms::KmsKeys;
use super::{key::Keys, secret_file};
use crate::source::Source;

/// Where the keys of a shared set come from.
///
/// A key is 32 random bytes, as 64 hexadecimal digits. There may be two, one in each line: the first one encrypts, both
/// decrypt. To replace a key without a moment in which hosts cannot read each other's sets: first add the new key as the
/// second line on all hosts, then swap the two, then remove the old one.
///
/// This is only a path or the name of a variable. The keys are read when a set is due, and wiped after it.
#[cfg_attr(
    feature = "fleet-kms",
    doc = "Keys that AWS KMS encrypted are a [`KmsKeys`](crate::KmsKeys)."
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetKeys(Origin);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Origin {
    File(PathBuf),
    Variable(String),
    #[cfg(feature = "fleet-kms")]
    Kms(KmsKeys),
}

#[cfg(feature = "fleet-kms")]
impl From<KmsKeys> for FleetKeys {
    fn from(keys: KmsKeys) -> Self {
        FleetKeys(Origin::Kms(keys))
    }
}

impl FleetKeys {
    /// The keys in a file. Only its owner may write it, and others may not read it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        FleetKeys(Origin::File(path.into()))
    }

    /// The keys in an environment variable. Every process of this user can read it in `/proc`.
    pub fn variable(name: impl Into<String>) -> Self {
        FleetKeys(Origin::Variable(name.into()))
    }

    /// Checks what can be checked without a request.
    ///
    /// # Errors
    /// A sentence without a key: what is wrong with the file or the variable.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.0 {
            Origin::File(path) => in_file(path).map(drop),
            Origin::Variable(name) => in_variable(name).map(drop),
            #[cfg(feature = "fleet-kms")]
            Origin::Kms(keys) => keys.check(),
        }
    }

    /// How long [`read`](Self::read) may take.
    pub(super) fn limit(&self) -> Duration {
        match &self.0 {
            Origin::File(_) | Origin::Variable(_) => Duration::ZERO,
            #[cfg(feature = "fleet-kms")]
            Origin::Kms(_) => super::kms::LIMIT,
        }
    }

    /// Reads the keys. KMS is asked with the base identity of `source`.
    ///
    /// # Errors
    /// A sentence without a key: what is wrong with the file, the variable or the answer of KMS.
    #[cfg_attr(not(feature = "fleet-kms"), allow(unused_variables))]
    pub(super) async fn read(&self, source: &dyn Source) -> Result<Keys, String> {
        match &self.0 {
            Origin::File(path) => in_file(path),
            Origin::Variable(name) => in_variable(name),
            #[cfg(feature = "fleet-kms")]
            Origin::Kms(keys) => keys.read(source).await,
        }
    }
}

fn in_file(path: &Path) -> Result<Keys, String> {
    let text = secret_file::read_without(0o027, path);
    let keys = text.and_then(|text| Keys::parse(&text));
    keys.map_err(|problem| format!("the key file {}: {problem}", path.display()))
}

fn in_variable(name: &str) -> Result<Keys, String> {
    let text = std::env::var(name).map_err(|_| format!("the key variable {name} is not set"))?;
    let keys = Keys::parse(&Zeroizing::new(text));
    keys.map_err(|problem| format!("the key variable {name}: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::PermissionsExt};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{}", "0f".repeat(32)).unwrap();
        let from = FleetKeys::file(file.path());
        for (mode, is_good) in [(0o600, true), (0o440, true), (0o644, false), (0o620, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let found = from.check();
            assert_eq!(found.is_ok(), is_good, "{mode:o}: {found:?}");
            assert!(found.err().is_none_or(|text| text.contains("it must be 0640 or stricter")));
        }
        let problem = |keys: FleetKeys| keys.check().unwrap_err();
        assert!(problem(FleetKeys::file("/no/such/file")).contains("/no/such/file: "));
        let missing = problem(FleetKeys::variable("SHMCREDS_NO_SUCH_KEY"));
        assert_eq!(missing, "the key variable SHMCREDS_NO_SUCH_KEY is not set");
    }

    #[test]
    fn what_is_no_file_is_refused_without_a_wait() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        for (path, problem) in [(pipe.as_path(), "it is a pipe"), (folder.path(), "EISDIR")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            let found = FleetKeys::file(path).check().unwrap_err();
            assert!(found.contains(problem), "{found}");
        }
    }
}
