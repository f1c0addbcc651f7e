//! Reads the timestamps that programs and config files write.

use std::time::SystemTime;

use aws_smithy_types::{DateTime, date_time::Format};

/// ISO 8601, with all variants that some SDK accepts: `T` or a space before the time, no seconds, a fraction of any
/// length, and the zones `Z`, `UTC`, `+00:00`, `+0000`, `+00`. Without a zone it is UTC.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone = rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.' && c != ',');
    let (time, zone) = rest.split_at(zone.unwrap_or(rest.len()));
    let time = DateTime::from_str(
        &format!("{date}T{}{}", full_time(time)?, offset(zone.trim())?),
        Format::DateTimeWithOffset,
    );
    SystemTime::try_from(time.ok()?).ok()
}

/// `HH:MM:SS`, with at most nine digits after a point.
fn full_time(time: &str) -> Option<String> {
    let (whole, fraction) = time.split_once(['.', ',']).unwrap_or((time, ""));
    let seconds = match whole.len() {
        5 => ":00",
        8 => "",
        _ => return None,
    };
    let digits = &fraction[..fraction.len().min(9)];
    let point = if digits.is_empty() { "" } else { "." };
    Some(format!("{whole}{seconds}{point}{digits}"))
}

/// `Z` or `+HH:MM`.
fn offset(zone: &str) -> Option<String> {
    match zone {
        "" | "Z" | "z" | "UTC" | "GMT" => return Some("Z".into()),
        _ => {}
    }
    let (sign, digits) = zone.split_at_checked(1)?;
    let digits = digits.replace(':', "");
    let minutes = match digits.len() {
        2 => "00",
        4 => &digits[2..],
        _ => return None,
    };
    let plain = matches!(sign, "+" | "-") && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| format!("{sign}{}:{minutes}", &digits[..2]))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_a_timestamp_is_read() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_893_553_445);
        for text in [
            "2030-01-02T03:04:05Z",
            "2030-01-02T03:04:05+00:00",
            "2030-01-02T03:04:05+0000",
            "2030-01-02T03:04:05+00",
            "2030-01-02T05:04:05+02:00",
            "2030-01-02T05:04:05.000000+0200",
            "2030-01-01T22:04:05-05:00",
            "2030-01-02T03:04:05.000Z",
            "2030-01-02T03:04:05.0000000Z",
            "2030-01-02T03:04:05.0000000001Z",
            "2030-01-02T03:04:05,000Z",
            "2030-01-02T03:04:05",
            " 2030-01-02 03:04:05 ",
            "2030-01-02 03:04:05Z",
            "2030-01-02 03:04:05 UTC",
            "2030-01-02 03:04:05+00:00",
            "2030-01-02T03:04:05UTC",
        ] {
            assert_eq!(parse(text), Some(moment), "{text}");
        }
        assert_eq!(parse("2030-01-02T03:04Z"), Some(moment - Duration::from_secs(5)));
        let half = moment + Duration::from_millis(500);
        assert_eq!(parse("2030-01-02T03:04:05.5Z"), Some(half));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "soon",
            "2030-01-02",
            "1900000000",
            "2030-13-02T03:04:05Z",
            "2030-01-02T25:04:05Z",
            "2030-01-02T03:04:05+0",
            "2030-01-02T03:04:05X",
            "2030-01-02X03:04:05Z",
            "é030-01-02T03:04:05Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(text in ".{0,40}", near in "[0-9TZ:+., é-]{0,40}") {
            parse(&text);
            parse(&near);
        }
    }
}
