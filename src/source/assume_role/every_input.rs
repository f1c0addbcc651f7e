//! Tests over all inputs of a role: which of them change the fingerprint of a session and the key in a pool.

use std::{collections::HashMap, fmt, time::Duration};

use proptest::prelude::*;

use super::{AssumeRole, Inputs};
use crate::source::{Fingerprint, Source};

const ARN: &str = "arn:aws:iam::123456789012:role/app";
const BASE: Fingerprint = [1; 32];
const ENVIRONMENT: Fingerprint = [2; 32];

/// A role that does not depend on the environment.
pub(super) fn plain() -> AssumeRole {
    AssumeRole::new(ARN)
        .session_name("web")
        .region("eu-central-1")
        .endpoint_url("https://sts.example")
}

fn with(change: impl FnOnce(&mut Inputs)) -> AssumeRole {
    let mut role = plain();
    change(&mut role.inputs);
    role
}

/// Roles that are all different. Most differ from the first one in one input.
pub(super) fn each_input_alone() -> Vec<(&'static str, AssumeRole)> {
    let (long, policy) = ("p/".repeat(150), "arn:aws:iam::aws:policy/A");
    let context = "arn:aws:iam::aws:contextProvider/IdentityCenter";
    vec![
        ("nothing", plain()),
        ("role", with(|inputs| inputs.role_arn = format!("{ARN}2"))),
        ("long role", with(|inputs| inputs.role_arn = format!("{ARN}/{long}a"))),
        ("long role too", with(|inputs| inputs.role_arn = format!("{ARN}/{long}b"))),
        ("session name", plain().session_name("api")),
        ("duration", plain().duration(Duration::from_secs(900))),
        ("another duration", plain().duration(Duration::from_secs(901))),
        ("external id", plain().external_id("one")),
        ("another external id", plain().external_id("two")),
        ("a longer external id", plain().external_id("one1")),
        ("an empty external id", plain().external_id("")),
        ("policy", plain().policy("{}")),
        ("another policy", plain().policy("{ }")),
        ("an empty policy", plain().policy("")),
        ("policy arn", plain().policy_arn(policy)),
        ("two policy arns", plain().policy_arn(policy).policy_arn("x")),
        ("one policy arn twice", plain().policy_arn(policy).policy_arn(policy)),
        ("transitive", plain().transitive_tag_key(policy)),
        ("transitive tag", plain().transitive_tag_key("ab")),
        ("tag", plain().tag("ab", "c")),
        ("the same letters", plain().tag("a", "bc")),
        ("an empty value", plain().tag("ab", "")),
        ("two tags", plain().tag("ab", "c").tag("d", "e")),
        ("a tag that is transitive", plain().tag("ab", "c").transitive_tag_key("ab")),
        ("a context like a tag", plain().provided_context("ab", "c")),
        ("context", plain().provided_context(context, "assertion")),
        ("another context", plain().provided_context(context, "assertion2")),
        ("source identity", plain().source_identity("default")),
        ("another source identity", plain().source_identity("none")),
        ("region", plain().region("us-east-1")),
        ("the default region", plain().region("default")),
        ("no region", with(|inputs| inputs.region = None)),
        ("regions", plain().regions(["us-east-1", "us-west-2"])),
        ("one region in a list", plain().regions(["us-east-1"])),
        ("regions in another order", plain().regions(["us-west-2", "us-east-1"])),
        ("endpoint", plain().endpoint_url("http://localhost")),
        ("no endpoint", with(|inputs| inputs.endpoint_url = None)),
        ("profile", plain().profile("app")),
    ]
}

fn key(role: &AssumeRole) -> Fingerprint {
    role.pool_key(&BASE, &ENVIRONMENT).unwrap()
}

fn key_of(inputs: Inputs) -> Fingerprint {
    key(&with(|own| *own = inputs))
}

#[test]
fn each_input_alone_is_another_key() {
    let mut seen = HashMap::new();
    for (what, role) in each_input_alone() {
        if let Some(other) = seen.insert(key(&role), what) {
            panic!("{what} is taken for {other}");
        }
        let other_base = role.pool_key(&[3; 32], &ENVIRONMENT).unwrap();
        assert_ne!(other_base, key(&role), "{what}: the base source of the pool counts");
        // The environment gives what the role does not have.
        let is_complete = role.inputs.region.is_some() && role.inputs.endpoint_url.is_some();
        let other_place = role.pool_key(&BASE, &[3; 32]).unwrap();
        assert_eq!(other_place == key(&role), is_complete, "{what}: the environment");
    }
}

