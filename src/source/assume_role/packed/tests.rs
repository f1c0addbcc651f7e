use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

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
            let packed = PackedRole::new(&role.packed(&model));
            assert_eq!(packed.bytes(), role.packed(&model).bytes());
            assert_eq!(to_json(&packed.role(&model).inputs), to_json(&role.inputs));
        }
    }
}

/// A role is found by its bytes: two roles with the same bytes would be taken for one, with the same credentials.
#[test]
fn roles_with_the_same_bytes_have_the_same_inputs() {
    for model in roles() {
        let mut seen = HashMap::new();
        for role in roles() {
            let inputs = to_json(&role.inputs).unwrap();
            let before = seen.insert(role.packed(&model).bytes().to_vec(), inputs.clone());
            assert!(before.is_none_or(|before| before == inputs), "two roles have the same bytes");
        }
        assert!(seen.len() > 30, "there are {} different roles", seen.len());
    }
}

proptest! {
    /// The same for texts that are prefixes, continuations and mixtures of each other.
    #[test]
    fn texts_that_are_alike_have_different_bytes(
        texts in prop::collection::vec("[ab]{0,20}", 6), model in prop::collection::vec("[ab]{0,20}", 3),
    ) {
        let role = |texts: &[String]| {
            let [arn, id, tag] = texts else { unreachable!("there are three") };
            AssumeRole::new(arn.as_str()).external_id(id.as_str()).tag(tag.as_str(), id.as_str()).tag("k", arn.as_str())
        };
        let ([one, other], model) = ([role(&texts[..3]), role(&texts[3..])], role(&model));
        let is_same = one.packed(&model).bytes() == other.packed(&model).bytes();
        prop_assert_eq!(is_same, texts[..3] == texts[3..]);
        let unpacked = PackedRole::new(&one.packed(&model)).role(&model);
        prop_assert_eq!(to_json(&unpacked.inputs), to_json(&one.inputs));
    }
}

/// What is cut, or has more bytes, is none.
#[test]
fn other_bytes_are_no_role() {
    let model = every_input::plain().inputs;
    for role in roles() {
        let packing = pack(&role.inputs, &model);
        let whole = packing.bytes();
        assert!((0..whole.len()).all(|end| unpack(&whole[..end], &model).is_none()));
        assert!(unpack(&[whole, &[0]].concat(), &model).is_none());
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
    assert_eq!(tenant("4711").packed(&tenant("1234")).bytes().len(), 17);
    assert_eq!(tenant("4711").packed(&tenant("4711")).bytes().len(), 1);
    assert_eq!(size_of::<PackedRole>(), 32);
}
