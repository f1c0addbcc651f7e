//! The values of a role's inputs, packed one after the other.

use std::{
    ffi::OsString,
    iter,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    time::Duration,
};

use arrayvec::ArrayVec;

use crate::source::profile::ProxyUrl;

/// Bytes that need no allocation as long as they are few: a role is looked for at each request of a server.
#[derive(Default)]
pub(super) struct Bytes {
    few: ArrayVec<u8, FEW>,
    /// All of them, if they are more.
    many: Vec<u8>,
}

const FEW: usize = 256;

impl Bytes {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if !self.many.is_empty() {
            self.many.extend_from_slice(bytes);
        } else if self.few.try_extend_from_slice(bytes).is_err() {
            self.many = [&self.few, bytes].concat();
        }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    pub(super) fn all(&self) -> &[u8] {
        if self.many.is_empty() { &self.few } else { &self.many }
    }

    pub(super) fn all_mut(&mut self) -> &mut [u8] {
        if self.many.is_empty() { &mut self.few } else { &mut self.many }
    }
}

/// A value that can be packed as what differs from another one.
pub(super) trait Pack: Sized {
    /// That which a value is packed with where the model has none.
    fn none() -> Self;
    fn put(&self, model: &Self, bytes: &mut Bytes);
    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self>;
}

/// Seven bits in each byte; the highest one says that another byte follows.
pub(super) fn put_number(mut number: u64, mut put: impl FnMut(u8)) {
    while number > 0x7f {
        put(number as u8 | 0x80);
        number >>= 7;
    }
    put(number as u8);
}

/// How many bytes both begin with.
fn common(value: &[u8], model: &[u8]) -> usize {
    // Eight at once, as long as they are the same.
    let eights = iter::zip(value.as_chunks::<8>().0, model.as_chunks::<8>().0);
    let same = 8 * eights.take_while(|(one, other)| one == other).count();
    let rest = iter::zip(&value[same..], &model[same..]);
    same + rest.take_while(|(one, other)| one == other).count()
}

pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(take_number(bytes)?).ok()
}

/// The number of bytes that both begin with, and the bytes that follow.
fn put_bytes(value: &[u8], model: &[u8], bytes: &mut Bytes) {
    let same = common(value, model);
    put_number(same as u64, |byte| bytes.push(byte));
    put_number((value.len() - same) as u64, |byte| bytes.push(byte));
    bytes.extend(&value[same..]);
}

fn take_bytes(model: &[u8], bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let same = model.get(..take_length(bytes)?)?;
    let length = take_length(bytes)?;
    Some([same, bytes.split_off(..length)?].concat())
}

impl Pack for String {
    fn none() -> Self {
        String::new()
    }

    fn put(&self, model: &Self, bytes: &mut Bytes) {
        put_bytes(self.as_bytes(), model.as_bytes(), bytes);
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(take_bytes(model.as_bytes(), bytes)?).ok()
    }
}

impl Pack for PathBuf {
    fn none() -> Self {
        PathBuf::new()
    }

    fn put(&self, model: &Self, bytes: &mut Bytes) {
        put_bytes(self.as_os_str().as_bytes(), model.as_os_str().as_bytes(), bytes);
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        let path = take_bytes(model.as_os_str().as_bytes(), bytes)?;
        Some(OsString::from_vec(path).into())
    }
}

impl Pack for ProxyUrl {
    fn none() -> Self {
        ProxyUrl::new(String::new())
    }

    fn put(&self, model: &Self, bytes: &mut Bytes) {
        put_bytes(self.text().as_bytes(), model.text().as_bytes(), bytes);
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(take_bytes(model.text().as_bytes(), bytes)?).ok().map(ProxyUrl::new)
    }
}

impl Pack for u32 {
    fn none() -> Self {
        0
    }

    fn put(&self, _: &Self, bytes: &mut Bytes) {
        put_number((*self).into(), |byte| bytes.push(byte));
    }

    fn take(_: &Self, bytes: &mut &[u8]) -> Option<Self> {
        take_number(bytes)?.try_into().ok()
    }
}

impl Pack for Duration {
    fn none() -> Self {
        Duration::ZERO
    }

    fn put(&self, _: &Self, bytes: &mut Bytes) {
        put_number(self.as_secs(), |byte| bytes.push(byte));
        put_number(self.subsec_nanos().into(), |byte| bytes.push(byte));
    }

    fn take(_: &Self, bytes: &mut &[u8]) -> Option<Self> {
        let seconds = take_number(bytes)?;
        Some(Duration::new(seconds, take_number(bytes)?.try_into().ok()?))
    }
}

impl<T: Pack> Pack for Option<T> {
    fn none() -> Self {
        None
    }

    fn put(&self, model: &Self, bytes: &mut Bytes) {
        bytes.push(self.is_some().into());
        if let Some(value) = self {
            value.put(model.as_ref().unwrap_or(&T::none()), bytes);
        }
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        match bytes.split_off_first()? {
            0 => Some(None),
            _ => T::take(model.as_ref().unwrap_or(&T::none()), bytes).map(Some),
        }
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn none() -> Self {
        Vec::new()
    }

    fn put(&self, model: &Self, bytes: &mut Bytes) {
        put_number(self.len() as u64, |byte| bytes.push(byte));
        for (at, item) in self.iter().enumerate() {
            item.put(model.get(at).unwrap_or(&T::none()), bytes);
        }
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        let count = take_length(bytes)?;
        (0..count).map(|at| T::take(model.get(at).unwrap_or(&T::none()), bytes)).collect()
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn none() -> Self {
        (A::none(), B::none())
    }

    fn put(&self, model: &Self, bytes: &mut Bytes) {
        self.0.put(&model.0, bytes);
        self.1.put(&model.1, bytes);
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        Some((A::take(&model.0, bytes)?, B::take(&model.1, bytes)?))
    }
}
