//! The keys that encrypt sets in the store. They are wiped when dropped.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The most keys. The first one encrypts; all of them decrypt.
const MOST: usize = 2;
const KEY_BYTES: usize = 32;
const FORM: &str = "a key is 64 hexadecimal digits (for example from `openssl rand -hex 32`)";

/// The keys. The first one encrypts.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let keys: Option<Vec<Key>> = text.split_whitespace().map(Key::parse).collect();
        let keys = keys.ok_or_else(|| format!("it has something that is no key; {FORM}"))?;
        number(keys.len(), FORM)?;
        Ok(Keys(keys))
    }

    /// At least one, and [`MOST`].
    #[cfg(feature = "fleet-kms")]
    pub(super) fn of(keys: Vec<Key>) -> Self {
        Keys(keys)
    }

    pub(super) fn first(&self) -> &Key {
        &self.0[0]
    }

    pub(super) fn by_id(&self, id: [u8; 8]) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

/// Whether there may be this number of keys.
///
/// # Errors
/// A sentence with the rule.
pub(super) fn number(keys: usize, form: &str) -> Result<(), String> {
    match keys {
        0 => Err(format!("it has no key; {form}")),
        1..=MOST => Ok(()),
        _ => Err(format!("it has {keys} keys; it may have {MOST}")),
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
        Some(Key::new(bytes))
    }

    /// The key in what KMS has decrypted: its bytes, or its digits.
    #[cfg(feature = "fleet-kms")]
    pub(super) fn decrypted(plaintext: &[u8]) -> Option<Self> {
        match <[u8; KEY_BYTES]>::try_from(plaintext) {
            Ok(bytes) => Some(Key::new(Zeroizing::new(bytes))),
            Err(_) => Key::parse(std::str::from_utf8(plaintext).ok()?.trim()),
        }
    }

    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"the id of a shmcreds fleet key");
        hash.update(*bytes);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        Key { id, bytes }
    }
}

#[cfg(test)]
pub(super) mod tests {
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
}
