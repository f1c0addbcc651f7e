//! Names and secrets in the formats of STS.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
};

use aws_credential_types::Credentials;
use rustix::rand::{GetRandomFlags, getrandom};

use super::query::Inputs;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A new set. It has no `Debug`, because it holds secrets.
pub(crate) struct IssuedSet {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
}

impl IssuedSet {
    /// A set with a session token of `token_bytes` bytes. The access key id is drawn. The secret is a function of the inputs
    /// of the request, and the token one of both. So a test can tell whose set it has, and whether it is whole.
    pub(crate) fn new(token_bytes: usize, inputs: &Inputs) -> io::Result<Self> {
        let access_key_id = format!("ASIA{}", random_text(16, BASE32)?);
        let secret_access_key = secret_of(inputs);
        let session_token = derived(&(&access_key_id, &secret_access_key), token_bytes);
        Ok(Self { access_key_id, secret_access_key, session_token })
    }
}

fn secret_of(inputs: &Inputs) -> String {
    let counts = |name: &str| name != "Action" && name != "Version";
    let inputs: Vec<_> = inputs.iter().filter(|(name, _)| counts(name)).collect();
    derived(&inputs, 40)
}

/// Whether the credentials are one whole set that a [`LocalSts`](super::LocalSts) issued for these inputs of `AssumeRole`:
/// all of them, with the names of the query protocol, such as `RoleArn` and `Tags.member.1.Key`. The secret of a set is a
/// function of the inputs.
pub fn is_set_of(credentials: &Credentials, inputs: &[(&str, &str)]) -> bool {
    let inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (id, secret) = (credentials.access_key_id(), secret_of(&inputs.collect()));
    let token = credentials.session_token().unwrap_or_default();
    credentials.secret_access_key() == secret && token == derived(&(id, &secret), token.len())
}

/// `len` characters that depend on `seed`.
fn derived(seed: &impl Hash, len: usize) -> String {
    let seed = hash(seed);
    // 8 characters of 6 bits each from a hash.
    let bits = (0..len.div_ceil(8)).map(|part| hash(&(seed, part)));
    let letters =
        bits.flat_map(|bits| (0..8).map(move |i| letter(BASE64, (bits >> (6 * i)) as usize)));
    letters.take(len).collect()
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
