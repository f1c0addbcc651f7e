//! The dialect of the AWS config and credentials files, as botocore and the AWS SDKs read it.
//!
//! The parser accepts what any of them accepts: a byte order mark, CRLF, indented sections, keys and comments, text
//! after a section's `]`, `:` for `=`, nested settings. If it cannot read a line, it reports that line and goes on. No
//! report quotes the line, because it may contain a secret.

use std::collections::BTreeMap;

/// One file, section by section.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) sections: Vec<Section>,
    pub(super) problems: Vec<Problem>,
}

/// `[name]` and the lines after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The text between the brackets, trimmed.
    pub(super) name: String,
    pub(super) line: usize,
    /// By their names in lower case. If a key is there twice, the last one counts.
    pub(super) properties: BTreeMap<String, Property>,
}

/// `key = value`, or `key =` and indented lines of `key = value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) value: String,
    pub(super) nested: BTreeMap<String, String>,
    pub(super) line: usize,
}

/// The problem with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: usize,
    /// The section that the line belongs to, or should begin.
    pub(super) section: Option<String>,
    pub(super) text: &'static str,
}

pub(super) fn parse(bytes: &[u8]) -> Document {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // A comment may have another encoding.
    let text = String::from_utf8_lossy(bytes);
    let mut parser = Parser::default();
    for (index, line) in text.split('\n').enumerate() {
        parser.line(index + 1, line.trim_end());
    }
    parser.document
}

#[derive(Default)]
struct Parser {
    document: Document,
    position: Position,
    /// The newest property, and its indentation.
    property: Option<(String, usize)>,
}

/// Where the next property belongs.
#[derive(Default)]
enum Position {
    #[default]
    BeforeAll,
    /// In the last section.
    Section,
    /// After a header that cannot be read. Its properties are ignored.
    Nowhere,
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with(['#', ';']) {
            return;
        }
        let indent = line.len() - text.len();
        match &self.property {
            _ if text.starts_with('[') => self.header(number, text),
            Some((key, own)) if indent > *own => {
                let key = key.clone();
                self.continuation(&key, number, text);
            }
            _ => self.property(number, indent, text),
        }
    }

    fn header(&mut self, line: usize, text: &str) {
        self.property = None;
        let end = text.find(']');
        let name = text[1..end.unwrap_or(text.len())].trim().to_owned();
        let problem = match (end, name.is_empty()) {
            (None, _) => Some("the section name has no closing ]"),
            (_, true) => Some("the section has no name"),
            _ => None,
        };
        if let Some(text) = problem {
            self.position = Position::Nowhere;
            self.document.problems.push(Problem { line, section: Some(name), text });
            return;
        }
        self.position = Position::Section;
        self.document.sections.push(Section { name, line, properties: BTreeMap::new() });
    }

    fn property(&mut self, line: usize, indent: usize, text: &str) {
        self.property = None;
        let section = match self.position {
            Position::Nowhere => return,
            Position::BeforeAll => None,
            Position::Section => self.document.sections.last_mut(),
        };
        let name = section.as_ref().map(|section| section.name.clone());
        let problem = match (section, key_value(text)) {
            (Some(section), Some((key, value))) => {
                self.property = Some((key.clone(), indent));
                let property = Property { value: uncommented(value), line, ..Property::default() };
                section.properties.insert(key, property);
                return;
            }
            (None, Some(_)) => "it is before the first [section]",
            (_, None) => "it is neither a [section] nor KEY = VALUE",
        };
        self.document.problems.push(Problem { line, section: name, text: problem });
    }

    /// A nested setting, or the next line of a value.
    fn continuation(&mut self, key: &str, line: usize, text: &str) {
        let Some(section) = self.document.sections.last_mut() else { return };
        let Some(property) = section.properties.get_mut(key) else { return };
        if !property.value.is_empty() {
            property.value.push('\n');
            property.value.push_str(text);
            return;
        }
        match key_value(text) {
            Some((key, value)) => {
                property.nested.insert(key, uncommented(value));
            }
            None => {
                let text = "it is a nested setting, but not KEY = VALUE";
                let section = Some(section.name.clone());
                self.document.problems.push(Problem { line, section, text });
            }
        }
    }
}

/// The key in lower case, and the value, at the first `=` or `:`.
fn key_value(text: &str) -> Option<(String, &str)> {
    let (key, value) = text.split_once(['=', ':'])?;
    let key = key.trim().to_lowercase();
    (!key.is_empty()).then_some((key, value))
}

