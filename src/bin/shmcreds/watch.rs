//! `status --watch`: the state of sessions, live, on the whole screen.

use std::{
    collections::{BTreeMap, VecDeque},
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};
use shmcreds::{SharedSession, Status};

use crate::{
    command_error::{CommandError, Doing, USAGE},
    roles_status, roles_watch,
    status::{Entries, colour_is_wanted, refresher, severity, short},
};

/// The time between two looks at the sessions.
const PERIOD: Duration = Duration::from_millis(250);
const MOST_EVENTS: usize = 100;

/// What `--watch` does when it fails to.
const TERMINAL: &str = "using the terminal";

pub(crate) fn run(name: Option<&str>, entries: Entries) -> Result<ExitCode, CommandError> {
    if !std::io::stdout().is_terminal() {
        return Err(CommandError::new(USAGE, "--watch needs a terminal; use --json for a program"));
    }
    if let Some(name) = name
        && let Ok(Some(_)) = roles_status::find(name)
    {
        return roles_watch::run(name, entries, colour_is_wanted());
    }
    let mut terminal = ratatui::try_init().doing(TERMINAL)?;
    let mut view = View::new(colour_is_wanted(), name.is_none());
    let outcome = loop {
        view.look(name);
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error).doing(TERMINAL);
        }
        match wants_to_end(Instant::now() + PERIOD) {
            Ok(false) => {}
            Ok(true) => break Ok(ExitCode::SUCCESS),
            Err(error) => break Err(error).doing(TERMINAL),
        }
    };
    ratatui::restore();
    outcome
}

/// Waits until `end` or until the terminal changes its size. True if q, Esc or Ctrl-C is pressed.
fn wants_to_end(end: Instant) -> std::io::Result<bool> {
    while event::poll(end.saturating_duration_since(Instant::now()))? {
        match event::read()? {
            Event::Key(key) => {
                let interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                    KeyCode::Char('c') if interrupt => return Ok(true),
                    _ => {}
                }
            }
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

/// The current sessions, and the events so far.
struct View {
    sessions: BTreeMap<String, Status>,
    events: VecDeque<(Instant, String)>,
    colour: bool,
    /// Whether events name their session.
    several: bool,
}

impl View {
    fn new(colour: bool, several: bool) -> Self {
        View { sessions: BTreeMap::new(), events: VecDeque::new(), colour, several }
    }

    /// Reads the status of the sessions. It attaches only for a moment: an attached process keeps a session alive.
    fn look(&mut self, name: Option<&str>) {
        // A directory that cannot be read shows as no session; the next look may find it again.
        let names = name.map_or_else(SharedSession::list, |name| Ok(vec![name.to_owned()]));
        let names = names.unwrap_or_default();
        let look = |name: String| {
            let status = SharedSession::attach(&name).and_then(|session| session.status());
            Some((name, status.ok()?))
        };
        self.see(names.into_iter().filter_map(look).collect());
    }

    fn see(&mut self, now: BTreeMap<String, Status>) {
        let mut events = Vec::new();
        for (name, status) in &now {
            let happened = match self.sessions.get(name) {
                Some(before) => changes(before, status),
                None => vec![format!("here, {}", status.state().as_str())],
            };
            events.extend(happened.into_iter().map(|event| (name.clone(), event)));
        }
        let gone = self.sessions.keys().filter(|name| !now.contains_key(*name));
        events.extend(gone.map(|name| (name.clone(), "gone".to_owned())));
        self.events.extend(events.into_iter().map(|(name, event)| {
            let event = if self.several { format!("{name}: {event}") } else { event };
            (Instant::now(), event)
        }));
        let surplus = self.events.len().saturating_sub(MOST_EVENTS);
        self.events.drain(..surplus);
        self.sessions = now;
    }

    /// Lines that do not fit are cut off.
    fn draw(&self, frame: &mut Frame<'_>) {
        let width = usize::from(frame.area().width);
        let sessions = self.sessions.iter();
        let mut lines: Vec<Line<'_>> =
            sessions.flat_map(|(name, status)| self.session(name, status, width)).collect();
        lines.push(Line::raw(match self.sessions.is_empty() {
            true => "no session; q ends",
            false => "what happened, newest first; q ends",
        }));
        lines.extend(
            self.events.iter().rev().map(|(when, event)| {
                Line::raw(format!("{:>7} ago  {event}", short(when.elapsed())))
            }),
        );
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), frame.area());
    }

    fn session<'a>(&self, name: &'a str, status: &Status, width: usize) -> Vec<Line<'a>> {
        let style = self.style(status);
        let state = Span::styled(status.state().as_str(), style);
        let age = status.age().unwrap_or_default();
        let mut lines = vec![
            Line::from(vec![name.bold(), Span::raw("  "), state]),
            bar("expires in", status.expires_in(), age, width, style),
            bar("refresh in", status.refresh_in(), age, width, style),
        ];
        let facts = [
            format!("generation {}", status.generation()),
            format!("key …{}", status.access_key_tail().unwrap_or("-")),
            format!("refresher {}", refresher(status)),
            format!("calls {}", status.source_calls()),
            format!("failed {}", status.failed()),
            format!("takeovers {}", status.takeovers()),
        ];
        lines.extend(wrap(&facts, width).into_iter().map(Line::raw));
        if let Some(last) = status.last_failure() {
            let next = short(last.next_attempt_in());
            let text = format!("failing, next attempt in {next}: {}", last.failure());
            lines.push(Line::styled(text, style));
        }
        lines.push(Line::default());
        lines
    }

    fn style(&self, status: &Status) -> Style {
        let colour = match severity(status) {
            0 => Color::Green,
            1 => Color::Yellow,
            _ => Color::Red,
        };
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}

