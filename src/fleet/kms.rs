//! Keys that AWS KMS encrypted. KMS is asked for each refresh, and nothing is kept.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};

use super::{
    key::{self, Key, Keys},
    secret_file,
};
use crate::source::{Decryption, Source, decrypt};

/// How long KMS may take for all keys, with the base credentials.
pub(super) const LIMIT: Duration = Duration::from_secs(3);
/// The longest ciphertext that KMS takes.
const LONGEST: usize = 6144;
const FORM: &str = "a line is the ciphertext of a key in base64, as `aws kms \
                    generate-data-key-without-plaintext --output text --query CiphertextBlob` prints it";

/// The keys of a shared set, encrypted by AWS KMS. Needs the feature `fleet-kms`.
///
/// The file has one ciphertext in base64 in each line, and two lines at most: as for [`FleetKeys`](super::FleetKeys), the
/// first key encrypts, and both decrypt. A key is 32 bytes, or 64 hexadecimal digits. Nobody but KMS needs to know it:
///
/// ```sh
/// aws kms generate-data-key-without-plaintext --key-id alias/fleet --key-spec AES_256 \
///     --encryption-context fleet=web --output text --query CiphertextBlob > fleet-keys.kms
/// ```
///
/// ```
/// use shmcreds::{Fleet, KmsKeys};
///
/// let keys = KmsKeys::file("/etc/shmcreds/fleet-keys.kms")
///     .key("arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
///     .encryption_context("fleet", "web");
/// let fleet = Fleet::redis("rediss://valkey.example:6379").share_set("web", keys);
/// ```
///
/// `kms:Decrypt` is called for each refresh, with the credentials that assume the role; for sources without a role, with
/// those of the SDK's default chain. The answer is wiped after the refresh. Without an answer within 3 s, or with a
/// refusal, the host goes on alone: the set counts as unusable, and the log says why.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsKeys {
    file: PathBuf,
    key: Option<String>,
    context: BTreeMap<String, String>,
}

impl KmsKeys {
    /// The ciphertexts in a file. Only its owner may write it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        KmsKeys { file: path.into(), key: None, context: BTreeMap::new() }
    }

    /// The KMS key that must have encrypted them: its ARN, its id, or its alias. Without it KMS takes any key that the
    /// identity may use. An ARN also says the Region. Otherwise that is the Region of the source.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a pair to the encryption context. It must be the same as at the encryption. It is no secret: CloudTrail
    /// shows it.
    pub fn encryption_context(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(key.into(), value.into());
        self
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(key) = &self.key {
            let is_plain = |c: char| c.is_ascii_graphic();
            if key.is_empty() || key.len() > 2048 || !key.chars().all(is_plain) {
                return Err(format!(
                    "the KMS key is {key:?}; it must be an ARN, an id or an alias, of 1 to 2,048 characters"
                ));
            }
        }
        if self.context.keys().any(String::is_empty) {
            return Err("the encryption context has a pair without a name".into());
        }
        self.ciphertexts().map(drop)
    }

    /// Asks KMS for each key.
    pub(super) async fn read(&self, source: &dyn Source) -> Result<Keys, String> {
        let ciphertexts = self.ciphertexts()?;
        let number = ciphertexts.len();
        let decryption =
            Decryption { ciphertexts, key: self.key.as_deref(), context: &self.context };
        let name = self.name();
        let answer = tokio::time::timeout(LIMIT, decrypt(source, decryption)).await;
        let plaintexts = answer
            .map_err(|_| format!("{name}: KMS gave no answer within {LIMIT:?}"))?
            .map_err(|problem| format!("{name}: {problem}"))?;
        let keys = plaintexts.iter().map(|text| Key::decrypted(text)).collect::<Option<Vec<Key>>>();
        match keys {
            Some(keys) if keys.len() == number => Ok(Keys::of(keys)),
            _ => Err(format!(
                "{name}: KMS decrypted something that is no key; a key is 32 bytes, or 64 hexadecimal digits"
            )),
        }
    }

    fn ciphertexts(&self) -> Result<Vec<Vec<u8>>, String> {
        let named = |problem: String| format!("{}: {problem}", self.name());
        // Another ciphertext would lead to a key that others know.
        let text = secret_file::read_without(0o022, &self.file).map_err(named)?;
        let decoded = |line: &str| {
            let bytes = base64::decode(line).ok()?;
            (1..=LONGEST).contains(&bytes.len()).then_some(bytes)
        };
        let found: Option<Vec<_>> = text.split_whitespace().map(decoded).collect();
        let found = found
            .ok_or_else(|| named(format!("it has something that is no ciphertext; {FORM}")))?;
        key::number(found.len(), FORM).map_err(named)?;
        Ok(found)
    }

    fn name(&self) -> String {
        format!("the file of encrypted keys {}", self.file.display())
    }
}

impl fmt::Debug for KmsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsKeys")
            .field("file", &self.file)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_file_of_ciphertexts_is_checked_before_kms_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let check = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            KmsKeys::file(&path).check()
        };
        assert_eq!(check("AQID\n"), Ok(()));
        assert_eq!(check("AQID\nBAUG"), Ok(()));
        for (text, problem) in [
            ("", "it has no key"),
            ("AQID AQID AQID", "it has 3 keys; it may have 2"),
            ("AQI", "it has something that is no ciphertext"),
            ("\u{1}\u{2}", "it has something that is no ciphertext"),
            (&base64::encode([7; LONGEST + 1]), "it has something that is no ciphertext"),
        ] {
            let found = check(text).unwrap_err();
            assert!(found.contains(problem) && found.contains("keys: "), "{found}");
        }
        for (mode, is_good) in [(0o444, true), (0o664, false), (0o646, false)] {
            fs::write(&path, "AQID").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = KmsKeys::file(&path).check();
            assert_eq!(found.is_ok(), is_good, "{mode:o}: {found:?}");
            assert!(found.err().is_none_or(|text| text.contains("it must be 0644 or stricter")));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            KmsKeys::file(&path).key("a b").check().unwrap_err().contains("the KMS key is \"a b\"")
        );
        let nameless = KmsKeys::file(&path).encryption_context("", "web").check();
        assert!(nameless.unwrap_err().contains("without a name"));
    }
}
