//! Takes what looks like a secret out of texts that others wrote.

/// Replaces whatever has the shape of an access key id, a secret key or a token. The texts come
/// from servers and from providers that we do not know; this is the last line of defence.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_key_char) {
        let end = rest[start..].find(|c| !is_key_char(c)).map_or(rest.len(), |n| start + n);
        clean.push_str(&rest[..start]);
        let run = &rest[start..end];
        let secret = has_key_id(run) || (looks_random(run) && !ends_in_arn(&clean));
        clean.push_str(if secret { "[redacted]" } else { run });
        rest = &rest[end..];
    }
    clean + rest
}

/// The alphabets of base64, of base64 for URLs, and of percent-encoding.
fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-%".contains(c)
}

/// `AKIA…` or `ASIA…`, 16 characters or more.
fn has_key_id(run: &str) -> bool {
    let id_char = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    run.as_bytes()
        .windows(16)
        .any(|w| (w.starts_with(b"AKIA") || w.starts_with(b"ASIA")) && w.iter().all(id_char))
}

/// Long, and neither a UUID nor a path in plain words.
fn looks_random(run: &str) -> bool {
    let words = !run.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    run.len() >= 36 && !words && !is_uuid(run)
}

fn is_uuid(run: &str) -> bool {
    run.len() == 36
        && run.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Whether what follows `text` is the last part of an ARN.
fn ends_in_arn(text: &str) -> bool {
    text.rsplit(|c| !is_key_char(c) && c != ':').next().is_some_and(|w| w.starts_with("arn:"))
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
            (format!("key {id}, denied"), "key [redacted], denied".to_owned()),
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
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
