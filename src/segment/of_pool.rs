//! The segment of a pool: its entries, and where its refresher is asked.

use std::sync::Arc;

use super::{
    Segment,
    entry::{Entry, Published},
    key::Key,
    place::Place,
    pool::{PoolReader, layout},
};
use crate::sys::descriptor::Descriptor;

impl Segment {
    /// The entry at `index` of a pool, for the role with `key`.
    pub(crate) fn entry(&self, index: usize, key: Key) -> Option<Self> {
        let place = self.place_of(index, key)?;
        Some(Segment {
            header: Arc::clone(&self.header),
            locked_in_ram: false,
            process: self.process,
            published: self.memory.published(&place),
            place,
            foreign: self.foreign,
            pool_file: self.pool_file.clone(),
            memory: Arc::clone(&self.memory),
            fd: Arc::clone(&self.fd),
            payload: None,
            name: self.name.clone(),
            writer: self.writer.clone(),
        })
    }

    /// The place of the entry at `index` of a pool, for the role with `key`.
    pub(crate) fn place_of(&self, index: usize, key: Key) -> Option<Place> {
        Some(Place::InPool { index, key, file: Arc::clone(self.pool_file.as_ref()?) })
    }

    /// The entry at `place`, for reading.
    pub(crate) fn view_at<'a>(&'a self, place: &'a Place) -> Entry<'a> {
        self.memory.entry(place)
    }

    /// The version of the newest set of the entry at `index` of a pool.
    pub(crate) fn published_of(&self, index: usize) -> Option<Published> {
        let head = self.pool_file.as_ref()?.layout.head(index);
        Some(self.memory.published_at(head + layout::PUBLISHED))
    }

    /// The number of the entry of a pool to which `published` belongs.
    pub(crate) fn index_of(&self, published: &Published) -> Option<usize> {
        let head = published.offset() - layout::PUBLISHED;
        Some(self.pool_file.as_ref()?.layout.index_of(head))
    }

    /// Keeps the socket through which the refresher of a pool is asked.
    pub(crate) fn set_asks(&self, socket: Descriptor) {
        if let Some(file) = &self.pool_file {
            file.set_asks(socket);
        }
    }

    /// The socket through which the refresher of a pool without a name is asked.
    pub(crate) fn asks(&self) -> Option<&Descriptor> {
        self.pool_file.as_ref()?.asks()
    }

    /// The pool of this segment; `None` for that of a session.
    pub(crate) fn pool(&self) -> Option<PoolReader<'_>> {
        Some(PoolReader::new(self.pool_file.as_ref()?, &self.memory.file))
    }
}
