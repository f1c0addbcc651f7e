//! The segment: one process creates it, the others check it and map it.
//!
//! Every process maps it read-only. Only the elected process also maps it writable, while it works.

mod entry;
mod fleet_notes;
mod header;
mod key;
pub(crate) mod layout;
mod locks;
mod names;
pub(crate) mod notes;
mod of_pool;
mod ownership;
mod place;
mod places;
pub(crate) mod pool;
pub(crate) mod record;
mod request_page;
pub(crate) mod set_record;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

pub(crate) use entry::{Counter, Entry, EntryWriter, Published};
pub(crate) use fleet_notes::{FleetNote, FleetNotes};
pub(crate) use header::{Header, time_namespace};
pub(crate) use key::Key;
pub(crate) use locks::{EntryLocks, OWNER};
pub(crate) use names::{
    CREATION_LIMIT, anonymous_locks, claim, join, lock_inode, remove, remove_leftover, remove_lock,
    retry_while_creating, user_of, with_requests,
};
pub(crate) use place::Place;
pub(crate) use places::Places;
pub(crate) use request_page::RequestPage;

use entry::ReadMemory;
use pool::{
    PoolFile,
    layout::{HEAD_BYTES, PoolLayout},
};

/// The memory that a session takes in a directory.
#[cfg(feature = "cli-core")]
pub(crate) const BYTES: u64 = (layout::TOTAL_BYTES + layout::REQUESTS_BYTES) as u64;

use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    seqlock::Version,
    sys::{
        descriptor::Descriptor,
        directory,
        mapping::ReadMapping,
        memory_file::{self, Seal},
        object::{self, Object},
        process_token::ProcessToken,
        task::TaskMark,
    },
};

/// How long a process sleeps at once in a session that a group reads.
const LONGEST_SLICE: Duration = Duration::from_secs(1);

/// An open segment, mapped read-only.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Arc<Header>,
    locked_in_ram: bool,
    /// The process that mapped it. A forked child inherits the mapping, but not its lock in RAM.
    process: ProcessToken,
    memory: Arc<ReadMemory>,
    place: Place,
    published: Published,
    /// What this process knows of the pool's file; `None` for a session.
    pool_file: Option<Arc<PoolFile>>,
    fd: Arc<Descriptor>,
    /// The secret memory with the sets, for a secret segment.
    payload: Option<Arc<Descriptor>>,
    /// The path of the shared memory object, if it has one.
    name: Option<String>,
    /// The writable mapping made before the seal. Only the refresher's process of a sealed segment has it, for all entries.
    writer: Option<Arc<EntryWriter>>,
    /// Whether it belongs to another user, and this process may only read it.
    foreign: bool,
}

impl Segment {
    /// Creates the segment `name`, and replaces an unused one. The caller holds the presence lock exclusively, so no other
    /// process creates or attaches at the same time.
    pub(crate) fn create(name: &SessionName, header: Header) -> Result<Self, Fault> {
        let path = name.segment();
        match object::open_shared(&path) {
            // Killed processes left it. No process uses it: the caller holds the presence lock.
            Ok(_) => object::remove(&path)?,
            Err(fault) if fault.kind == ErrorKind::Absent => {}
            Err(fault) => return Err(fault),
        }
        let object = object::create(&path, reserved_bytes(&header))?;
        let share = || match header.readers {
            Some(gid) => object::share_with_group(&object, &path, gid),
            None => Ok(()),
        };
        let made =
            fill(&object, &header, share).and_then(|()| Segment::mapped(object.fd, None, header));
        if made.is_err() {
            let _ = object::remove(&path);
        }
        Ok(made?.with_name(path))
    }

    /// Creates a segment in a memory file: it has no name, and only processes that inherit it can use it.
    pub(crate) fn create_nameless(name: &SessionName, header: Header) -> Result<Self, Fault> {
        let object = memory_file::create_anonymous(&name.segment(), reserved_bytes(&header))?;
        fill(&object, &header, || Ok(()))?;
        memory_file::seal(&object, Seal::Size)?;
        Segment::mapped(object.fd, None, header)
    }

