//! The default name of a role session.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// Not a `OnceLock`: a child that is forked during the first use would wait for a thread that it does not have.
static NAME: ArcSwapOption<String> = ArcSwapOption::const_empty();

/// The host name is read once, so that the whole process tree has one name, and recipes that are made for each request cost
/// no system call. It makes no call into libc.
pub(in crate::source) fn default_session_name() -> String {
    if let Some(name) = &*NAME.load() {
        return name.as_str().to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = session_name_for(host.trim());
    NAME.store(Some(Arc::new(name.clone())));
    name
}

fn session_name_for(host: &str) -> String {
    let host = if host.is_empty() { "host" } else { host };
    let valid = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    let name = host.chars().map(|c| if valid(c) { c } else { '-' });
    "shmcreds-".chars().chain(name).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{AssumeRole, Source};

    #[test]
    fn the_default_session_name_is_valid() {
        assert_eq!(AssumeRole::new("arn:aws:iam::123456789012:role/app").validate(), Ok(()));
        assert_eq!(session_name_for(""), "shmcreds-host");
        assert_eq!(session_name_for("höst 1"), "shmcreds-h-st-1");
        assert_eq!(session_name_for(&"h".repeat(100)).len(), 64);
    }
}
