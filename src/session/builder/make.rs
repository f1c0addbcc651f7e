//! Makes or opens the session that a builder describes, after all of the description was checked.

use std::{process, time::Duration};

use super::{Refresh, SharedSessionBuilder, fleet};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::fetch::Recipe,
    segment::{self, Header, Places},
    session::{
        SharedSession,
        process_session::Settings,
        refresher_start::Start,
        registry::{self, Joined},
        timing::LONGEST_START_SPREAD,
        unplaced::Unplaced,
    },
    source,
    sys::random,
};

/// What becomes of a session that no directory can hold.
#[derive(Clone, Copy)]
pub(super) enum Fallback {
    /// An error.
    None,
    /// It has no name.
    MemoryFiles,
}

/// The parts of a builder that a pool has, too.
pub(in crate::session) struct ForPool {
    pub(in crate::session) name: SessionName,
    pub(in crate::session) places: Places,
    pub(in crate::session) settings: Settings,
    pub(in crate::session) last_user_removes: bool,
    pub(in crate::session) optional: bool,
}

impl SharedSessionBuilder {
    pub(super) fn make(
        self,
        patience: Duration,
        fallback: Fallback,
    ) -> Result<SharedSession, Fault> {
        self.check_combination()?;
        let (eager, sealed, secret) = (self.refresh == Refresh::Eager, self.sealed, self.secret);
        let optional = self.name_is_optional;
        let last_user_removes = self.last_user_removes;
        let readers = self.sharing.readers(sealed)?;
        // Members of the group find the session by its name only.
        let fallback = if readers.is_some() { Fallback::None } else { fallback };
        let consumers_keep = self.seconds_kept()?;
        let places = if sealed { None } else { Some(self.places()?) };
        let first_call = self.first_call()?;
        let program = self.refresher_program.clone();
        let (name, settings) = self.check()?;
        let recipe = recipe(&settings, eager)?;
        let description = recipe.source.describe();
        let fingerprint = recipe.source.fingerprint();
        let choose = || Start::choose(program.as_deref(), recipe, settings.clock.as_ref(), sealed);
        let start = eager.then(choose).transpose()?;
        let creator = process::id();
        let header = || {
            Ok(Header {
                instance: random::number()?,
                creator,
                time_namespace: segment::time_namespace(),
                fingerprint,
                description: description.clone(),
                eager,
                sealed,
                secret,
                last_user_removes,
                readers,
                pool: None,
                consumers_keep,
            })
        };
        let (shared, segment, writer) = match places {
            None => {
                let (shared, segment, writer) = registry::create_sealed(name, header, settings)?;
                (shared, segment, Some(writer))
            }
            Some(places) => {
                let made = registry::create(&name, &places, header, settings, patience);
                let made = made.or_else(|unplaced| match fallback {
                    Fallback::None => Err(unplaced.fault()),
                    Fallback::MemoryFiles => in_memory_files(name, header, *unplaced, optional),
                });
                let (shared, segment) = made?;
                (shared, segment, None)
            }
        };
        let session = SharedSession::new(shared, segment);
        if last_user_removes {
            registry::remove_leftovers(&session.inner.shared.name);
        }
        if let Some(start) = start {
            session.inner.start_dedicated(&start, writer, first_call)?;
        }
        Ok(session)
    }

    /// Some settings need another one, or exclude it.
    fn check_combination(&self) -> Result<(), Fault> {
        let problem = if self.sealed && self.last_user_removes {
            "removed_by_last_user: a sealed session has no names; leave it out"
        } else if self.sealed && self.refresh != Refresh::Eager {
            "sealed: nobody but a dedicated refresher can write; add refresh(Refresh::Eager)"
        } else if self.secret && !self.sealed {
            "secret_memory: it has no name by which others could find it; add sealed()"
        } else if self.sealed && self.directory.is_some() {
            "directory: a sealed session has no files in a directory; leave out one of the two"
        } else {
            return Ok(());
        };
        Err(invalid(problem))
    }

    pub(super) fn take_over(self, in_use: Fault) -> Result<SharedSession, Fault> {
        let eager = self.refresh == Refresh::Eager;
        let places = self.places()?;
        let program = self.refresher_program.clone();
        let (name, settings) = self.check()?;
        let Some(recipe) = &settings.recipe else { return Err(in_use) };
        let expected = recipe.source.fingerprint();
        let choose = || Start::choose(program.as_deref(), recipe, settings.clock.as_ref(), false);
        let start = eager.then(choose).transpose()?;
        let taken = registry::take_over(&name, &places, &expected, settings)?;
        let (shared, segment) = taken.ok_or(in_use)?;
        let session = SharedSession::new(shared, segment);
        if let Some(start) = start {
            session.inner.start_dedicated(&start, None, Duration::ZERO)?;
        }
        Ok(session)
    }