    /// Creates a segment without a name, and seals it: from then on no process can make a new writable mapping. Also
    /// returns the only writable mapping. Only this mapping and copies of it can write.
    pub(crate) fn create_sealed(
        name: &SessionName,
        header: Header,
    ) -> Result<(Self, EntryWriter), Fault> {
        let object = memory_file::create_anonymous(&name.segment(), reserved_bytes(&header))?;
        let payload =
            header.secret.then(|| memory_file::create_secret(layout::SETS_BYTES)).transpose()?;
        let secret = payload.as_ref().map(Descriptor::get).transpose()?;
        let (fd, bytes) = (object.fd.get()?, header.total_bytes());
        size(&object, &header)?;
        let writer = EntryWriter::map(Place::Alone, fd, bytes, secret)?;
        writer.own(TaskMark::default(), header.instance);
        header.write(&writer.file);
        memory_file::seal(&object, Seal::AgainstWriting)?;
        Ok((Segment::mapped(object.fd, payload, header)?, writer))
    }

    /// Adds the writable mapping of a sealed segment.
    pub(crate) fn with_writer(self, writer: Option<EntryWriter>) -> Self {
        Segment { writer: writer.map(Arc::new), ..self }
    }

    /// Adds the path of its file.
    pub(crate) fn with_name(self, name: String) -> Self {
        Segment { name: Some(name), ..self }
    }

    /// Duplicates of the descriptors of the segment and of its secret memory.
    pub(crate) fn descriptors(&self) -> Result<(OwnedFd, Option<OwnedFd>), Fault> {
        let payload = self.payload.as_ref().map(|fd| fd.duplicate()).transpose()?;
        Ok((self.fd.duplicate()?, payload))
    }

