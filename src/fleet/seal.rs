//! A set, encrypted for the store with AES-256-GCM. What the store shows in clear is bound to it: the key's id, the
//! identity, the name of the set and its times. A set with another value of one of these does not open.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{
    key::{Key, Keys},
    store::StoredSet,
};
use crate::source::Fingerprint;

const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const HEAD: usize = 1 + ID_BYTES + NONCE_LEN;
/// More than the largest set needs: its token has 16 KiB at most.
const ROOM: usize = 32 * 1024;

/// What a set belongs to.
#[derive(Clone, Copy)]
pub(super) struct Belonging<'a> {
    /// The name of the set in the store.
    pub(super) name: &'a str,
    /// Whose credentials they are.
    pub(super) identity: &'a Fingerprint,
}

/// The secret part of a set.
#[derive(Serialize, Deserialize)]
struct Secret {
    id: String,
    secret: String,
    token: String,
    account: String,
}

impl Drop for Secret {
    fn drop(&mut self) {
        for text in [&mut self.id, &mut self.secret, &mut self.token, &mut self.account] {
            text.zeroize();
        }
    }
}

/// Encrypts a set with the first key.
///
/// # Errors
/// A sentence, when the kernel gives no random bytes.
pub(super) fn seal(
    keys: &Keys,
    belonging: Belonging<'_>,
    credentials: &Credentials,
    (expires, fresh_until): (u64, u64),
) -> Result<StoredSet, String> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let secret = Secret {
        id: credentials.access_key_id().to_owned(),
        secret: credentials.secret_access_key().to_owned(),
        token: text(credentials.session_token()),
        account: text(credentials.account_id().map(|account| account.as_str())),
    };
    // With room for everything: a vector that grows leaves copies behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *sealed, &secret).map_err(|error| error.to_string())?;
    let key = keys.first();
    let mut nonce = [0; NONCE_LEN];
    if getrandom(&mut nonce, GetRandomFlags::empty()) != Ok(NONCE_LEN) {
        return Err("the kernel gave no random bytes (getrandom)".into());
    }
    let data = bound(key.id, belonging, expires, fresh_until);
    cipher(key)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, Aad::from(data), &mut *sealed).ok()
        })
        .ok_or("the set could not be encrypted")?;
    let mut whole = vec![VERSION];
    whole.extend(key.id);
    whole.extend(nonce);
    whole.extend_from_slice(&sealed);
    Ok(StoredSet { expires, fresh_until, sealed: whole })
}

/// Decrypts a set.
///
/// # Errors
/// A sentence: why it does not open.
pub(super) fn open(
    keys: &Keys,
    belonging: Belonging<'_>,
    set: &StoredSet,
) -> Result<Credentials, &'static str> {
    const DAMAGED: &str = "it is damaged, or of another identity";
    let (head, body) = set.sealed.split_at_checked(HEAD).ok_or("it is too short")?;
    if head[0] != VERSION {
        return Err("it is of another version");
    }
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&head[1..1 + ID_BYTES]);
    let key = keys.by_id(id).ok_or("it is encrypted with a key that this host does not have")?;
    let nonce = Nonce::try_assume_unique_for_key(&head[1 + ID_BYTES..]).map_err(|_| DAMAGED)?;
    let data = bound(id, belonging, set.expires, set.fresh_until);
    let mut body = Zeroizing::new(body.to_vec());
    let cipher = cipher(key).ok_or(DAMAGED)?;
    let clear = cipher.open_in_place(nonce, Aad::from(data), &mut body).map_err(|_| DAMAGED)?;
    let secret: Secret = serde_json::from_slice(clear).map_err(|_| DAMAGED)?;
    if secret.id.is_empty() || secret.secret.is_empty() {
        return Err("it is not complete");
    }
    let expiry = UNIX_EPOCH.checked_add(Duration::from_millis(set.expires)).ok_or(DAMAGED)?;
    let present = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let mut credentials = Credentials::builder()
        .access_key_id(&secret.id)
        .secret_access_key(&secret.secret)
        .expiry(expiry)
        .provider_name("shmcreds-fleet");
    credentials.set_session_token(present(&secret.token));
    credentials.set_account_id(present(&secret.account).map(Into::into));
    Ok(credentials.build())
}

