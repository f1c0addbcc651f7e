//! Many roles in one segment: a pool of sessions, one for each role that a server assumes for its tenants.

mod allow;
mod builder;
mod pattern;
mod role_session;
mod status;
mod table;

use std::{fmt, process::Command, sync::Arc};

pub use builder::SharedRolesBuilder;
pub use role_session::RoleSession;
pub use status::{RoleStatus, RolesStatus};

use self::{allow::Allowed, table::Table};
use crate::{
    error::{Error, ErrorKind, Fault},
    refresh::stop_handle::StopHandle,
    session::{HeldRole, Rules, SharedPool},
    source::{AssumeRole, Fingerprint, Source, role_environment},
};

/// The credentials of many roles, shared by all processes that hold the pool: for a server that assumes a role for each
/// of its tenants, with the tenant's external id, tags or session policy.
///
/// Every process of the user can read the whole pool: all tenants' credentials. Processes that must not see each other's
/// need a session or a pool for each of them.
///
/// Each role has an entry of its own: its own set, its own failures, its own elected process. All processes together make
/// one call of STS for a set, and a role that fails delays no other. A role is identified by all inputs that can change
/// what STS answers. So one ARN with two external ids is two roles, which never see each other's set.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// use shmcreds::{AssumeRole, Provider, SharedRoles};
///
/// # let name = format!("doc-roles-{}", std::process::id());
/// # let name = name.as_str();
/// // In the parent, before fork.
/// let roles = SharedRoles::builder(name)
///     .base_source(Provider::default_chain())
///     .allow("arn:aws:iam::*:role/tenant-*")
///     .create()?;
/// // In a worker.
/// let roles = SharedRoles::attach(name)?;
/// let recipe = AssumeRole::new("arn:aws:iam::123456789012:role/tenant-7").external_id("seven");
/// let tenant = roles.role(recipe)?;
/// # if false {
/// let credentials = tenant.credentials()?;
/// # }
/// # Ok::<(), shmcreds::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedRoles {
    handle: Arc<Handle>,
}

/// What the layers below need of the header's text.
const RULES: Rules = Rules { rate: Allowed::rate, check };

fn check(text: &str, arn: &str) -> Result<(), Fault> {
    let none = || Fault::new(ErrorKind::NotAllowed, "the pool has no list of allowed roles");
    Allowed::read(text).ok_or_else(none)?.check(arn)
}

/// What all clones of a handle share.
struct Handle {
    pool: SharedPool,
    allowed: Allowed,
    /// The part of the environment that counts for roles without a Region or an endpoint, as it was when the pool was
    /// opened.
    environment: Fingerprint,
    /// The sessions of roles that this process has.
    table: Table,
}

impl SharedRoles {
    /// Starts to describe the pool `name`. The rules for the name are those of a
    /// [session](crate::SharedSession::builder). Nothing is checked or made yet.
    pub fn builder(name: impl Into<String>) -> SharedRolesBuilder {
        SharedRolesBuilder::new(name.into())
    }

    /// The pool `name` that a parent of this process created, or another process of the same user. A forked child has the
    /// parent's base source. A process that only knows the name can read what others have fetched (give it a base source
    /// with [`SharedRolesBuilder::attach`]).
    ///
    /// # Errors
    /// Those of [`SharedSession::attach`](crate::SharedSession::attach).
    pub fn attach(name: impl AsRef<str>) -> Result<Self, Error> {
        SharedRoles::builder(name.as_ref()).attach()
    }

    fn new(pool: SharedPool) -> Result<Self, Fault> {
        let Some(allowed) = Allowed::read(pool.text()) else {
            let text = "the header of the pool has no list of allowed roles; another program has written it";
            return Err(Fault::new(ErrorKind::BadChecksum, text));
        };
        let (environment, table) = (role_environment(), Table::new(pool.capacity()));
        Ok(SharedRoles { handle: Arc::new(Handle { pool, allowed, environment, table }) })
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.handle.pool.name()
    }

    /// The session of a role. Makes no call: the first read of credentials does, if no process has made it yet. Base
    /// credentials are those of the pool.
    ///
    /// A process keeps the session of a role that it has asked for. So a server may call this for each request, with a
    /// recipe that it builds each time.
    ///
    /// Where a refresher makes the calls, a role without an entry is asked of that process: this waits for its answer, at most
    /// for the [wait timeout](SharedRolesBuilder::wait_timeout). The call of STS is not waited for.
    ///
    /// # Errors
    /// | kind | when |
    /// | --- | --- |
    /// | [`InvalidInput`](ErrorKind::InvalidInput) | an input breaks a rule of STS, or cannot be shared: MFA, a base source of its own |
    /// | [`NotAllowed`](ErrorKind::NotAllowed) | no pattern of [`allow`](SharedRolesBuilder::allow) fits the ARN |
    /// | [`Full`](ErrorKind::Full) | all entries are being refreshed |
    /// | [`NoSpace`](ErrorKind::NoSpace) | the kernel has no memory for another entry |
    /// | [`NoSource`](ErrorKind::NoSource) | this process has no base source, and no other process has asked for the role; or it may only ask, and there is no refresher |
    /// | [`Timeout`](ErrorKind::Timeout) | the refresher does not answer |
    /// | [`WrongSource`](ErrorKind::WrongSource) | the refresher reads another environment |
    pub fn role(&self, recipe: AssumeRole) -> Result<RoleSession, Error> {
        self.find(recipe).map_err(|fault| self.handle.pool.error("role", fault))
    }

