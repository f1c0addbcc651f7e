//! What the refresher does with a request.

use std::sync::Arc;

use nix::unistd::geteuid;
use tracing::debug;

use super::{
    queue::Planned,
    state::{Known, Serving, life_of},
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{
        backoff::Backoff,
        policy::{REJECTION_FLOOR, may_be_replaced},
        publish,
    },
    segment::{
        Key, Segment,
        pool::{PoolCounter, Refusal},
    },
    session::{
        pool::Pool,
        request::{Request, Wish},
        snapshot::Life,
    },
    sys::datagram::Received,
};

/// How many messages are read before calls are started.
const MESSAGES: usize = 256;

impl Serving<'_> {
    /// Reads what has arrived. True when there may be more.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, Fault> {
        let (mut read, mut is_told) = (0, false);
        while read < MESSAGES
            && let Some(received) = self.inbox.receive(buffer)?
        {
            read += 1;
            is_told |= match received {
                Received::Message { bytes, uid } if self.may_ask(uid) => {
                    self.obey(&buffer[..bytes])
                }
                Received::Message { .. } | Received::Unusable => self.refuse(None),
            };
        }
        if is_told {
            self.elected.view().announce();
        }
        Ok(read == MESSAGES)
    }

    /// Where there is no name, only processes that inherited the pool can ask. They may have changed their user, as the
    /// workers of a sealed session may.
    fn may_ask(&self, uid: u32) -> bool {
        self.any_user || uid == geteuid().as_raw()
    }

    /// Does what a message asks for. True when those who wait for the pool are to look.
    fn obey(&mut self, message: &[u8]) -> bool {
        let Some(request) = Request::read(message) else { return self.refuse(None) };
        match self.take(&request) {
            Ok(is_told) => is_told,
            Err(fault) => {
                debug!(session = self.terms.name.as_str(), "refused: {}", fault.message);
                self.refuse(Some((&request.key, reason(&fault))))
            }
        }
    }

    /// Counts a refused message, and notes why for the role that it names.
    fn refuse(&self, told: Option<(&Key, Refusal)>) -> bool {
        let Some(pool) = self.elected.view().pool() else { return false };
        if let Some((key, refusal)) = told {
            pool.refuse(key, refusal);
        }
        // These say nothing of the message.
        if !matches!(told, Some((_, Refusal::Full | Refusal::NoSpace | Refusal::Busy))) {
            pool.count(PoolCounter::RefusedRequests);
        }
        told.is_some()
    }

    fn take(&mut self, request: &Request<'_>) -> Result<bool, Fault> {
        let key = request.key;
        if request.wish == Wish::Eviction {
            return self.evict(&key);
        }
        let (index, is_new) = self.known(request)?;
        match self.running.get_mut(&key) {
            Some(call) => call.keep(request.wish, request.generation),
            None => {
                let segment = self.pool.segment_of(index, &key)?;
                self.plan(&segment, key, request.wish, request.generation)?;
            }
        }
        Ok(is_new)
    }

    /// The entry of the role that is asked for, and whether it has got that just now.
    fn known(&mut self, request: &Request<'_>) -> Result<(usize, bool), Fault> {
        let (pool, key) = (self.pool, request.key);
        let found = pool.segment.pool().and_then(|pool| pool.find(&key));
        if let (Some(index), Some(known)) = (found, self.roles.get_mut(&key)) {
            known.index = index;
            return Ok((index, false));
        }
        let role = self.terms.role(request.inputs, &bytemuck::cast(key), &pool.segment.header)?;
        let index = found.map_or_else(|| pool.insert(&key), Ok)?;
        pool.note_use(index, self.terms.clock.boot());
        self.forget_lost();
        self.roles.insert(key, Known { index, role: Arc::new(role) });
        Ok((index, found.is_none()))
    }

    /// Forgets the roles that have lost their entries, when there are many.
    fn forget_lost(&mut self) {
        let Some(pool) = self.pool.segment.pool() else { return };
        if self.roles.len() < pool.capacity() + pool.capacity() / 2 + 64 {
            return;
        }
        let (queue, running) = (&mut self.queue, &self.running);
        self.roles.retain(|key, known| {
            let has_entry = pool.key_of(known.index) == *key || running.contains_key(key);
            if !has_entry {
                queue.remove(key);
            }
            has_entry
        });
    }

    /// Plans the next call for a role: at once where a process waits for it.
    pub(super) fn plan(
        &mut self,
        segment: &Segment,
        key: Key,
        wish: Wish,
        generation: u64,
    ) -> Result<(), Fault> {
        let now = self.terms.clock.boot();
        let life = life_of(segment);
        if let Some(life) = life
            && wish == Wish::Rejected
            && life.version.generation() == generation
        {
            let writable = segment.writable()?;
            if publish::rejection(&writable, life.version, self.terms.name.as_str()) {
                writable.announce();
            }
        }
        let (wanted, in_any_case) = wanted(segment, life, wish, generation);
        let next_attempt = Backoff::read(segment.view()).map_or(0, |backoff| backoff.next_attempt);
        let at = wanted.max(next_attempt);
        // A refresh that has time leaves the budget to roles without a set.
        let has_time = life.is_some_and(|life| now < life.points.mandatory) && !in_any_case;
        if at <= now && !has_time {
            self.queue.add_waited_for(key);
            return Ok(());
        }
        let is_valid = life.is_some_and(|life| now < life.points.expires);
        let is_asked_for = at <= now || in_any_case;
        // Without a valid set, it is fetched when a process asks for it after the back-off.
        if is_valid && (is_asked_for || self.terms.ahead) {
            let planned = Planned { at, in_any_case: is_asked_for };
            let stays = self.queue.planned(&key).filter(|p| p.in_any_case && p.at <= at);
            self.queue.plan(key, stays.unwrap_or(planned));
        }
        Ok(())
    }

    fn evict(&mut self, key: &Key) -> Result<bool, Fault> {
        let is_there =
            |pool: &Pool| pool.segment.pool().is_some_and(|pool| pool.find(key).is_some());
        if !self.pool.evict_role(key)? && is_there(self.pool) {
            return Err(Fault::new(ErrorKind::InUse, "the role is being refreshed"));
        }
        self.roles.remove(key);
        self.queue.remove(key);
        Ok(true)
    }
}

/// When a new set is wanted, without the back-off, and whether it is wanted in any case. Otherwise it is only if the role is
/// used.
fn wanted(segment: &Segment, life: Option<Life>, wish: Wish, generation: u64) -> (u64, bool) {
    let Some(life) = life else { return (0, true) };
    let advisory = life.points.advisory;
    let is_of_it = life.version.generation() <= generation;
    // It was marked just now, maybe.
    if segment.published().is_rejected() {
        return (life.fetched.saturating_add(REJECTION_FLOOR).min(advisory), true);
    }
    match wish {
        Wish::Newer if is_of_it => (0, true),
        Wish::Longer if is_of_it => {
            (may_be_replaced(life.fetched, life.points.expires).min(advisory), true)
        }
        _ => (advisory, false),
    }
}

/// What a process is told that asked.
fn reason(fault: &Fault) -> Refusal {
    match fault.kind {
        ErrorKind::Full => Refusal::Full,
        ErrorKind::NoSpace => Refusal::NoSpace,
        ErrorKind::NotAllowed => Refusal::NotAllowed,
        ErrorKind::InvalidInput => Refusal::Invalid,
        ErrorKind::WrongSource => Refusal::OtherKey,
        ErrorKind::InUse => Refusal::Busy,
        _ => Refusal::Failed,
    }
}
