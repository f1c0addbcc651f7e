//! A role in few bytes, for a process that holds thousands of roles of one pool.
//!
//! Such roles are much alike. So a role is kept as what differs from one of them, the model: the inputs that differ, and of
//! each text what follows the part that both begin with. Only the process that packed a role unpacks it.

use std::{
    ffi::OsString,
    fmt, iter,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    time::Duration,
};

use super::{AssumeRole, Inputs};
use crate::source::profile::ProxyUrl;

/// The inputs of a role, packed. They may be secrets, so nothing shows them.
#[derive(Clone)]
pub(crate) struct PackedRole(Box<[u8]>);

impl fmt::Debug for PackedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedRole").finish_non_exhaustive()
    }
}

impl AssumeRole {
    /// The inputs, as what differs from those of `model`.
    pub(crate) fn packed(&self, model: &AssumeRole) -> PackedRole {
        PackedRole(pack(&self.inputs, &model.inputs))
    }
}

impl PackedRole {
    /// The role that was packed with this `model`. It has the base source that `AssumeRole::new` gives it.
    pub(crate) fn role(&self, model: &AssumeRole) -> AssumeRole {
        match unpack(&self.0, &model.inputs) {
            Some(inputs) => AssumeRole { inputs, ..AssumeRole::new("") },
            None => unreachable!("the role was packed with this model, in this process"),
        }
    }
}

/// Packs one input after the other.
struct Packing {
    /// Which inputs differ. Those that most often do come first, so that one byte tells it.
    mask: u32,
    fields: u32,
    bytes: Vec<u8>,
}

impl Packing {
    fn field<T: Pack + PartialEq>(&mut self, value: &T, model: &T) {
        if value != model {
            self.mask |= 1 << self.fields;
            value.put(model, &mut self.bytes);
        }
        self.fields += 1;
    }
}

/// Takes them in the same order.
struct Unpacking<'a> {
    mask: u32,
    bytes: &'a [u8],
}

impl Unpacking<'_> {
    fn field<T: Pack + Clone>(&mut self, model: &T) -> Option<T> {
        let differs = self.mask & 1 != 0;
        self.mask >>= 1;
        if differs { T::take(model, &mut self.bytes) } else { Some(model.clone()) }
    }
}

fn pack(inputs: &Inputs, model: &Inputs) -> Box<[u8]> {
    // A new input does not compile until it is here.
    let Inputs {
        role_arn,
        session_name,
        duration,
        external_id,
        policy,
        policy_arns,
        tags,
        transitive_tag_keys,
        source_identity,
        provided_contexts,
        region,
        regions,
        endpoint_url,
        ca_bundle,
        proxy,
        connect_timeout,
        read_timeout,
        operation_timeout,
        max_attempts,
        profile,
    } = inputs;
    let mut packing = Packing { mask: 0, fields: 0, bytes: Vec::new() };
    packing.field(role_arn, &model.role_arn);
    packing.field(session_name, &model.session_name);
    packing.field(duration, &model.duration);
    packing.field(external_id, &model.external_id);
    packing.field(policy, &model.policy);
    packing.field(policy_arns, &model.policy_arns);
    packing.field(tags, &model.tags);
    packing.field(transitive_tag_keys, &model.transitive_tag_keys);
    packing.field(source_identity, &model.source_identity);
    packing.field(provided_contexts, &model.provided_contexts);
    packing.field(region, &model.region);
    packing.field(regions, &model.regions);
    packing.field(endpoint_url, &model.endpoint_url);
    packing.field(ca_bundle, &model.ca_bundle);
    packing.field(proxy, &model.proxy);
    packing.field(connect_timeout, &model.connect_timeout);
    packing.field(read_timeout, &model.read_timeout);
    packing.field(operation_timeout, &model.operation_timeout);
    packing.field(max_attempts, &model.max_attempts);
    packing.field(profile, &model.profile);
    let mut packed = Vec::new();
    put_number(packing.mask.into(), &mut packed);
    packed.extend(packing.bytes);
    packed.into()
}

/// `None` for what is not packed with this `model`.
fn unpack(mut bytes: &[u8], model: &Inputs) -> Option<Inputs> {
    let mask = take_number(&mut bytes)?.try_into().ok()?;
    let mut unpacking = Unpacking { mask, bytes };
    // In the order of `pack`.
    let inputs = Inputs {
        role_arn: unpacking.field(&model.role_arn)?,
        session_name: unpacking.field(&model.session_name)?,
        duration: unpacking.field(&model.duration)?,
        external_id: unpacking.field(&model.external_id)?,
        policy: unpacking.field(&model.policy)?,
        policy_arns: unpacking.field(&model.policy_arns)?,
        tags: unpacking.field(&model.tags)?,
        transitive_tag_keys: unpacking.field(&model.transitive_tag_keys)?,
        source_identity: unpacking.field(&model.source_identity)?,
        provided_contexts: unpacking.field(&model.provided_contexts)?,
        region: unpacking.field(&model.region)?,
        regions: unpacking.field(&model.regions)?,
        endpoint_url: unpacking.field(&model.endpoint_url)?,
        ca_bundle: unpacking.field(&model.ca_bundle)?,
        proxy: unpacking.field(&model.proxy)?,
        connect_timeout: unpacking.field(&model.connect_timeout)?,
        read_timeout: unpacking.field(&model.read_timeout)?,
        operation_timeout: unpacking.field(&model.operation_timeout)?,
        max_attempts: unpacking.field(&model.max_attempts)?,
        profile: unpacking.field(&model.profile)?,
    };
    (unpacking.mask == 0 && unpacking.bytes.is_empty()).then_some(inputs)
}

