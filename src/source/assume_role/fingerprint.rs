//! The fingerprint of an `AssumeRole`: whose credentials it gives.

use super::{
    AssumeRole, Base, Inputs,
    inputs::{Identity, Input, Visitor},
};
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
    let Always(encoder) = inputs.visit(inputs, Always(FingerprintEncoder::new("assume-role")));
    let IfSet(encoder) = inputs.visit(inputs, IfSet(encoder));
    match (&inputs.region, &inputs.endpoint_url) {
        (Some(_), Some(_)) => encoder,
        // The environment, or the profile that it names, gives the missing ones.
        _ => environment(encoder),
    }
}

/// Encodes the inputs that each role encodes.
struct Always(FingerprintEncoder);

impl<'a> Visitor<'a> for Always {
    fn input<T>(self, input: Input<'a, T>) -> Self {
        match input.identity {
            Identity::Always(encode) => Always(encode(self.0, input.value)),
            Identity::IfSet(_) | Identity::No => self,
        }
    }
}

/// Encodes the inputs that a role encodes if it has them.
struct IfSet(FingerprintEncoder);

impl<'a> Visitor<'a> for IfSet {
    fn input<T>(self, input: Input<'a, T>) -> Self {
        match input.identity {
            Identity::IfSet(encode) => IfSet(encode(self.0, input.value)),
            Identity::Always(_) | Identity::No => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use aws_credential_types::Credentials;

    use super::*;
    use crate::source::assume_role::every_input;

    /// A role that does not depend on the environment.
    fn role() -> AssumeRole {
        of_base(every_input::plain())
    }

    fn of_base(role: AssumeRole) -> AssumeRole {
        role.credentials_provider("base", std::future::pending::<Credentials>)
    }

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::new(id, secret, token.map(str::to_owned), None, "test")
    }

    #[test]
    fn each_input_alone_changes_it() {
        let mfa = |serial: &str, program: &str| role().mfa_command(serial, ["/bin/echo", program]);
        let bases = [
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
        let inputs = every_input::each_input_alone().into_iter();
        let all = inputs.map(|(what, role)| (what, of_base(role))).chain(bases);
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
        let hex = |print: Fingerprint| crate::hexadecimal::text(&print);
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
}
