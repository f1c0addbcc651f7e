use super::*;
use crate::source::Provider;

const ROLE: &str = "arn:aws:iam::123456789012:role/app";

fn role() -> AssumeRole {
    AssumeRole::new(ROLE).session_name("web")
}

fn device() -> AssumeRole {
    role().mfa("123456789", || async { Ok::<_, std::io::Error>("123456".to_owned()) })
}

fn repeat(n: usize, add: impl Fn(AssumeRole, usize) -> AssumeRole) -> AssumeRole {
    (0..n).fold(role(), add)
}

#[test]
fn invalid_inputs_are_named() {
    let x = |n| "x".repeat(n);
    let secs = Duration::from_secs;
    let table: Vec<(AssumeRole, &str)> = vec![
        (AssumeRole::new("arn:short"), "role_arn has 9 characters"),
        (AssumeRole::new("arn:aws:iam::12345:role/application"), "role_arn \"arn:aws:iam::12345"),
        (AssumeRole::new("arn:aws:iam::123456789012:user/app"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role/"), "role_arn "),
        (AssumeRole::new("arn:aws:s3::123456789012:role/app"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role/a b"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role//app"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role/app/"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role/*"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role/*/app"), "role_arn "),
        (AssumeRole::new("arn:aws:iam::123456789012:role/a:b"), "role_arn "),
        (AssumeRole::new(format!("arn:aws:iam::123456789012:role/{}", x(65))), "role_arn "),
        (AssumeRole::new(format!("{ROLE}{}", x(2048))), "role_arn has 2082"),
        (role().session_name("w"), "session_name has 1"),
        (role().session_name(x(65)), "session_name has 65"),
        (role().session_name("a b"), "session_name \"a b\""),
        (role().duration(secs(899)), "duration is 899s"),
        (role().regions(["eu-west-1", "EU"]), "regions: region \"EU\" is not the name"),
        (role().regions(["eu-west-1", ""]), "regions: region \"\" is not the name"),
        (role().regions(["a", "b", "a"]), "regions names \"a\" twice"),
        (role().regions((0..17).map(|i| format!("r-{i}"))), "regions is given 17"),
        (role().regions(["a"]).region("b"), "regions is set beside region,"),
        (role().regions(["a"]).endpoint_url("http://x"), "regions is set beside endpoint_url,"),
        (device().regions(["a", "b"]), "regions names 2 Regions, must name one with mfa"),
        (role().duration(secs(43_201)), "duration is 43201s"),
        (role().duration(Duration::from_millis(900_500)), "duration is 900.5s"),
        (role().external_id("e"), "external_id has 1"),
        (role().external_id(x(1225)), "external_id has 1225"),
        (role().external_id("a b"), "external_id has a forbidden"),
        (role().policy(""), "policy has 0"),
        (role().policy(format!("{{{}}}", x(2047))), "policy has 2049"),
        (role().policy("Allow"), "policy is not a JSON object"),
        (role().policy("{€}"), "policy has a forbidden"),
        (role().policy("{Allow}"), "policy is not a JSON object"),
        (role().policy("{} {}"), "policy is not a JSON object"),
        (role().policy("[{}]"), "policy is not a JSON object"),
        (role().policy("{\"Statement\":[}"), "policy is not a JSON object"),
        (role().policy_arn("arn:aws:iam::aws:role/ReadOnly"), "policy_arn "),
        (repeat(11, |r, _| r.policy_arn("arn:aws:iam::aws:policy/A")), "policy_arn is given 11"),
        (repeat(51, |r, i| r.tag(format!("k{i}"), "v")), "tag is given 51"),
        (role().tag("", "v"), "tag key has 0"),
        (role().tag(x(129), "v"), "tag key has 129"),
        (role().tag("k", x(257)), "tag \"k\" has a value of 257"),
        (role().tag("a*", "v"), "tag key \"a*\""),
        (role().tag("k", "*"), "tag \"k\" has a value with"),
        (role().tag("k", "a\tb"), "tag \"k\" has a value with"),
        (role().tag("k", "a\u{85}b"), "tag \"k\" has a value with"),
        (role().tag("Team", "a").tag("team", "b"), "tag \"team\" is given twice"),
        (role().tag("AWS:x", "v"), "tag key \"AWS:x\" starts with"),
        (role().transitive_tag_key(""), "transitive_tag_key key has 0"),
        (repeat(51, |r, i| r.transitive_tag_key(format!("k{i}"))), "transitive_tag_key is given"),
        (role().source_identity("a"), "source_identity has 1"),
        (role().source_identity("aws:me"), "source_identity \"aws:me\" starts with"),
        (role().source_identity("a/b"), "source_identity \"a/b\" has"),
        (role().provided_context("arn:short", "assertion"), "provided_context ARN has 9"),
        (role().provided_context(x(30), "assertion"), "provided_context ARN "),
        (role().provided_context(ROLE, "abc"), "provided_context assertion has 3"),
        (repeat(6, |r, _| r.provided_context(ROLE, "abcd")), "provided_context is given 6"),
        (role().region(""), "region \"\""),
        (role().region("EU"), "region \"EU\""),
        (role().region("-eu"), "region \"-eu\""),
        (role().region("eu-"), "region \"eu-\""),
        (role().region("eu.central"), "region \"eu.central\""),
        (role().region("eu_central"), "region \"eu_central\""),
        (role().region(x(65)), "region \"xxx"),
        (role().connect_timeout(Duration::ZERO), "connect_timeout is 0"),
        (role().connect_timeout(Duration::MAX), "connect_timeout is 18446744073709551615.9"),
        (role().read_timeout(Duration::ZERO), "read_timeout is 0"),
        (role().read_timeout(secs(86_401)), "read_timeout is 86401s, must be 1 ms to 86400 s"),
        (role().operation_timeout(Duration::ZERO), "operation_timeout is 0"),
        (role().operation_timeout(Duration::from_micros(999)), "operation_timeout is 999µs"),
        (role().operation_timeout(secs(86_401)), "operation_timeout is 86401s"),
        (role().mfa_command("123456789", ["x"]).mfa_timeout(secs(86_401)), "mfa_command timeout"),
        (device().mfa_timeout(secs(86_401)), "mfa_timeout is 86401s"),
        (
            role().base_source(Provider::imds().timeout(secs(86_401))),
            "base_source: timeout is 86401s",
        ),
        (role().max_attempts(0), "max_attempts is 0"),
    ];
    for (recipe, expected) in table {
        let error = recipe.validate().expect_err(expected);
        assert!(error.starts_with(expected), "{error:?} is not {expected:?}");
    }
}

/// The limit of an hour holds at each place in a chain.
#[test]
fn a_role_by_a_role_lives_an_hour() {
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let sso = || Provider::sso("https://host", "eu-central-1", "123456789012", "reader");
    let limit = "duration is 7200s, must be at most 3600 s";
    let long = || role().duration(hours(2));
    for refused in [
        long().base_source(role()),
        long().base_source(std::sync::Arc::new(role())),
        long().base_source(role().base_source(role())),
        long().base_source(Provider::web_identity()),
        long().base_source(sso()),
        role().base_source(long().base_source(role())),
        role().base_source(role().base_source(long().base_source(sso()))),
    ] {
        assert!(refused.validate().unwrap_err().contains(limit), "{refused:?}");
    }
    for accepted in [
        // No role assumes the first role of a chain.
        role().base_source(role().base_source(long())),
        role().duration(hours(1)).base_source(role()),
        // It is not known in advance whether these give a role.
        long().base_source(Provider::profile("base")),
        long().base_source(Provider::default_chain()),
    ] {
        assert_eq!(accepted.validate(), Ok(()), "{accepted:?}");
    }
}

#[test]
fn the_widest_valid_inputs_pass() {
    let recipe = role()
        .duration(Duration::from_secs(43_200))
        .external_id("a:b/c@d")
        .policy(" {\"Statement\":[]}\n")
        .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
        .policy_arn("arn:aws-cn:iam::123456789012:policy/path/Mine")
        .tag("Größe", "")
        .transitive_tag_key("inherited")
        .source_identity("me@example.com")
        .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion")
        .region("eu-central-1")
        .endpoint_url("http://127.0.0.1:8080")
        .connect_timeout(Duration::from_millis(1))
        .read_timeout(Duration::from_secs(86_400))
        .operation_timeout(Duration::from_secs(86_400));
    assert_eq!(recipe.validate(), Ok(()));
    for region in ["us-gov-west-1", "eusc-de-east-1", "us-iso-east-1", "a", &"x".repeat(64)] {
        assert_eq!(role().region(region).validate(), Ok(()), "{region}");
    }
    for name in ["a", "path/app", "a/longer!path/app+=,.@-_", &"x".repeat(64)] {
        let arn = format!("arn:aws:iam::123456789012:role/{name}");
        assert_eq!(AssumeRole::new(arn).validate(), Ok(()), "{name}");
    }
    // All separators of Unicode.
    for space in [' ', '\u{a0}', '\u{2009}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{3000}'] {
        let tag = format!("a{space}b");
        assert_eq!(role().tag(&tag, &tag).validate(), Ok(()), "{space:?}");
    }
}

#[test]
fn what_may_be_secret_is_not_shown() {
    let secret = "hush hush";
    for recipe in [
        role().external_id(secret),
        role().policy(secret),
        role().policy("{\"hush\":hush}"),
        role().tag("team", "hush*"),
        role().endpoint_url(format!("http://me:{secret}@host")),
        role().endpoint_url("http://me:hush@host"),
        role().base_source(Provider::sso("https://me:hush@host", "eu", "123456789012", "r")),
    ] {
        assert!(!recipe.validate().unwrap_err().contains("hush"));
    }
}
