//! The segment: made by one process, checked and mapped by the others.
//!
//! Everyone maps it read-only. Only the elected process maps it writable, for as long as it works.

mod header;
pub(crate) mod layout;
pub(crate) mod notes;
pub(crate) mod record;
mod requests;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) use header::Header;
pub(crate) use requests::Requests;

use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    seqlock::{Latch, Version},
    sys::{
        descriptor::{Descriptor, Inode},
        futex,
        lock::LockFile,
        mapping::{Access, Mapping},
        object::{self, Object, Seal},
        process_token::ProcessToken,
    },
};

/// How long `attach` waits for a creator that is still at work.
const CREATION_LIMIT: Duration = Duration::from_millis(500);
/// How often it looks: a half-made segment has no word yet on which it could sleep.
const CREATION_LOOK: Duration = Duration::from_millis(1);

/// An open segment, mapped read-only.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    locked_in_ram: bool,
    /// The process that mapped it: a forked child's inherited mapping is not locked in RAM.
    process: ProcessToken,
    view: View,
    fd: Arc<Descriptor>,
    /// Of a secret segment: the memory apart that holds its sets.
    payload: Option<Arc<Descriptor>>,
    /// The shared memory object, where it has a name.
    name: Option<String>,
    /// Of a sealed segment, in its refresher's process: the mapping made before it was sealed.
    writer: Option<View>,
}

impl Segment {
    /// Makes the segment `name`, in place of one that nobody uses any more. The caller holds the
    /// presence lock alone, so that no other process creates or attaches meanwhile.
    pub(crate) fn create(name: &SessionName, header: Header) -> Result<Self, Fault> {
        let path = name.segment();
        match object::open(&path) {
            // Left by processes that were killed: nobody is present.
            Ok(_) => drop(object::unlink(&path)),
            Err(fault) if fault.kind == ErrorKind::Absent => {}
            Err(fault) => return Err(fault),
        }
        let object = object::create(&path, layout::TOTAL_BYTES)?;
        let made = View::map(object.fd.get()?, None, Access::Write).and_then(|writable| {
            header.write(&writable.control);
            Segment::mapped(object.fd, None, header)
        });
        if made.is_err() {
            object::unlink(&path);
        }
        Ok(made?.with_name(path))
    }

    /// Makes a segment without a name, and seals it: from then on nobody can map it for writing. The
    /// mapping that comes beside it is the only one that can write, with those that are made from it.
    pub(crate) fn create_sealed(name: &SessionName, header: Header) -> Result<(Self, View), Fault> {
        let object = object::create_anonymous(&name.segment(), layout::TOTAL_BYTES)?;
        let payload =
            header.secret.then(|| object::create_secret(layout::SETS_BYTES)).transpose()?;
        let secret = payload.as_ref().map(Descriptor::get).transpose()?;
        let writer = View::map(object.fd.get()?, secret, Access::Write)?;
        header.write(&writer.control);
        object::seal(&object, Seal::AgainstWriting)?;
        Ok((Segment::mapped(object.fd, payload, header)?, writer))
    }

    /// Of a sealed segment: with the mapping that can write it.
    pub(crate) fn with_writer(self, writer: Option<View>) -> Self {
        Segment { writer, ..self }
    }

    fn with_name(self, name: String) -> Self {
        Segment { name: Some(name), ..self }
    }

    /// Copies of the descriptors that lead to the segment: its own, and that of its secret memory.
    pub(crate) fn descriptors(&self) -> Result<(OwnedFd, Option<OwnedFd>), Fault> {
        let payload = self.payload.as_ref().map(|fd| fd.duplicate()).transpose()?;
        Ok((self.fd.duplicate()?, payload))
    }

