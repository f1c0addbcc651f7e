//! Random text from the kernel: tokens, and names that nobody can guess.

use std::io;

use crate::{hexadecimal, sys::random};

/// 32 random bytes, as text.
pub fn token() -> io::Result<String> {
    Ok(hexadecimal::text(&random::bytes::<32>()?))
}

/// A name of the prefix and a random number.
pub fn random_name(prefix: &str) -> io::Result<String> {
    Ok(prefix.to_owned() + &hexadecimal::text(&random::bytes::<8>()?))
}
