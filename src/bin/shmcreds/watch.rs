//! `status --watch`: how sessions are, live, on the whole screen.

use std::{
    collections::{BTreeMap, VecDeque},
    process::ExitCode,
    time::{Duration, Instant},
};

use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Style},
    text::{Line, Span},
    widgets::{Gauge, Paragraph},
};
use shmcreds::{SharedSession, Status};

use crate::{
    failure::Failure,
    status::{colour_is_wanted, severity, short},
};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(250);
/// Lines of a session.
const HEIGHT: u16 = 5;
/// Columns of what stands before a bar.
const LABEL: u16 = 20;
const MOST_EVENTS: usize = 100;

pub(crate) fn run(name: Option<&str>) -> Result<ExitCode, Failure> {
    let mut terminal = ratatui::try_init()?;
    let mut view = View::new(colour_is_wanted());
    let outcome = loop {
        view.look(name);
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error.into());
        }
        match wants_to_end(Instant::now() + PERIOD) {
            Ok(false) => {}
            Ok(true) => break Ok(ExitCode::SUCCESS),
            Err(error) => break Err(error.into()),
        }
    };
    ratatui::restore();
    outcome
}

/// Waits until `end`, or until somebody presses q, Esc or Ctrl-C.
fn wants_to_end(end: Instant) -> std::io::Result<bool> {
    while event::poll(end.saturating_duration_since(Instant::now()))? {
        if let Event::Key(key) = event::read()? {
            let interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                KeyCode::Char('c') if interrupt => return Ok(true),
                _ => {}
            }
        }
    }
    Ok(false)
}

/// What is seen, and what has been.
struct View {
    sessions: BTreeMap<String, Status>,
    events: VecDeque<String>,
    colour: bool,
}

impl View {
    fn new(colour: bool) -> Self {
        View { sessions: BTreeMap::new(), events: VecDeque::new(), colour }
    }

    /// Looks at the sessions, each for a moment: whoever is attached keeps a session alive.
    fn look(&mut self, name: Option<&str>) {
        let names = name.map_or_else(SharedSession::list, |name| vec![name.to_owned()]);
        let look = |name: String| {
            let status = SharedSession::attach(&name).and_then(|session| session.status());
            Some((name, status.ok()?))
        };
        self.see(names.into_iter().filter_map(look).collect());
    }

    fn see(&mut self, now: BTreeMap<String, Status>) {
        for (name, status) in &now {
            match self.sessions.get(name) {
                Some(before) => self.events.extend(changes(name, before, status)),
                None => self.events.push_back(format!("{name}: here, {}", status.state().as_str())),
            }
        }
        let gone = self.sessions.keys().filter(|name| !now.contains_key(*name));
        self.events.extend(gone.map(|name| format!("{name}: gone")));
        let surplus = self.events.len().saturating_sub(MOST_EVENTS);
        self.events.drain(..surplus);
        self.sessions = now;
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let heights = self.sessions.iter().map(|_| Constraint::Length(HEIGHT));
        let rows: Vec<Constraint> = heights.chain([Constraint::Min(1)]).collect();
        let areas = Layout::vertical(rows).split(frame.area());
        for ((name, status), area) in self.sessions.iter().zip(areas.iter()) {
            self.draw_session(frame, *area, name, status);
        }
        let Some(rest) = areas.last() else { return };
        let room = usize::from(rest.height.saturating_sub(1));
        let newest = self.events.iter().rev().take(room).map(|event| Line::raw(event.as_str()));
        let heading = match self.sessions.is_empty() {
            true => "no session; q ends",
            false => "what happened, newest first; q ends",
        };
        let lines: Vec<Line<'_>> = [Line::raw(heading)].into_iter().chain(newest).collect();
        frame.render_widget(Paragraph::new(lines), *rest);
    }

