//! The fingerprint of an `AssumeRole`: whose credentials it gives.

use super::{AssumeRole, Base, Inputs};
use crate::source::{
    Fingerprint, FingerprintEncoder, Provider, Source,
    fingerprint::environment::{self, Part},
};

pub(super) fn of(recipe: &AssumeRole) -> Fingerprint {
    // A new field does not compile until this function handles it. Retries and time-outs do not count: they do not
    // change the identity. Only a role of a profile has settings, and such a role is not the source of a session.
    let AssumeRole { inputs, mfa, settings: _, base } = recipe;
    let encoder = plain(inputs, environment_of);
    let encoder = match mfa {
        Some(mfa) => mfa.encode(encoder),
        None => encoder.optional("mfa-serial-number", None),
    };
    encoder.bytes("base", Some(&base_fingerprint(base))).finish()
}

/// The fingerprint of a role with these inputs, which has base credentials of the fingerprint `base` and no MFA.
/// `environment` is the fingerprint of the [environment](of_environment).
pub(super) fn of_inputs(
    inputs: &Inputs,
    base: &Fingerprint,
    environment: &Fingerprint,
) -> Fingerprint {
    let encoder = plain(inputs, |encoder| encoder.bytes("environment", Some(environment)));
    encoder.optional("mfa-serial-number", None).bytes("base", Some(base)).finish()
}

/// The part of the environment that counts for a role without a Region or an endpoint.
pub(super) fn of_environment() -> Fingerprint {
    environment_of(FingerprintEncoder::new("environment")).finish()
}

fn environment_of(encoder: FingerprintEncoder) -> FingerprintEncoder {
    environment::encode(&[Part::Endpoints, Part::Profile], encoder)
}

fn base_fingerprint(base: &Base) -> Fingerprint {
    match base {
        Base::DefaultChain => Provider::default_chain().fingerprint(),
        Base::Provider(provider) => provider.fingerprint(),
        Base::Source(source) => source.fingerprint(),
        Base::Keys(keys) => FingerprintEncoder::new("keys")
            .text("access-key-id", keys.access_key_id())
            .text("secret-access-key", keys.secret_access_key())
            .optional("session-token", keys.session_token())
            .finish(),
        Base::Ready(_) => FingerprintEncoder::new("ready").finish(),
    }
}

fn plain(
    inputs: &Inputs,
    environment: impl FnOnce(FingerprintEncoder) -> FingerprintEncoder,
) -> FingerprintEncoder {
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
        // The way to STS does not change whose the credentials are, as in the environment.
        ca_bundle: _,
        proxy: _,
        connect_timeout: _,
        read_timeout: _,
        operation_timeout: _,
        max_attempts: _,
        profile,
    } = inputs;
    let nanos = duration.map(|duration| duration.as_nanos().to_le_bytes());
    let encoder = FingerprintEncoder::new("assume-role")
        .text("role-arn", role_arn)
        .text("session-name", session_name)
        .bytes("duration", nanos.as_ref().map(|nanos| &nanos[..]))
        .optional("external-id", external_id.as_deref())
        .optional("policy", policy.as_deref())
        .set("policy-arns", policy_arns)
        .pairs("tags", bytes(tags))
        .set("transitive-tag-keys", transitive_tag_keys)
        .optional("source-identity", source_identity.as_deref())
        .pairs("provided-contexts", bytes(provided_contexts))
        .optional("region", region.as_deref())
        .optional("endpoint-url", endpoint_url.as_deref());
    let encoder = match &regions[..] {
        [] => encoder,
        regions => encoder.list("regions", regions),
    };
    let encoder = match profile {
        Some(profile) => encoder.text("profile", profile),
        None => encoder,
    };
    match (region, endpoint_url) {
        (Some(_), Some(_)) => encoder,
        // The environment, or the profile that it names, gives the missing ones.
        _ => environment(encoder),
    }
}

