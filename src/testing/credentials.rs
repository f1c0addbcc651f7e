//! Names and secrets in the formats of STS.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
};

use rustix::rand::{GetRandomFlags, getrandom};

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A new set. It has no `Debug`, because it holds secrets.
pub(crate) struct IssuedSet {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
}

impl IssuedSet {
    /// Draws a set with a session token of `token_bytes` bytes.
    pub(crate) fn new(token_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            access_key_id: format!("ASIA{}", random_text(16, BASE32)?),
            secret_access_key: random_text(40, BASE64)?,
            session_token: random_text(token_bytes, BASE64)?,
        })
    }
}

/// `len` random characters. The size of the alphabet is a power of two, so all are equally likely.
fn random_text(len: usize, alphabet: &[u8]) -> io::Result<String> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|&byte| letter(alphabet, usize::from(byte))).collect())
}

/// The unique id of a name, always the same: the prefix and 17 characters.
pub(crate) fn unique_id(prefix: &str, name: &str) -> String {
    // A hash has 64 bits, and the id needs 85.
    let bits = u128::from(hash(&(name, 0))) << 64 | u128::from(hash(&(name, 1)));
    let tail = (0..17).map(|i| letter(BASE32, (bits >> (5 * i)) as usize & 31));
    prefix.chars().chain(tail).collect()
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn letter(alphabet: &[u8], index: usize) -> char {
    char::from(alphabet[index % alphabet.len()])
}
