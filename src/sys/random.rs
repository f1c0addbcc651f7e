//! Random numbers of the kernel. They have no seed that a forked child could share.

use crate::error::{ErrorKind, Fault};

pub(crate) fn number() -> Result<u64, Fault> {
    let mut bytes = [0u8; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        Ok(n) => Err(Fault::new(ErrorKind::System, format!("the kernel gave {n} random bytes"))),
        Err(errno) => Err(Fault::system("getrandom", errno)),
    }
}

/// From 0 to 1.
pub(crate) fn fraction() -> Result<f64, Fault> {
    Ok((number()? >> 11) as f64 / (1u64 << 53) as f64)
}