    /// The descriptors that the segment lives by.
    ///
    /// # Errors
    /// `DescriptorClosed` if other code of the process has closed one.
    pub(crate) fn fds(&self) -> Result<Vec<BorrowedFd<'_>>, Fault> {
        [&self.fd].into_iter().chain(&self.payload).map(|fd| fd.get()).collect()
    }

    /// Whether this process can write the segment, and so be elected.
    pub(crate) fn is_writable(&self) -> bool {
        self.writer.is_some() || !self.header.sealed
    }

    /// Opens the segment `name` and checks all of it. The caller shares the presence lock.
    pub(crate) fn open(name: &SessionName) -> Result<Self, Fault> {
        let name = name.segment();
        Ok(Segment::checked(object::open(&name)?, None)?.with_name(name))
    }

    /// The segment in this process: as it is mapped here already, or mapped once more in a forked child. That
    /// needs no descriptor: the child may have closed what it inherited.
    pub(crate) fn here(self: &Arc<Self>) -> Result<Arc<Self>, Fault> {
        if self.process == ProcessToken::current() {
            return Ok(Arc::clone(self));
        }
        let view = self.view.again()?;
        Ok(Arc::new(Segment {
            header: self.header.clone(),
            locked_in_ram: view.control.lock_in_ram(),
            process: ProcessToken::current(),
            view,
            fd: Arc::clone(&self.fd),
            payload: self.payload.clone(),
            name: self.name.clone(),
            writer: None,
        }))
    }

    /// The same segment, checked and mapped once more, with descriptors of its own.
    pub(crate) fn again(&self) -> Result<Self, Fault> {
        let (fd, payload) = self.descriptors()?;
        let again = Segment::inherited(fd, payload)?;
        Ok(Segment { name: self.name.clone(), ..again })
    }

    /// The segment of descriptors that this process has inherited.
    pub(crate) fn inherited(fd: OwnedFd, payload: Option<OwnedFd>) -> Result<Self, Fault> {
        let payload = payload.map(|fd| Descriptor::keep(fd, "the secret memory")).transpose()?;
        Segment::checked(Object::inherited("the segment", fd)?, payload)
    }

    fn checked(object: Object, payload: Option<Descriptor>) -> Result<Self, Fault> {
        if object.bytes == 0 {
            let text = "the segment is empty; its creator may have been killed";
            return Err(Fault::new(ErrorKind::Uninitialized, text));
        }
        if object.bytes < layout::CONTROL_BYTES {
            return Err(header::too_small(object.bytes));
        }
        let control = Mapping::new(object.fd.get()?, layout::CONTROL_BYTES, Access::Read)
            .map_err(|e| Fault::system("mapping the segment's control page", e))?;
        let header = Header::read(&control, object.bytes)?;
        Segment::mapped(object.fd, payload, header)
    }

    fn mapped(fd: Descriptor, payload: Option<Descriptor>, header: Header) -> Result<Self, Fault> {
        if header.secret != payload.is_some() {
            let text = "the segment's secret memory did not come with it";
            return Err(Fault::new(ErrorKind::Absent, text));
        }
        let secret = payload.as_ref().map(Descriptor::get).transpose()?;
        if let Some(secret) = secret {
            check_secret_size(object::bytes(secret)?)?;
        }
        let view = View::map(fd.get()?, secret, Access::Read)?;
        Ok(Segment {
            header,
            locked_in_ram: view.control.lock_in_ram(),
            process: ProcessToken::current(),
            view,
            fd: Arc::new(fd),
            payload: payload.map(Arc::new),
            name: None,
            writer: None,
        })
    }

    /// The segment as everyone sees it.
    #[inline]
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// A mapping of its own that may be written: for the elected process, while it works.
    pub(crate) fn writable(&self) -> Result<View, Fault> {
        match &self.writer {
            Some(writer) => writer.again(),
            None => self.map_writable(),
        }
    }

    /// Maps it through copies of the descriptors. Where other code of the process has closed them, a segment
    /// with a name is opened by that, if the name still leads to it.
    fn map_writable(&self) -> Result<View, Fault> {
        let (fd, payload) = match (self.descriptors(), &self.name) {
            (Err(fault), Some(name)) if fault.kind == ErrorKind::DescriptorClosed => {
                let found = object::open(name).ok().filter(|o| o.inode() == self.fd.inode());
                (found.ok_or(fault)?.fd.duplicate()?, None)
            }
            (descriptors, _) => descriptors?,
        };
        let view = View::map(fd.as_fd(), payload.as_ref().map(AsFd::as_fd), Access::Write)?;
        match header::instance(&view.control) == self.header.instance {
            true => Ok(view),
            false => {
                Err(Fault::new(ErrorKind::BadChecksum, "the segment's header was overwritten"))
            }
        }
    }

    /// Whether this process has locked it in RAM: a forked child inherits the mapping and not the lock.
    pub(crate) fn is_locked_in_ram(&self) -> bool {
        self.locked_in_ram && self.process == ProcessToken::current()
    }

    /// Wakes all who sleep, if the segment can be mapped for it: they look again at their limit, too.
    pub(crate) fn announce(&self) {
        match self.is_writable().then(|| self.writable()) {
            Some(Ok(writable)) => writable.announce(),
            // Those who sleep look, and sleep again.
            _ => futex::wake_all(self.view.event()),
        }
    }
}

