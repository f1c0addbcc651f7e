//! The fields of a set, and their places in its record.

use super::{
    key::Key,
    layout::SET_SLOT_WORDS,
    pool::layout::SMALL_WORDS,
    record::{Words, cut, decode, encode},
};
use crate::seqlock::HEAD as SLOT_HEAD;

/// The longest field, in bytes. The 16-bit lengths and the slots have space for it.
pub(crate) const MAX_TOKEN: usize = 16_384;
const MAX_KEY_ID: usize = 128;
const MAX_SECRET: usize = 256;
const MAX_ACCOUNT: usize = 64;
pub(super) const MAX_ARN: usize = 512;

/// A set and its points in time, as stored in a slot. Times are nanoseconds; `boot` is `CLOCK_BOOTTIME`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SetRecord<'a> {
    pub(crate) fetched_boot: u64,
    pub(crate) advisory_boot: u64,
    pub(crate) mandatory_boot: u64,
    pub(crate) expires_boot: u64,
    /// The expiry on the wall clock, since 1970.
    pub(crate) expires_unix: u64,
    pub(crate) access_key_id: &'a str,
    pub(crate) secret_access_key: &'a str,
    /// Empty when there is none.
    pub(crate) session_token: &'a str,
    /// Empty when it is not known.
    pub(crate) account_id: &'a str,
    /// The ARN of the role, for people. Only in a pool. It may be cut, or empty.
    pub(crate) role_arn: &'a str,
}

impl<'a> SetRecord<'a> {
    /// Replaces the contents of `words` by the encoded record.
    ///
    /// # Errors
    /// When a field is too long. The sentence names the field, never its value.
    pub(crate) fn encode(&self, key: Option<&Key>, words: &mut Words) -> Result<(), String> {
        let place = if key.is_some() { "the largest cell of a pool" } else { "a slot" };
        // A new field does not compile until it is here, and in `decode`.
        let SetRecord {
            fetched_boot,
            advisory_boot,
            mandatory_boot,
            expires_boot,
            expires_unix,
            access_key_id,
            secret_access_key,
            session_token,
            account_id,
            // Shortened, in `owner`.
            role_arn: _,
        } = *self;
        for (field, value, room) in [
            ("AccessKeyId", access_key_id, MAX_KEY_ID),
            ("SecretAccessKey", secret_access_key, MAX_SECRET),
            ("SessionToken", session_token, MAX_TOKEN),
            ("AccountId", account_id, MAX_ACCOUNT),
        ] {
            if value.len() > room {
                return Err(format!("{field} has {} bytes; {place} holds {room}", value.len()));
            }
        }
        let fixed = [fetched_boot, advisory_boot, mandatory_boot, expires_boot, expires_unix];
        let keys = [access_key_id, secret_access_key, session_token];
        let owner = match key {
            Some(_) => self.owner(key, fixed.len(), &keys),
            None => account_id.to_owned(),
        };
        let [id, secret, token] = keys;
        encode(words, key, &fixed, [id, secret, token, &owner]);
        Ok(())
    }

    /// The fourth text in a pool: the account, a space, and the ARN of the role. The ARN is cut where the record would
    /// need a larger cell because of it.
    fn owner(&self, key: Option<&Key>, fixed: usize, keys: &[&str; 3]) -> String {
        let bytes: usize =
            keys.iter().map(|text| text.len()).sum::<usize>() + self.account_id.len() + 1;
        let head = SLOT_HEAD + 2 + key.map_or(0, |key| key.len()) + fixed;
        let left = |cell: usize| (cell.saturating_sub(head) * 8).checked_sub(bytes);
        let left = left(SMALL_WORDS).or_else(|| left(SET_SLOT_WORDS)).unwrap_or(0);
        format!("{} {}", self.account_id, cut(self.role_arn, left.min(MAX_ARN)))
    }

    /// Decodes the record in `words`. `None` also when it is the record of another key than `key`.
    pub(crate) fn decode(words: &'a [u64], key: Option<&Key>) -> Option<Self> {
        let ([fetched_boot, advisory_boot, mandatory_boot, expires_boot, expires_unix], fields) =
            decode::<5>(words, key)?;
        let [access_key_id, secret_access_key, session_token, owner] = fields;
        let (account_id, role_arn) = match key {
            Some(_) => owner.split_once(' ').unwrap_or((owner, "")),
            None => (owner, ""),
        };
        Some(SetRecord {
            fetched_boot,
            advisory_boot,
            mandatory_boot,
            expires_boot,
            expires_unix,
            access_key_id,
            secret_access_key,
            session_token,
            account_id,
            role_arn,
        })
    }
}
