//! The refresher of a pool: the one process that inserts roles, calls STS for them and takes their entries away.
//!
//! It sleeps until a process asks for a role, a call has ended, or a role is due. Each call runs on a thread of its own, as in
//! a worker, under the election of the entry. So a call that hangs delays no other role. The election of the pool's own entry
//! decides which process is the refresher.

mod calls;
mod own_roles;
mod pool_service;
mod queue;
mod requests;
mod serving;
mod state;
mod terms;

pub(super) use own_roles::OwnRoles;
pub(super) use pool_service::PoolService;
pub(super) use terms::Terms;
