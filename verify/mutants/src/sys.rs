//! What the byte locks need of the lock file.

pub(crate) mod lock {
    /// As in `src/sys/lock.rs`.
    pub(crate) const CREATOR: i64 = 2;
}
