//! Sessions that the members of a group may read: other users, or containers of the same node.
//!
//! A reader of the group maps the segment through a descriptor that the kernel opened for reading only, and sleeps on the
//! futex of the segment, which needs no more. It cannot open the lock file: a process that reads that file can lock its
//! bytes, and so keep the owner's processes from new sets. So a reader of the group is no user of the session: it is
//! never elected, requests nothing, and keeps no session alive. It finds out by the name that a session was replaced.

use std::sync::Arc;

use nix::unistd::geteuid;

use super::{
    inner::Inner,
    process_session::{ProcessSession, Settings},
    registry::Joined,
};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::election_lock::ElectionLock,
    segment::{self, Places, RequestPage, Segment},
    sys::descriptor::ReservedStreams,
};

/// For `chown` it means that the group stays as it is.
const NO_GROUP: u32 = u32::MAX;

/// With which group a session is shared, and whose session is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sharing {
    pub(super) group: Option<u32>,
    pub(super) owner: Option<u32>,
}

impl Sharing {
    /// The group that may read a session that is created with these settings.
    pub(super) fn readers(self, sealed: bool) -> Result<Option<u32>, Fault> {
        let invalid = |text: &str| Err(Fault::new(ErrorKind::InvalidInput, text));
        if self.owner.is_some_and(|owner| owner != geteuid().as_raw()) {
            return invalid(
                "owner: is another user, whose session this process can only attach to",
            );
        }
        match self.group {
            Some(NO_GROUP) => invalid("group: is 4294967295, which is no group"),
            Some(_) if sealed => invalid(
                "group: a sealed session has no name by which others could find it; leave out one of the two",
            ),
            group => Ok(group),
        }
    }

    /// Opens the session `name`: that of this user by `own`, or that of another user for reading only.
    pub(super) fn open(
        self,
        name: &SessionName,
        places: &Places,
        settings: &Settings,
        own: impl FnOnce() -> Result<Joined, Fault>,
    ) -> Result<Joined, Fault> {
        let us = geteuid();
        if let Some(owner) = self.owner.filter(|owner| *owner != us.as_raw()) {
            return attach(&name.of_user(owner), places, settings);
        }
        let fault = match own() {
            Err(fault) if matches!(fault.kind, ErrorKind::Absent | ErrorKind::ForeignOwner) => {
                fault
            }
            outcome => return outcome,
        };
        // Any user could lend root a session by a directory.
        let implied = || places.foreign_owner().filter(|_| self.owner.is_none() && !us.is_root());
        let Some(owner) = implied() else { return Err(fault) };
        attach(&name.of_user(owner), places, settings).map_err(|other| match other.kind {
            ErrorKind::Absent => fault,
            _ => other,
        })
    }
}

/// Opens the session `name` of another user. A session that its owner creates at the moment is waited for.
fn attach(name: &SessionName, places: &Places, settings: &Settings) -> Result<Joined, Fault> {
    let _reserved = ReservedStreams::new();
    places.check_chosen_of(name.user())?;
    let mut unfinished = None;
    let attached = segment::retry_while_creating(|| match find(name, places) {
        Err(fault) if fault.kind == ErrorKind::Uninitialized => {
            unfinished = Some(fault);
            Ok(None)
        }
        found => found.map(Some),
    });
    let (name, segment) = attached.map_err(|fault| unfinished.take().unwrap_or(fault))?;
    join(name, Arc::new(segment), settings.clone())
}

/// The session in the first of `places` that has one that can be opened.
fn find(name: &SessionName, places: &Places) -> Result<(SessionName, Segment), Fault> {
    let mut refused = None;
    for name in places.all(name) {
        match Segment::open_foreign(&name) {
            Ok(segment) => return Ok((name, segment)),
            Err(fault) if fault.kind == ErrorKind::Absent => {}
            Err(fault) => refused = refused.or(Some(fault)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let (owner, listed) = (name.user(), places.listed());
        let text = format!("there is no session of that name of uid {owner} in {listed}");
        Fault::new(ErrorKind::Absent, text)
    }))
}

/// A session that this process reads. Its lock file is one that no other process has, in place of the one that
/// it may not open.
fn join(name: SessionName, segment: Arc<Segment>, settings: Settings) -> Result<Joined, Fault> {
    let election_lock = ElectionLock::new(segment::anonymous_locks(&name, &segment.header)?)?;
    election_lock.enter();
    let shared = ProcessSession::new(name, election_lock, Arc::clone(&segment), settings, None);
    Ok((Arc::new(shared), segment))
}

/// The session that has the name of another user's session `old` now; `None` when there is none that `will_do`.
///
/// # Errors
/// `WrongSource` when it has another one.
pub(super) fn follow(
    shared: &ProcessSession,
    old: &Segment,
    will_do: impl FnOnce(&Segment) -> bool,
) -> Result<Option<Joined>, Fault> {
    let next = Segment::open_foreign(&shared.name)?;
    if next.header.instance == old.header.instance {
        return Ok(None);
    }
    next.header.check_source(&old.header.fingerprint)?;
    if !will_do(&next) {
        return Ok(None);
    }
    join(shared.name.clone(), Arc::new(next), Settings::of(shared)).map(Some)
}

impl Inner {
    /// Whether the session was ended. A reader of the group also looks at the name: a process that was killed marks
    /// nothing, and the next session of its owner gets the name at once.
    pub(super) fn has_ended(&self) -> bool {
        self.segment.is_ended() || (self.segment.is_foreign() && !self.segment.has_its_name())
    }

    /// The page for requests to the process that refreshes.
    ///
    /// # Errors
    /// `NoSource` in a reader of the group, who may request nothing.
    pub(super) fn requests(&self) -> Result<&RequestPage, Fault> {
        if !self.segment.is_foreign() {
            return Ok(self.shared.election_lock.requests());
        }
        let text = format!(
            "the session belongs to uid {}, and this process may only read it and wait; ask a process of that user",
            self.shared.name.user()
        );
        Err(Fault::new(ErrorKind::NoSource, text))
    }
}