fn cipher(key: &Key) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key.bytes).ok()?))
}

/// The data that is bound to the encrypted set. Each part has a fixed length, but the last one.
fn bound(id: [u8; ID_BYTES], belonging: Belonging<'_>, expires: u64, fresh: u64) -> Vec<u8> {
    let mut data = b"shmcreds fleet set".to_vec();
    data.push(VERSION);
    data.extend(id);
    data.extend_from_slice(belonging.identity);
    data.extend(expires.to_be_bytes());
    data.extend(fresh.to_be_bytes());
    data.extend_from_slice(belonging.name.as_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::{super::key::tests::keys, *};
    use crate::source::FingerprintEncoder;

    fn identity(text: &str) -> Fingerprint {
        FingerprintEncoder::new("test").text("name", text).finish()
    }

    fn set() -> Credentials {
        Credentials::builder()
            .access_key_id("ASIAEXAMPLE")
            .secret_access_key("the secret")
            .session_token("the token")
            .account_id("123456789012")
            .provider_name("test")
            .build()
    }

    #[test]
    fn a_set_opens_only_where_it_belongs_and_unchanged() {
        let (old, new) = ("01".repeat(32), "02".repeat(32));
        let web = identity("web");
        let belonging = Belonging { name: "web", identity: &web };
        let stored = seal(&keys(&old), belonging, &set(), (9_000, 5_000)).unwrap();
        let text = String::from_utf8_lossy(&stored.sealed).into_owned();
        for secret in ["ASIAEXAMPLE", "the secret", "the token", "123456789012"] {
            assert!(!text.contains(secret));
        }
        // Also after the first step of a rotation, and after the second.
        for known in [old.clone(), format!("{old} {new}"), format!("{new} {old}")] {
            let opened = open(&keys(&known), belonging, &stored).unwrap();
            assert_eq!(opened.access_key_id(), "ASIAEXAMPLE");
            assert_eq!(opened.secret_access_key(), "the secret");
            assert_eq!(opened.session_token(), Some("the token"));
            assert_eq!(opened.account_id().unwrap().as_str(), "123456789012");
            assert_eq!(opened.expiry(), Some(UNIX_EPOCH + Duration::from_secs(9)));
        }
        let known = keys(&old);
        let fails = |belonging, stored: &StoredSet| open(&known, belonging, stored).unwrap_err();
        let unknown = open(&keys(&new), belonging, &stored).unwrap_err();
        assert_eq!(unknown, "it is encrypted with a key that this host does not have");
        let damaged = "it is damaged, or of another identity";
        let other = identity("other");
        assert_eq!(fails(Belonging { identity: &other, ..belonging }, &stored), damaged);
        assert_eq!(fails(Belonging { name: "api", ..belonging }, &stored), damaged);
        let later = StoredSet { expires: 9_001, ..stored.clone() };
        assert_eq!(fails(belonging, &later), damaged);
        let fresher = StoredSet { fresh_until: 5_001, ..stored.clone() };
        assert_eq!(fails(belonging, &fresher), damaged);
        for place in 0..stored.sealed.len() {
            let mut changed = stored.clone();
            changed.sealed[place] ^= 1;
            assert!(open(&known, belonging, &changed).is_err(), "byte {place}");
            let short = stored.sealed[..place].to_vec();
            assert!(open(&known, belonging, &StoredSet { sealed: short, ..changed }).is_err());
        }
        // Each encryption has a nonce of its own.
        let again = seal(&keys(&old), belonging, &set(), (9_000, 5_000)).unwrap();
        assert_ne!(again.sealed, stored.sealed);
    }
}
