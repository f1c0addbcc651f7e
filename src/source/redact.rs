//! Removes what looks like a secret from texts of servers and other programs.

/// Replaces everything with the shape of an access key id, a secret key or a token. The texts come from servers and
/// unknown providers. This is the last line of defence.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_key_char) {
        let end = rest[start..].find(|c| !is_key_char(c)).map_or(rest.len(), |n| start + n);
        clean.push_str(&rest[..start]);
        let run = &rest[start..end];
        // A backslash at the end belongs to what follows, for example to a quote.
        let run = Some(run.trim_end_matches('\\')).filter(|run| !run.is_empty()).unwrap_or(run);
        let end = start + run.len();
        let read = text.len() - rest.len() + end;
        let named = ends_in_arn(&clean) || ends_in_path(&text[..read]);
        let secret = has_key_id(run) || (looks_random(run) && !named);
        clean.push_str(if secret { "[redacted]" } else { run });
        rest = &rest[end..];
    }
    clean + rest
}

/// The alphabets of base64, of base64 for URLs, of percent-encoding, and of escapes in JSON: `\/` and `\u002b`.
fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-%\\".contains(c)
}

/// `AKIA…` or `ASIA…`, 16 characters or more.
fn has_key_id(run: &str) -> bool {
    let id_char = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    run.as_bytes()
        .windows(16)
        .any(|w| (w.starts_with(b"AKIA") || w.starts_with(b"ASIA")) && w.iter().all(id_char))
}

/// Whether the text is long, and is neither a UUID, nor a path of plain words, nor the name of a variable.
fn looks_random(run: &str) -> bool {
    let words = !run.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let variable =
        run.starts_with("AWS_") && run.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    run.len() >= 36 && !words && !variable && !is_uuid(run)
}

fn is_uuid(run: &str) -> bool {
    run.len() == 36
        && run.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Whether `text` ends in a path. A path may be as long as a key. Only paths below these directories count, because a
/// key may contain slashes, also as its first character. A part of the path that is as long as a key must be a digest.
fn ends_in_path(text: &str) -> bool {
    const ROOTS: [&str; 12] = [
        "/home/",
        "/root/",
        "/tmp/",
        "/var/",
        "/usr/",
        "/opt/",
        "/etc/",
        "/run/",
        "/dev/shm/",
        "/srv/",
        "/mnt/",
        "/app/",
    ];
    let word = text.rsplit(|c: char| c.is_whitespace() || "\"'`()[]{}<>,;".contains(c)).next();
    let word = word.unwrap_or_default();
    let is_digest =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    ROOTS.iter().any(|root| word.starts_with(root))
        && !word.contains(['=', '+', '%'])
        && word.split(['/', '.']).all(|part| part.len() < 36 || is_digest(part))
}

/// Whether `text` ends inside an ARN.
fn ends_in_arn(text: &str) -> bool {
    text.rsplit(|c| !is_key_char(c) && c != ':').next().is_some_and(|w| w.starts_with("arn:"))
}

/// Replaces one known secret, also if some of its bytes are percent-encoded. Services and the SDK show inputs in their
/// original form and as encoded in the request.
pub(super) fn hide(text: &str, secret: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match length_of(rest, secret) {
            Some(end) => {
                clean.push_str("[redacted]");
                end
            }
            None => {
                clean.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[end..];
    }
    clean
}

/// The length of `secret` in `text`, if `text` begins with it.
fn length_of(text: &str, secret: &str) -> Option<usize> {
    if text.starts_with(secret) {
        return Some(secret.len());
    }
    secret.bytes().try_fold(0, |at, byte| match &text.as_bytes()[at..] {
        [b'%', high, low, ..] if hex(*high, *low) == Some(byte) => Some(at + 3),
        [b'+', ..] if byte == b' ' => Some(at + 1),
        [first, ..] if *first == byte => Some(at + 1),
        _ => None,
    })
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn secrets_are_redacted_and_useful_text_stays() {
        let id = "ASIAIOSFODNN7EXAMPLE";
        let token = "IQoJb3JpZ2luX2VjEO%2F%2F%2F%2Fwer+tyuiopASDFGHJKL1234567890==";
        for (text, expected) in [
            (
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set".to_owned(),
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set".to_owned(),
            ),
            (format!("AWS_{}", "aB3".repeat(12)), "[redacted]".to_owned()),
            (format!("key {id}, denied"), "key [redacted], denied".to_owned()),
            (format!("/tmp/{SECRET}="), "[redacted]".to_owned()),
            (format!("/tmp/x={SECRET}"), "[redacted]".to_owned()),
            (format!("/tmp/{}", SECRET.replace('/', "x")), "[redacted]".to_owned()),
            (format!("/no/{SECRET}"), "[redacted]".to_owned()),
            (format!("/tmp/a {SECRET}"), "/tmp/a [redacted]".to_owned()),
            (format!(r#"{{\"\n{SECRET}\"}}"#), r#"{\"[redacted]\"}"#.to_owned()),
            (format!(r"\\{id}\\ \"), r"[redacted]\\ \".to_owned()),
            (SECRET.replace('/', r"\/"), "[redacted]".to_owned()),
            (format!("arn:aws:iam::1:x/{id}"), "arn:aws:iam::1:[redacted]".to_owned()),
            (format!("SecretAccessKey:{SECRET}"), "SecretAccessKey:[redacted]".to_owned()),
            (format!("{{\"t\":\"{token}\"}}"), "{\"t\":\"[redacted]\"}".to_owned()),
            (format!("{{\"a\":\"arn:x\",\"s\":\"{SECRET}\"}}"), {
                "{\"a\":\"arn:x\",\"s\":\"[redacted]\"}".to_owned()
            }),
        ] {
            assert_eq!(redact(&text), expected);
        }
        for text in [
            "",
            "naïve – ünïcode",
            "request 01234567-89AB-cdef-0123-456789abcdef",
            "on resource: arn:aws:iam::123456789012:role/Team42/a-rather-long-path/and-a-long-name",
            "https://sts.eu-central-1.amazonaws.com/ refused",
            "cannot read /var/lib/some/quite/long/path/to/credentials",
            "\"/home/Jo2/projects/Team-42/.aws/sso/cache/e8be5486177c5b5392bd9aa76563515b29358e6e.json\" is",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_known_secret_is_hidden_in_every_encoding() {
        for (secret, text, expected) in [
            ("tenant/42@hush:x", "no tenant/42@hush:x here", "no [redacted] here"),
            ("tenant/42@hush:x", "a=tenant%2F42%40hush%3Ax&b", "a=[redacted]&b"),
            ("tenant/42@hush:x", "tenant%2f42%40hush%3ax", "[redacted]"),
            ("tenant/42@hush:x", "tenant/42%40hush:x,tenant", "[redacted],tenant"),
            ("%74enant hush", "%2574enant+hush %2574enant%20hush", "[redacted] [redacted]"),
            ("a%2Fhush", "a%2Fhush a%252Fhush", "[redacted] [redacted]"),
            ("{\"hü\":\"*~\"}", "%7B%22h%C3%BC%22%3A%22*%7E%22%7Dü", "[redacted]ü"),
            ("hush", "hushush %", "[redacted]ush %"),
            ("", "naïve %C3", "naïve %C3"),
        ] {
            assert_eq!(hide(text, secret), expected);
        }
    }
}
