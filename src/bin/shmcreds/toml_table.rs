//! Tables of a TOML file whose mistakes are told by line and name. No error shows a value: it may be a secret.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A table of which one setting after the other is taken. What is left at the end has an unknown name.
pub(crate) struct Reading<'t> {
    lines: &'t Lines,
    /// The name of the table, for people. Empty for the file itself.
    place: String,
    /// The line on which the table begins.
    line: usize,
    left: BTreeMap<&'t str, (usize, &'t DeValue<'t>)>,
    known: Vec<&'static str>,
}

/// The file as a table.
///
/// # Errors
/// A sentence with the line. The parser's own text would quote it.
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, String> {
    DeTable::parse(text).map_err(|error| {
        let at = Lines::of(text).at(error.span().map_or(0, |span| span.start));
        match error.message().contains("duplicate key") {
            true => format!("line {at}: a setting, or a table, that is in the file already"),
            false => format!("line {at} is not TOML (texts need quotes)"),
        }
    })
}

/// Where the lines of a text end. A file of many roles has as many places to tell.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        Lines(text.bytes().enumerate().filter(|(_, c)| *c == b'\n').map(|(at, _)| at).collect())
    }

    /// The number of the line at `offset`.
    fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}

impl<'t> Reading<'t> {
    pub(crate) fn new(lines: &'t Lines, place: impl Into<String>, table: &'t DeTable<'t>) -> Self {
        let entry = |(key, value): (&'t Spanned<_>, &'t Spanned<DeValue<'t>>)| {
            let key: &'t std::borrow::Cow<'t, str> = key.get_ref();
            (&**key, (lines.at(value.span().start), value.get_ref()))
        };
        let left: BTreeMap<_, _> = table.iter().map(entry).collect();
        let line = left.values().map(|(line, _)| *line).min().unwrap_or(1);
        Reading { lines, place: place.into(), line, left, known: Vec::new() }
    }

    fn take(&mut self, key: &'static str) -> Option<(usize, &'t DeValue<'t>)> {
        self.known.push(key);
        self.left.remove(key)
    }

    /// The line on which this table begins.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// A problem of this table as a whole.
    pub(crate) fn problem(&self, problem: &str) -> String {
        self.at(self.line, problem)
    }

    fn at(&self, line: usize, problem: &str) -> String {
        match &*self.place {
            "" => format!("line {line}: {problem}"),
            place => format!("line {line}: {place}: {problem}"),
        }
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<String>, String> {
        let Some((line, value)) = self.take(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.at(line, &format!("{key} must be a text in quotes"))),
        }
    }

    pub(crate) fn number<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, String> {
        Ok(self.number_at(key)?.map(|(_, number)| number))
    }

    /// A time in seconds, of this range.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<Duration>, String> {
        match self.number_at(key)? {
            Some((line, number)) if !range.contains(&number) => {
                let (first, last) = range.into_inner();
                Err(self.at(line, &format!("{key} is {number}, must be {first} to {last}")))
            }
            number => Ok(number.map(|(_, number)| Duration::from_secs(number))),
        }
    }

    /// A number, and its line.
    fn number_at<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<(usize, T)>, String> {
        let Some((line, value)) = self.take(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| {
            u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
        });
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some((line, number))),
            None => Err(self.at(
                line,
                &format!("{key} must be a whole number that is not negative, and not too large"),
            )),
        }
    }

    /// Whether a setting is written as a number.
    pub(crate) fn is_number(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|(_, value)| value.is_integer())
    }

    /// A list of texts, or one text.
    pub(crate) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, String> {
        let Some((line, value)) = self.take(key) else { return Ok(Vec::new()) };
        let one = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        let texts = match value {
            DeValue::Array(items) => items.iter().map(|item| one(item.get_ref())).collect(),
            value => one(value).map(|text| vec![text]),
        };
        texts.ok_or_else(|| self.at(line, &format!("{key} must be a list of texts in quotes")))
    }

    /// Pairs: a list of texts of the form KEY=VALUE, or a table.
    pub(crate) fn pairs(&mut self, key: &'static str) -> Result<Vec<(String, String)>, String> {
        if let Some((line, DeValue::Table(table))) = self.left.get(key).copied() {
            self.take(key);
            let pair =
                |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                    Some((key.get_ref().clone().into_owned(), value.get_ref().as_str()?.to_owned()))
                };
            let pairs: Option<Vec<_>> = table.iter().map(pair).collect();
            return pairs.ok_or_else(|| {
                self.at(line, &format!("{key} must have texts in quotes as its values"))
            });
        }
        let line = self.left.get(key).map_or(self.line, |(line, _)| *line);
        let texts = self.texts(key)?;
        let pair = |text: String| {
            let (key, value) = text.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let pairs: Option<Vec<_>> = texts.into_iter().map(pair).collect();
        pairs.ok_or_else(|| {
            self.at(
                line,
                &format!("{key} must be a list of texts of the form \"KEY=VALUE\", or a table"),
            )
        })
    }

    /// A table within this one.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
        place: impl Into<String>,
    ) -> Result<Option<Reading<'t>>, String> {
        let Some((line, value)) = self.take(key) else { return Ok(None) };
        match value.as_table() {
            Some(table) => Ok(Some(Reading { line, ..Reading::new(self.lines, place, table) })),
            None => Err(self.at(line, &format!("{key} must be a table: [{key}]"))),
        }
    }

    /// The tables within this one, by name.
    pub(crate) fn tables(
        mut self,
        place: impl Fn(&str) -> String,
    ) -> Result<Vec<(String, Reading<'t>)>, String> {
        let read = |(name, (line, value)): (&str, (usize, &'t DeValue<'t>))| {
            let place = place(name);
            match value.as_table() {
                Some(table) => {
                    let reading = Reading { line, ..Reading::new(self.lines, place, table) };
                    Ok((name.to_owned(), reading))
                }
                None => Err(format!("line {line}: {place} must be a table: [{place}]")),
            }
        };
        std::mem::take(&mut self.left).into_iter().map(read).collect()
    }

    /// Refuses a setting with a name that takes no part here, with a reason.
    pub(crate) fn refuse(&self, key: &'static str, reason: &str) -> Result<(), String> {
        match self.left.get(key) {
            Some((line, _)) => Err(self.at(*line, &format!("{key}: {reason}"))),
            None => Ok(()),
        }
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Result<(), String> {
        let Some((key, (line, _))) = self.left.iter().min_by_key(|(_, (line, _))| *line) else {
            return Ok(());
        };
        let known = self.known.join(", ");
        Err(self.at(*line, &format!("{key:?} is no setting; the settings here are {known}")))
    }
}