    /// The descriptors of the segment and of its secret memory.
    ///
    /// # Errors
    /// `DescriptorClosed` if other code of the process has closed one.
    pub(crate) fn fds(&self) -> Result<Vec<BorrowedFd<'_>>, Fault> {
        [&self.fd].into_iter().chain(&self.payload).map(|fd| fd.get()).collect()
    }

    /// The path of the segment; `None` for a memory file.
    pub(crate) fn path(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The file system of the segment, when it is not memory, so that the sets may be written to a disk. `None` also
    /// when it is not known.
    pub(crate) fn disk(&self) -> Option<String> {
        let found = directory::file_system(self.fd.get().ok()?).ok()?;
        (!found.is_memory()).then(|| found.describe(self.path().unwrap_or_default()))
    }

    /// Whether this process can write the segment, and so can be elected.
    pub(crate) fn is_writable(&self) -> bool {
        !self.foreign && (self.writer.is_some() || !self.header.sealed)
    }

    /// Whether it belongs to another user, and this process may only read it.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Whether its name still leads to it.
    pub(crate) fn has_its_name(&self) -> bool {
        let path = self.path();
        let leads = |path| object::inode_by_name(path).is_ok_and(|f| f == Some(self.fd.inode()));
        path.is_none_or(leads)
    }

    /// Opens and checks the segment `name`. The caller holds a share of the presence lock.
    pub(crate) fn open(name: &SessionName) -> Result<Self, Fault> {
        let name = name.segment();
        let object = object::open_shared(&name)?;
        let group_reads = object.group_reads;
        let segment = Segment::checked(object, None)?;
        match group_reads && segment.header.readers.is_none() {
            true => Err(object::insecure(&name, 0o640)),
            false => Ok(segment.with_name(name)),
        }
    }

    /// Opens and checks the segment `name` of another user, for reading only.
    pub(crate) fn open_foreign(name: &SessionName) -> Result<Self, Fault> {
        let (path, owner) = (name.segment(), name.user());
        let segment = Segment::checked(object::open_to_read(&path, owner)?, None)?;
        if segment.header.readers.is_none() {
            let text = format!(
                "the session belongs to uid {owner}, who shares it with no group: `group(gid)` of the builder that \
                 creates it does"
            );
            return Err(Fault::new(ErrorKind::ForeignOwner, text));
        }
        Ok(Segment { foreign: true, ..segment }.with_name(path))
    }

    /// The segment with a mapping of this process. In a forked child this maps it again. It needs no descriptor: the child
    /// may have closed the inherited ones.
    pub(crate) fn here(self: &Arc<Self>) -> Result<Arc<Self>, Fault> {
        if self.process == ProcessToken::current() {
            return Ok(Arc::clone(self));
        }
        // A fork is the only way into another time namespace.
        self.header.check_clock()?;
        let memory = Arc::new(self.memory.again()?);
        Ok(Arc::new(Segment {
            header: Arc::clone(&self.header),
            locked_in_ram: self.pool_file.is_none() && memory.file.lock_in_ram(),
            process: ProcessToken::current(),
            published: memory.published(&self.place),
            place: self.place.clone(),
            pool_file: self.pool_file.clone(),
            memory,
            fd: Arc::clone(&self.fd),
            payload: self.payload.clone(),
            name: self.name.clone(),
            writer: None,
            foreign: self.foreign,
        }))
    }

    /// Checks and maps the same segment again, with new descriptors.
    pub(crate) fn again(&self) -> Result<Self, Fault> {
        let (fd, payload) = self.descriptors()?;
        let again = Segment::inherited(fd, payload)?;
        Ok(Segment { name: self.name.clone(), ..again })
    }

    /// The segment of inherited descriptors. `more` is the secret memory, or the socket of a pool.
    pub(crate) fn inherited(fd: OwnedFd, more: Option<OwnedFd>) -> Result<Self, Fault> {
        let more = more.map(|fd| Descriptor::keep(fd, "the secret memory")).transpose()?;
        Segment::checked(Object::inherited("the segment", fd)?, more)
    }

    fn checked(object: Object, more: Option<Descriptor>) -> Result<Self, Fault> {
        if object.bytes == 0 {
            let text = "the segment is empty; its creator still works, or was killed; try again";
            return Err(Fault::new(ErrorKind::Uninitialized, text));
        }
        if object.bytes < layout::HEADER_BYTES {
            return Err(header::too_small(object.bytes, layout::TOTAL_BYTES));
        }
        let page = ReadMapping::new(object.fd.get()?, layout::HEADER_BYTES)
            .map_err(|e| Fault::system("mapping the segment's header page", e))?;
        let header = Header::read(&page, object.bytes)?;
        header.check_clock()?;
        if header.pool.is_none() {
            return Segment::mapped(object.fd, more, header);
        }
        let pool = Segment::mapped(object.fd, None, header)?;
        more.into_iter().for_each(|socket| pool.set_asks(socket));
        Ok(pool)
    }

    fn mapped(fd: Descriptor, payload: Option<Descriptor>, header: Header) -> Result<Self, Fault> {
        if header.secret != payload.is_some() {
            let text =
                "the secret-memory descriptor is missing; start the program with `pass_to()`";
            return Err(Fault::new(ErrorKind::Absent, text));
        }
        let secret = payload.as_ref().map(Descriptor::get).transpose()?;
        if let Some(secret) = secret {
            check_secret_size(object::bytes(secret)?)?;
        }
        let memory = Arc::new(ReadMemory::map(fd.get()?, header.total_bytes(), secret)?);
        let fd = Arc::new(fd);
        let pool_file = header.pool.map(|layout| PoolFile::new(layout, Arc::clone(&fd)));
        let place = pool_file.as_ref().map_or(Place::Alone, |file| Place::InPool {
            index: file.layout.own(),
            key: Key::default(),
            file: Arc::clone(file),
        });
        Ok(Segment {
            header: Arc::new(header),
            // To lock a pool would take the memory of all its entries.
            locked_in_ram: pool_file.is_none() && memory.file.lock_in_ram(),
            process: ProcessToken::current(),
            published: memory.published(&place),
            place,
            pool_file,
            memory,
            fd,
            payload: payload.map(Arc::new),
            name: None,
            writer: None,
            foreign: false,
        })
    }

    /// The entry, for reading.
    #[inline]
    pub(crate) fn view(&self) -> Entry<'_> {
        self.memory.entry(&self.place)
    }

    /// The place of the entry.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The version of the newest set.
    pub(crate) fn published(&self) -> Version {
        self.published.version()
    }

    /// The same, to look at again and again.
    pub(crate) fn published_word(&self) -> &Published {
        &self.published
    }

    /// Makes a new writable mapping, for the elected process while it works.
    pub(crate) fn writable(&self) -> Result<EntryWriter, Fault> {
        match &self.writer {
            Some(writer) => writer.again(self.place.clone()),
            None => self.map_writable(),
        }
    }

    /// Maps it through duplicates of the descriptors. If other code of the process closed them, this opens the segment by
    /// its name, if the name still belongs to the same file.
    fn map_writable(&self) -> Result<EntryWriter, Fault> {
        let (fd, payload) = match (self.descriptors(), &self.name) {
            (Err(fault), Some(name)) if fault.kind == ErrorKind::DescriptorClosed => {
                let found = object::open_shared(name).ok();
                let found = found.filter(|object| object.inode() == self.fd.inode());
                (found.ok_or(fault)?.fd.duplicate()?, None)
            }
            (descriptors, _) => descriptors?,
        };
        let (place, bytes) = (self.place.clone(), self.header.total_bytes());
        let payload = payload.as_ref().map(AsFd::as_fd);
        let writable = EntryWriter::map(place, fd.as_fd(), bytes, payload)?;
        match header::instance(&writable.file) == self.header.instance {
            true => Ok(writable),
            false => {
                Err(Fault::new(ErrorKind::BadChecksum, "the segment's header was overwritten"))
            }
        }
    }

    /// Whether this process locked it in RAM. A forked child inherits the mapping, but not the lock.
    pub(crate) fn is_locked_in_ram(&self) -> bool {
        self.locked_in_ram && self.process == ProcessToken::current()
    }

    /// How long to sleep until an event at most, for a sleep of `limit`. A process that reads the segment can move the sleepers
    /// of its futex to another futex (`FUTEX_REQUEUE`), where no event wakes them. In a session of one user only that user
    /// can.
    pub(crate) fn slice(&self, limit: Duration) -> Duration {
        if self.header.readers.is_some() { limit.min(LONGEST_SLICE) } else { limit }
    }

    /// Counts an event and wakes all sleepers. If that fails, they check the state again after their limit.
    pub(crate) fn announce(&self) {
        match self.is_writable().then(|| self.writable()) {
            Some(Ok(writable)) => writable.announce(),
            // Without an event they check the state and sleep again.
            _ => self.view().wake(),
        }
    }
}