/// A bar that shows the rest of the time since the set was fetched.
fn bar(what: &str, left: Duration, age: Duration, width: usize, style: Style) -> Line<'static> {
    let label = format!("{what} {:>8}  ", short(left));
    let room = width.saturating_sub(label.len());
    let whole = (left + age).as_secs_f64();
    let share = if whole > 0.0 { left.as_secs_f64() / whole } else { 0.0 };
    let full = (share * room as f64).round() as usize;
    let bar = "█".repeat(full) + &"░".repeat(room.saturating_sub(full));
    Line::from(vec![Span::raw(label), Span::styled(bar, style)])
}

/// Puts as many parts on each line as fit.
fn wrap(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + part.chars().count() <= width => {
                *line += &format!("  {part}");
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

/// What has happened between two looks at a session.
fn changes(before: &Status, now: &Status) -> Vec<String> {
    let mut changes = Vec::new();
    if now.generation() > before.generation() {
        let tail = now.access_key_tail().unwrap_or("-");
        changes.push(format!("published generation {}, key …{tail}", now.generation()));
    }
    if now.failed() > before.failed() {
        let said = now.last_failure().map(|last| last.failure().to_string());
        changes.push(format!("the refresh failed: {}", said.unwrap_or_default()));
    }
    for (what, before, now) in [
        ("another process took over", before.takeovers(), now.takeovers()),
        ("AWS rejected the set", before.invalidations(), now.invalidations()),
    ] {
        if now > before {
            changes.push(what.to_owned());
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use aws_credential_types::Credentials;
    use ratatui::{Terminal, backend::TestBackend};
    use shmcreds::{Provider, testing::ManualClock};

    use super::*;

    /// The screen of a session: ten minutes after its first set, with a second set meanwhile.
    fn screen(width: u16, colour: bool) -> (Vec<String>, bool) {
        let clock = ManualClock::new().unwrap();
        let source = Provider::new("test", || async {
            let hour = SystemTime::now() + Duration::from_secs(3600 + 600);
            Credentials::new("ASIAEXAMPLE0001", "s", None, Some(hour), "test")
        });
        let name = format!("t-watch-{}-{width}-{colour}", std::process::id());
        let windows = (Duration::from_secs(900), Duration::from_secs(60));
        let session = SharedSession::builder(&name)
            .source(source)
            .advisory_window(windows.0)
            .mandatory_window(windows.1);
        let session = session.clock(&clock).create().unwrap();
        session.credentials().unwrap();
        let mut view = View::new(colour, true);
        let see =
            |view: &mut View| view.see([("web".to_owned(), session.status().unwrap())].into());
        see(&mut view);
        session.refresh().unwrap();
        clock.advance(Duration::from_secs(600));
        see(&mut view);
        let mut terminal = Terminal::new(TestBackend::new(width, 8)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let painted = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
        let rows = buffer.content().chunks(usize::from(width));
        let text = |row: &[ratatui::buffer::Cell]| {
            row.iter().map(|cell| cell.symbol()).collect::<String>()
        };
        (rows.map(|row| text(row).trim_end().to_owned()).collect(), painted)
    }

    #[test]
    fn a_wide_screen_shows_everything() {
        let (lines, painted) = screen(100, true);
        assert!(painted);
        assert_eq!(lines[0], "web  fresh");
        assert!(
            lines[1].starts_with("expires in  59m 59s  █")
                || lines[1].starts_with("expires in    1h 0m  █"),
            "{}",
            lines[1]
        );
        assert!(lines[2].starts_with("refresh in"), "{}", lines[2]);
        // Six sevenths of 79 columns are left.
        let (full, empty) = (lines[1].matches('█').count(), lines[1].matches('░').count());
        assert!(full + empty == 79 && (66..=70).contains(&full), "{full}");
        assert_eq!(
            lines[3],
            "generation 2  key …0001  refresher none  calls 2  failed 0  takeovers 0"
        );
        assert_eq!(lines[5], "what happened, newest first; q ends");
        assert_eq!(lines[6], "     0s ago  web: published generation 2, key …0001");
        assert_eq!(lines[7], "     0s ago  web: here, fresh");
    }

    #[test]
    fn a_narrow_screen_wraps_and_no_colour_is_none() {
        let (lines, painted) = screen(30, false);
        assert!(!painted);
        assert_eq!(lines[0], "web  fresh");
        assert!(lines[1].contains('█') && lines[1].chars().count() <= 30);
        assert_eq!(lines[3], "generation 2  key …0001");
        assert_eq!(lines[4], "refresher none  calls 2");
    }

    #[test]
    fn without_a_session_it_says_so() {
        let mut terminal = Terminal::new(TestBackend::new(20, 2)).unwrap();
        terminal.draw(|frame| View::new(false, true).draw(frame)).unwrap();
        terminal.backend().assert_buffer_lines(["no session; q ends  ", "                    "]);
    }
}
