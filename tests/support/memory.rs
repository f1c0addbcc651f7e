//! A search of the memory of this process for a secret. What looks for a secret must not be a copy of it.
#![allow(dead_code)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

/// Hides a secret from a search for it.
const MASK: u8 = 0x5a;

pub fn masked(secret: impl AsRef<[u8]>) -> Vec<u8> {
    secret.as_ref().iter().map(|byte| byte ^ MASK).collect()
}

/// The private memory of this process that can be read.
pub fn private() -> Vec<(u64, u64)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let private = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        rest.starts_with("rw-p").then(|| self::range(range)).flatten()
    };
    maps.lines().filter_map(private).collect()
}

/// A range of addresses, as the kernel writes it: `START-END`.
pub fn range(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

/// Whether the secret is in one of the ranges.
pub fn is_in(ranges: Vec<(u64, u64)>, masked: &[u8]) -> bool {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut chunk = vec![0; 1 << 16];
    ranges.into_iter().any(|(start, end)| {
        let mut at = start;
        while at < end {
            let wanted = chunk.len().min((end - at) as usize);
            // What the kernel itself cannot read is in no dump either.
            let read = match memory.read_at(&mut chunk[..wanted], at) {
                Ok(read) => read,
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{start:x}-{end:x}");
                    return false;
                }
            };
            let mut windows = chunk[..read].windows(masked.len());
            let found = windows.any(|w| w.iter().zip(masked).all(|(a, b)| a ^ MASK == *b));
            // What has been read is a copy, too.
            chunk.fill(0);
            if found {
                return true;
            }
            // Overlapping, so that no secret falls between two chunks.
            at += if at + (read as u64) < end { (read - masked.len()) as u64 } else { read as u64 };
        }
        false
    })
}
