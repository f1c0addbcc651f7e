//! How a pool gets its refresher: a process that `create` forks, or one that calls `run_refresher`.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{
    HeldRole, registry,
    service::{OwnRoles, PoolService, Terms},
    shared_pool::SharedPool,
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{
        dedicated, fetch::Job, refresh_loop::RefreshLoop, service::Service, stop_handle::StopHandle,
    },
    segment::EntryWriter,
    source::role_environment,
    sys::{datagram, descriptor::Descriptor},
};

impl SharedPool {
    /// Starts the dedicated refresher. `writer` is what alone can write a sealed pool: this process has it no longer
    /// afterwards. It makes no call until a process asks for a role.
    pub(super) fn start_dedicated(&self, writer: Option<EntryWriter>) -> Result<(), Fault> {
        let (shared, segment) = (&self.shared, &self.pool.segment);
        let receiver = match segment.path() {
            Some(_) => None,
            None => {
                let (sender, receiver) = datagram::pair()?;
                segment.set_asks(sender);
                Some(receiver)
            }
        };
        let job = self.job(receiver, segment.header.eager, OwnRoles::default())?;
        let (locks, limit) = (shared.election_lock.locks(), shared.wait_timeout);
        shared.election_lock.requests().without(|| {
            dedicated::spawn(&shared.name, segment, locks, writer, job, registry::forget, limit)
        })
    }

    /// Refreshes the pool in this thread, until `stop` is stopped. `own` gives the sessions of roles that this process has.
    pub(crate) fn run_refresher(
        &self,
        stop: &StopHandle,
        own: impl Fn() -> Vec<Arc<HeldRole>> + Send + Sync + 'static,
    ) -> Result<(), Fault> {
        let segment = &self.pool.segment;
        if !segment.is_writable() || segment.path().is_none() {
            let text = "this process cannot be asked: the pool is sealed, or in memory files; its own process refreshes it";
            return Err(Fault::new(ErrorKind::Unsupported, text));
        }
        let (segment, lock) = (segment.here()?, Arc::clone(&self.shared.election_lock));
        let job = self.job(None, true, OwnRoles::new(own))?;
        RefreshLoop::new(segment, lock, job, stop.clone()).run_in_any_thread()
    }

    fn job(&self, receiver: Option<Descriptor>, ahead: bool, own: OwnRoles) -> Result<Job, Fault> {
        let Some(base) = &self.shared.recipe else {
            let text = "this process has no base source; attach with `base_source`";
            return Err(Fault::new(ErrorKind::NoSource, text));
        };
        let terms = Terms {
            name: self.shared.name.clone(),
            base: base.clone(),
            rules: self.rules,
            environment: role_environment(),
            clock: self.shared.clock.clone(),
            ahead,
        };
        let service = PoolService {
            terms,
            budget: self.pool.budget,
            wait_timeout: self.shared.wait_timeout,
            lock_file: self.shared.election_lock.locks().inode(),
            receiver,
            own,
            inbox: ArcSwapOption::empty(),
        };
        Ok(Job {
            session: self.shared.name.as_str().to_owned(),
            eager: true,
            recipe: base.clone(),
            clock: self.shared.clock.clone(),
            first_call: 0,
            not_before: 0,
            service: Some(Arc::new(service) as Arc<dyn Service>),
        })
    }
}
