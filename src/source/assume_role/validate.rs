//! The rules for an `AssumeRole`. Each error names the field, the problem and the rule. No error shows a value that may be
//! secret.

use std::time::Duration;

use aws_credential_types::Credentials;

use super::{
    AssumeRole, Base,
    inputs::{Input, Visitor},
};
use crate::source::{
    Source,
    validate::{Checked, ascii_word, description, ensure, length, shown},
};

/// Checks all that STS or the connection to it would refuse.
pub(super) fn inputs(recipe: &AssumeRole) -> Checked {
    let Rules(each_alone) = recipe.inputs.visit(&recipe.inputs, Rules(Ok(())));
    each_alone?;
    regions(recipe)?;
    mfa(recipe)?;
    match &recipe.base {
        Base::DefaultChain | Base::Ready(_) => Ok(()),
        Base::Keys(keys) => base_keys(keys),
        Base::Provider(provider) => {
            description("credentials_provider description", provider.description())
        }
        Base::Source(source) => base_source(&**source, recipe.inputs.duration),
    }
}

/// The outcome of the rules for one input after the other.
struct Rules(Checked);

impl<'a> Visitor<'a> for Rules {
    fn input<T>(self, input: Input<'a, T>) -> Self {
        Rules(self.0.and_then(|()| (input.rule)(input.value)))
    }
}

/// What `regions` cannot be combined with.
fn regions(recipe: &AssumeRole) -> Checked {
    let regions = &recipe.inputs.regions;
    let others = [
        ("region", recipe.inputs.region.is_some()),
        ("endpoint_url", recipe.inputs.endpoint_url.is_some()),
    ];
    for (other, is_set) in others {
        ensure(regions.is_empty() || !is_set, || {
            format!("regions is set beside {other}, must be set without it")
        })?;
    }
    ensure(recipe.mfa.is_none() || regions.len() <= 1, || {
        format!(
            "regions names {} Regions, must name one with mfa: a code works once",
            regions.len()
        )
    })
}

fn mfa(recipe: &AssumeRole) -> Checked {
    let Some(mfa) = &recipe.mfa else { return Ok(()) };
    let serial = &mfa.serial_number;
    length("mfa serial_number", serial, 9..=256)?;
    ensure(serial.chars().all(|c| ascii_word(c, "+=/:,.@-_")), || {
        format!(
            "mfa serial_number {} has a forbidden character, must be of [A-Za-z0-9+=/:,.@_-]",
            shown(serial)
        )
    })?;
    let attempts = recipe.inputs.max_attempts.unwrap_or(1);
    ensure(attempts == 1, || {
        format!("max_attempts is {attempts}, must be 1 with mfa: STS accepts a code only once")
    })?;
    mfa.validate()
}

/// Values that are not shown: they are secrets, or may have been put in each other's place.
fn base_keys(keys: &Credentials) -> Checked {
    let values = [
        ("access key id", Some(keys.access_key_id())),
        ("secret access key", Some(keys.secret_access_key())),
        ("session token", keys.session_token()),
    ];
    for (what, value) in values.into_iter().filter_map(|(what, value)| Some((what, value?))) {
        let good = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
        ensure(good, || {
            format!(
                "base_keys: the {what} is empty or has a space or another character that no key has"
            )
        })?;
    }
    Ok(())
}

fn base_source(source: &dyn Source, duration: Option<Duration>) -> Checked {
    let chained = source.is_role().then_some(duration).flatten();
    ensure(chained.is_none_or(|duration| duration <= Duration::from_secs(3600)), || {
        let duration = duration.unwrap_or_default();
        format!(
            "duration is {duration:?}, must be at most 3600 s for a role that another role assumes"
        )
    })?;
    source.validate().map_err(|problem| format!("base_source: {problem}"))
}

#[cfg(test)]
mod tests;
