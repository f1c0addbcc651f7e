//! The sessions of this process: what a forked child finds of its parent's.
//!
//! The list also sees to it that a process opens a lock file once only: closing a second descriptor
//! would drop the locks that the first one holds.

use std::{
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::passed;
use crate::{
    clock::Clock,
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::{desk::Desk, duty::Stop, policy::Windows, refresher::Recipe},
    segment::{self, Header, Segment, View},
    sys::{self, lock::LockFile, object},
};

/// What all handles of a session in a process, and in those forked from it, share. Plain data and
/// descriptors: it survives fork.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) name: SessionName,
    pub(super) desk: Arc<Desk>,
    /// How to refresh; `None` for a reader.
    pub(super) recipe: Option<Recipe>,
    pub(super) clock: Clock,
    pub(super) deadline: Duration,
    segment: Arc<Segment>,
    /// The process that made the session here; 0 when it was attached to.
    creator: u32,
    /// Ends the refresher that moved into this process when the dedicated one had died.
    resident: Mutex<Option<Stop>>,
}

impl Home {
    /// Removes the session's name. A forked child inherits the value and not the task.
    pub(super) fn unlink(&self) {
        if self.is_creator() {
            segment::remove(&self.name, self.desk.locks().inode());
        }
    }

    /// Whether this process made the session: it is the one that may want to fork.
    pub(super) fn is_creator(&self) -> bool {
        self.creator == process::id()
    }

    /// Notes the refresher that lives in this process, for as long as the session does.
    pub(super) fn accommodate(&self, resident: Stop) {
        *self.resident.lock().unwrap_or_else(PoisonError::into_inner) = Some(resident);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(resident) = self.resident.get_mut().ok().and_then(Option::take) {
            resident.stop();
        }
        self.unlink();
    }
}

/// A session of this process, and its mapping.
type Joined = (Arc<Home>, Arc<Segment>);

/// The settings of a handle.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) recipe: Option<Recipe>,
    /// Of an inherited recipe, which has its own without them.
    pub(super) windows: Windows,
    pub(super) clock: Option<Clock>,
    pub(super) deadline: Option<Duration>,
}

const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Entry {
    name: SessionName,
    /// Outlives the handles while a refresh runs.
    desk: Weak<Desk>,
    home: Weak<Home>,
}

static SESSIONS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn sessions() -> MutexGuard<'static, Vec<Entry>> {
    sys::fork::hold("sessions", || Box::new(entries()));
    let mut sessions = entries();
    sessions.retain(|entry| entry.desk.strong_count() > 0);
    sessions
}

fn entries() -> MutexGuard<'static, Vec<Entry>> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets all sessions: for a process that was forked without their descriptors.
pub(super) fn forget() {
    entries().clear();
}

/// Makes the session `name`, alive in no process.
pub(super) fn create(
    name: SessionName,
    header: impl FnOnce() -> Result<Header, Fault>,
    settings: Settings,
) -> Result<Joined, Fault> {
    let mut sessions = sessions();
    if let Some(home) = sessions.iter().filter(|e| e.name == name).find_map(|e| e.home.upgrade()) {
        let user = if home.creator == 0 { process::id() } else { home.creator };
        return Err(in_use(Some(user)));
    }
    // A refresh outlives the handles: to open and close its lock file would free its locks.
    let inode = segment::lock_inode(&name);
    let refreshes = |desk: Arc<Desk>| Some(desk.locks().inode()) == inode;
    if sessions.iter().filter_map(|entry| entry.desk.upgrade()).any(refreshes) {
        return Err(in_use(Some(process::id())));
    }
    let locks = segment::claim(&name)?.ok_or_else(|| in_use(segment::user_of(&name)))?;
    let inode = locks.inode();
    let made = segment::with_requests(locks).and_then(Desk::new).and_then(|desk| {
        let segment = Segment::create(&name, header()?)?;
        // From alone to together with others: the segment is finished.
        desk.locks().try_present()?;
        Ok((desk, Arc::new(segment)))
    });
    let (desk, segment) = made.inspect_err(|_| segment::remove_lock(&name, inode))?;
    Ok(enter(&mut sessions, name, desk, segment, settings, process::id()))
}

/// Makes the session `name` without a name that others could find. The mapping is the one that can
/// write.
pub(super) fn create_sealed(
    name: SessionName,
    header: impl FnOnce() -> Result<Header, Fault>,
    settings: Settings,
) -> Result<(Arc<Home>, Arc<Segment>, View), Fault> {
    let mut sessions = sessions();
    if sessions.iter().any(|entry| entry.name == name && entry.home.strong_count() > 0) {
        return Err(in_use(Some(process::id())));
    }
    let desk = Desk::new(segment::anonymous_locks(&name)?)?;
    let (segment, writer) = Segment::create_sealed(&name, header()?)?;
    let (home, segment) =
        enter(&mut sessions, name, desk, Arc::new(segment), settings, process::id());
    Ok((home, segment, writer))
}

/// Opens the session `name`. The list is free while a creator at work is waited for.
pub(super) fn attach(name: &SessionName, settings: &Settings) -> Result<Joined, Fault> {
    segment::patiently(|| try_attach(name.clone(), settings.clone()))
}

