//! The keys that encrypt sets in the store: read for each refresh, so a changed file counts at once.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The most keys. The first one encrypts; all of them decrypt.
const MOST: usize = 2;
const KEY_BYTES: usize = 32;
const FORM: &str = "a key is 64 hexadecimal digits (for example from `openssl rand -hex 32`)";

/// Where the keys of a shared set come from.
///
/// A key is 32 random bytes, as 64 hexadecimal digits. There may be two, one in each line: the first one encrypts, both
/// decrypt. To replace a key without a moment in which hosts cannot read each other's sets: first add the new key as the
/// second line on all hosts, then swap the two, then remove the old one.
///
/// This is only a path or the name of a variable. The keys are read when a set is due, and wiped after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetKeys(Origin);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Origin {
    File(PathBuf),
    Variable(String),
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

    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence without a key: what is wrong with the file or the variable.
    pub(super) fn read(&self) -> Result<Keys, String> {
        let (name, text) = match &self.0 {
            Origin::File(path) => {
                let name = format!("the key file {}", path.display());
                let failed = |error: std::io::Error| format!("{name}: {error}");
                let mode = fs::metadata(path).map_err(failed)?.mode();
                if mode & 0o027 != 0 {
                    let mode = mode & 0o777;
                    return Err(format!(
                        "{name} has mode {mode:o}: other users can read or change it; it must be 0640 or stricter"
                    ));
                }
                let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
                (name, text)
            }
            Origin::Variable(variable) => {
                let name = format!("the key variable {variable}");
                let text = std::env::var(variable).map_err(|_| format!("{name} is not set"))?;
                (name, Zeroizing::new(text))
            }
        };
        Keys::parse(&text).map_err(|problem| format!("{name}: {problem}"))
    }
}

/// The keys. The first one encrypts.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    fn parse(text: &str) -> Result<Self, String> {
        let keys: Option<Vec<Key>> = text.split_whitespace().map(Key::parse).collect();
        match keys {
            None => Err(format!("it has something that is no key; {FORM}")),
            Some(keys) if keys.is_empty() => Err(format!("it has no key; {FORM}")),
            Some(keys) if keys.len() > MOST => {
                Err(format!("it has {} keys; it may have {MOST}", keys.len()))
            }
            Some(keys) => Ok(Keys(keys)),
        }
    }

    pub(super) fn first(&self) -> &Key {
        &self.0[0]
    }

    pub(super) fn by_id(&self, id: [u8; 8]) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

/// One key.
pub(super) struct Key {
    /// Names the key in the store. It tells nothing about the key.
    pub(super) id: [u8; 8],
    pub(super) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        if text.len() != KEY_BYTES * 2 || !text.is_ascii() {
            return None;
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, place) in bytes.iter_mut().zip((0..).step_by(2)) {
            // `from_str_radix` takes a sign.
            let digits = text.get(place..place + 2)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        let mut hash = Sha256::new();
        hash.update(b"the id of a shmcreds fleet key");
        hash.update(*bytes);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        Some(Key { id, bytes })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{io::Write, os::unix::fs::PermissionsExt};

    use super::*;

    pub(crate) fn keys(text: &str) -> Keys {
        Keys::parse(text).unwrap()
    }

    #[test]
    fn a_key_is_64_digits_and_there_are_two_at_most() {
        let key = "0f".repeat(32);
        let two = keys(&format!("{key}\n{}\n", "AB".repeat(32)));
        assert_eq!((two.0.len(), *two.first().bytes), (2, [0x0f; 32]));
        assert!(two.by_id(two.0[1].id).is_some_and(|key| *key.bytes == [0xab; 32]));
        assert!(two.by_id([0; 8]).is_none());
        for (text, problem) in [
            (String::new(), "it has no key"),
            (key[1..].to_owned(), "it has something that is no key"),
            ("+f".repeat(32), "it has something that is no key"),
            ("é".repeat(32), "it has something that is no key"),
            (format!("{key} {key} {key}"), "it has 3 keys; it may have 2"),
        ] {
            let found = Keys::parse(&text).err().unwrap();
            assert!(found.starts_with(problem), "{found}");
            assert!(!found.contains(&key[2..]), "{found}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{}", "0f".repeat(32)).unwrap();
        let from = FleetKeys::file(file.path());
        for (mode, is_good) in [(0o600, true), (0o440, true), (0o644, false), (0o620, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let found = from.read().map(drop);
            assert_eq!(found.is_ok(), is_good, "{mode:o}: {found:?}");
        }
        assert!(FleetKeys::file("/no/such/file").read().err().unwrap().contains("/no/such/file"));
        let missing = FleetKeys::variable("SHMCREDS_NO_SUCH_KEY").read().err().unwrap();
        assert_eq!(missing, "the key variable SHMCREDS_NO_SUCH_KEY is not set");
    }
}
