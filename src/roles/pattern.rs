//! Patterns of ARNs, as in policies of IAM. The command line includes this file, too.

/// The parts of an ARN, divided by colons. The last one may contain colons.
const PARTS: usize = 6;

/// Checks a pattern.
///
/// # Errors
/// A sentence.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    let good = pattern.starts_with("arn:")
        && pattern.split(':').count() >= PARTS
        && pattern.chars().all(|c| c.is_ascii_graphic());
    if good {
        return Ok(());
    }
    Err(format!(
        "allow: {pattern:?} is no pattern of an ARN; it must be of the form arn:aws:iam::*:role/name-*"
    ))
}

/// Whether the pattern fits: `*` stands for any characters, `?` for one. Neither crosses a colon between the parts of the
/// ARN, as in policies of IAM.
pub(crate) fn fits(pattern: &str, arn: &str) -> bool {
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
}
