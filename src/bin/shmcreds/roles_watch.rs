//! `status NAME --watch` of a pool of roles: its entries, live, on the whole screen. They can be scrolled, sorted and
//! filtered.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::Paragraph,
};
use shmcreds::State;

use crate::{
    command_error::{CommandError, Doing},
    roles_status::{self, Pool},
    status::Entries,
};

/// The time between two looks at the pool.
const PERIOD: Duration = Duration::from_millis(250);
/// Columns by which the arrows move the table.
const SIDEWAYS: usize = 10;
/// Lines above the entries: the summary, the keys and the heading.
const HEAD: usize = 3;
const TERMINAL: &str = "using the terminal";

/// What the screen shows.
pub(crate) struct View {
    name: String,
    pool: Option<Pool>,
    entries: Entries,
    /// Whether the keys are letters of the filter.
    types: bool,
    /// The first entry and the first column that are shown.
    first: usize,
    left: usize,
    /// How many entries there were on the screen.
    page: usize,
    colour: bool,
}

pub(crate) fn run(name: &str, entries: Entries, colour: bool) -> Result<ExitCode, CommandError> {
    let mut terminal = ratatui::try_init().doing(TERMINAL)?;
    let mut view = View::new(name, entries, colour);
    let outcome = loop {
        // The pool may come later, and go.
        view.pool = Pool::look(name).ok();
        let drawn = terminal.draw(|frame| view.draw(frame)).map(drop);
        match drawn.and_then(|()| view.keys(Instant::now() + PERIOD)) {
            Ok(false) => {}
            Ok(true) => break Ok(ExitCode::SUCCESS),
            Err(error) => break Err(error).doing(TERMINAL),
        }
    };
    ratatui::restore();
    outcome
}

impl View {
    pub(crate) fn new(name: &str, entries: Entries, colour: bool) -> Self {
        let (name, page) = (name.to_owned(), 1);
        View { name, pool: None, entries, types: false, first: 0, left: 0, page, colour }
    }

