//! What all clones of a handle share, and what every part of the session needs of it.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::{async_waiters::AsyncWaiters, process_session::ProcessSession, snapshot::Snapshot};
use crate::{
    clock::Clock,
    error::{Error, Fault},
    refresh::fetch::{Job, Recipe},
    segment::{Published, Segment},
    sys::copies::Copies,
};

/// What all clones of a handle share.
pub(crate) struct Inner {
    pub(super) shared: Arc<ProcessSession>,
    pub(super) segment: Arc<Segment>,
    /// That of `shared` and that of `segment`, which each read looks at.
    pub(super) clock: Clock,
    pub(super) published: Published,
    /// Copies of the newest set that this process has seen, for its threads.
    pub(super) copies: Copies<Snapshot>,
    /// The version for which a caller has waited for a better set, and none came; 0 is none.
    pub(super) waited_for: AtomicU64,
    /// When this process checks again that a process refreshes.
    pub(super) next_probe: AtomicU64,
    pub(super) waiters: AsyncWaiters,
    /// The session that took this one's place when this one had been ended.
    pub(super) successor: ArcSwapOption<Inner>,
}

impl Inner {
    pub(super) fn new(shared: Arc<ProcessSession>, segment: Arc<Segment>) -> Self {
        Inner {
            clock: shared.clock.clone(),
            published: segment.published_word().clone(),
            shared,
            segment,
            copies: Copies::new(),
            waited_for: AtomicU64::new(0),
            next_probe: AtomicU64::new(0),
            waiters: AsyncWaiters::default(),
            successor: ArcSwapOption::empty(),
        }
    }

    pub(super) fn job(&self, recipe: &Recipe) -> Job {
        let (session, clock) = (self.shared.name.as_str().to_owned(), self.shared.clock.clone());
        let (eager, mut recipe) = (self.segment.header.eager, recipe.clone());
        recipe.windows.keep = self.segment.header.kept();
        Job { session, eager, recipe, clock, first_call: 0, not_before: 0, service: None }
    }

    /// How this process refreshes by itself; `None` where it may not. While a process refreshes the pool, no other one makes
    /// the calls of its roles.
    pub(super) fn recipe(&self) -> Option<&Recipe> {
        let recipe = self.term_recipe().filter(|recipe| !recipe.source.is_manual());
        recipe.filter(|_| !self.is_served())
    }

    /// The recipe of a call that the program makes: also that of a source which only the program can ask.
    pub(super) fn term_recipe(&self) -> Option<&Recipe> {
        self.shared.recipe.as_ref().filter(|_| self.segment.is_writable())
    }

    /// Whether this process can be elected, and so can replace a damaged set.
    pub(super) fn may_write(&self) -> bool {
        self.term_recipe().is_some()
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        self.shared.wait_timeout
    }

    pub(crate) fn waiters(&self) -> &AsyncWaiters {
        &self.waiters
    }

    /// What the sets come from, for people.
    pub(super) fn source_text(&self) -> String {
        match (&self.shared.role, &self.shared.recipe) {
            (Some(_), Some(recipe)) => recipe.source.describe(),
            (Some(_), None) => String::new(),
            (None, _) => self.segment.header.description.clone(),
        }
    }

    pub(super) fn fault(&self, operation: &'static str, fault: Fault) -> Error {
        fault.during(operation, self.shared.name.as_str())
    }

    pub(crate) fn no_thread(&self, error: std::io::Error) -> Error {
        self.fault("credentials", Fault::system("starting the waiting thread", error))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSession")
            .field("name", &self.shared.name.as_str())
            .field("generation", &self.segment.view().published().generation())
            .finish_non_exhaustive()
    }
}
