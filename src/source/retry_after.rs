//! When a server wants to be asked again.

use std::time::{Duration, SystemTime};

use super::server_time;

/// What the headers of an answer say: `Retry-After`, in seconds or as a date, or `x-amz-retry-after`, in milliseconds.
pub(super) fn of<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Duration> {
    if let Some(milliseconds) = header("x-amz-retry-after").and_then(number) {
        return Some(Duration::from_millis(milliseconds));
    }
    let after = header("retry-after")?;
    if let Some(seconds) = number(after) {
        return Some(Duration::from_secs(seconds));
    }
    // The server's own time, because the clock of this machine may be wrong.
    let now = header("date").and_then(server_time::parse).unwrap_or_else(SystemTime::now);
    server_time::parse(after.trim())?.duration_since(now).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_anything_else_is_none() {
        let noon = ("date", "Sun, 06 Nov 1994 12:00:00 GMT");
        for (headers, expected) in [
            (&[][..], None),
            (&[("retry-after", "7")], Some(7_000)),
            (&[("retry-after", " 7 ")], Some(7_000)),
            (&[("retry-after", "0")], Some(0)),
            (&[("x-amz-retry-after", "1500")], Some(1_500)),
            (&[("x-amz-retry-after", "1500"), ("retry-after", "7")], Some(1_500)),
            (&[("x-amz-retry-after", "soon"), ("retry-after", "7")], Some(7_000)),
            (&[noon, ("retry-after", "Sun, 06 Nov 1994 12:00:09 GMT")], Some(9_000)),
            (&[noon, ("retry-after", "Sun, 06 Nov 1994 11:59:00 GMT")], None),
            // Long ago by the clock of this machine.
            (&[("retry-after", "Sun, 06 Nov 1994 12:00:09 GMT")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "7.5")], None),
            (&[("retry-after", "99999999999999999999")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "soon")], None),
        ] {
            let header = |name: &str| headers.iter().find(|(one, _)| *one == name).map(|h| h.1);
            assert_eq!(of(header), expected.map(Duration::from_millis), "{headers:?}");
        }
        let largest = of(|name| (name == "retry-after").then_some("18446744073709551615"));
        assert_eq!(largest, Some(Duration::from_secs(u64::MAX)));
    }
}