    fn find(&self, recipe: AssumeRole) -> Result<RoleSession, Fault> {
        if let Some(role) = self.known(&recipe) {
            return Ok(RoleSession::new(role?));
        }
        let key = self.key(&recipe)?;
        if let Some(role) = self.handle.table.get(&key) {
            return Ok(RoleSession::new(role?));
        }
        // The pool that has the name now may allow other roles.
        let pool = self.handle.pool.current()?;
        check(pool.text(), recipe.arn())?;
        let role = match pool.base() {
            Some(base) => recipe.of_pool(Arc::clone(base)),
            None => recipe,
        };
        role.validate().map_err(|text| Fault::new(ErrorKind::InvalidInput, text))?;
        if pool.is_asked() {
            role.check_asking().map_err(|text| Fault::new(ErrorKind::InvalidInput, text))?;
        }
        Ok(RoleSession::new(self.handle.table.insert(pool.role(&key, role)?)))
    }

    /// The role, if this process has asked for it with the same inputs: their comparison takes less time than the key.
    fn known(&self, recipe: &AssumeRole) -> Option<Result<Arc<HeldRole>, Fault>> {
        let Handle { pool, table, .. } = &*self.handle;
        match recipe.is_of_inputs_only() {
            true => table.find(pool.packed(recipe)?.bytes()),
            // It may be one that no pool can have.
            false => None,
        }
    }

    /// The [key](RoleSession::key) of a role in this pool. The role needs no entry, and gets none.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a recipe that no pool can have.
    pub fn key_of(&self, recipe: &AssumeRole) -> Result<Fingerprint, Error> {
        self.key(recipe).map_err(|fault| self.handle.pool.error("key_of", fault))
    }

    fn key(&self, recipe: &AssumeRole) -> Result<Fingerprint, Fault> {
        let Handle { pool, environment, .. } = &*self.handle;
        recipe
            .pool_key(pool.base_fingerprint(), environment)
            .map_err(|text| Fault::new(ErrorKind::InvalidInput, text))
    }

    /// Removes the role's set and failure from the pool, for all processes. A later use of the role makes a new call. False
    /// when the pool does not have the role, or the role is being refreshed at the moment.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a recipe that no pool can have; [`System`](ErrorKind::System) and
    /// [`Timeout`](ErrorKind::Timeout) when the pool cannot be changed.
    pub fn evict(&self, recipe: &AssumeRole) -> Result<bool, Error> {
        let evict = || self.handle.pool.current()?.evict(&self.key(recipe)?, recipe);
        evict().map_err(|fault| self.handle.pool.error("evict", fault))
    }

    /// Refreshes the roles of the pool in this thread, until [`stop`](StopHandle::stop) is called, as
    /// [`SharedSession::run_refresher`](crate::SharedSession::run_refresher) does for a session. Meanwhile this process makes
    /// all calls of the pool: other processes ask it for roles, also those that have no base source. While another process
    /// refreshes the pool, it waits, and takes over when that process dies.
    ///
    /// A role that was used since its last refresh is refreshed before it expires. The others expire. This process knows the
    /// roles that it has asked for itself, and those that it is asked for. It learns of the sets that another process fetched
    /// before when a reader asks past their refresh points.
    ///
    /// When this returns, its calls have ended: no thread is left.
    ///
    /// ```no_run
    /// # let roles = shmcreds::SharedRoles::attach("tenants")?;
    /// let stop = shmcreds::StopHandle::new();
    /// // In another thread, when the service ends: stop.stop()
    /// roles.run_refresher(&stop)?;
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NoSource`](ErrorKind::NoSource) without a base source; [`Unsupported`](ErrorKind::Unsupported) in a sealed pool, and
    /// in one without a directory, which only their own refreshers serve; [`System`](ErrorKind::System) when the kernel
    /// refuses a socket, a lock, a mapping or a thread. A failure of STS is none: it belongs to its role.
    pub fn run_refresher(&self, stop: &StopHandle) -> Result<(), Error> {
        // A process that is forked meanwhile must not keep the handle for good.
        let (pool, handle) = (&self.handle.pool, Arc::downgrade(&self.handle));
        let own = move || handle.upgrade().map_or_else(Vec::new, |handle| handle.table.all());
        pool.run_refresher(stop, own).map_err(|fault| pool.error("run_refresher", fault))
    }

    /// The state of the pool, with a line for each entry. Takes no lock and delays no process.
    ///
    /// # Errors
    /// [`System`](ErrorKind::System) when the kernel refuses a look at a lock.
    pub fn status(&self) -> Result<RolesStatus, Error> {
        RolesStatus::of(&self.handle.pool.latest(), &self.handle.table)
    }

    /// Lets the program that `command` starts [`attach`](Self::attach) to this pool, as
    /// [`SharedSession::pass_to`](crate::SharedSession::pass_to) does. Only a pool without a name needs it.
    ///
    /// # Errors
    /// [`System`](ErrorKind::System) when the kernel gives no descriptor.
    pub fn pass_to(&self, command: &mut Command) -> Result<(), Error> {
        let pool = &self.handle.pool;
        pool.pass_to(command).map_err(|fault| pool.error("pass_to", fault))
    }

    /// Removes the name of the pool, in the process that created it: see
    /// [`SharedSession::unlink`](crate::SharedSession::unlink).
    pub fn unlink(&self) {
        self.handle.pool.unlink();
    }

    /// Says that this process does not use the pool any more, although it still has handles: see
    /// [`SharedSession::leave`](crate::SharedSession::leave).
    pub fn leave(&self) {
        self.handle.pool.leave();
    }
}

impl fmt::Debug for SharedRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRoles").field("name", &self.name()).finish_non_exhaustive()
    }
}
