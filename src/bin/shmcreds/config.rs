//! The configuration file: the options of the command line, by the same names.

use std::{ffi::OsString, fs, path::Path};

use toml::{Table, Value};

use crate::failure::{DATA, Failure, NO_INPUT};

/// The file's options, as they would be written on the command line.
pub(crate) fn arguments(path: &Path) -> Result<Vec<OsString>, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(NO_INPUT, format!("--config {}: {error}", path.display())))?;
    options(&text).map_err(|problem| Failure::new(DATA, format!("{}: {problem}", path.display())))
}

fn options(text: &str) -> Result<Vec<OsString>, String> {
    // The parser's own text would quote the line, which may hold a secret.
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(""));
        format!("line {} is not TOML (texts need quotes)", before.lines().count().max(1))
    })?;
    let mut options = Vec::new();
    for (key, value) in &table {
        match value {
            Value::Array(items) => {
                items.iter().try_for_each(|item| option(key, item, &mut options))
            }
            value => option(key, value, &mut options),
        }?;
    }
    Ok(options)
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

    /// Pieces of TOML, in any order: most texts of any characters are refused at the first one.
    fn pieces() -> impl Strategy<Value = String> {
        let known = prop::sample::select(&PIECES[..]).prop_map(str::to_owned);
        let piece = prop_oneof!["[a-z\"'.-]{0,8}", known];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_options_or_a_problem(text in prop_oneof![pieces(), any::<String>()]) {
            match options(&text) {
                Ok(found) => for option in found {
                    prop_assert!(option.to_str().is_some_and(|option| option.starts_with("--")));
                },
                Err(problem) => prop_assert!(problem.len() < 200 + text.len()),
            }
        }

        #[test]
        fn no_problem_quotes_a_value(before in pieces(), after in pieces()) {
            let text = format!("{before}\nkey = \"hush-7-hush\" {after}");
            if let Err(problem) = options(&text) {
                prop_assert!(!problem.contains("hush-7-hush"), "{problem}");
            }
        }

        #[test]
        fn lists_without_end_are_refused(depth in 1..20_000usize, open in "[\\[{]") {
            let text = format!("key = {}", open.repeat(depth));
            prop_assert!(options(&text).is_err());
        }
    }

    #[test]
    fn options_are_written_as_on_the_command_line() {
        let text = "role-arn = \"arn\"\nduration-seconds = 900\nweb-identity = true\nimds = false\n\
                    tag = [\"a=1\", \"b=2\"]\n";
        let mut found = options(text).unwrap();
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
    fn problems_are_named_without_the_contents() {
        assert_eq!(options("a = 1\nhush").unwrap_err(), "line 2 is not TOML (texts need quotes)");
        assert!(options("[a]\nhush = 1").unwrap_err().starts_with("a must be"));
        assert!(options("a = 1.5").unwrap_err().starts_with("a must be"));
    }
}
