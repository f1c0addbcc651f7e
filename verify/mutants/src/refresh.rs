//! When to refresh.

#[path = "../../../src/refresh/policy.rs"]
pub(crate) mod policy;
