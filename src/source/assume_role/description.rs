//! How an `AssumeRole` describes itself to people.

use sha2::{Digest, Sha256};

use super::{
    AssumeRole, Base,
    inputs::{Description, Input, Visitor},
};
use crate::{hexadecimal, source::Source};

/// One line. A digest stands for the inputs that are secret or long.
pub(super) fn of(recipe: &AssumeRole) -> String {
    let default = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".into());
    let duration = recipe.inputs.duration.map_or("default".into(), |d| format!("{}s", d.as_secs()));
    let region = match &recipe.inputs.regions[..] {
        [] => default(&recipe.inputs.region),
        regions => regions.join(","),
    };
    let base = match &recipe.base {
        Base::DefaultChain => "default-chain".to_owned(),
        Base::Provider(provider) => provider.description().to_owned(),
        Base::Source(source) => source.describe(),
        Base::Keys(keys) => {
            let id = keys.access_key_id();
            let tail = id.char_indices().rev().nth(3).map_or("", |(start, _)| &id[start..]);
            format!("keys …{tail}")
        }
        Base::Ready(_) => "ready".to_owned(),
    };
    format!(
        "assume-role {:?} session-name={:?} duration={duration} region={:?} endpoint={:?} \
         source-identity={:?} mfa={:?} base={base:?} inputs={}",
        recipe.inputs.role_arn,
        recipe.inputs.session_name,
        region,
        default(&recipe.inputs.endpoint_url),
        default(&recipe.inputs.source_identity),
        recipe.mfa.as_ref().map_or("none", |mfa| &mfa.serial_number),
        digest(recipe),
    )
}

/// A digest of the inputs that are secret or long.
fn digest(recipe: &AssumeRole) -> String {
    let Digested { texts, lists, pairs } = recipe.inputs.visit(&recipe.inputs, Digested::default());
    let mut hash = Sha256::new();
    // The length precedes each text, and the count precedes each list. So different inputs give different bytes.
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for value in texts {
        text(if value.is_some() { "some" } else { "none" });
        text(value.unwrap_or(""));
    }
    for list in lists {
        text(&list.len().to_string());
        list.iter().for_each(|item| text(item));
    }
    for pairs in pairs {
        text(&pairs.len().to_string());
        pairs.iter().for_each(|(left, right)| {
            text(left);
            text(right);
        });
    }
    hexadecimal::text(&hash.finalize()[..8])
}

/// The inputs of a digest.
#[derive(Default)]
struct Digested<'a> {
    texts: Vec<Option<&'a str>>,
    lists: Vec<&'a [String]>,
    pairs: Vec<&'a [(String, String)]>,
}

impl<'a> Visitor<'a> for Digested<'a> {
    fn input<T>(mut self, input: Input<'a, T>) -> Self {
        match input.description {
            Description::Text(of) => self.texts.push(of(input.value)),
            Description::Texts(of) => self.lists.push(of(input.value)),
            Description::Pairs(of) => self.pairs.push(of(input.value)),
            Description::Shown | Description::No => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use aws_credential_types::Credentials;

    use super::*;

    fn role() -> AssumeRole {
        AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web")
    }

    #[test]
    fn the_description_is_stable() {
        let expected = "assume-role \"arn:aws:iam::123456789012:role/app\" session-name=\"web\" \
                        duration=default region=\"default\" endpoint=\"default\" \
                        source-identity=\"default\" mfa=\"none\" base=\"default-chain\" inputs=";
        assert!(role().describe().starts_with(expected), "{}", role().describe());
        assert_eq!(role().describe(), role().clone().describe());
        // Retries do not change the identity.
        assert_eq!(role().describe(), role().max_attempts(9).describe());
    }

    #[test]
    fn other_inputs_have_another_description() {
        let others = [
            role(),
            role().session_name("api"),
            role().duration(Duration::from_secs(900)),
            role().external_id("one"),
            role().external_id("two"),
            role().policy("{}"),
            role().policy_arn("arn:aws:iam::aws:policy/A"),
            role().transitive_tag_key("arn:aws:iam::aws:policy/A"),
            role().tag("ab", "c"),
            role().tag("a", "bc"),
            role().provided_context("ab", "c"),
            role().source_identity("me"),
            role().region("eu-central-1"),
            role().regions(["eu-central-1", "eu-west-1"]),
            role().regions(["eu-west-1", "eu-central-1"]),
            role().endpoint_url("http://localhost"),
            role().credentials_provider("mine", std::future::pending::<Credentials>),
            role().base_source(role()),
            role().base_source(role().session_name("hub")),
            role().mfa_command("123456789", ["/bin/true"]),
            role().mfa_command("987654321", ["/bin/true"]),
        ];
        let all: HashSet<String> = others.iter().map(Source::describe).collect();
        assert_eq!(all.len(), others.len());
    }

    #[test]
    fn debug_and_description_show_no_secret() {
        let secret = "hush-hush";
        let recipe = role().external_id(secret).policy(secret).provided_context("arn", secret);
        assert!(!format!("{recipe:?} {recipe:#?} {}", recipe.describe()).contains(secret));
    }
}
