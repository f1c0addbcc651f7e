//! Random numbers of the kernel. They have no seed that a forked child could share.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Fault;

pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    match getrandom(&mut bytes[..], GetRandomFlags::empty())? {
        filled if filled == N => Ok(bytes),
        filled => Err(io::Error::other(format!("the kernel gave {filled} of {N} random bytes"))),
    }
}

pub(crate) fn number() -> Result<u64, Fault> {
    bytes().map(u64::from_ne_bytes).map_err(|error| Fault::system("getrandom", error))
}

/// From 0 to 1.
pub(crate) fn fraction() -> Result<f64, Fault> {
    Ok((number()? >> 11) as f64 / (1u64 << 53) as f64)
}
