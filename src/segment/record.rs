//! Records: encode a set or a failure as words, and decode it. The fields of a set are in `set_record.rs`.
//!
//! A record is `checksum, fixed words…, lengths, bytes…`. The checksum is the CRC-32 of everything after it. One word
//! holds the lengths, with 16 bits each. A record in a pool has the key of its role between the checksum and the fixed
//! words: it belongs to that role only. The bytes of the fields follow without gaps, padded with zeros to a whole word.

use std::{iter, ops::Deref};

use arrayvec::ArrayVec;
use zeroize::Zeroize;

use super::{key::Key, layout::SET_SLOT_WORDS};
use crate::seqlock::Room;

const MAX_CODE: usize = 64;
const MAX_REQUEST_ID: usize = 128;
const MAX_MESSAGE: usize = 640;

/// The words of any record.
pub(crate) type Words = WordsUpTo<SET_SLOT_WORDS>;

/// The words of nearly all sets: tokens of STS have some 1,200 bytes. On the stack they take less than a page, and `Words`
/// take five. The compiler's stack probes write to each of these pages, so a forked worker would get copies of them.
pub(crate) type FewWords = WordsUpTo<448>;

/// The words of a record, which may be secret. They are wiped on drop, and filled in place: a move would leave a copy
/// behind.
#[derive(Default)]
pub(crate) struct WordsUpTo<const MOST: usize>(ArrayVec<u64, MOST>);

impl<const MOST: usize> Deref for WordsUpTo<MOST> {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl<const MOST: usize> Room for WordsUpTo<MOST> {
    fn hold(&mut self, words: impl ExactSizeIterator<Item = u64>) -> bool {
        self.0.as_mut_slice().zeroize();
        self.0.clear();
        let fits = words.len() <= self.0.capacity();
        if fits {
            self.0.extend(words);
        }
        fits
    }
}

impl<const MOST: usize> Drop for WordsUpTo<MOST> {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

/// A failure of the source, as stored in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailureRecord<'a> {
    /// The generation that was newest when the source was asked. A later generation ends the failure.
    pub(crate) generation: u64,
    pub(crate) at_boot: u64,
    pub(crate) at_unix: u64,
    pub(crate) next_attempt_boot: u64,
    /// The number of failures in a row, including this one.
    pub(crate) in_a_row: u64,
    pub(crate) class: u64,
    /// 0 when no HTTP answer came.
    pub(crate) http_status: u64,
    pub(crate) code: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) message: &'a str,
}

impl<'a> FailureRecord<'a> {
    /// Replaces the contents of `words` by the encoded record, of `most` words at most. Texts that are too long are cut
    /// between two characters.
    pub(crate) fn encode(&self, key: Option<&Key>, most: usize, words: &mut Words) {
        let fixed = [
            self.generation,
            self.at_boot,
            self.at_unix,
            self.next_attempt_boot,
            self.in_a_row,
            self.class,
            self.http_status,
        ];
        let head = 2 + fixed.len() + key.map_or(0, |key| key.len());
        let mut room = most.saturating_sub(head) * 8;
        let mut fit = |text, limit: usize| {
            let text = cut(text, limit.min(room));
            room -= text.len();
            text
        };
        let fields = [
            fit(self.code, MAX_CODE),
            fit(self.request_id, MAX_REQUEST_ID),
            fit(self.message, MAX_MESSAGE),
            "",
        ];
        encode(words, key, &fixed, fields);
    }

    /// Decodes the record in `words`. `None` also when it is the record of another key than `key`.
    pub(crate) fn decode(words: &'a [u64], key: Option<&Key>) -> Option<Self> {
        let (fixed, fields) = decode::<7>(words, key)?;
        let [generation, at_boot, at_unix, next_attempt_boot, in_a_row, class, http_status] = fixed;
        let [code, request_id, message, _] = fields;
        Some(FailureRecord {
            generation,
            at_boot,
            at_unix,
            next_attempt_boot,
            in_a_row,
            class,
            http_status,
            code,
            request_id,
            message,
        })
    }
}

pub(super) fn cut(text: &str, room: usize) -> &str {
    &text[..text.floor_char_boundary(room)]
}

pub(super) fn encode(words: &mut Words, key: Option<&Key>, fixed: &[u64], fields: [&str; 4]) {
    let lengths = fields.iter().enumerate().map(|(i, f)| (f.len() as u64) << (16 * i)).sum();
    let bytes: usize = fields.iter().map(|field| field.len()).sum();
    let key = key.map_or(&[][..], |key| key);
    let start = 1 + key.len() + fixed.len() + 1;
    let fit = words.hold(iter::repeat_n(0, start + bytes.div_ceil(8)));
    assert!(fit, "the length of each field was checked");
    words.0[1..=key.len()].copy_from_slice(key);
    words.0[1 + key.len()..start - 1].copy_from_slice(fixed);
    words.0[start - 1] = lengths;
    let room: &mut [u8] = bytemuck::cast_slice_mut(&mut words.0[start..]);
    let mut at = 0;
    for field in fields {
        room[at..at + field.len()].copy_from_slice(field.as_bytes());
        at += field.len();
    }
    words.0[0] = checksum(&words[1..]);
}

