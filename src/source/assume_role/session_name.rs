//! The default name of a role session.

/// It is read once, so that the whole process tree has one name. It makes no call into libc.
pub(in crate::source) fn default_session_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    session_name_for(host.trim())
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
