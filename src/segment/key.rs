//! The key of a role in a pool.

/// The SHA-256 of all inputs that can change what STS answers, as words. Zeros are no key: that of a free entry.
pub(crate) type Key = [u64; 4];
