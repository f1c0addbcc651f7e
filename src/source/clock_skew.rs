//! A service refuses a request because of its time. Says that this host's clock is wrong, and by how much.

use std::time::{Duration, SystemTime};

use aws_smithy_types::{DateTime, date_time::Format};

/// The reason for the refusal, if it was the time of the request.
pub(super) fn reason(code: &str, message: &str) -> Option<String> {
    let by_code = ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"].contains(&code);
    let by_text = ["Signature expired", "Signature not yet current"];
    if !by_code && !by_text.iter().any(|text| message.contains(text)) {
        return None;
    }
    let wrong = error(message).map_or("wrong".to_owned(), |(by, direction)| {
        format!("about {} {direction}", in_words(by))
    });
    Some(format!("the clock of this host is {wrong}; correct it (NTP)"))
}

/// `Signature expired: OURS is now earlier than LIMIT (THEIRS - 15 min.)`.
fn error(message: &str) -> Option<(Duration, &'static str)> {
    let mut times = message.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(time);
    let (ours, theirs) = (times.next()?, times.nth(1)?);
    match theirs.duration_since(ours) {
        Ok(late) => Some((late, "slow")),
        Err(early) => Some((early.duration(), "fast")),
    }
}

/// `20210512T052235Z`.
fn time(word: &str) -> Option<SystemTime> {
    let shape = word.len() == 16 && word.is_ascii() && word.ends_with('Z') && word.contains('T');
    let digits: String = word.chars().filter(char::is_ascii_digit).collect();
    if !shape || digits.len() != 14 {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    SystemTime::try_from(DateTime::from_str(&text, Format::DateTime).ok()?).ok()
}

fn in_words(by: Duration) -> String {
    match by.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_named_with_its_error() {
        let expired = "Signature expired: 20210512T052235Z is now earlier than 20210512T140004Z \
                       (20210512T141504Z - 15 min.)";
        let early = "Signature not yet current: 20260101T000000Z is still later than 20251231T000000Z \
                     (20251230T234500Z + 5 min.)";
        for (code, message, said) in [
            ("SignatureDoesNotMatch", expired, "is about 8 h slow; correct it"),
            ("SignatureDoesNotMatch", early, "is about 24 h fast; correct it"),
            ("InvalidSignatureException", "Signature expired: x", "is wrong; correct it"),
            ("RequestTimeTooSkewed", "The difference is too large.", "is wrong; correct it"),
            ("RequestExpired", "Request has expired.", "is wrong; correct it"),
        ] {
            let reason = reason(code, message).unwrap();
            assert!(reason.contains(said), "{reason}");
        }
        for (code, message) in [
            ("SignatureDoesNotMatch", "Credential should be scoped to a valid region"),
            ("ExpiredToken", "The security token included in the request is expired"),
        ] {
            assert_eq!(reason(code, message), None);
        }
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_unit() {
        for (seconds, words) in
            [(90, "90 s"), (900, "15 min"), (36_000, "10 h"), (200_000, "2 days")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