/// The value without its comment. A comment starts with `#` or `;` after a space, outside of quotes.
fn uncommented(value: &str) -> String {
    let mut quote = None;
    let mut before = ' ';
    for (place, c) in value.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if (c == '#' || c == ';') && before.is_whitespace() => {
                return value[..place].trim().to_owned();
            }
            None => {}
        }
        before = c;
    }
    match quote {
        // It was an apostrophe, not a quote.
        Some(_) => uncommented_without_quotes(value),
        None => value.trim().to_owned(),
    }
}

fn uncommented_without_quotes(value: &str) -> String {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn section<'a>(document: &'a Document, name: &str) -> &'a Section {
        document.sections.iter().find(|section| section.name == name).unwrap()
    }

    fn value<'a>(document: &'a Document, name: &str, key: &str) -> &'a str {
        &section(document, name).properties[key].value
    }

    #[test]
    fn common_variants_are_read() {
        let text = "\u{feff}; a comment\r\n[profile app] /* old */\r\n    region = eu-west-1\r\n\
                    \r\n    # indented\r\n    Output : json\r\n  [ default ] # see [x]\r\n\
                    Region=us-east-1 ; there\r\ns3 =\r\n\t# nested\r\n\tmax = 20\r\n\r\n\tstyle = path\r\n\
                    key = one\r\n  two\r\n";
        let document = parse(text.as_bytes());
        assert_eq!(document.problems, []);
        assert_eq!(value(&document, "profile app", "region"), "eu-west-1");
        assert_eq!(value(&document, "profile app", "output"), "json");
        assert_eq!(value(&document, "default", "region"), "us-east-1");
        assert_eq!(value(&document, "default", "key"), "one\ntwo");
        let nested = &section(&document, "default").properties["s3"].nested;
        assert_eq!(nested["max"], "20");
        assert_eq!(nested["style"], "path");
        assert_eq!(section(&document, "default").properties["s3"].line, 9);
    }

    #[test]
    fn a_comment_starts_outside_of_quotes() {
        for (written, read) in [
            ("a # b", "a"),
            ("a ; b", "a"),
            ("a\t# b", "a"),
            ("# all", ""),
            ("https://host/start#/", "https://host/start#/"),
            ("sh -c 'a ; b # c' # d", "sh -c 'a ; b # c'"),
            ("sh -c \"it's ; b\"", "sh -c \"it's ; b\""),
            ("it's # late", "it's"),
            ("a;b", "a;b"),
        ] {
            assert_eq!(uncommented(written), read, "{written}");
        }
    }

    #[test]
    fn an_invalid_line_does_not_affect_others() {
        let text =
            "early = 1\n[a\nlost = 1\n[b]\nhush\nkept = 1\n= none\n[]\nx = 1\n[c]\ns3 =\n  hush\n";
        let document = parse(text.as_bytes());
        let problems: Vec<_> =
            document.problems.iter().map(|p| (p.line, p.section.as_deref())).collect();
        let expected = [
            (1, None),
            (2, Some("a")),
            (5, Some("b")),
            (7, Some("b")),
            (8, Some("")),
            (12, Some("c")),
        ];
        assert_eq!(problems, expected);
        assert_eq!(value(&document, "b", "kept"), "1");
        assert_eq!(document.sections.len(), 2);
        assert!(document.problems.iter().all(|problem| !problem.text.contains("hush")));
    }

    #[test]
    fn the_last_of_two_counts() {
        let document = parse(b"[a]\nk = 1\nK = 2\n");
        assert_eq!(value(&document, "a", "k"), "2");
    }

    #[test]
    fn another_encoding_is_no_obstacle() {
        let document = parse(b"# b\xfcro\n[a]\nk = v\n");
        assert_eq!(value(&document, "a", "k"), "v");
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let document = parse(&bytes);
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            prop_assert!(document.problems.len() + document.sections.len() <= lines);
        }

        #[test]
        fn lines_of_the_dialect_in_any_order_are_read(
            lines in prop::collection::vec("[ \t]{0,3}(\\[[a-z \"\\]]{0,6}|[a-z]{0,3} ?[=:#;'\"] ?[a-z #;'é]{0,6})?\r?", 0..40)
        ) {
            let document = parse(lines.join("\n").as_bytes());
            let lines_of = document.sections.iter().flat_map(|section| {
                section.properties.values().map(|p| p.line).chain([section.line])
            });
            for line in lines_of.chain(document.problems.iter().map(|problem| problem.line)) {
                prop_assert!((1..=lines.len().max(1)).contains(&line));
            }
        }

        #[test]
        fn what_is_written_plainly_comes_back(
            name in "[a-z][a-z0-9 -]{0,10}[a-z]", key in "[a-z_]{1,10}", text in "[a-zA-Z0-9/+=:.-]{0,20}"
        ) {
            let document = parse(format!("[{name}]\n{key} = {text}\n").as_bytes());
            prop_assert_eq!(value(&document, &name, &key), text.as_str());
        }
    }
}
