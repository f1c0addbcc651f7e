//! Which roles a pool allows: patterns of ARNs. They are in the header of the pool, under its checksum, as text.

use super::pattern;
use crate::error::{ErrorKind, Fault};

const RATE: &str = "calls-per-second ";
const ALLOW: &str = "allow ";
/// The patterns of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed(Vec<String>);

impl Allowed {
    /// Checks the patterns of a builder.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn new(patterns: Vec<String>) -> Result<Self, String> {
        if patterns.is_empty() {
            return Err(
                "allow: no pattern is given; a pool needs one for the ARNs of its roles".into()
            );
        }
        patterns.iter().try_for_each(|one| pattern::check(one))?;
        Ok(Allowed(patterns))
    }

    /// The text for the header, with the rate of calls.
    pub(super) fn text(&self, calls_per_second: u32) -> String {
        let mut text = format!("{RATE}{calls_per_second}\n");
        self.0.iter().for_each(|pattern| text += &format!("{ALLOW}{pattern}\n"));
        text
    }

    /// The patterns in the text of a header.
    pub(super) fn read(text: &str) -> Option<Self> {
        let patterns = text.lines().filter_map(|line| line.strip_prefix(ALLOW)).map(str::to_owned);
        Allowed::new(patterns.collect()).ok()
    }

    /// The rate of calls in the text of a header.
    pub(super) fn rate(text: &str) -> Option<u32> {
        let rate = text.lines().find_map(|line| line.strip_prefix(RATE))?;
        rate.parse().ok().filter(|rate| *rate > 0)
    }

    /// Checks the ARN of a role.
    ///
    /// # Errors
    /// `NotAllowed`.
    pub(super) fn check(&self, arn: &str) -> Result<(), Fault> {
        if self.0.iter().any(|one| pattern::fits(one, arn)) {
            return Ok(());
        }
        let text = format!(
            "the role {arn:?} fits none of the patterns of the pool ({}); add a pattern with `allow` where the pool is \
             created",
            self.0.join(", ")
        );
        Err(Fault::new(ErrorKind::NotAllowed, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_header_has_all() {
        let patterns =
            vec!["arn:aws:iam::*:role/a".to_owned(), "arn:aws:iam::*:role/b*".to_owned()];
        let allowed = Allowed::new(patterns).unwrap();
        let text = allowed.text(7);
        assert_eq!(Allowed::read(&text), Some(allowed));
        assert_eq!(Allowed::rate(&text), Some(7));
        assert_eq!(Allowed::rate("calls-per-second 0\n"), None);
        assert_eq!(Allowed::read("calls-per-second 1\n"), None);
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert!(Allowed::new(Vec::new()).is_err());
        for pattern in ["*", "", "tenant-*", "arn:aws:iam", "arn:aws:iam::*:role/a\nallow *"] {
            assert!(Allowed::new(vec![pattern.to_owned()]).is_err(), "{pattern:?}");
        }
    }
}