/// A value that can be packed as what differs from another one.
trait Pack: Sized {
    /// That which a value is packed with where the model has none.
    fn none() -> Self;
    fn put(&self, model: &Self, bytes: &mut Vec<u8>);
    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self>;
}

/// Seven bits in each byte; the highest one says that another byte follows.
fn put_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
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
fn put_bytes(value: &[u8], model: &[u8], bytes: &mut Vec<u8>) {
    let same = iter::zip(value, model).take_while(|(one, other)| one == other).count();
    put_number(same as u64, bytes);
    put_number((value.len() - same) as u64, bytes);
    bytes.extend_from_slice(&value[same..]);
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

    fn put(&self, model: &Self, bytes: &mut Vec<u8>) {
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

    fn put(&self, model: &Self, bytes: &mut Vec<u8>) {
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

    fn put(&self, model: &Self, bytes: &mut Vec<u8>) {
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

    fn put(&self, _: &Self, bytes: &mut Vec<u8>) {
        put_number((*self).into(), bytes);
    }

    fn take(_: &Self, bytes: &mut &[u8]) -> Option<Self> {
        take_number(bytes)?.try_into().ok()
    }
}

impl Pack for Duration {
    fn none() -> Self {
        Duration::ZERO
    }

    fn put(&self, _: &Self, bytes: &mut Vec<u8>) {
        put_number(self.as_secs(), bytes);
        put_number(self.subsec_nanos().into(), bytes);
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

    fn put(&self, model: &Self, bytes: &mut Vec<u8>) {
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

    fn put(&self, model: &Self, bytes: &mut Vec<u8>) {
        put_number(self.len() as u64, bytes);
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

    fn put(&self, model: &Self, bytes: &mut Vec<u8>) {
        self.0.put(&model.0, bytes);
        self.1.put(&model.1, bytes);
    }

    fn take(model: &Self, bytes: &mut &[u8]) -> Option<Self> {
        Some((A::take(&model.0, bytes)?, B::take(&model.1, bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{assume_role::every_input, to_json};

    /// Roles of which each differs from the first one in one input: also in those that are no part of the identity.
    fn roles() -> Vec<AssumeRole> {
        let plain = every_input::plain;
        let second = Duration::from_nanos(1_000_000_001);
        let more = [
            plain().ca_bundle("/etc/one.pem"),
            plain().ca_bundle("/etc/two.pem"),
            plain().proxy("http://user:password@proxy:1"),
            plain().connect_timeout(second),
            plain().read_timeout(second),
            plain().operation_timeout(second),
            plain().operation_timeout(Duration::MAX),
            plain().max_attempts(u32::MAX),
            plain().external_id("\u{fe}").tag("\u{e9}", "\u{e8}").tag("\u{ea}", ""),
            plain().external_id("\u{ff}").tag("\u{e8}", "\u{e9}"),
            plain().policy("p".repeat(300)),
            AssumeRole::new(""),
        ];
        every_input::each_input_alone().into_iter().map(|(_, role)| role).chain(more).collect()
    }

    #[test]
    fn a_packed_role_is_the_same_role() {
        for model in roles() {
            for role in roles() {
                let unpacked = role.packed(&model).role(&model);
                assert_eq!(to_json(&unpacked.inputs), to_json(&role.inputs));
            }
        }
    }

    /// What is cut, or has more bytes, is none.
    #[test]
    fn other_bytes_are_no_role() {
        let model = every_input::plain().inputs;
        for role in roles() {
            let whole = pack(&role.inputs, &model);
            assert!((0..whole.len()).all(|end| unpack(&whole[..end], &model).is_none()));
            assert!(unpack(&[&*whole, &[0]].concat(), &model).is_none());
        }
    }

    /// Roles of tenants differ in their names.
    #[test]
    fn a_role_that_is_like_the_model_takes_few_bytes() {
        let tenant = |name: &str| {
            every_input::plain()
                .external_id(format!("customer-{name}"))
                .tag("tenant", format!("tenant-{name}"))
        };
        assert_eq!(tenant("4711").packed(&tenant("1234")).0.len(), 17);
        assert_eq!(tenant("4711").packed(&tenant("4711")).0.len(), 1);
    }
}
