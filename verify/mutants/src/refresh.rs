//! When to refresh.

#[path = "../../../src/refresh/backoff_delays.rs"]
pub(crate) mod backoff_delays;
#[path = "../../../src/refresh/policy.rs"]
pub(crate) mod policy;
