//! The key of a role: each input counts.

use std::{collections::HashMap, time::Duration};

use shmcreds::{AssumeRole, ErrorKind, Provider, SharedRoles};

use crate::{arn_of, pool, support::name};

fn plain() -> AssumeRole {
    AssumeRole::new(arn_of(1))
        .session_name("web")
        .region("eu-central-1")
        .endpoint_url("https://sts.example")
}

pub fn each_input_alone_is_another_role() {
    let roles = pool(&name("inputs")).create().unwrap();
    let context = "arn:aws:iam::aws:contextProvider/IdentityCenter";
    let policy = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    let without_endpoint = AssumeRole::new(arn_of(1)).session_name("web").region("eu-central-1");
    let without_region =
        AssumeRole::new(arn_of(1)).session_name("web").endpoint_url("https://sts.example");
    let regions =
        AssumeRole::new(arn_of(1)).session_name("web").regions(["eu-central-1", "eu-west-1"]);
    let order =
        AssumeRole::new(arn_of(1)).session_name("web").regions(["eu-west-1", "eu-central-1"]);
    let all = [
        ("nothing", plain()),
        (
            "arn",
            AssumeRole::new(arn_of(2))
                .session_name("web")
                .region("eu-central-1")
                .endpoint_url("https://sts.example"),
        ),
        ("session name", plain().session_name("api")),
        ("duration", plain().duration(Duration::from_secs(900))),
        ("another duration", plain().duration(Duration::from_secs(3600))),
        ("external id", plain().external_id("one")),
        ("another external id", plain().external_id("two")),
        ("a longer external id", plain().external_id("one1")),
        ("policy", plain().policy("{}")),
        ("another policy", plain().policy("{ }")),
        ("policy arn", plain().policy_arn(policy)),
        ("tag", plain().tag("ab", "c")),
        ("the same letters", plain().tag("a", "bc")),
        ("an empty tag", plain().tag("ab", "")),
        ("two tags", plain().tag("ab", "c").tag("d", "e")),
        ("transitive", plain().transitive_tag_key("ab")),
        ("both", plain().tag("ab", "c").transitive_tag_key("ab")),
        ("source identity", plain().source_identity("default")),
        ("another source identity", plain().source_identity("none")),
        ("context", plain().provided_context(context, "assertion")),
        ("another context", plain().provided_context(context, "assertion2")),
        ("region", plain().region("us-east-1")),
        ("endpoint", plain().endpoint_url("https://sts.example.org")),
        ("no endpoint", without_endpoint),
        ("no region", without_region),
        ("regions", regions),
        ("regions in another order", order),
        ("profile", plain().profile("app")),
    ];
    let mut seen = HashMap::new();
    for (what, recipe) in all {
        let key = *roles.role(recipe).unwrap_or_else(|e| panic!("{what}: {e}")).key();
        if let Some(other) = seen.insert(key, what) {
            panic!("{what} is taken for {other}");
        }
    }
    // So does the base source of the pool.
    let other = Provider::new("other", std::future::pending::<aws_credential_types::Credentials>);
    let other =
        SharedRoles::builder(name("other-base")).base_source(other).allow("arn:aws:iam::*:role/*");
    let key = *other.create().unwrap().role(plain()).unwrap().key();
    assert!(!seen.contains_key(&key));
}

pub fn equal_recipes_are_one_role() {
    let roles = pool(&name("equal")).create().unwrap();
    let key = |recipe| *roles.role(recipe).unwrap().key();
    let tags = |order: [usize; 3]| {
        let pairs = [("a", "1"), ("b", "2"), ("c", "3")];
        order.iter().fold(plain(), |recipe, at| {
            recipe.tag(pairs[*at].0, pairs[*at].1).transitive_tag_key(pairs[*at].0)
        })
    };
    assert_eq!(key(tags([0, 1, 2])), key(tags([2, 0, 1])));
    let minute = Duration::from_secs(60);
    let patient = plain().operation_timeout(minute).connect_timeout(minute).read_timeout(minute);
    assert_eq!(key(patient.max_attempts(3)), key(plain()));
    assert_eq!(roles.status().unwrap().insertions(), 2);
}

pub fn what_no_pool_can_share() {
    let roles = pool(&name("share")).create().unwrap();
    let refused = |recipe, field: &str| {
        let error = roles.role(recipe).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field), "{error}");
    };
    refused(plain().mfa("123456789", || async { Err::<String, _>("never") }), "mfa:");
    refused(plain().mfa_command("123456789", ["/bin/true"]), "mfa:");
    refused(plain().base_source(crate::base()), "base_source:");
    refused(
        plain().credentials_provider(
            "mine",
            std::future::pending::<aws_credential_types::Credentials>,
        ),
        "base_source:",
    );
    refused(plain().external_id("x"), "external_id");
    refused(plain().duration(Duration::from_secs(1)), "duration");
    assert_eq!(roles.status().unwrap().insertions(), 0, "nothing wrong takes an entry");
}
