//! Sources made again, of what another program has handed over.

use std::sync::Arc;

use aws_credential_types::Credentials;

use super::{
    AssumeRole, CredentialProcess, Identified, IotCore, Pem, Profile, Provider, Source,
    assume_role::Base,
    mfa::Mfa,
    portable::{Device, PortablePem, PortableSource, Recipe, Role, RoleBase, Thing},
};

/// The source again.
///
/// # Errors
/// A sentence, for a recipe of another version.
pub(crate) fn source(portable: PortableSource) -> Result<Arc<dyn Source>, String> {
    Ok(match portable.0 {
        Recipe::AssumeRole(role) => Arc::new(role_of(*role)?),
        Recipe::Ready { source, values, timeout } => {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let provider = ready_made(&source, &values);
            let unknown = || format!("it knows no source {source:?}");
            Arc::new(provider.ok_or_else(unknown)?.timeout(timeout))
        }
        Recipe::Profile { name, timeout, mfa } => {
            let profile = Profile::new(name).timeout(timeout);
            Arc::new(profile.with_mfa(mfa.map(mfa_of)))
        }
        Recipe::Process { argv, timeout } => {
            Arc::new(CredentialProcess::new(argv).timeout(timeout))
        }
        Recipe::IotCore(thing) => Arc::new(thing_of(*thing)),
        Recipe::Identified { source, fingerprint } => {
            Arc::new(Identified::new(self::source(*source)?, fingerprint))
        }
    })
}

fn ready_made(source: &str, values: &[&str]) -> Option<Provider> {
    Some(match (source, values) {
        ("default-chain", []) => Provider::default_chain(),
        ("web-identity", []) => Provider::web_identity(),
        ("container", []) => Provider::container(),
        ("instance-metadata", []) => Provider::imds(),
        ("sso", [url, region, account, role]) => Provider::sso(*url, *region, *account, *role),
        ("profile", [name]) => Provider::profile(*name),
        _ => return None,
    })
}

fn role_of(role: Role) -> Result<AssumeRole, String> {
    Ok(AssumeRole {
        inputs: role.inputs,
        mfa: role.mfa.map(mfa_of),
        settings: None,
        base: match role.base {
            RoleBase::DefaultChain => Base::DefaultChain,
            RoleBase::Keys { id, secret, token } => {
                Base::Keys(Credentials::new(id, secret, token, None, "shmcreds"))
            }
            RoleBase::Source(source) => Base::Source(self::source(source)?),
        },
    })
}

fn mfa_of(device: Device) -> Mfa {
    let mut mfa = Mfa::program(device.serial_number, device.argv);
    mfa.set_timeout(device.timeout);
    mfa
}

fn thing_of(thing: Thing) -> IotCore {
    let (certificate, key) = (pem_of(thing.certificate), pem_of(thing.private_key));
    let mut source = IotCore::new(thing.endpoint, thing.role_alias, certificate, key);
    if let Some(ca) = thing.ca {
        source = source.ca(pem_of(ca));
    }
    if let Some(name) = thing.thing_name {
        source = source.thing_name(name);
    }
    source.timeout(thing.timeout)
}

fn pem_of(pem: PortablePem) -> Pem {
    match pem {
        PortablePem::File(path) => Pem::file(path),
        PortablePem::Text(text) => Pem::text(text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::to_json, *};

    fn again(source: &dyn Source) -> Arc<dyn Source> {
        let portable = source.portable().expect("it can be made again");
        let text = to_json(&portable).unwrap();
        serde_json::from_slice::<PortableSource>(&text).map(super::source).unwrap().unwrap()
    }

    fn role() -> AssumeRole {
        AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web")
    }

    #[test]
    fn each_source_is_the_same_when_it_is_made_again() {
        let second = Duration::from_secs(1);
        let keys = Credentials::new("AKIA", "secret", Some("token".into()), None, "test");
        let full = role()
            .duration(Duration::from_secs(900))
            .external_id("tenant-42")
            .policy("{}")
            .policy_arn("arn:aws:iam::aws:policy/A")
            .tag("team", "storage")
            .transitive_tag_key("team")
            .source_identity("alice")
            .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion")
            .region("eu-central-1")
            .regions(["eu-central-1", "eu-west-1"])
            .endpoint_url("https://sts.example")
            .ca_bundle("/ca.pem")
            .proxy("http://me:hush@proxy:3128")
            .connect_timeout(second)
            .read_timeout(second)
            .operation_timeout(second)
            .profile("app")
            .mfa_command("123456789", ["/bin/echo", "123456"])
            .mfa_timeout(second)
            .base_keys(keys);
        let (certificate, key) = (Pem::text("certificate"), Pem::file("/key.pem"));
        let thing = IotCore::new("host", "app", certificate, key).ca(Pem::text("ca"));
        let sources: Vec<Box<dyn Source>> = vec![
            Box::new(full),
            Box::new(role()),
            Box::new(role().base_source(role().session_name("hub"))),
            Box::new(role().base_source(Provider::container())),
            Box::new(Provider::default_chain().timeout(second)),
            Box::new(Provider::web_identity()),
            Box::new(Provider::imds()),
            Box::new(Provider::sso(
                "https://x.awsapps.com/start",
                "us-east-1",
                "123456789012",
                "r",
            )),
            Box::new(Provider::profile("app")),
            Box::new(Profile::new("app").timeout(second).mfa_command(["/bin/echo", "123456"])),
            Box::new(CredentialProcess::new(["/bin/echo", "one"]).timeout(second)),
            Box::new(thing.thing_name("sensor-1").timeout(second)),
            Box::new(Identified::new(role(), [7; 32])),
        ];
        for source in sources {
            let again = again(&*source);
            assert_eq!(again.fingerprint(), source.fingerprint(), "{source:?}");
            assert_eq!(again.describe(), source.describe());
            assert_eq!((again.timeout(), again.is_role()), (source.timeout(), source.is_role()));
            // Not only what counts for the identity: nothing is lost on the way.
            let texts = [&*source, &*again].map(|one| to_json(&one.portable().unwrap()).unwrap());
            assert_eq!(texts[0], texts[1]);
        }
    }

    #[test]
    fn what_holds_a_closure_stays() {
        let closure = || Provider::new("mine", std::future::pending::<Credentials>);
        let sources: Vec<Box<dyn Source>> = vec![
            Box::new(closure()),
            Box::new(role().credentials_provider("mine", std::future::pending::<Credentials>)),
            Box::new(role().base_source(closure())),
            Box::new(role().mfa("123456789", || async { Err::<String, _>("never") })),
            Box::new(Profile::new("app").mfa(|| async { Err::<String, _>("never") })),
            Box::new(super::super::ManualSource::new("mine")),
            Box::new(Identified::new(closure(), [7; 32])),
        ];
        for source in sources {
            assert!(source.portable().is_none(), "{source:?}");
        }
    }
}