/// The descriptor of the secret memory is inherited by number. By now the number may lead to another memory file;
/// to read beyond the end of a shorter one would be a SIGBUS.
fn check_secret_size(bytes: usize) -> Result<(), Fault> {
    if bytes >= layout::SETS_BYTES {
        return Ok(());
    }
    let needed = layout::SETS_BYTES;
    let text = format!("the secret memory has {bytes} bytes; the layout needs {needed}");
    Err(Fault::new(ErrorKind::TooSmall, text))
}

/// Tries to attach, again and again for a short while, as long as a creator is at work.
pub(crate) fn patiently<T>(
    mut attach: impl FnMut() -> Result<Option<T>, Fault>,
) -> Result<T, Fault> {
    let patience = Instant::now() + CREATION_LIMIT;
    loop {
        if let Some(attached) = attach()? {
            return Ok(attached);
        }
        if Instant::now() >= patience {
            let text = format!("its creator has not finished within {CREATION_LIMIT:?}");
            return Err(Fault::new(ErrorKind::Uninitialized, text));
        }
        std::thread::sleep(CREATION_LOOK);
    }
}

/// Opens the lock file of `name` and shares the presence lock. `None` while a creator is at work.
pub(crate) fn join(name: &SessionName) -> Result<Option<LockFile>, Fault> {
    loop {
        let locks = LockFile::named(object::open(&name.lock())?, &name.lock());
        if !locks.try_present()? {
            return Ok(None);
        }
        // The name may have been removed and made anew between opening and locking.
        if object::inode_by_name(&name.lock()) == Some(locks.inode()) {
            // By now the creator has given it its size.
            return locks.measured().map(Some);
        }
    }
}

/// Makes the lock file of `name`, empty, and takes the presence lock alone. `None` when the session is in
/// use. A file that killed processes have left is not used again: their refresher may yet have to notice
/// that it is alone, and would take those of this session for its own. Waits a short while for a refresher
/// that is cleaning up, and for processes that look at what killed ones have left.
pub(crate) fn claim(name: &SessionName) -> Result<Option<LockFile>, Fault> {
    let patience = Instant::now() + CREATION_LIMIT;
    loop {
        let locks = LockFile::named(object::open_or_create(&name.lock())?, &name.lock());
        if !locks.try_alone()? {
            if Instant::now() >= patience {
                return Ok(None);
            }
            std::thread::sleep(CREATION_LOOK);
            continue;
        }
        if object::inode_by_name(&name.lock()) != Some(locks.inode()) {
            continue;
        }
        let locks = locks.measured()?;
        if locks.bytes() == 0 {
            return Ok(Some(locks));
        }
        object::unlink(&name.lock());
    }
}

/// Gives the lock file of a new session its page of requests.
pub(crate) fn with_requests(locks: LockFile) -> Result<LockFile, Fault> {
    locks.reserved(layout::REQUESTS_BYTES)
}

/// A lock file without a name, for a sealed segment.
pub(crate) fn anonymous_locks(name: &SessionName) -> Result<LockFile, Fault> {
    let object = object::create_anonymous(&name.lock(), layout::REQUESTS_BYTES)?;
    object::seal(&object, Seal::Size)?;
    object::open_to_inheritors(&object)?;
    let locks = LockFile::new(object);
    locks.try_present()?;
    Ok(locks)
}

/// Removes both names, if they are still those of the session with that lock file.
pub(crate) fn remove(name: &SessionName, lock: Inode) {
    if lock_inode(name) == Some(lock) {
        object::unlink(&name.segment());
        object::unlink(&name.lock());
    }
}

/// Removes the lock file alone, where no segment came of it.
pub(crate) fn remove_lock(name: &SessionName, lock: Inode) {
    if lock_inode(name) == Some(lock) {
        object::unlink(&name.lock());
    }
}

/// What the name of the lock file leads to now.
pub(crate) fn lock_inode(name: &SessionName) -> Option<Inode> {
    object::inode_by_name(&name.lock())
}

/// A live process that uses the session `name`: its creator if that lives, or any that has the
/// lock file open.
pub(crate) fn user_of(name: &SessionName) -> Option<u32> {
    let inode = object::inode_by_name(&name.lock())?;
    let creator = object::open(&name.segment())
        .ok()
        .filter(|object| object.bytes >= layout::CONTROL_BYTES)
        .and_then(|o| {
            Some((Mapping::new(o.fd.get().ok()?, layout::CONTROL_BYTES, Access::Read).ok()?, o))
        })
        .and_then(|(mapping, object)| Header::read(&mapping, object.bytes).ok())
        .map(|header| header.creator);
    let pids = creator.into_iter().chain(processes());
    pids.into_iter().find(|pid| has_open(*pid, inode))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_open(pid: u32, inode: Inode) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|meta| inode.parts() == (meta.dev(), meta.ino()))
}