/// The key of a pool is not the fingerprint of a session: a set of the one is never taken for a set of the other.
#[test]
fn a_key_is_no_fingerprint() {
    for (what, role) in each_input_alone() {
        assert_ne!(key(&role), role.fingerprint(), "{what}");
    }
}

/// What STS is told, in an order that does not depend on that of the calls: what must be equal for equal keys. A new input
/// does not compile until it is here.
fn told(inputs: Inputs) -> impl PartialEq + fmt::Debug {
    let Inputs {
        role_arn,
        session_name,
        duration,
        external_id,
        policy,
        mut policy_arns,
        mut tags,
        mut transitive_tag_keys,
        source_identity,
        mut provided_contexts,
        region,
        regions,
        endpoint_url,
        ca_bundle: _,
        proxy: _,
        connect_timeout: _,
        read_timeout: _,
        operation_timeout: _,
        max_attempts: _,
        profile,
    } = inputs;
    policy_arns.sort();
    tags.sort();
    transitive_tag_keys.sort();
    provided_contexts.sort();
    (
        (role_arn, session_name, duration, external_id, policy, policy_arns, tags),
        (transitive_tag_keys, source_identity, provided_contexts),
        (region, regions, endpoint_url, profile),
    )
}

/// Texts that try to look like the parts of an encoding: separators, names and lengths of inputs, whole encoded values.
fn text() -> impl Strategy<Value = String> {
    let encoded = |tag: &str, value: &str| {
        let sized = |text: &str| format!("{}\0\0\0\0\0\0\0{text}", char::from(text.len() as u8));
        format!("{}\u{1}{}", sized(tag), sized(value))
    };
    let parts = vec![
        String::new(),
        "a".into(),
        "b".into(),
        "\0".into(),
        "\u{1}".into(),
        "policy".into(),
        "\u{6}\0\0\0\0\0\0\0policy\0".into(),
        encoded("external-id", "a"),
        encoded("policy", "a"),
        encoded("tags", "a"),
        encoded("source-identity", ""),
        encoded("region", "a"),
    ];
    prop::collection::vec(prop::sample::select(parts), 0..3).prop_map(|parts| parts.concat())
}

/// Inputs that a failing test may show. Those of programs are shown nowhere: some are secrets.
#[derive(Clone)]
struct Shown(Inputs);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        told(self.0.clone()).fmt(f)
    }
}

fn any_inputs() -> impl Strategy<Value = Shown> {
    let optional = || prop::option::of(text());
    let texts = || prop::collection::vec(text(), 0..3);
    let pairs = || prop::collection::vec((text(), text()), 0..3);
    let duration = prop::option::of((0u64..3).prop_map(Duration::from_secs));
    let one = (text(), text(), duration, optional(), optional(), texts(), pairs());
    let two = (texts(), optional(), pairs(), optional(), texts(), optional(), optional());
    (one, two).prop_map(|(one, two)| {
        let (role_arn, session_name, duration, external_id, policy, policy_arns, tags) = one;
        let (
            transitive_tag_keys,
            source_identity,
            provided_contexts,
            region,
            regions,
            url,
            profile,
        ) = two;
        Shown(Inputs {
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
            endpoint_url: url,
            ca_bundle: None,
            proxy: None,
            connect_timeout: None,
            read_timeout: None,
            operation_timeout: Duration::from_secs(15),
            max_attempts: None,
            profile,
        })
    })
}

/// Each takes one input from `other`.
const TAKES: [fn(&mut Inputs, Inputs); 14] = [
    |own, other| own.role_arn = other.role_arn,
    |own, other| own.session_name = other.session_name,
    |own, other| own.duration = other.duration,
    |own, other| own.external_id = other.external_id,
    |own, other| own.policy = other.policy,
    |own, other| own.policy_arns = other.policy_arns,
    |own, other| own.tags = other.tags,
    |own, other| own.transitive_tag_keys = other.transitive_tag_keys,
    |own, other| own.source_identity = other.source_identity,
    |own, other| own.provided_contexts = other.provided_contexts,
    |own, other| own.region = other.region,
    |own, other| own.regions = other.regions,
    |own, other| own.endpoint_url = other.endpoint_url,
    |own, other| own.profile = other.profile,
];

