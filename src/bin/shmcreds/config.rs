//! The configuration file: the same options as on the command line.

use std::{collections::BTreeSet, ffi::OsString, io, path::Path, time::Duration};

use shmcreds::file_or_pipe;
use toml::{Table, Value};

use crate::{
    command_error::{CommandError, DATA, NO_INPUT},
    errno::told,
};

/// All options together need less.
const LONGEST: u64 = 1024 * 1024;
/// How long to wait for a program that writes the file into a pipe.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options that choose a source. Only one of them can be used.
const SOURCES: [&str; 8] = [
    "profile",
    "default-chain",
    "web-identity",
    "container",
    "imds",
    "sso-start-url",
    "process",
    "iot-endpoint",
];

/// The options of the file in the form of the command line. Options that the command line overrides are left out;
/// `given` contains the options on the command line.
pub(crate) fn arguments(
    path: &Path,
    given: &BTreeSet<String>,
) -> Result<Vec<OsString>, CommandError> {
    // It is read once, so it may be a pipe.
    let read = file_or_pipe(path, LONGEST, PATIENCE).and_then(|bytes| text(&bytes));
    let text = read.map_err(|error| {
        CommandError::new(NO_INPUT, format!("--config {}: {}", path.display(), told(&error)))
    })?;
    options(&text, given)
        .map_err(|problem| CommandError::new(DATA, format!("{}: {problem}", path.display())))
}

/// The text in the bytes of a file.
pub(crate) fn text(bytes: &[u8]) -> io::Result<String> {
    let text = std::str::from_utf8(bytes).map(str::to_owned);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

fn options(text: &str, given: &BTreeSet<String>) -> Result<Vec<OsString>, String> {
    // The parser's error text would quote the line, which may contain a secret.
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(""));
        format!("line {} is not TOML (texts need quotes)", before.lines().count().max(1))
    })?;
    let mut options = Vec::new();
    for (key, value) in &table {
        let mut written = Vec::new();
        match value {
            Value::Array(items) => {
                items.iter().try_for_each(|item| option(key, item, &mut written))
            }
            value => option(key, value, &mut written),
        }?;
        if !is_overridden(key, given) {
            options.append(&mut written);
        }
    }
    Ok(options)
}

/// Whether an option on the command line overrides `key` of the file.
fn is_overridden(key: &str, given: &BTreeSet<String>) -> bool {
    let is_given = |option: &str| given.contains(option);
    let by_another = match key {
        "eager" | "sealed" => is_given("deferred"),
        "deferred" => is_given("eager") || is_given("sealed"),
        // The arguments belong to one program only.
        "process-arg" => is_given("process"),
        "mfa-command-arg" => is_given("mfa-command"),
        _ => false,
    };
    let source = source_of(key);
    let another = |other: &str| source.is_some_and(|source| source != other);
    is_given(key) || by_another || SOURCES.iter().any(|other| another(other) && is_given(other))
}

/// The source that an option belongs to.
fn source_of(key: &str) -> Option<&str> {
    match key {
        "process-arg" => Some("process"),
        key if key.starts_with("sso-") => Some("sso-start-url"),
        key if key.starts_with("iot-") => Some("iot-endpoint"),
        key => SOURCES.contains(&key).then_some(key),
    }
}