pub(super) fn decode<'a, const FIXED: usize>(
    words: &'a [u64],
    key: Option<&Key>,
) -> Option<([u64; FIXED], [&'a str; 4])> {
    let (sum, rest) = words.split_first()?;
    if *sum != checksum(rest) {
        return None;
    }
    let rest = match key {
        Some(key) => rest.strip_prefix(key)?,
        None => rest,
    };
    let (fixed, rest) = rest.split_first_chunk::<FIXED>()?;
    let (lengths, rest) = rest.split_first()?;
    let text = std::str::from_utf8(bytemuck::cast_slice(rest)).ok()?;
    let mut fields = [""; 4];
    let mut at = 0;
    for (i, field) in fields.iter_mut().enumerate() {
        let end = at + (lengths >> (16 * i)) as u16 as usize;
        *field = text.get(at..end)?;
        at = end;
    }
    Some((*fixed, fields))
}

fn checksum(words: &[u64]) -> u64 {
    u64::from(crc32fast::hash(bytemuck::cast_slice(words)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            pool::layout::SMALL_WORDS,
            set_record::{MAX_ARN, MAX_TOKEN, SetRecord},
        },
        *,
    };
    use crate::seqlock::HEAD as SLOT_HEAD;

    fn set<'a>(id: &'a str, secret: &'a str, token: &'a str, account: &'a str) -> SetRecord<'a> {
        SetRecord {
            fetched_boot: 1,
            advisory_boot: 2,
            mandatory_boot: 3,
            expires_boot: 4,
            expires_unix: u64::MAX,
            access_key_id: id,
            secret_access_key: secret,
            session_token: token,
            account_id: account,
            role_arn: "",
        }
    }

    proptest! {
        #[test]
        fn any_set_within_the_limits_comes_back(
            id in "[A-Z0-9]{1,128}",
            secret in "[ -~]{1,256}",
            token in "[ -~]{0,16384}",
            account in "[0-9]{0,12}",
        ) {
            let record = set(&id, &secret, &token, &account);
            let mut words = Words::default();
            record.encode(None, &mut words).unwrap();
            prop_assert!(words.len() + 2 <= super::super::layout::SET_SLOT_WORDS);
            prop_assert!(SetRecord::decode(&words, None) == Some(record));
        }

        #[test]
        fn any_failure_text_comes_back_cut_at_a_character(
            code in any::<String>(), id in any::<String>(), message in "\\PC{0,900}",
        ) {
            let record = FailureRecord {
                generation: 7, at_boot: 1, at_unix: 2, next_attempt_boot: 3, in_a_row: 4, class: 1,
                http_status: 403, code: &code, request_id: &id, message: &message,
            };
            let mut words = Words::default();
            let room = super::super::layout::FAILURE_SLOT_WORDS - 2;
            record.encode(None, room, &mut words);
            prop_assert!(words.len() <= room);
            let back = FailureRecord::decode(&words, None).unwrap();
            prop_assert!(code.starts_with(back.code) && id.starts_with(back.request_id));
            prop_assert!(message.starts_with(back.message));
            prop_assert!(back.message.len() + 4 > message.len().min(MAX_MESSAGE));
        }

        /// A record of a pool comes back for its own key only, whatever its size.
        #[test]
        fn a_record_belongs_to_one_key(
            key in any::<Key>(), other in any::<Key>(), length in 0usize..=MAX_TOKEN,
            message in "\\PC{0,900}",
        ) {
            prop_assume!(key != other);
            let token = "t".repeat(length);
            let mut words = Words::default();
            let record = set("ASIA", "s", &token, "");
            record.encode(Some(&key), &mut words).unwrap();
            prop_assert!(words.len() + 2 <= super::super::layout::SET_SLOT_WORDS);
            prop_assert!(SetRecord::decode(&words, Some(&key)) == Some(record));
            prop_assert!(SetRecord::decode(&words, Some(&other)).is_none());
            let failure = FailureRecord {
                generation: 7, at_boot: 1, at_unix: 2, next_attempt_boot: 3, in_a_row: 4, class: 1,
                http_status: 403, code: "AccessDenied", request_id: &token, message: &message,
            };
            let room = super::super::pool::layout::FAILURE_SLOT_WORDS - 2;
            failure.encode(Some(&key), room, &mut words);
            prop_assert!(words.len() <= room);
            prop_assert!(FailureRecord::decode(&words, Some(&other)).is_none());
            let back = FailureRecord::decode(&words, Some(&key)).unwrap();
            prop_assert!(back.code == "AccessDenied" && message.starts_with(back.message));
        }

        /// The ARN comes back as far as it fits, and never moves a record into a larger cell.
        #[test]
        fn an_arn_takes_only_what_is_left(
            key in any::<Key>(), arn in "[a-z:/é]{0,600}", length in 0usize..=MAX_TOKEN, account in "[0-9]{0,12}",
        ) {
            let token = "t".repeat(length);
            let mut words = Words::default();
            set("ASIA", "s", &token, &account).encode(Some(&key), &mut words).unwrap();
            let plain = words.len() + SLOT_HEAD;
            let record = SetRecord { role_arn: &arn, ..set("ASIA", "s", &token, &account) };
            record.encode(Some(&key), &mut words).unwrap();
            let whole = words.len() + SLOT_HEAD;
            let cell = if plain <= SMALL_WORDS { SMALL_WORDS } else { SET_SLOT_WORDS };
            prop_assert!(whole <= cell, "{} of {}", whole, cell);
            let back = SetRecord::decode(&words, Some(&key)).unwrap();
            prop_assert!(back.account_id == account && back.session_token == token);
            prop_assert!(arn.starts_with(back.role_arn));
            prop_assert!(length > 1_200 || back.role_arn.len() + 2 > arn.len().min(MAX_ARN));
            record.encode(None, &mut words).unwrap();
            prop_assert!(SetRecord::decode(&words, None).unwrap().role_arn.is_empty());
        }

        #[test]
        fn any_changed_bit_is_noticed(token in "[a-z]{0,100}", bit in any::<prop::sample::Index>()) {
            let mut encoded = Words::default();
            set("ASIA", "s", &token, "").encode(None, &mut encoded).unwrap();
            let mut words = encoded.to_vec();
            let bit = bit.index(words.len() * 64);
            words[bit / 64] ^= 1 << (bit % 64);
            prop_assert!(SetRecord::decode(&words, None).is_none());
        }

        #[test]
        fn any_words_decode_without_a_panic(words in prop::collection::vec(any::<u64>(), 0..40)) {
            let mut words = words;
            if let Some((first, rest)) = words.split_first_mut() {
                *first = checksum(rest);
            }
            let _ = (SetRecord::decode(&words, None), FailureRecord::decode(&words, None));
        }
    }

    #[test]
    fn a_field_beyond_its_room_is_refused_by_name() {
        let long = "x".repeat(MAX_TOKEN + 1);
        for (record, field) in [
            (set(&long, "s", "t", ""), "AccessKeyId"),
            (set("k", &long, "t", ""), "SecretAccessKey"),
            (set("k", "s", &long, ""), "SessionToken"),
            (set("k", "s", "t", &long), "AccountId"),
        ] {
            let problem = record.encode(None, &mut Words::default()).unwrap_err();
            assert!(problem.starts_with(field) && !problem.contains("xx"), "{problem}");
        }
    }

    /// Processes of several versions read the same records. Word for word, where a change would be a new layout version.
    #[test]
    fn records_have_the_same_words_as_ever() {
        let shown = |words: &Words| -> Vec<String> {
            let words = words.iter().map(|word| format!("{word:x}"));
            words.collect::<Vec<_>>().chunks(6).map(|line| line.join(" ")).collect()
        };
        let key = [0xa1, 0xa2, 0xa3, 0xa4];
        let mut words = Words::default();
        let record = SetRecord {
            fetched_boot: 0x11,
            advisory_boot: 0x12,
            mandatory_boot: 0x13,
            expires_boot: 0x14,
            expires_unix: 0x15,
            role_arn: "arn:aws:iam::123456789012:role/app",
            ..set("ASIAIOSFODNN7EXAMPLE", "secret/key", "token", "123456789012")
        };
        record.encode(None, &mut words).unwrap();
        assert_eq!(
            shown(&words),
            [
                "7d162cb4 11 12 13 14 15",
                "c0005000a0014 46534f4941495341 415845374e4e444f 72636573454c504d 6f7479656b2f7465 35343332316e656b",
                "32313039383736"
            ]
        );
        record.encode(Some(&key), &mut words).unwrap();
        assert_eq!(
            shown(&words),
            [
                "cfd52bf9 a1 a2 a3 a4 11",
                "12 13 14 15 2f0005000a0014 46534f4941495341",
                "415845374e4e444f 72636573454c504d 6f7479656b2f7465 35343332316e656b 2032313039383736 3a7377613a6e7261",
                "3332313a3a6d6169 3130393837363534 612f656c6f723a32 7070"
            ]
        );
        let failure = FailureRecord {
            generation: 0x11,
            at_boot: 0x12,
            at_unix: 0x13,
            next_attempt_boot: 0x14,
            in_a_row: 0x15,
            class: 0x16,
            http_status: 0x17,
            code: "AccessDenied",
            request_id: "request-1",
            message: "no entry",
        };
        failure.encode(None, 100, &mut words);
        assert_eq!(
            shown(&words),
            [
                "2f4cff0b 11 12 13 14 15",
                "16 17 80009000c 6544737365636341 757165726465696e 206f6e312d747365",
                "7972746e65"
            ]
        );
        failure.encode(Some(&key), 100, &mut words);
        assert_eq!(
            shown(&words),
            [
                "6312ed86 a1 a2 a3 a4 11",
                "12 13 14 15 16 17",
                "80009000c 6544737365636341 757165726465696e 206f6e312d747365 7972746e65"
            ]
        );
    }
}
