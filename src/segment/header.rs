//! The header: the constant facts of a segment. Its creator writes it once.

use std::{
    sync::atomic::{Ordering, fence},
    time::Duration,
};

use super::{
    layout,
    pool::layout::{self as pool, PoolLayout},
};
use crate::{
    error::{ErrorKind, Fault},
    sys::{
        mapping::{ReadMapping, WriteMapping},
        namespace,
    },
};

/// The indices of the words. Magic, version and sizes come before the instance.
const INSTANCE: usize = 10;
const CREATOR: usize = 11;
const TIME_NAMESPACE: usize = 12;
const FINGERPRINT: usize = 13;
const FLAGS: usize = 17;
const CHECKSUM: usize = 18;
const WORDS: usize = 19;

/// Identifies a source: the SHA-256 of its description.
pub(crate) type Fingerprint = [u8; 32];

/// The facts of a segment that never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// A random number. It distinguishes a new segment from an earlier one with the same name.
    pub(crate) instance: u64,
    pub(crate) creator: u32,
    /// The inode of the time namespace of the creator; 0 when it is not known. All points in time are on the
    /// `CLOCK_BOOTTIME` of this namespace.
    pub(crate) time_namespace: u64,
    pub(crate) fingerprint: Fingerprint,
    /// A description of the source, cut to the available space.
    pub(crate) description: String,
    /// Whether a dedicated process refreshes.
    pub(crate) eager: bool,
    /// Whether the kernel prevents new writable mappings.
    pub(crate) sealed: bool,
    /// Whether the sets are in secret memory, which the kernel itself does not map.
    pub(crate) secret: bool,
    /// Whether the names stay until the last process that uses the session removes them. Otherwise its creator does.
    pub(crate) last_user_removes: bool,
    /// The group that may read the segment.
    pub(crate) readers: Option<u32>,
    /// The entries of a pool; `None` for a session.
    pub(crate) pool: Option<PoolLayout>,
    /// How long consumers keep a set, in seconds.
    pub(crate) consumers_keep: u32,
}

const EAGER: u64 = 1;
const SEALED: u64 = 2;
const SECRET: u64 = 4;
const LAST_USER_REMOVES: u64 = 8;
/// The group in the upper half of the word may read the segment.
const GROUP_READS: u64 = 16;
/// Where the seconds that consumers keep a set are in the word with the flags: in 24 bits.
const CONSUMERS_KEEP: u32 = 8;
const CONSUMERS_KEEP_MASK: u32 = (1 << 24) - 1;

impl Header {
    /// # Errors
    /// `WrongSource` when the source of the session is another one than that with the fingerprint `expected`.
    pub(crate) fn check_source(&self, expected: &Fingerprint) -> Result<(), Fault> {
        if self.fingerprint == *expected {
            return Ok(());
        }
        let text = "the session's credentials are those of another source, or of another environment (profile, keys, \
                    files, Region, addresses); give both processes the same, or choose another name";
        Err(Fault::new(ErrorKind::WrongSource, text))
    }