/// `None` while a creator is at work, or when another session took the name meanwhile.
fn try_attach(name: SessionName, settings: Settings) -> Result<Option<Joined>, Fault> {
    let mut sessions = sessions();
    let inode = segment::lock_inode(&name);
    let known = sessions
        .iter()
        .filter(|entry| entry.name == name)
        .filter_map(|entry| Some((entry.desk.upgrade()?, entry.home.upgrade())))
        // A sealed session is what was inherited, whoever has made another of that name; so is one whose
        // name is gone.
        .find(|(desk, home)| match inode {
            Some(inode) => desk.locks().inode() == inode || home.as_ref().is_some_and(is_sealed),
            None => home.is_some(),
        });
    let mut enter =
        |desk, segment, settings| enter(&mut sessions, name.clone(), desk, segment, settings, 0);
    let Some((desk, home)) = known else {
        if let Some((locks, segment)) = passed::take(&name)? {
            return Ok(Some(enter(Desk::new(locks)?, Arc::new(segment), settings)));
        }
        let Some(locks) = segment::join(&name).map_err(named)? else { return Ok(None) };
        let Some(segment) = open_beside(&name, &locks)? else { return Ok(None) };
        return Ok(Some(enter(Desk::new(locks)?, segment, settings)));
    };
    let segment = match &home {
        Some(home) => home.segment.here()?,
        None => {
            let Some(segment) = open_beside(&name, desk.locks())? else { return Ok(None) };
            segment
        }
    };
    Ok(Some(match home {
        Some(home) if settings.is_default() => (home, segment),
        Some(home) => enter(desk, segment, settings.or(&home)),
        None => enter(desk, segment, settings),
    }))
}

fn is_sealed(home: &Arc<Home>) -> bool {
    home.segment.header.sealed
}

/// The segment of the session whose lock file is open; `None` when the name is another's by now.
fn open_beside(name: &SessionName, locks: &LockFile) -> Result<Option<Arc<Segment>>, Fault> {
    let segment = Segment::open(name).map_err(named);
    if segment::lock_inode(name) != Some(locks.inode()) {
        return Ok(None);
    }
    segment.map(Arc::new).map(Some)
}

fn enter(
    sessions: &mut Vec<Entry>,
    name: SessionName,
    desk: Arc<Desk>,
    segment: Arc<Segment>,
    settings: Settings,
    creator: u32,
) -> Joined {
    let home = Arc::new(Home {
        name: name.clone(),
        desk: Arc::clone(&desk),
        recipe: settings.recipe,
        clock: settings.clock.unwrap_or_default(),
        deadline: settings.deadline.unwrap_or(DEFAULT_DEADLINE),
        segment: Arc::clone(&segment),
        creator,
        resident: Mutex::new(None),
    });
    let (desk, weak) = (Arc::downgrade(&desk), Arc::downgrade(&home));
    sessions.push(Entry { name, desk, home: weak });
    (home, segment)
}

impl Settings {
    fn is_default(&self) -> bool {
        self.recipe.is_none()
            && self.windows == Windows::default()
            && self.clock.is_none()
            && self.deadline.is_none()
    }

    /// What is not set is inherited.
    fn or(self, home: &Home) -> Self {
        let inherited = home.recipe.as_ref().map_or(Windows::default(), |recipe| recipe.windows);
        let windows = self.windows.or(inherited);
        let recipe = self.recipe.or_else(|| home.recipe.clone());
        Settings {
            recipe: recipe.map(|recipe| Recipe { windows, ..recipe }),
            windows: Windows::default(),
            clock: self.clock.or_else(|| Some(home.clock.clone())),
            deadline: self.deadline.or(Some(home.deadline)),
        }
    }
}

/// The names of this user's sessions.
pub(super) fn list() -> Vec<String> {
    let prefix = SessionName::segment_prefix();
    let mut names: Vec<String> = object::names()
        .filter_map(|object| {
            Some(SessionName::new(object.strip_prefix(&prefix)?).ok()?.as_str().to_owned())
        })
        .collect();
    names.sort();
    names
}

/// Removes a session that nobody uses.
pub(super) fn remove(name: &str) -> Result<(), Fault> {
    let name = SessionName::new(name)?;
    let still = |pid| Fault::new(ErrorKind::InUse, format!("{}; end it first", used_by(pid)));
    if segment::lock_inode(&name).is_none() && !list().iter().any(|one| one == name.as_str()) {
        return Err(absent());
    }
    let sessions = sessions();
    if sessions.iter().any(|entry| entry.name == name && entry.desk.strong_count() > 0) {
        return Err(still(Some(process::id())));
    }
    let Some(locks) = segment::claim(&name)? else {
        return Err(still(segment::user_of(&name)));
    };
    segment::remove(&name, locks.inode());
    Ok(())
}

/// A missing object, in the words of those who know sessions only.
fn named(fault: Fault) -> Fault {
    if fault.kind == ErrorKind::Absent { absent() } else { fault }
}

fn absent() -> Fault {
    Fault::new(ErrorKind::Absent, "there is no session of that name")
}

fn in_use(pid: Option<u32>) -> Fault {
    let text = format!("{}; end it, or choose another name", used_by(pid));
    Fault::new(ErrorKind::InUse, text)
}

fn used_by(pid: Option<u32>) -> String {
    let user = match pid {
        Some(pid) => format!("process {pid}"),
        None => "a process that this one cannot see".to_owned(),
    };
    format!("{user} uses a session of that name")
}
