use aws_credential_types::provider::error::CredentialsError;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

#[test]
fn every_text_of_a_failure_is_redacted() {
    let failure = SourceError::new(SourceErrorClass::Transient, SECRET)
        .with_code(SECRET)
        .with_request_id(SECRET);
    assert!(!format!("{failure} {failure:?}").contains(SECRET));
}

#[test]
fn display_shows_code_and_request_id() {
    let failure = SourceError::new(SourceErrorClass::Terminal, "not authorized")
        .with_code("AccessDenied")
        .with_request_id("r-1");
    assert_eq!(failure.to_string(), "AccessDenied: not authorized (request id r-1)");
}

#[test]
fn errors_of_providers_are_classified() {
    use CredentialsError as E;
    use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
    let denied = ErrorMetadata::builder().code("AccessDenied").message("no").build();
    let busy = ErrorMetadata::builder().code("Throttling").message("slow down").build();
    for (error, class, code) in [
        (E::not_loaded("none"), Misconfigured, None),
        (E::invalid_configuration("profile loops"), Misconfigured, None),
        (E::provider_timed_out(std::time::Duration::from_secs(1)), Transient, None),
        (E::provider_error("connection refused"), Transient, None),
        (E::provider_error("unhandled error (AccessDenied)"), Terminal, Some("AccessDenied")),
        (E::provider_error(denied), Terminal, Some("AccessDenied")),
        (E::provider_error(busy), Throttled, Some("Throttling")),
        (E::provider_error(E::not_loaded("inner")), Misconfigured, None),
        (E::unhandled("not UTF-8"), Transient, None),
    ] {
        let failure = SourceError::from_error("base credentials", &error);
        assert_eq!((failure.class(), failure.code()), (class, code), "{failure}");
    }
}

#[test]
fn a_request_in_an_error_is_cut_off() {
    let inner =
        "failed to apply endpoint `http://[` to request `Request { body: hush AccessDenied }`";
    for (error, kept) in [
        (CredentialsError::provider_error(inner), "failed to apply endpoint `http://[`"),
        (CredentialsError::provider_error("no answer to requests"), "no answer to requests"),
    ] {
        let failure = SourceError::from_error("base credentials", &error);
        assert!(failure.message().ends_with(kept), "{failure}");
        // A word of the request is not taken for the service's code.
        assert_eq!(failure.code(), None);
    }
}

#[test]
fn a_known_secret_is_in_no_message() {
    let key = format!("a@{SECRET}");
    for (secret, text) in [
        ("tenant/42@hush:x", "ExternalId=tenant%2F42%40hush%3Ax, not tenant/42@hush:x"),
        ("{\n  \"hush\": 1\n}", "bad policy: {\n  \"hush\": 1\n}"),
        (&key, &format!("bad {key}")),
    ] {
        let failure = SourceError::new(SourceErrorClass::Misconfigured, text).without(secret);
        let message = failure.message();
        assert!(message.contains("[redacted]"), "{message}");
        assert!(!message.contains("hush") && !message.contains("a@"), "{message}");
    }
}

#[test]
fn an_answer_of_another_server_is_named_by_its_status_and_first_words() {
    use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
    let page =
        "<!DOCTYPE html><html><title>Access Denied</title><body>Blocked by\npolicy</body></html>";
    for (status, body, class, said) in [
        (503, "", Transient, "HTTP status 503 and nothing else"),
        (403, page, Terminal, "HTTP status 403 and \"Access Denied Blocked by policy\""),
        (429, "", Throttled, "HTTP status 429"),
        (404, "no", Misconfigured, "\"no\""),
        (200, "<html>Please log in</html>", Transient, "HTTP status 200 and \"Please log in\""),
    ] {
        let failure = SourceError::from_status("STS in eu-west-1", status, body.as_bytes());
        assert_eq!(failure.class(), class, "{failure}");
        assert!(failure.message().starts_with("STS in eu-west-1 answered"), "{failure}");
        assert!(failure.message().contains(said), "{failure}");
    }
    let long = SourceError::from_status("it", 500, "word ".repeat(1000).as_bytes());
    assert!(long.message().len() < 300, "{long}");
    let secret = SourceError::from_status("it", 500, SECRET.as_bytes());
    assert!(!secret.message().contains(SECRET), "{secret}");
}

#[test]
fn a_quoted_answer_shows_no_part_of_a_secret() {
    let part = &SECRET[..8];
    for length in 0..LONGEST_QUOTE + 8 {
        let cut = format!("{} {SECRET} and more", "x".repeat(length));
        let failure = SourceError::from_status("it", 500, cut.as_bytes());
        assert!(!failure.message().contains(part), "{length}: {failure}");
    }
    let escaped = SECRET.replace('/', "\\/");
    let (slashes, unicode) = (escaped.as_str(), SECRET.replace('/', "\\u002F"));
    for secret in [slashes, &unicode] {
        let text = format!("{{\"key\":\"{secret}\"}}");
        let quoted = SourceError::from_status("it", 500, text.as_bytes());
        let told = SourceError::new(SourceErrorClass::Transient, &text);
        for failure in [quoted, told] {
            assert!(!failure.message().contains(part), "{failure}");
            assert!(!failure.message().contains("CYEXAMPLEKEY"), "{failure}");
        }
    }
}

#[test]
fn an_answer_with_credentials_is_not_quoted() {
    for body in [
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>hush</SecretAccessKey></Credentials>",
        r#"{"AccessKeyId":"A","SecretAccessKey":"hush","Token":"hush"}"#,
        r#"{"credentials":{"accessKeyId":"A","secretAccessKey":"hush"}}"#,
        "aws_access_key_id=A\naws_secret_access_key=hush",
    ] {
        let failure = SourceError::from_status("STS in eu-west-1", 200, body.as_bytes());
        let message = failure.message();
        assert_eq!(
            message,
            "STS in eu-west-1 answered with HTTP status 200 and credentials that cannot be read; \
             one of their fields is missing or wrong"
        );
    }
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let long = "no é ".repeat(100_000);
    let failure = SourceError::new(SourceErrorClass::Transient, &long).with_code(&long);
    for text in [failure.message(), failure.code().unwrap()] {
        assert!((LONGEST_TEXT - 4..=LONGEST_TEXT).contains(&text.len()), "{}", text.len());
    }
}

#[test]
fn a_message_is_one_line() {
    let failure = SourceError::new(
        SourceErrorClass::Transient,
        "all failed:\n  the first: no\n\n  the second: no\n",
    );
    assert_eq!(failure.message(), "all failed: the first: no; the second: no");
}
