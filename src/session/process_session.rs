//! What all handles of a session share in a process, and the settings that each may have.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use super::{asking::RoleOf, creator::Creator};
use crate::{
    clock::Clock,
    name::SessionName,
    refresh::{
        election_lock::ElectionLock, fetch::Recipe, policy::Windows, stop_handle::StopHandle,
    },
    segment::{self, Segment},
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
    /// Removes the session's name, and marks the session as ended: processes that hold it look at the name again.
    /// A forked child inherits the value and not the task.
    pub(super) fn unlink(&self) {
        if !self.is_creator() {
            return;
        }
        segment::remove(&self.name, self.election_lock.locks().inode());
        self.end();
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

impl ProcessSession {
    /// This process uses the session no longer. If it was the last one, and the session is of that kind, it removes the
    /// names. A process that is killed meanwhile leaves them to the next one that creates the session.
    pub(super) fn leave(&self) {
        // A reader of the group is no user of the session.
        if self.segment.is_foreign() {
            return;
        }
        let locks = self.election_lock.locks();
        let removes = self.segment.header.last_user_removes && self.name.directory().is_some();
        match self.election_lock.leave() {
            // Nobody can join while this process holds the presence lock alone.
            Ok(true) => {
                if removes {
                    segment::remove(&self.name, locks.inode());
                    self.end();
                }
                let _ = locks.unlock_presence();
            }
            Ok(false) => {}
            Err(fault) => {
                tracing::warn!(session = %self.name, "cannot leave the session: {}", fault.message);
            }
        }
    }

    /// Marks the session as ended: processes that hold it look at the name again.
    fn end(&self) {
        if let Some(Ok(writable)) = self.segment.is_writable().then(|| self.segment.writable()) {
            writable.end();
            writable.announce();
        }
    }
}

impl Drop for ProcessSession {
    fn drop(&mut self) {
        if let Some(background_refresher) = self.background_refresher.swap(None) {
            background_refresher.stop();
        }
        if self.role.is_some() {
            return;
        }
        let is_last = self.election_lock.exit();
        match self.segment.header.last_user_removes {
            true if is_last => self.leave(),
            true => {}
            false => self.unlink(),
        }
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