/// The fields of a mapped segment.
#[derive(Debug)]
pub(crate) struct View {
    control: Mapping,
    /// The sets of a secret segment; those of any other follow the control page.
    payload: Option<Mapping>,
}

impl View {
    fn map(
        fd: BorrowedFd<'_>,
        payload: Option<BorrowedFd<'_>>,
        access: Access,
    ) -> Result<Self, Fault> {
        let failed = |error| Fault::system("mapping the segment", error);
        let control = Mapping::new(fd, layout::TOTAL_BYTES, access).map_err(failed)?;
        let payload = payload
            .map(|fd| Mapping::new(fd, layout::SETS_BYTES, access))
            .transpose()
            .map_err(|error| Fault::system("mapping the secret memory", error))?;
        Ok(View { control, payload })
    }

    fn again(&self) -> Result<Self, Fault> {
        let failed = |error| Fault::system("mapping the segment once more", error);
        let control = self.control.again().map_err(failed)?;
        let payload = self.payload.as_ref().map(Mapping::again).transpose().map_err(failed)?;
        Ok(View { control, payload })
    }

    /// The version of the newest set: all that most reads look at.
    #[inline]
    pub(crate) fn published(&self) -> Version {
        Version::load(self.control.word(layout::PUBLISHED))
    }

    /// The sets.
    pub(crate) fn sets(&self) -> Latch<'_> {
        let count = layout::SET_SLOTS * layout::SET_SLOT_WORDS;
        let slots = match &self.payload {
            Some(payload) => payload.words(0, count),
            None => self.control.words(layout::SETS, count),
        };
        Latch::new(self.control.word(layout::PUBLISHED), slots, layout::SET_SLOT_WORDS)
    }

    /// The failures.
    pub(crate) fn failures(&self) -> Latch<'_> {
        let count = layout::FAILURE_SLOTS * layout::FAILURE_SLOT_WORDS;
        let slots = self.control.words(layout::FAILURES, count);
        Latch::new(self.control.word(layout::FAILED), slots, layout::FAILURE_SLOT_WORDS)
    }

    /// The word that says who is elected.
    pub(crate) fn election(&self) -> &AtomicU64 {
        self.control.word(layout::ELECTION)
    }

    /// How often the source was called, and what came of it.
    pub(crate) fn counters(&self) -> [u64; layout::COUNTERS_LEN] {
        let words = self.control.words(layout::COUNTERS, layout::COUNTERS_LEN);
        // Relaxed: statistics order nothing.
        std::array::from_fn(|i| words[i].load(Ordering::Relaxed))
    }

    /// Counts one event. Needs a writable view.
    pub(crate) fn count(&self, counter: Counter) {
        self.increment(counter as usize);
    }

    /// Counts a failure of that class, a word of the layout. Needs a writable view.
    pub(crate) fn count_failure(&self, class: u64) {
        self.increment(layout::FAILURE_COUNTERS + class as usize);
    }

    fn increment(&self, place: usize) {
        debug_assert_eq!(self.control.access(), Access::Write);
        let counters = self.control.words(layout::COUNTERS, layout::COUNTERS_LEN);
        counters[place].fetch_add(1, Ordering::Relaxed);
    }

    fn event(&self) -> &AtomicU32 {
        self.control.futex_word(layout::EVENT)
    }

    /// The number of the latest event. Taken before looking at the state, it makes `sleep` return
    /// at once when something happened in between.
    pub(crate) fn latest_event(&self) -> u32 {
        let seen = self.event().load(Ordering::Relaxed);
        // Pairs with the release increment in `announce`: what the event announces is visible.
        std::sync::atomic::fence(Ordering::Acquire);
        seen
    }

    /// Sleeps until an event later than `seen`, at most `limit`.
    pub(crate) fn sleep(&self, seen: u32, limit: Duration) {
        futex::wait(self.event(), seen, limit);
    }

    /// The same beside a refresh of this process: the wake-up comes after that of other processes,
    /// which have a longer way. Should the one who wakes die in between, the end of the refresh wakes, or
    /// that of whoever has the seat by then.
    pub(crate) fn sleep_at_home(&self, seen: u32, limit: Duration) {
        futex::wait_last(self.event(), seen, limit);
    }

    /// Wakes all who sleep. Needs a writable view.
    pub(crate) fn announce(&self) {
        self.event().fetch_add(1, Ordering::Release);
        futex::wake_in_turn(self.event());
    }
}

/// The counters, in the order of the layout.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Counter {
    SourceCalls,
    Publications,
    Takeovers,
    Invalidations,
}