    fn draw_session(&self, frame: &mut Frame<'_>, area: Rect, name: &str, status: &Status) {
        let style = self.style(status);
        let [title, expiry, refresh, facts, _] =
            Layout::vertical([Constraint::Length(1); 5]).areas(area);
        let state = Span::styled(status.state().as_str(), style);
        frame.render_widget(Line::from(vec![Span::raw(format!("{name}: ")), state]), title);
        let age = status.age().unwrap_or_default();
        self.draw_bar(frame, expiry, "expires in", status.expires_in(), age, style);
        self.draw_bar(frame, refresh, "refresh in", status.refresh_in(), age, style);
        let refresher = status.refresher().map_or("none".to_owned(), |one| {
            format!("{}{}", one.pid(), if one.is_alive() { "" } else { " (dead)" })
        });
        let text = format!(
            "generation {}, key …{}, refresher {refresher}, calls {}, failed {}, takeovers {}",
            status.generation(),
            status.access_key_tail().unwrap_or("-"),
            status.source_calls(),
            status.failed(),
            status.takeovers(),
        );
        frame.render_widget(Line::raw(text), facts);
    }

    /// A bar of what is left of the time since the set was fetched.
    fn draw_bar(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        what: &str,
        left: Duration,
        age: Duration,
        style: Style,
    ) {
        let halves = Layout::horizontal([Constraint::Length(LABEL), Constraint::Min(0)]);
        let [label, bar] = halves.areas(area);
        frame.render_widget(Line::raw(format!("{what} {}", short(left))), label);
        let whole = (left + age).as_secs_f64();
        let ratio = if whole > 0.0 { left.as_secs_f64() / whole } else { 0.0 };
        let gauge = Gauge::default().ratio(ratio.clamp(0.0, 1.0)).label("").gauge_style(style);
        frame.render_widget(gauge, bar);
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

/// What has happened between two looks.
fn changes(name: &str, before: &Status, now: &Status) -> Vec<String> {
    let mut changes = Vec::new();
    if now.generation() > before.generation() {
        let tail = now.access_key_tail().unwrap_or("-");
        changes.push(format!("{name}: published generation {}, key …{tail}", now.generation()));
    }
    if now.failed() > before.failed() {
        let said = now.last_failure().map(|last| last.failure().to_string());
        changes.push(format!("{name}: the refresh failed: {}", said.unwrap_or_default()));
    }
    for (what, before, now) in [
        ("another process took over", before.takeovers(), now.takeovers()),
        ("AWS rejected the set", before.invalidations(), now.invalidations()),
    ] {
        if now > before {
            changes.push(format!("{name}: {what}"));
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

    /// The screen of a session ten minutes after its first set, with a second one since.
    fn screen(width: u16, colour: bool) -> (Vec<String>, bool) {
        let clock = ManualClock::new().unwrap();
        let source = Provider::new("test", || async {
            let hour = SystemTime::now() + Duration::from_secs(3600 + 600);
            Credentials::new("ASIAEXAMPLE0001", "s", None, Some(hour), "test")
        });
        let name = format!("t-watch-{}-{width}-{colour}", std::process::id());
        let windows = (Duration::from_secs(900), Duration::from_secs(60));
        let session = SharedSession::builder(&name).source(source).windows(windows.0, windows.1);
        let session = session.clock(&clock).create().unwrap();
        session.credentials().unwrap();
        let mut view = View::new(colour);
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
        assert_eq!(lines[0], "web: fresh");
        assert!(
            lines[1].starts_with("expires in 59m 59s  █")
                || lines[1].starts_with("expires in 1h 0m    █"),
            "{}",
            lines[1]
        );
        assert!(lines[2].starts_with("refresh in"), "{}", lines[2]);
        // Six sevenths of eighty columns are left.
        let bar = lines[1].matches('█').count();
        assert!((66..=70).contains(&bar), "{bar}");
        assert_eq!(
            lines[3],
            "generation 2, key …0001, refresher none, calls 2, failed 0, takeovers 0"
        );
        assert_eq!(lines[5], "what happened, newest first; q ends");
        assert_eq!(lines[6], "web: published generation 2, key …0001");
        assert_eq!(lines[7], "web: here, fresh");
    }

    #[test]
    fn a_narrow_screen_cuts_and_no_colour_is_none() {
        let (lines, painted) = screen(30, false);
        assert!(!painted);
        assert_eq!(lines[0], "web: fresh");
        assert!(lines[1].contains('█') && lines[1].chars().count() <= 30);
        assert_eq!(lines[3], "generation 2, key …0001, refre");
    }

    #[test]
    fn without_a_session_it_says_so() {
        let mut terminal = Terminal::new(TestBackend::new(20, 2)).unwrap();
        terminal.draw(|frame| View::new(false).draw(frame)).unwrap();
        terminal.backend().assert_buffer_lines(["no session; q ends  ", "                    "]);
    }
}
