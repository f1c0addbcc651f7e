//! The header: what a segment says of itself, written once by its creator.

use std::{
    os::unix::fs::MetadataExt,
    sync::atomic::{Ordering, fence},
};

use super::layout;
use crate::{
    error::{ErrorKind, Fault},
    sys::mapping::{ReadMapping, WriteMapping},
};

/// The places of the words. Before the instance come magic, version and sizes.
const INSTANCE: usize = 10;
const CREATOR: usize = 11;
const TIME_NAMESPACE: usize = 12;
const FINGERPRINT: usize = 13;
const FLAGS: usize = 17;
const CHECKSUM: usize = 18;
const WORDS: usize = 19;

/// What tells one source from another: the SHA-256 of its description.
pub(crate) type Fingerprint = [u8; 32];

/// The facts of a segment that never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Random, so that a segment made anew under an old name is told apart.
    pub(crate) instance: u64,
    pub(crate) creator: u32,
    /// The inode of the time namespace whose `CLOCK_BOOTTIME` the points in time are on; 0 when it is not known.
    pub(crate) time_namespace: u64,
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
    pub(crate) fn write(&self, mapping: &WriteMapping) {
        let words = mapping.words(0, WORDS);
        let mut values = [0u64; WORDS];
        values[1] = layout::VERSION;
        values[SIZES].copy_from_slice(&sizes());
        values[INSTANCE] = self.instance;
        values[CREATOR] = u64::from(self.creator);
        values[TIME_NAMESPACE] = self.time_namespace;
        let print: [u64; 4] = bytemuck::cast(self.fingerprint);
        values[FINGERPRINT..FLAGS].copy_from_slice(&print);
        let flags = [(self.eager, EAGER), (self.sealed, SEALED), (self.secret, SECRET)];
        values[FLAGS] = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
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
    pub(crate) fn read(mapping: &ReadMapping, bytes: usize) -> Result<Self, Fault> {
        let words = || mapping.words(0, WORDS).values();
        let magic = words().next().unwrap_or(0);
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
        let mut words = words();
        let values: [u64; WORDS] = std::array::from_fn(|_| words.next().unwrap_or(0));
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
        let mut print = [0; 4];
        print.copy_from_slice(&values[FINGERPRINT..FLAGS]);
        Ok(Header {
            instance: values[INSTANCE],
            creator: u32::try_from(values[CREATOR]).unwrap_or(0),
            time_namespace: values[TIME_NAMESPACE],
            fingerprint: bytemuck::cast(print),
            description: String::from_utf8_lossy(&description).into_owned(),
            eager: values[FLAGS] & EAGER != 0,
            sealed: values[FLAGS] & SEALED != 0,
            secret: values[FLAGS] & SECRET != 0,
        })
    }

    /// Checks that the times of the segment are on the clock of this process.
    ///
    /// # Errors
    /// `Unsupported` in another time namespace, where `CLOCK_BOOTTIME` is another clock.
    pub(super) fn check_clock(&self) -> Result<(), Fault> {
        let ours = time_namespace();
        // 0 is that of a process that could not tell.
        if ours == self.time_namespace || ours == 0 || self.time_namespace == 0 {
            return Ok(());
        }
        let text = format!(
            "the session was created in time namespace {}, and this process is in {ours}: their clocks differ; \
             start both in one time namespace",
            self.time_namespace
        );
        Err(Fault::new(ErrorKind::Unsupported, text))
    }
}

/// The inode of this process's time namespace; 0 where there is none to be seen.
pub(crate) fn time_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/time").map_or(0, |meta| meta.ino())
}

/// The words of the sizes that a header holds, and where they are.
const SIZES: std::ops::Range<usize> = 2..INSTANCE;

fn sizes() -> [u64; INSTANCE - 2] {
    [
        layout::TOTAL_BYTES,
        layout::HEADER_BYTES,
        layout::ENTRIES,
        layout::ENTRY_BYTES,
        layout::SET_SLOTS,
        layout::SET_SLOT_WORDS * 8,
        layout::FAILURE_SLOTS,
        layout::FAILURE_SLOT_WORDS * 8,
    ]
    .map(|size| size as u64)
}

/// The instance of a header that has been read before.
pub(super) fn instance(mapping: &WriteMapping) -> u64 {
    mapping.word(INSTANCE * 8).load(Ordering::Relaxed)
}

fn check_sizes(values: &[u64; WORDS], bytes: usize) -> Result<(), Fault> {
    if bytes < layout::TOTAL_BYTES {
        return Err(too_small(bytes));
    }
    if values[SIZES] != sizes() {
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

fn write_text(mapping: &WriteMapping, text: &[u8]) {
    let words = mapping.words(layout::DESCRIPTION, 1 + text.len().div_ceil(8));
    words[0].store(text.len() as u64, Ordering::Relaxed);
    for (word, bytes) in words[1..].iter().zip(text.chunks(8)) {
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(value), Ordering::Relaxed);
    }
}

/// The description; whether it is the one that was written, the checksum tells.
fn read_text(mapping: &ReadMapping) -> Vec<u8> {
    let length = mapping.words(layout::DESCRIPTION, 1).values().next().unwrap_or(0);
    let length = usize::try_from(length).map_or(0, |n| n.min(layout::DESCRIPTION_BYTES));
    let words = mapping.words(layout::DESCRIPTION + 8, length.div_ceil(8));
    let mut text: Vec<u8> = words.values().flat_map(u64::to_le_bytes).collect();
    text.truncate(length);
    text
}