/// Two texts next to each other in the encoding, for attacks that move a part of one to the other.
const NEIGHBOURS: [fn(&mut Inputs, String, String); 8] = [
    |inputs, one, two| (inputs.role_arn, inputs.session_name) = (one, two),
    |inputs, one, two| (inputs.external_id, inputs.policy) = (Some(one), Some(two)),
    |inputs, one, two| inputs.policy_arns = vec![one, two],
    |inputs, one, two| inputs.tags = vec![(one, two)],
    |inputs, one, two| inputs.transitive_tag_keys = vec![one, two],
    |inputs, one, two| inputs.provided_contexts = vec![(one, two)],
    |inputs, one, two| inputs.regions = vec![one, two],
    |inputs, one, two| (inputs.region, inputs.endpoint_url) = (Some(one), Some(two)),
];

/// Puts the list into an order that `seed` decides.
fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for at in (1..list.len()).rev() {
        seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed >> 31;
        list.swap(at, seed as usize % (at + 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Another value of one input is another key, and the same value is the same key.
    #[test]
    fn one_other_input_is_another_key(Shown(one) in any_inputs(), Shown(other) in any_inputs()) {
        for take in TAKES {
            let mut changed = one.clone();
            take(&mut changed, other.clone());
            let same = told(one.clone()) == told(changed.clone());
            prop_assert_eq!(key_of(one.clone()) == key_of(changed), same);
        }
        let same = told(one.clone()) == told(other.clone());
        prop_assert_eq!(key_of(one) == key_of(other), same);
    }

    /// An input that is absent is another one than an empty input.
    #[test]
    fn absent_is_not_empty(Shown(inputs) in any_inputs()) {
        let absent: [fn(&mut Inputs) -> &mut Option<String>; 6] = [
            |inputs| &mut inputs.external_id,
            |inputs| &mut inputs.policy,
            |inputs| &mut inputs.source_identity,
            |inputs| &mut inputs.region,
            |inputs| &mut inputs.endpoint_url,
            |inputs| &mut inputs.profile,
        ];
        for field in absent {
            let [mut none, mut empty] = [inputs.clone(), inputs.clone()];
            *field(&mut none) = None;
            *field(&mut empty) = Some(String::new());
            prop_assert_ne!(key_of(none), key_of(empty));
        }
        let added: [fn(&mut Inputs); 5] = [
            |inputs| inputs.policy_arns.push(String::new()),
            |inputs| inputs.tags.push((String::new(), String::new())),
            |inputs| inputs.transitive_tag_keys.push(String::new()),
            |inputs| inputs.provided_contexts.push((String::new(), String::new())),
            |inputs| inputs.regions.push(String::new()),
        ];
        for add in added {
            let mut more = inputs.clone();
            add(&mut more);
            prop_assert_ne!(key_of(more), key_of(inputs.clone()));
        }
    }

    /// A letter that moves from one text to the next changes the key.
    #[test]
    fn the_border_between_two_texts_counts(
        Shown(inputs) in any_inputs(),
        letters in text().prop_map(|text| text.chars().collect::<Vec<_>>()),
        borders in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let border = |at: prop::sample::Index| at.index(letters.len() + 1);
        let (one, other) = (border(borders.0), border(borders.1));
        for put in NEIGHBOURS {
            let cut_at = |at: usize| {
                let mut cut = inputs.clone();
                put(&mut cut, letters[..at].iter().collect(), letters[at..].iter().collect());
                cut
            };
            let same = told(cut_at(one)) == told(cut_at(other));
            prop_assert_eq!(key_of(cut_at(one)) == key_of(cut_at(other)), same);
        }
    }

    /// The order of tags, transitive keys, policies and contexts does not count. That of Regions does.
    #[test]
    fn the_order_of_tags_does_not_count(Shown(inputs) in any_inputs(), seed in any::<u64>()) {
        let mut other = inputs.clone();
        shuffle(&mut other.tags, seed);
        shuffle(&mut other.transitive_tag_keys, seed >> 8);
        shuffle(&mut other.policy_arns, seed >> 16);
        shuffle(&mut other.provided_contexts, seed >> 24);
        prop_assert_eq!(key_of(other), key_of(inputs));
    }
}
