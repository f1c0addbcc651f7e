//! The header: what a segment says of itself, written once by its creator.

use std::sync::atomic::{Ordering, fence};

use super::layout;
use crate::{
    error::{ErrorKind, Fault},
    sys::mapping::Mapping,
};

const WORDS: usize = 16;
const INSTANCE: usize = 8;
const CHECKSUM: usize = 15;

/// What tells one source from another: the SHA-256 of its description.
pub(crate) type Fingerprint = [u8; 32];

/// The facts of a segment that never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Random, so that a segment made anew under an old name is told apart.
    pub(crate) instance: u64,
    pub(crate) creator: u32,
    pub(crate) fingerprint: Fingerprint,
    /// What the source is, cut to its room.
    pub(crate) description: String,
    /// Whether a dedicated process refreshes.
    pub(crate) eager: bool,
    /// Whether the kernel keeps everybody else from writing.
    pub(crate) sealed: bool,
    /// Whether the sets are in memory of their own, which the kernel itself does not map.
    pub(crate) secret: bool,
}

const EAGER: u64 = 1;
const SEALED: u64 = 2;
const SECRET: u64 = 4;

impl Header {
    /// Writes the header; the magic comes last, so that nobody takes a half-made segment for one.
    pub(crate) fn write(&self, mapping: &Mapping) {
        let words = mapping.words(0, WORDS);
        let mut values = [0u64; WORDS];
        values[1] = layout::VERSION;
        values[2] = layout::TOTAL_BYTES as u64;
        values[3] = layout::CONTROL_BYTES as u64;
        values[4] = layout::SET_SLOTS as u64;
        values[5] = (layout::SET_SLOT_WORDS * 8) as u64;
        values[6] = layout::FAILURE_SLOTS as u64;
        values[7] = (layout::FAILURE_SLOT_WORDS * 8) as u64;
        values[INSTANCE] = self.instance;
        values[9] = u64::from(self.creator);
        let print: [u64; 4] = bytemuck::cast(self.fingerprint);
        values[10..14].copy_from_slice(&print);
        let flags = [(self.eager, EAGER), (self.sealed, SEALED), (self.secret, SECRET)];
        values[14] = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
        let description = cut(&self.description).as_bytes();
        values[CHECKSUM] = checksum(&values, description);
        write_text(mapping, description);
        for (word, value) in words.iter().zip(values).skip(1) {
            word.store(value, Ordering::Relaxed);
        }
        // Pairs with the acquire fence in `read`: who sees the magic sees the rest.
        words[0].store(layout::MAGIC, Ordering::Release);
    }

    /// Reads and checks the header. `Uninitialized` while the creator has not finished.
    pub(crate) fn read(mapping: &Mapping, bytes: usize) -> Result<Self, Fault> {
        let words = mapping.words(0, WORDS);
        let magic = words[0].load(Ordering::Relaxed);
        // Pairs with the release store of the magic in `write`. A fence, because a read-only
        // mapping allows no acquire load.
        fence(Ordering::Acquire);
        if magic == 0 {
            let text = "the segment is not finished; its creator may still be at work";
            return Err(Fault::new(ErrorKind::Uninitialized, text));
        }
        if magic != layout::MAGIC {
            let text =
                format!("the memory starts with {magic:#018x}, which is no shmcreds segment");
            return Err(Fault::new(ErrorKind::WrongMagic, text));
        }
        let values: [u64; WORDS] = std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
        if values[1] != layout::VERSION {
            let text = format!(
                "the segment has layout version {}; this library reads version {}",
                values[1],
                layout::VERSION
            );
            return Err(Fault::new(ErrorKind::WrongVersion, text));
        }
        let description = read_text(mapping);
        if values[CHECKSUM] != checksum(&values, &description) {
            return Err(Fault::new(ErrorKind::BadChecksum, "the header fails its checksum"));
        }
        check_sizes(&values, bytes)?;
        let print: [u64; 4] = [values[10], values[11], values[12], values[13]];
        Ok(Header {
            instance: values[INSTANCE],
            creator: u32::try_from(values[9]).unwrap_or(0),
            fingerprint: bytemuck::cast(print),
            description: String::from_utf8_lossy(&description).into_owned(),
            eager: values[14] & EAGER != 0,
            sealed: values[14] & SEALED != 0,
            secret: values[14] & SECRET != 0,
        })
    }
}

/// The instance of a header that has been read before.
pub(super) fn instance(mapping: &Mapping) -> u64 {
    mapping.word(INSTANCE * 8).load(Ordering::Relaxed)
}

fn check_sizes(values: &[u64; WORDS], bytes: usize) -> Result<(), Fault> {
    if bytes < layout::TOTAL_BYTES {
        return Err(too_small(bytes));
    }
    let expected = [
        layout::TOTAL_BYTES,
        layout::CONTROL_BYTES,
        layout::SET_SLOTS,
        layout::SET_SLOT_WORDS * 8,
        layout::FAILURE_SLOTS,
        layout::FAILURE_SLOT_WORDS * 8,
    ];
    if values[2..8].iter().zip(expected).any(|(found, expected)| *found != expected as u64) {
        let text = "the header's sizes are not those of its layout version";
        return Err(Fault::new(ErrorKind::WrongVersion, text));
    }
    Ok(())
}

/// The segment ends before its layout does.
pub(crate) fn too_small(bytes: usize) -> Fault {
    let text = format!("the segment has {bytes} bytes; the layout needs {}", layout::TOTAL_BYTES);
    Fault::new(ErrorKind::TooSmall, text)
}

/// CRC-32 of the words between the magic and the checksum, and of the description.
fn checksum(values: &[u64; WORDS], description: &[u8]) -> u64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(bytemuck::cast_slice(&values[1..CHECKSUM]));
    hash.update(description);
    u64::from(hash.finalize())
}

fn cut(description: &str) -> &str {
    &description[..description.floor_char_boundary(layout::DESCRIPTION_BYTES)]
}

fn write_text(mapping: &Mapping, text: &[u8]) {
    let words = mapping.words(layout::DESCRIPTION, 1 + text.len().div_ceil(8));
    words[0].store(text.len() as u64, Ordering::Relaxed);
    for (word, bytes) in words[1..].iter().zip(text.chunks(8)) {
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(value), Ordering::Relaxed);
    }
}

/// The description; whether it is the one that was written, the checksum tells.
fn read_text(mapping: &Mapping) -> Vec<u8> {
    let length = mapping.word(layout::DESCRIPTION).load(Ordering::Relaxed);
    let length = usize::try_from(length).map_or(0, |n| n.min(layout::DESCRIPTION_BYTES));
    let words = mapping.words(layout::DESCRIPTION + 8, length.div_ceil(8));
    let mut text: Vec<u8> =
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    text.truncate(length);
    text
}