fn bytes(pairs: &[(String, String)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs.iter().map(|(left, right)| (left.as_bytes(), right.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use aws_credential_types::Credentials;
    use proptest::prelude::*;

    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/app";

    /// A role that does not depend on the environment.
    fn role() -> AssumeRole {
        AssumeRole::new(ARN)
            .session_name("web")
            .region("eu-central-1")
            .endpoint_url("https://sts.example")
            .credentials_provider("base", std::future::pending::<Credentials>)
    }

    fn with(change: impl FnOnce(&mut Inputs)) -> AssumeRole {
        let mut role = role();
        change(&mut role.inputs);
        role
    }

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::new(id, secret, token.map(str::to_owned), None, "test")
    }

    #[test]
    fn each_input_alone_changes_it() {
        let long = "p/".repeat(150);
        let mfa = |serial: &str, program: &str| role().mfa_command(serial, ["/bin/echo", program]);
        let all = [
            ("nothing", role()),
            ("role", with(|inputs| inputs.role_arn = format!("{ARN}2"))),
            ("long role", with(|inputs| inputs.role_arn = format!("{ARN}/{long}a"))),
            ("long role too", with(|inputs| inputs.role_arn = format!("{ARN}/{long}b"))),
            ("session name", role().session_name("api")),
            ("profile", role().profile("app")),
            ("duration", role().duration(Duration::from_secs(900))),
            ("another duration", role().duration(Duration::from_secs(901))),
            ("external id", role().external_id("one")),
            ("another external id", role().external_id("two")),
            ("an empty external id", role().external_id("")),
            ("policy", role().policy("{}")),
            ("an empty policy", role().policy("")),
            ("policy arn", role().policy_arn("arn:aws:iam::aws:policy/A")),
            ("two policy arns", role().policy_arn("arn:aws:iam::aws:policy/A").policy_arn("x")),
            ("transitive", role().transitive_tag_key("arn:aws:iam::aws:policy/A")),
            ("tag", role().tag("ab", "c")),
            ("the same letters", role().tag("a", "bc")),
            ("two tags", role().tag("ab", "c").tag("d", "e")),
            ("context", role().provided_context("ab", "c")),
            ("source identity", role().source_identity("default")),
            ("another source identity", role().source_identity("none")),
            ("region", role().region("us-east-1")),
            ("regions", role().regions(["us-east-1", "us-west-2"])),
            ("one region in a list", role().regions(["us-east-1"])),
            ("regions in another order", role().regions(["us-west-2", "us-east-1"])),
            ("no region", with(|inputs| inputs.region = None)),
            ("the default region", role().region("default")),
            ("endpoint", role().endpoint_url("http://localhost")),
            ("no endpoint", with(|inputs| inputs.endpoint_url = None)),
            ("base", role().credentials_provider("mine", std::future::pending::<Credentials>)),
            ("the default chain", AssumeRole { base: Base::DefaultChain, ..role() }),
            ("keys", role().base_keys(keys("a", "b", None))),
            ("keys of another id", role().base_keys(keys("c", "b", None))),
            ("keys of another secret", role().base_keys(keys("a", "c", None))),
            ("keys of a session", role().base_keys(keys("a", "b", Some("c")))),
            ("a role's role", role().base_source(role())),
            ("another role's role", role().base_source(role().session_name("hub"))),
            ("mfa", mfa("123456789", "1")),
            ("another device", mfa("987654321", "1")),
            ("another program", mfa("123456789", "2")),
            ("a closure", role().mfa("123456789", || async { Err::<String, _>("never") })),
        ];
        let mut seen = HashMap::new();
        for (what, role) in all {
            if let Some(other) = seen.insert(role.fingerprint(), what) {
                panic!("{what} is taken for {other}");
            }
        }
    }

    #[test]
    fn retries_and_timeouts_change_nothing() {
        let minute = Duration::from_secs(60);
        let mfa = || role().mfa_command("123456789", ["/bin/true"]);
        let patient = mfa().mfa_timeout(minute).connect_timeout(minute).read_timeout(minute);
        let patient = patient.operation_timeout(minute).max_attempts(9);
        let patient = patient.ca_bundle("/ca.pem").proxy("http://proxy");
        assert_eq!(patient.fingerprint(), mfa().fingerprint());
    }

    /// With another encoding, processes of two versions of this library could not share a session.
    #[test]
    fn it_is_the_same_in_every_version() {
        let hex = |print: Fingerprint| -> String {
            print.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let expected = "9f7f5b92f4181c72b0906059a8d81c5b9a8770da31bc51d12feac781661f2d47";
        assert_eq!(hex(role().fingerprint()), expected);
        let full = role()
            .duration(Duration::from_secs(900))
            .external_id("tenant-42")
            .policy("{}")
            .policy_arn("arn:aws:iam::aws:policy/A")
            .tag("team", "storage")
            .tag("stage", "test")
            .transitive_tag_key("team")
            .source_identity("alice")
            .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion")
            .mfa_command("123456789", ["/no/such/program", "123456"]);
        let expected = "7d56a5fa7284e2c4ec44c2afc089907bf6c72438799378b6e58d3e66a4d14242";
        assert_eq!(hex(full.fingerprint()), expected);
    }

    proptest! {
        #[test]
        fn the_order_of_tags_does_not_count(
            mut tags in prop::collection::vec(("[a-c]{0,3}", "[a-c]{0,3}"), 0..6),
            seed in any::<u64>(),
        ) {
            let with = |tags: &[(String, String)]| {
                let tagged = |role: AssumeRole, (key, value): &(String, String)| {
                    role.tag(key, value).transitive_tag_key(key).policy_arn(value)
                };
                tags.iter().fold(role(), tagged).fingerprint()
            };
            let before = with(&tags);
            let length = tags.len().max(1);
            tags.rotate_left(seed as usize % length);
            tags.reverse();
            prop_assert_eq!(with(&tags), before);
        }

        /// Different inputs have different fingerprints, whatever the texts contain.
        #[test]
        fn two_recipes_are_equal_only_if_all_of_them_is(
            one in any_recipe(),
            other in any_recipe(),
        ) {
            let sorted = |(id, policy, mut tags): Texts| {
                tags.sort();
                (id, policy, tags)
            };
            let with = |(id, policy, tags): Texts| {
                let recipe = self::with(|inputs| {
                    (inputs.external_id, inputs.policy, inputs.tags) = (id, policy, tags);
                });
                recipe.fingerprint()
            };
            let same = sorted(one.clone()) == sorted(other.clone());
            prop_assert_eq!(with(one) == with(other), same);
        }
    }

    type Texts = (Option<String>, Option<String>, Vec<(String, String)>);

    /// Few letters, so that many inputs are nearly equal.
    fn any_recipe() -> impl Strategy<Value = Texts> {
        let text = || prop::option::of("[a\\x00]{0,2}");
        (text(), text(), prop::collection::vec(("[a\\x00]{0,1}", "[a]{0,1}"), 0..3))
    }
}