/// The memory at the beginning of a new file. That of a pool's entries is reserved in steps.
fn reserved_bytes(header: &Header) -> usize {
    header.pool.map_or(layout::TOTAL_BYTES, PoolLayout::heads)
}

/// Gives the file of a pool its size, and the pool's own entry its memory.
fn size(object: &Object, header: &Header) -> Result<(), Fault> {
    let (Some(pool), fd) = (header.pool, object.fd.get()?) else { return Ok(()) };
    object::resize(fd, header.total_bytes())?;
    object::reserve_range("the pool", fd, pool.head(pool.own()), HEAD_BYTES)
}

/// Gives a new file its size and its header. `share` lets others open it before it is finished.
fn fill(
    object: &Object,
    header: &Header,
    share: impl FnOnce() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (fd, bytes) = (object.fd.get()?, header.total_bytes());
    size(object, header)?;
    let writable = EntryWriter::map(Place::Alone, fd, bytes, None)?;
    writable.own(TaskMark::default(), header.instance);
    share()?;
    header.write(&writable.file);
    Ok(())
}

/// Checks the size of the secret memory. Its descriptor is inherited by number, and another, shorter memory file may have
/// the number by now. A read beyond its end would cause a SIGBUS.
fn check_secret_size(bytes: usize) -> Result<(), Fault> {
    if bytes >= layout::SETS_BYTES {
        return Ok(());
    }
    let needed = layout::SETS_BYTES;
    let text = format!("the secret memory has {bytes} bytes; the layout needs {needed}");
    Err(Fault::new(ErrorKind::TooSmall, text))
}
