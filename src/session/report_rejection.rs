//! Reports that AWS rejected a set. What a reader does then: `Life::phase` in `snapshot.rs`, and `read.rs`.

use std::sync::Arc;

use super::{inner::Inner, request::Wish};
use crate::{error::Fault, refresh::publish};

impl Inner {
    pub(super) fn invalidate(&self, access_key_id: &str) -> Result<bool, Fault> {
        let Some(snapshot) = self.newest()? else { return Ok(false) };
        let Ok(requests) = self.requests() else { return Ok(false) };
        if snapshot.credentials.access_key_id() != access_key_id {
            return Ok(false);
        }
        if self.is_served() {
            let is_first = !snapshot.life.version.is_rejected();
            self.ask_for((Wish::Rejected, snapshot.life.version.generation()), true)?;
            return Ok(is_first);
        }
        if !self.segment.is_writable() {
            return Ok(requests.report_rejection(snapshot.life.version.generation()));
        }
        let writable = self.segment.writable()?;
        let session = self.shared.name.as_str();
        let marked = publish::rejection(&writable, snapshot.life.version, session);
        if marked {
            writable.announce();
            requests.notify();
        }
        Ok(marked)
    }

    /// Says that AWS rejected `access_key_id`; true if there is, or will be, another one to try with.
    pub(crate) fn replace_rejected(self: &Arc<Self>, access_key_id: &str) -> bool {
        let latest = self.latest();
        if let Err(fault) = latest.invalidate(access_key_id) {
            tracing::warn!(session = %self.shared.name, "cannot invalidate: {}", fault.message);
        }
        let now = self.shared.clock.boot();
        let newest = latest.newest().ok().flatten();
        newest.is_some_and(|snapshot| {
            snapshot.credentials.access_key_id() != access_key_id
                || !snapshot.life.is_rejected_too_soon(now)
        })
    }
}
