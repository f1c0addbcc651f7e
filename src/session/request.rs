//! What a process asks of the refresher of a pool: one datagram.
//!
//! | bytes | content |
//! | --- | --- |
//! | 0 to 7 | the magic, with the version of this format |
//! | 8 to 15 | the wish |
//! | 16 to 23 | the generation that the process has |
//! | 24 to 55 | the key of the role |
//! | 56 and later | the inputs of the role, as JSON |

use zeroize::Zeroizing;

use crate::segment::Key;

const MAGIC: [u8; 8] = *b"shmask\0\x01";
const HEAD: usize = 56;
/// The largest request. The inputs of a role have limits, so no valid one is larger.
pub(super) const MOST: usize = 128 * 1024;

/// What the process wants for the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A set, if there is none or the one that is there is due.
    Set = 1,
    /// A set of a later generation.
    Newer,
    /// The same, because AWS rejected the set.
    Rejected,
    /// The same, because the set is not valid for long enough.
    Longer,
    /// That the role loses its entry.
    Eviction,
}

const WISHES: [Wish; 5] = [Wish::Set, Wish::Newer, Wish::Rejected, Wish::Longer, Wish::Eviction];

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) wish: Wish,
    pub(super) generation: u64,
    pub(super) key: Key,
    pub(super) inputs: &'a [u8],
}

impl<'a> Request<'a> {
    pub(super) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD + self.inputs.len()));
        bytes.extend(MAGIC);
        bytes.extend((self.wish as u64).to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(bytemuck::bytes_of(&self.key));
        bytes.extend(self.inputs);
        bytes
    }

    /// The request in a datagram. `None` for anything else.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, inputs) = bytes.split_at_checked(HEAD)?;
        let word = |at: usize| -> u64 {
            let bytes = head[at..at + 8].try_into();
            bytes.map_or(0, u64::from_le_bytes)
        };
        let wish = WISHES.into_iter().find(|wish| *wish as u64 == word(8))?;
        let key = [24, 32, 40, 48].map(word);
        // The key of a free entry is that of no role.
        let is_one = head.starts_with(&MAGIC) && key != Key::default();
        is_one.then_some(Request { wish, generation: word(16), key, inputs })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_request_is_read_again(wish in 0..WISHES.len(), generation: u64, key: Key, inputs: Vec<u8>) {
            prop_assume!(key != Key::default());
            let request = Request { wish: WISHES[wish], generation, key, inputs: &inputs };
            let bytes = request.bytes();
            prop_assert_eq!(Request::read(&bytes), Some(request));
            for length in 0..HEAD {
                prop_assert_eq!(Request::read(&bytes[..length]), None);
            }
        }

        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            prop_assert_eq!(Request::read(&bytes), None);
            let _ = Request::read(&[&MAGIC[..], &bytes].concat());
        }
    }
}
