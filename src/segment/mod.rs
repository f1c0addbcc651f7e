//! The segment: made by one process, checked and mapped by the others.
//!
//! Everyone maps it read-only. Only the elected process maps it writable, for as long as it works.

mod entry;
mod header;
pub(crate) mod layout;
mod locks;
mod names;
pub(crate) mod notes;
mod ownership;
pub(crate) mod record;
mod request_page;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

pub(crate) use entry::{Counter, Entry, EntryWriter};
pub(crate) use header::{Header, time_namespace};
pub(crate) use locks::EntryLocks;
pub(crate) use names::{
    CREATION_LIMIT, anonymous_locks, claim, join, lock_inode, remove, remove_lock,
    retry_while_creating, user_of, with_requests,
};
pub(crate) use request_page::RequestPage;

use entry::ReadMemory;

use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    seqlock::Version,
    sys::{
        descriptor::Descriptor,
        mapping::ReadMapping,
        object::{self, Object, Seal},
        process_token::ProcessToken,
        task::TaskMark,
    },
};

/// An open segment, mapped read-only.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    locked_in_ram: bool,
    /// The process that mapped it: a forked child's inherited mapping is not locked in RAM.
    process: ProcessToken,
    memory: ReadMemory,
    fd: Arc<Descriptor>,
    /// Of a secret segment: the memory apart that holds its sets.
    payload: Option<Arc<Descriptor>>,
    /// The shared memory object, where it has a name.
    name: Option<String>,
    /// Of a sealed segment, in its refresher's process: the mapping made before it was sealed.
    writer: Option<EntryWriter>,
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
        let made = EntryWriter::map(0, object.fd.get()?, None).and_then(|writable| {
            writable.own(TaskMark::default(), header.instance);
            header.write(&writable.file);
            Segment::mapped(object.fd, None, header)
        });
        if made.is_err() {
            object::unlink(&path);
        }
        Ok(made?.with_name(path))
    }

    /// Makes a segment without a name, and seals it: from then on nobody can map it for writing. The
    /// mapping that comes beside it is the only one that can write, with those that are made from it.
    pub(crate) fn create_sealed(
        name: &SessionName,
        header: Header,
    ) -> Result<(Self, EntryWriter), Fault> {
        let object = object::create_anonymous(&name.segment(), layout::TOTAL_BYTES)?;
        let payload =
            header.secret.then(|| object::create_secret(layout::SETS_BYTES)).transpose()?;
        let secret = payload.as_ref().map(Descriptor::get).transpose()?;
        let writer = EntryWriter::map(0, object.fd.get()?, secret)?;
        writer.own(TaskMark::default(), header.instance);
        header.write(&writer.file);
        object::seal(&object, Seal::AgainstWriting)?;
        Ok((Segment::mapped(object.fd, payload, header)?, writer))
    }

    /// Of a sealed segment: with the mapping that can write it.
    pub(crate) fn with_writer(self, writer: Option<EntryWriter>) -> Self {
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
        let memory = self.memory.again()?;
        Ok(Arc::new(Segment {
            header: self.header.clone(),
            locked_in_ram: memory.file.lock_in_ram(),
            process: ProcessToken::current(),
            memory,
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
        if object.bytes < layout::HEADER_BYTES {
            return Err(header::too_small(object.bytes));
        }
        let page = ReadMapping::new(object.fd.get()?, layout::HEADER_BYTES)
            .map_err(|e| Fault::system("mapping the segment's header page", e))?;
        let header = Header::read(&page, object.bytes)?;
        header.check_clock()?;
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
        let memory = ReadMemory::map(fd.get()?, secret)?;
        Ok(Segment {
            header,
            locked_in_ram: memory.file.lock_in_ram(),
            process: ProcessToken::current(),
            memory,
            fd: Arc::new(fd),
            payload: payload.map(Arc::new),
            name: None,
            writer: None,
        })
    }

    /// The segment as everyone sees it.
    #[inline]
    pub(crate) fn view(&self) -> Entry<'_> {
        self.memory.entry(0)
    }

    /// The version of the newest set: all that most reads look at.
    #[inline]
    pub(crate) fn published(&self) -> Version {
        self.memory.published()
    }

    /// A mapping of its own that may be written: for the elected process, while it works.
    pub(crate) fn writable(&self) -> Result<EntryWriter, Fault> {
        match &self.writer {
            Some(writer) => writer.again(),
            None => self.map_writable(),
        }
    }

    /// Maps it through copies of the descriptors. Where other code of the process has closed them, a segment
    /// with a name is opened by that, if the name still leads to it.
    fn map_writable(&self) -> Result<EntryWriter, Fault> {
        let (fd, payload) = match (self.descriptors(), &self.name) {
            (Err(fault), Some(name)) if fault.kind == ErrorKind::DescriptorClosed => {
                let found = object::open(name).ok().filter(|o| o.inode() == self.fd.inode());
                (found.ok_or(fault)?.fd.duplicate()?, None)
            }
            (descriptors, _) => descriptors?,
        };
        let writable = EntryWriter::map(0, fd.as_fd(), payload.as_ref().map(AsFd::as_fd))?;
        match header::instance(&writable.file) == self.header.instance {
            true => Ok(writable),
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
            _ => self.view().wake(),
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