    /// Draws how long the refresher waits before its first call.
    fn first_call(&self) -> Result<Duration, Fault> {
        let limit = self.start_spread;
        if limit.is_zero() {
            return Ok(limit);
        }
        if self.refresh != Refresh::Eager {
            return Err(invalid(
                "start_spread: the session is deferred, so it has no refresher that waits; add \
                 refresh(Refresh::Eager)",
            ));
        }
        if limit > LONGEST_START_SPREAD {
            return Err(invalid(format!(
                "start_spread: is {limit:?}; it must be {LONGEST_START_SPREAD:?} at most"
            )));
        }
        Ok(limit.mul_f64(random::fraction()?))
    }

    pub(super) fn open(
        self,
        attach: fn(&SessionName, &Places, &Settings) -> Result<registry::Joined, Fault>,
    ) -> Result<SharedSession, Fault> {
        let (places, sharing) = (self.places()?, self.sharing);
        let (name, settings) = self.check()?;
        let own = || attach(&name, &places, &settings);
        let (shared, segment) = sharing.open(&name, &places, &settings, own)?;
        if segment.header.pool.is_some() {
            return Err(invalid(
                "name: it is the name of a pool of roles; use SharedRoles::attach, or another name",
            ));
        }
        settings.check_source(&segment.header)?;
        Ok(SharedSession::new(shared, segment))
    }

    /// The parts that a pool has, too.
    pub(in crate::session) fn for_pool(self) -> Result<ForPool, Fault> {
        if self.sealed && self.directory.is_some() {
            return Err(invalid(
                "directory: a sealed pool has no files in a directory; leave out one of the two",
            ));
        }
        let places = self.places()?;
        let (last_user_removes, optional) = (self.last_user_removes, self.name_is_optional);
        let (name, settings) = self.check()?;
        Ok(ForPool { name, places, settings, last_user_removes, optional })
    }

    fn places(&self) -> Result<Places, Fault> {
        Places::new(self.directory.as_deref(), self.disk)
    }

    fn check(self) -> Result<(SessionName, Settings), Fault> {
        let name = SessionName::new(&self.name)?;
        self.windows.validate().map_err(invalid)?;
        if self.wait_timeout == Some(Duration::ZERO) {
            return Err(invalid("wait_timeout: is zero; it must be longer"));
        }
        let windows = self.windows;
        let (gate, source) = (self.gate, self.source);
        fleet::check(gate.as_deref(), source.as_deref()).map_err(invalid)?;
        let recipe = source.map(|source| Recipe { source, windows, gate });
        if let Some(recipe) = &recipe {
            recipe.source.validate().map_err(invalid)?;
            let timeout = recipe.source.timeout();
            if timeout > source::LONGEST_FETCH {
                let limit = source::LONGEST_FETCH;
                return Err(invalid(format!(
                    "source: its time-out is {timeout:?}; it must be {limit:?} at most"
                )));
            }
        }
        Ok((name, Settings { recipe, windows, clock: self.clock, wait_timeout: self.wait_timeout }))
    }
}

/// The recipe of a session that is created.
fn recipe(settings: &Settings, eager: bool) -> Result<&Recipe, Fault> {
    let recipe = settings.recipe.as_ref();
    let recipe = recipe
        .ok_or_else(|| invalid("source: none is given; a session needs one to fetch its set"))?;
    if eager && recipe.source.is_manual() {
        return Err(invalid(
            "source: only the program can ask a manual source, so no process of its own can refresh it; use \
             Refresh::Deferred",
        ));
    }
    Ok(recipe)
}

/// Makes the session, or the pool, that no directory can hold.
pub(in crate::session) fn in_memory_files(
    name: SessionName,
    header: impl Fn() -> Result<Header, Fault>,
    unplaced: Unplaced,
    optional: bool,
) -> Result<Joined, Fault> {
    let (settings, reasons) = unplaced.without_a_name(optional)?;
    tracing::warn!(
        session = name.as_str(),
        "kept in memory files, so that only processes that inherit the session can use it: {reasons}"
    );
    registry::create_nameless(name, header, settings)
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::InvalidInput, text)
}
