//! How a process leaves a session. The creator, or the last user, removes its names.

use super::process_session::ProcessSession;
use crate::segment;

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