    /// Writes the header. The magic is written last, so that a half-made segment is not valid.
    pub(crate) fn write(&self, mapping: &WriteMapping) {
        let words = mapping.words(0, WORDS);
        let mut values = [0u64; WORDS];
        values[1] = if self.pool.is_some() { pool::VERSION } else { layout::VERSION };
        values[SIZES].copy_from_slice(&sizes(self.pool));
        values[INSTANCE] = self.instance;
        values[CREATOR] = u64::from(self.creator);
        values[TIME_NAMESPACE] = self.time_namespace;
        let print: [u64; 4] = bytemuck::cast(self.fingerprint);
        values[FINGERPRINT..FLAGS].copy_from_slice(&print);
        let flags = [
            (self.eager, EAGER),
            (self.sealed, SEALED),
            (self.secret, SECRET),
            (self.last_user_removes, LAST_USER_REMOVES),
            (self.readers.is_some(), GROUP_READS),
        ];
        let flags: u64 = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
        let keep = u64::from(self.consumers_keep & CONSUMERS_KEEP_MASK) << CONSUMERS_KEEP;
        values[FLAGS] = flags | keep | u64::from(self.readers.unwrap_or(0)) << 32;
        let description = cut(&self.description).as_bytes();
        values[CHECKSUM] = checksum(&values, description);
        write_text(mapping, description);
        for (word, value) in words.iter().zip(values).skip(1) {
            word.store(value, Ordering::Relaxed);
        }
        // Release pairs with the acquire fence in `read`: a process that sees the magic sees all other words.
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
            let text = "the segment is not finished; its creator may still write it; try again";
            return Err(Fault::new(ErrorKind::Uninitialized, text));
        }
        if magic != layout::MAGIC {
            let text =
                format!("the memory starts with {magic:#018x}; it is not a shmcreds segment");
            return Err(Fault::new(ErrorKind::WrongMagic, text));
        }
        let mut words = words();
        let values: [u64; WORDS] = std::array::from_fn(|_| words.next().unwrap_or(0));
        if values[1] != layout::VERSION && values[1] != pool::VERSION {
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
        let pool = pool_of(&values);
        check_sizes(&values, pool, bytes)?;
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
            last_user_removes: values[FLAGS] & LAST_USER_REMOVES != 0,
            readers: (values[FLAGS] & GROUP_READS != 0).then_some((values[FLAGS] >> 32) as u32),
            consumers_keep: (values[FLAGS] >> CONSUMERS_KEEP) as u32 & CONSUMERS_KEEP_MASK,
            pool,
        })
    }

    /// How long consumers keep a set.
    pub(crate) fn kept(&self) -> Duration {
        Duration::from_secs(self.consumers_keep.into())
    }

    /// Bytes of the file.
    pub(crate) fn total_bytes(&self) -> usize {
        self.pool.map_or(layout::TOTAL_BYTES, PoolLayout::total)
    }

    /// Checks that the times of the segment are on the clock of this process.
    ///
    /// # Errors
    /// `Unsupported` in another time namespace, where `CLOCK_BOOTTIME` is another clock.
    pub(super) fn check_clock(&self) -> Result<(), Fault> {
        let ours = time_namespace();
        // 0: a process could not find out its namespace.
        if ours == self.time_namespace || ours == 0 || self.time_namespace == 0 {
            return Ok(());
        }
        let text = format!(
            "the session was created in time namespace {}, and this process is in {ours}: their clocks differ; \
             start both in the same time namespace",
            self.time_namespace
        );
        Err(Fault::new(ErrorKind::Unsupported, text))
    }
}

/// The inode of this process's time namespace; 0 when it is not known.
pub(crate) fn time_namespace() -> u64 {
    namespace::time().unwrap_or(0)
}

/// The indices of the words with sizes.
const SIZES: std::ops::Range<usize> = 2..INSTANCE;

/// The number of entries, among the sizes.
const ENTRIES: usize = SIZES.start + 2;

fn sizes(pool: Option<PoolLayout>) -> [u64; INSTANCE - 2] {
    let alone = [
        layout::TOTAL_BYTES,
        layout::HEADER_BYTES,
        layout::ENTRIES,
        layout::ENTRY_BYTES,
        layout::SET_SLOTS,
        layout::SET_SLOT_WORDS * 8,
        layout::FAILURE_SLOTS,
        layout::FAILURE_SLOT_WORDS * 8,
    ];
    pool.map_or(alone, PoolLayout::sizes).map(|size| size as u64)
}

/// The layout of a pool's header. A number of entries that no pool has fails the check of the sizes.
fn pool_of(values: &[u64; WORDS]) -> Option<PoolLayout> {
    let entries = usize::try_from(values[ENTRIES]).unwrap_or(0).clamp(1, pool::MOST_ENTRIES);
    (values[1] == pool::VERSION).then(|| PoolLayout::new(entries))
}

/// The instance of a header. The caller has checked the header before.
pub(super) fn instance(mapping: &WriteMapping) -> u64 {
    mapping.word(INSTANCE * 8).load(Ordering::Relaxed)
}

fn check_sizes(values: &[u64; WORDS], pool: Option<PoolLayout>, bytes: usize) -> Result<(), Fault> {
    let needed = pool.map_or(layout::TOTAL_BYTES, PoolLayout::total);
    if bytes < needed {
        return Err(too_small(bytes, needed));
    }
    if values[SIZES] != sizes(pool) {
        let text = "the sizes in the header do not match its layout version";
        return Err(Fault::new(ErrorKind::WrongVersion, text));
    }
    Ok(())
}

/// The error for a segment that is shorter than its layout.
pub(crate) fn too_small(bytes: usize, needed: usize) -> Fault {
    let text = format!("the segment has {bytes} bytes; the layout needs {needed}");
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

/// Reads the description. The caller checks it with the checksum.
fn read_text(mapping: &ReadMapping) -> Vec<u8> {
    let length = mapping.words(layout::DESCRIPTION, 1).values().next().unwrap_or(0);
    let length = usize::try_from(length).map_or(0, |n| n.min(layout::DESCRIPTION_BYTES));
    let words = mapping.words(layout::DESCRIPTION + 8, length.div_ceil(8));
    let mut text: Vec<u8> = words.values().flat_map(u64::to_le_bytes).collect();
    text.truncate(length);
    text
}