    /// Handles keys until `end`, or until one changes the screen. True if the user wants to end.
    fn keys(&mut self, end: Instant) -> std::io::Result<bool> {
        while event::poll(end.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) => return Ok(self.press(key)),
                Event::Resize(..) => return Ok(false),
                _ => {}
            }
        }
        Ok(false)
    }

    /// Handles one key. True if the user wants to end.
    fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return true,
            KeyCode::Enter | KeyCode::Esc if self.types => self.types = false,
            KeyCode::Backspace if self.types => drop(self.entries.filter.pop()),
            KeyCode::Char(letter) if self.types => {
                self.entries.filter.push(letter);
                self.first = 0;
            }
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('/') => {
                self.types = true;
                self.entries.filter.clear();
            }
            KeyCode::Char('s') => self.entries.sort = self.entries.sort.next(),
            KeyCode::Down | KeyCode::Char('j') => self.first = self.first.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => {
                self.first = self.first.saturating_add(self.page);
            }
            KeyCode::PageUp => self.first = self.first.saturating_sub(self.page),
            KeyCode::Home | KeyCode::Char('g') => self.first = 0,
            KeyCode::End | KeyCode::Char('G') => self.first = usize::MAX,
            KeyCode::Right => self.left = self.left.saturating_add(SIDEWAYS),
            KeyCode::Left => self.left = self.left.saturating_sub(SIDEWAYS),
            _ => {}
        }
        false
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>) {
        self.page = usize::from(frame.area().height).saturating_sub(HEAD).max(1);
        let lines = match &self.pool {
            Some(pool) => {
                let entries = pool.entries(self.entries.sort, &self.entries.filter);
                let count = entries.len();
                // The last page is full, if there are enough entries.
                self.first = self.first.min(count.saturating_sub(self.page));
                let shown = entries.iter().skip(self.first).take(self.page);
                // All rows, so that the columns do not move while the table is scrolled.
                let rows: Vec<_> = entries.iter().map(|entry| pool.cells(entry)).collect();
                let mut table = roles_status::lines(&rows).into_iter();
                let heading = self.cut(&table.next().unwrap_or_default());
                let mut lines = vec![
                    Line::raw(pool.summary(&self.name)),
                    Line::raw(self.help(count)),
                    Line::from(heading.bold()),
                ];
                let rows = table.skip(self.first).zip(shown);
                lines.extend(
                    rows.map(|(row, entry)| Line::from(self.painted(&row, entry.status().state()))),
                );
                lines
            }
            None => vec![Line::raw(format!("{}: no pool; q ends", self.name))],
        };
        frame.render_widget(Paragraph::new(lines), frame.area());
    }

    fn help(&self, count: usize) -> String {
        let last = (self.first + self.page).min(count);
        let first = (self.first + 1).min(last);
        let filter = match (self.types, &*self.entries.filter) {
            (true, filter) => format!("filter: {filter}_ (Enter)"),
            (false, "") => "/ filters".to_owned(),
            (false, filter) => format!("/ filters: {filter}"),
        };
        let sort = self.entries.sort.name();
        format!(
            "{first}-{last} of {count}; {filter}; s sorts: {sort}; arrows and pages scroll; q ends"
        )
    }

    fn cut(&self, row: &str) -> String {
        row.chars().skip(self.left).collect()
    }

    fn painted(&self, row: &str, state: State) -> Span<'static> {
        let colour = match state {
            State::Fresh | State::Advisory => Color::Green,
            State::Mandatory => Color::Yellow,
            _ => Color::Reset,
        };
        let style = if self.colour { Style::new().fg(colour) } else { Style::new() };
        Span::styled(self.cut(row), style)
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use ratatui::{Terminal, backend::TestBackend};
    use shmcreds::{AssumeRole, Provider, SharedRoles, testing::LocalSts};

    use super::*;

    fn screen(view: &mut View) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(100, 8)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let rows = terminal.backend().buffer().content().chunks(100);
        let text = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect();
        rows.map(text).map(|row: String| row.trim_end().to_owned()).collect()
    }

    fn press(view: &mut View, keys: &[KeyCode]) -> bool {
        keys.iter().any(|code| view.press(KeyEvent::new(*code, KeyModifiers::NONE)))
    }

    #[test]
    fn entries_are_scrolled_filtered_and_sorted() {
        let name = format!("t-roles-watch-{}", std::process::id());
        let sts = LocalSts::start().unwrap();
        let base = Provider::new("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "base")
        });
        let roles = SharedRoles::builder(&name).base_source(base).allow("arn:aws:iam::*:role/*");
        let roles = roles.create().unwrap();
        let recipe = |number: usize| {
            AssumeRole::new(format!("arn:aws:iam::123456789012:role/tenant-{number:02}"))
                .region("us-east-1")
                .endpoint_url(sts.url())
        };
        for number in 0..30 {
            roles.role(recipe(number)).unwrap().credentials().unwrap();
        }
        let mut view = View::new(&name, Entries::default(), false);
        assert_eq!(screen(&mut view)[0], format!("{name}: no pool; q ends"));
        view.pool = Some(Pool::look(&name).unwrap());
        let arns = |lines: &[String]| -> Vec<String> {
            let of =
                |line: &String| Some(line.split("role/").nth(1)?.split(' ').next()?.to_owned());
            lines[HEAD..].iter().filter_map(of).collect()
        };
        let lines = screen(&mut view);
        assert!(
            lines[0].starts_with(&format!("{name}: a pool with 30 of 1000 roles (30 fresh)")),
            "{}",
            lines[0]
        );
        assert!(lines[1].starts_with("1-5 of 30; / filters; s sorts: role;"), "{}", lines[1]);
        assert!(lines[2].starts_with("ROLE  ARN"), "{}", lines[2]);
        assert_eq!(arns(&lines), ["tenant-00", "tenant-01", "tenant-02", "tenant-03", "tenant-04"]);
        press(&mut view, &[KeyCode::PageDown, KeyCode::Down]);
        assert_eq!(arns(&screen(&mut view))[0], "tenant-06");
        press(&mut view, &[KeyCode::End, KeyCode::Down]);
        assert_eq!(
            arns(&screen(&mut view)),
            ["tenant-25", "tenant-26", "tenant-27", "tenant-28", "tenant-29"]
        );
        press(&mut view, &[KeyCode::Up, KeyCode::Home]);
        assert_eq!(arns(&screen(&mut view))[0], "tenant-00");
        // Letters are those of the filter until Enter.
        let keys = ['/', 'T', '-', '1', 'q', 's'].map(KeyCode::Char);
        assert!(!press(&mut view, &keys));
        press(&mut view, &[KeyCode::Backspace, KeyCode::Backspace, KeyCode::Enter]);
        let lines = screen(&mut view);
        assert!(lines[1].starts_with("1-5 of 10; / filters: T-1;"), "{}", lines[1]);
        assert_eq!(arns(&lines)[0], "tenant-10");
        press(&mut view, &[KeyCode::Char('s'), KeyCode::Right]);
        let lines = screen(&mut view);
        assert!(lines[1].contains("s sorts: state"), "{}", lines[1]);
        assert!(!lines[2].starts_with("ROLE"), "{}", lines[2]);
        assert!(press(&mut view, &[KeyCode::Esc]));
        assert!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