fn option(key: &str, value: &Value, options: &mut Vec<OsString>) -> Result<(), String> {
    let text = match value {
        Value::Boolean(true) => format!("--{key}"),
        Value::Boolean(false) => return Ok(()),
        Value::String(text) => format!("--{key}={text}"),
        Value::Integer(number) => format!("--{key}={number}"),
        _ => {
            return Err(format!(
                "{key} must be a text, a whole number, true, false, or a list of texts"
            ));
        }
    };
    options.push(text.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECES: [&str; 24] = [
        "=",
        "\n",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        "\"",
        "\"\"\"",
        "'''",
        "#",
        "\\u",
        "1",
        "-0x",
        "1e9999",
        "99999999999999999999",
        "inf",
        "nan",
        "true",
        "2030-01-01T00:00:00Z",
        "\r",
        "\0",
    ];

    /// Pieces of TOML in any order. Most random texts would be refused at their first character.
    fn pieces() -> impl Strategy<Value = String> {
        let known = prop::sample::select(&PIECES[..]).prop_map(str::to_owned);
        let piece = prop_oneof!["[a-z\"'.-]{0,8}", known];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_options_or_a_problem(text in prop_oneof![pieces(), any::<String>()]) {
            match options(&text, &given(&[])) {
                Ok(found) => for option in found {
                    prop_assert!(option.to_str().is_some_and(|option| option.starts_with("--")));
                },
                Err(problem) => prop_assert!(problem.len() < 200 + text.len()),
            }
        }

        #[test]
        fn no_problem_quotes_a_value(before in pieces(), after in pieces()) {
            let text = format!("{before}\nkey = \"hush-7-hush\" {after}");
            if let Err(problem) = options(&text, &given(&[])) {
                prop_assert!(!problem.contains("hush-7-hush"), "{problem}");
            }
        }

        #[test]
        fn lists_without_end_are_refused(depth in 1..20_000usize, open in "[\\[{]") {
            let text = format!("key = {}", open.repeat(depth));
            prop_assert!(options(&text, &given(&[])).is_err());
        }
    }

    fn given(options: &[&str]) -> BTreeSet<String> {
        options.iter().map(|option| (*option).to_owned()).collect()
    }

    #[test]
    fn options_are_written_as_on_the_command_line() {
        let text = "role-arn = \"arn\"\nduration-seconds = 900\nweb-identity = true\nimds = false\n\
                    tag = [\"a=1\", \"b=2\"]\n";
        let mut found = options(text, &given(&[])).unwrap();
        found.sort();
        let expected = [
            "--duration-seconds=900",
            "--role-arn=arn",
            "--tag=a=1",
            "--tag=b=2",
            "--web-identity",
        ];
        assert_eq!(found, expected.map(OsString::from));
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        for (text, on_the_line, left) in [
            ("profile = \"a\"", &["process"][..], &[][..]),
            ("process = \"a\"\nprocess-arg = [\"b\"]", &["imds"], &[]),
            ("process = \"a\"\nprocess-arg = [\"b\"]", &["process"], &[]),
            ("process = \"a\"\nprocess-arg = [\"b\"]", &["process-arg"], &["--process=a"]),
            ("sso-start-url = \"a\"\nsso-region = \"b\"", &["container"], &[]),
            ("sso-start-url = \"a\"\nsso-region = \"b\"", &["sso-region"], &["--sso-start-url=a"]),
            ("sso-start-url = \"a\"\nsso-region = \"b\"", &["sso-start-url"], &["--sso-region=b"]),
            ("iot-endpoint = \"a\"\niot-ca = \"b\"", &["default-chain"], &[]),
            ("profile = \"a\"\nrole-arn = \"b\"", &["imds"], &["--role-arn=b"]),
            ("profile = \"a\"\nrole-arn = \"b\"", &["role-arn"], &["--profile=a"]),
            ("tag = [\"a=1\"]", &["tag"], &[]),
            ("mfa-command = \"a\"\nmfa-command-arg = [\"b\"]", &["mfa-command"], &[]),
            ("deferred = true", &["eager"], &[]),
            ("deferred = true", &["sealed"], &[]),
            ("sealed = true\neager = true", &["deferred"], &[]),
            ("sealed = true", &["eager"], &["--sealed"]),
        ] {
            let found = options(text, &given(on_the_line)).unwrap();
            let expected: Vec<OsString> = left.iter().map(OsString::from).collect();
            assert_eq!(found, expected, "{text} beside {on_the_line:?}");
        }
    }

    #[test]
    fn problems_are_named_without_the_contents() {
        let problem = |text| options(text, &given(&[])).unwrap_err();
        assert_eq!(problem("a = 1\nhush"), "line 2 is not TOML (texts need quotes)");
        assert!(problem("[a]\nhush = 1").starts_with("a must be"));
        assert!(problem("a = 1.5").starts_with("a must be"));
    }
}
