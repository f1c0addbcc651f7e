//! What all handles of a session share in a process, and the settings that each may have.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use super::{asking::RoleOf, creator::Creator, timing::DEFAULT_WAIT_TIMEOUT};
use crate::{
    clock::Clock,
    error::Fault,
    name::SessionName,
    refresh::{
        election_lock::ElectionLock, fetch::Recipe, policy::Windows, stop_handle::StopHandle,
    },
    segment::{Header, Segment},
};

/// What all handles of a session in a process, and in those forked from it, share. Plain data and
/// descriptors: it survives fork.
#[derive(Debug)]
pub(super) struct ProcessSession {
    pub(super) name: SessionName,
    pub(super) election_lock: Arc<ElectionLock>,
    /// How to refresh; `None` for a reader.
    pub(super) recipe: Option<Recipe>,
    pub(super) clock: Clock,
    pub(super) wait_timeout: Duration,
    pub(super) segment: Arc<Segment>,
    /// The process that made the session; `None` when it was attached to.
    pub(super) creator: Option<Creator>,
    /// Ends the refresher that moved into this process when the dedicated one had died. No lock: a thread may
    /// fork while another one sets it.
    pub(super) background_refresher: ArcSwapOption<StopHandle>,
    /// The pool and the key, for the session of a role. It has no name of its own.
    pub(super) role: Option<RoleOf>,
}

impl ProcessSession {
    /// The session of `segment`, which this process has opened, or made as its `creator`.
    pub(super) fn new(
        name: SessionName,
        election_lock: Arc<ElectionLock>,
        segment: Arc<Segment>,
        settings: Settings,
        creator: Option<Creator>,
    ) -> Self {
        ProcessSession {
            name,
            election_lock,
            recipe: settings.recipe,
            clock: settings.clock.unwrap_or_default(),
            wait_timeout: settings.wait_timeout.unwrap_or(DEFAULT_WAIT_TIMEOUT),
            segment,
            creator,
            background_refresher: ArcSwapOption::empty(),
            role: None,
        }
    }

    /// Whether this process made the session: it is the one that may want to fork.
    pub(super) fn is_creator(&self) -> bool {
        self.creator.is_some_and(Creator::is_this)
    }

    /// Notes the refresher that lives in this process, for as long as the session does.
    pub(super) fn keep_refresher(&self, stop: StopHandle) {
        self.background_refresher.store(Some(Arc::new(stop)));
    }
}

/// The settings of a handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) recipe: Option<Recipe>,
    /// Of an inherited recipe, which has its own without them.
    pub(super) windows: Windows,
    pub(super) clock: Option<Clock>,
    pub(super) wait_timeout: Option<Duration>,
}

impl Settings {
    /// Those of a session, for the one that takes its place.
    pub(super) fn of(shared: &ProcessSession) -> Self {
        Settings {
            recipe: shared.recipe.clone(),
            windows: Windows::default(),
            clock: Some(shared.clock.clone()),
            wait_timeout: Some(shared.wait_timeout),
        }
    }

    /// # Errors
    /// `WrongSource` when the source of these settings is not that of the session. Without a source it may be any.
    pub(super) fn check_source(&self, header: &Header) -> Result<(), Fault> {
        let Some(recipe) = &self.recipe else { return Ok(()) };
        header.check_source(&recipe.source.fingerprint())
    }

    pub(super) fn is_default(&self) -> bool {
        self.recipe.is_none()
            && self.windows == Windows::default()
            && self.clock.is_none()
            && self.wait_timeout.is_none()
    }

    /// What is not set is inherited.
    pub(super) fn or(self, shared: &ProcessSession) -> Self {
        let inherited = shared.recipe.as_ref().map_or(Windows::default(), |recipe| recipe.windows);
        let windows = self.windows.or(inherited);
        let recipe = self.recipe.or_else(|| shared.recipe.clone());
        Settings {
            recipe: recipe.map(|recipe| Recipe { windows, ..recipe }),
            windows: Windows::default(),
            clock: self.clock.or_else(|| Some(shared.clock.clone())),
            wait_timeout: self.wait_timeout.or(Some(shared.wait_timeout)),
        }
    }
}
