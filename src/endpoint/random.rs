//! Random text from the kernel: tokens, and names that nobody can guess.

use std::{fmt::Write, io};

use rustix::rand::{GetRandomFlags, getrandom};

/// 32 random bytes, as text.
pub fn token() -> io::Result<String> {
    hexadecimal::<32>()
}

/// A name of the prefix and a random number.
pub fn random_name(prefix: &str) -> io::Result<String> {
    Ok(prefix.to_owned() + &hexadecimal::<8>()?)
}

fn hexadecimal<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
