//! The key of a role: each input counts.

use std::{collections::HashSet, time::Duration};

use shmcreds::{AssumeRole, ErrorKind, Provider, SharedRoles};

use crate::{arn_of, pool, support::name};

fn plain() -> AssumeRole {
    AssumeRole::new(arn_of(1))
        .session_name("web")
        .region("eu-central-1")
        .endpoint_url("https://sts.example")
}

/// The unit tests of the key go through all inputs. This one tells that the pool uses the key.
pub fn another_role_is_another_entry() {
    let roles = pool(&name("inputs")).create().unwrap();
    let all = [
        plain(),
        plain().session_name("api"),
        plain().external_id("one"),
        plain().external_id("two"),
        plain().tag("ab", "c"),
        plain().tag("a", "bc"),
        plain().policy("{}"),
    ];
    let keys: HashSet<_> = all.map(|recipe| *roles.role(recipe).unwrap().key()).into();
    assert_eq!(keys.len(), 7);
    assert_eq!(roles.status().unwrap().insertions(), 7);
    // So does the base source of the pool.
    let other = Provider::new("other", std::future::pending::<aws_credential_types::Credentials>);
    let other =
        SharedRoles::builder(name("other-base")).base_source(other).allow("arn:aws:iam::*:role/*");
    let key = *other.create().unwrap().role(plain()).unwrap().key();
    assert!(!keys.contains(&key));
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
