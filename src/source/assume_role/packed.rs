//! A role in few bytes, for a process that holds thousands of roles of one pool.
//!
//! Such roles are much alike. So a role is kept as what differs from one of them, the model: the inputs that differ, and of
//! each text what follows the part that both begin with. Only the process that packed a role unpacks it.
//!
//! Two roles that are packed with one model have the same bytes only if all of their inputs are the same.

use std::fmt;

use arrayvec::ArrayVec;

use super::{
    AssumeRole, Inputs,
    inputs::{Input, Maker, Visitor},
    values::{Bytes, Pack, put_number, take_number},
};

/// The inputs of a role, packed. They may be secrets, so nothing shows them.
#[derive(Clone)]
pub(crate) enum PackedRole {
    /// In place. Roles that differ in the short name of a tenant take no memory besides this.
    Short(ArrayVec<u8, SHORT>),
    Long(Box<[u8]>),
}

/// As many bytes as fit beside the tag of the enum and the length, for its alignment.
const SHORT: usize = 24;

/// The inputs of a role as they are packed, to find the role.
pub(crate) struct Packing {
    /// Which inputs differ. Those that most often do come first, so that one byte tells it.
    mask: u32,
    fields: u32,
    /// Room for the mask, and the inputs.
    bytes: Bytes,
    /// Where the mask begins.
    start: usize,
}

impl fmt::Debug for PackedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedRole").finish_non_exhaustive()
    }
}

impl AssumeRole {
    /// The inputs, as what differs from those of `model`.
    pub(crate) fn packed(&self, model: &AssumeRole) -> Packing {
        pack(&self.inputs, &model.inputs)
    }
}

impl PackedRole {
    pub(crate) fn new(packing: &Packing) -> Self {
        let bytes = packing.bytes();
        ArrayVec::try_from(bytes).map_or_else(|_| PackedRole::Long(bytes.into()), PackedRole::Short)
    }

    /// As [`Packing::bytes`].
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            PackedRole::Short(bytes) => bytes,
            PackedRole::Long(bytes) => bytes,
        }
    }

    /// The role that was packed with this `model`. It has the base source that `AssumeRole::new` gives it.
    pub(crate) fn role(&self, model: &AssumeRole) -> AssumeRole {
        match unpack(self.bytes(), &model.inputs) {
            Some(inputs) => AssumeRole { inputs, ..AssumeRole::new("") },
            None => unreachable!("the role was packed with this model, in this process"),
        }
    }
}

/// The most bytes of a mask.
const MASK: usize = 5;

impl Packing {
    fn new() -> Self {
        let mut bytes = Bytes::default();
        bytes.extend(&[0; MASK]);
        Packing { mask: 0, fields: 0, bytes, start: MASK }
    }

    /// Puts the mask before the inputs.
    fn end(mut self) -> Self {
        let mut mask = ArrayVec::<u8, MASK>::new();
        put_number(self.mask.into(), |byte| mask.push(byte));
        self.start = MASK - mask.len();
        self.bytes.all_mut()[self.start..MASK].copy_from_slice(&mask);
        self
    }

    /// The same only for the same inputs, and the same model.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes.all()[self.start..]
    }
}

/// Takes them in the same order.
struct Unpacking<'a> {
    mask: u32,
    bytes: &'a [u8],
}

impl<'a> Visitor<'a> for &mut Packing {
    #[inline(always)]
    fn input<T: Pack + PartialEq>(self, input: Input<'a, T>) -> Self {
        if input.value != input.model {
            self.mask |= 1 << self.fields;
            input.value.put(input.model, &mut self.bytes);
        }
        self.fields += 1;
        self
    }
}

impl Maker for Unpacking<'_> {
    fn input<T: Pack + Clone>(&mut self, model: &T) -> Option<T> {
        let differs = self.mask & 1 != 0;
        self.mask >>= 1;
        if differs { T::take(model, &mut self.bytes) } else { Some(model.clone()) }
    }
}

fn pack(inputs: &Inputs, model: &Inputs) -> Packing {
    let mut packing = Packing::new();
    inputs.visit(model, &mut packing);
    packing.end()
}

/// `None` for what is not packed with this `model`.
fn unpack(mut bytes: &[u8], model: &Inputs) -> Option<Inputs> {
    let mask = take_number(&mut bytes)?.try_into().ok()?;
    let mut unpacking = Unpacking { mask, bytes };
    let inputs = Inputs::made(&mut unpacking, model)?;
    (unpacking.mask == 0 && unpacking.bytes.is_empty()).then_some(inputs)
}

#[cfg(test)]
mod tests;
