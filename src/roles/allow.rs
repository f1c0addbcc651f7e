//! Which roles a pool allows: patterns of ARNs. They are in the header of the pool, under its checksum, as text.

use crate::error::{ErrorKind, Fault};

const RATE: &str = "calls-per-second ";
const ALLOW: &str = "allow ";
/// The parts of an ARN, divided by colons. The last one may contain colons.
const PARTS: usize = 6;

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
        for pattern in &patterns {
            let good = pattern.starts_with("arn:")
                && pattern.split(':').count() >= PARTS
                && pattern.chars().all(|c| c.is_ascii_graphic());
            if !good {
                return Err(format!(
                    "allow: {pattern:?} is no pattern of an ARN; it must be of the form arn:aws:iam::*:role/name-*"
                ));
            }
        }
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
        if self.0.iter().any(|pattern| fits(pattern, arn)) {
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

/// Whether the pattern fits: `*` stands for any characters, `?` for one. Neither crosses a colon between the parts of the
/// ARN, as in policies of IAM.
fn fits(pattern: &str, arn: &str) -> bool {
    let (patterns, parts) = (pattern.splitn(PARTS, ':'), arn.splitn(PARTS, ':'));
    patterns.clone().count() == parts.clone().count()
        && patterns.zip(parts).all(|(pattern, part)| fits_part(pattern.as_bytes(), part.as_bytes()))
}

/// Matches from the left. After a mismatch the last `*` takes one character more.
fn fits_part(pattern: &[u8], part: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < part.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == part[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_policies() {
        let arn = "arn:aws:iam::123456789012:role/tenant-7";
        for pattern in [
            arn,
            "arn:aws:iam::*:role/tenant-*",
            "arn:*:iam::123456789012:role/*",
            "arn:aws:iam::????????????:role/tenant-?",
            "arn:aws:iam::*:*",
            "arn:aws:iam::*:role/*-7",
            "arn:aws:iam::*:r*e/t*t-*",
        ] {
            assert!(fits(pattern, arn), "{pattern}");
        }
        for pattern in [
            "arn:aws:iam::*:role/tenant",
            "arn:aws:iam::*:role/tenant-",
            "arn:aws:iam::*:role/tenant-??",
            "arn:aws:iam:*:role/tenant-7",
            "arn:aws:*:role/tenant-7",
            "arn:aws:iam::1*3:role/tenant-7",
            "arn:aws:iam::*:role/TENANT-7",
            "arn:aws:iam::*:role",
        ] {
            assert!(!fits(pattern, arn), "{pattern}");
        }
    }

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
