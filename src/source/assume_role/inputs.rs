//! The inputs of an `AssumeRole` that are plain values, and all that the library does with each of them. They can be handed
//! to another program.

use std::{path::PathBuf, time::Duration};

use aws_sdk_sts::{
    operation::assume_role::builders::AssumeRoleFluentBuilder,
    types::{PolicyDescriptorType, ProvidedContext, Tag},
};
use aws_smithy_types::error::operation::BuildError;
use serde::{Deserialize, Serialize};

use super::{
    arn::{policy_arn, role_arn},
    default_session_name, rules,
    values::Pack,
};
use crate::source::{
    fingerprint::FingerprintEncoder,
    profile::ProxyUrl,
    validate::{self, Checked},
};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(in crate::source) struct Inputs {
    pub(in crate::source) role_arn: String,
    pub(in crate::source) session_name: String,
    pub(in crate::source) duration: Option<Duration>,
    pub(in crate::source) external_id: Option<String>,
    pub(in crate::source) policy: Option<String>,
    pub(in crate::source) policy_arns: Vec<String>,
    pub(in crate::source) tags: Vec<(String, String)>,
    pub(in crate::source) transitive_tag_keys: Vec<String>,
    pub(in crate::source) source_identity: Option<String>,
    pub(in crate::source) provided_contexts: Vec<(String, String)>,
    pub(in crate::source) region: Option<String>,
    pub(in crate::source) regions: Vec<String>,
    pub(in crate::source) endpoint_url: Option<String>,
    pub(in crate::source) ca_bundle: Option<PathBuf>,
    pub(in crate::source) proxy: Option<ProxyUrl>,
    pub(in crate::source) connect_timeout: Option<Duration>,
    pub(in crate::source) read_timeout: Option<Duration>,
    pub(in crate::source) operation_timeout: Duration,
    pub(in crate::source) max_attempts: Option<u32>,
    /// The profile to read Region, endpoint and such from, if neither the program nor the environment sets them.
    pub(in crate::source) profile: Option<String>,
}

/// One input, and what is done with it.
pub(super) struct Input<'a, T> {
    pub(super) value: &'a T,
    /// The same input of the role that this one is packed with.
    pub(super) model: &'a T,
    pub(super) identity: Identity<T>,
    /// The rule of STS for the value alone.
    pub(super) rule: fn(&T) -> Checked,
    /// Adds it to the request.
    pub(super) request: fn(Request, &T) -> Result<Request, BuildError>,
    pub(super) description: Description<T>,
    /// What no failure may quote.
    pub(super) secrets: fn(&T) -> Vec<&str>,
}

type Request = AssumeRoleFluentBuilder;

/// How the input tells whose the credentials are.
pub(super) enum Identity<T> {
    /// One of the first version.
    Always(Encode<T>),
    /// One that was added later. It adds nothing where it is not set: a role without it keeps its fingerprint. All of these
    /// follow the others.
    IfSet(Encode<T>),
    /// It changes the way to STS, and not the answer.
    No,
}

type Encode<T> = fn(FingerprintEncoder, &T) -> FingerprintEncoder;

/// How a role describes itself to people.
pub(super) enum Description<T> {
    /// `description.rs` writes the value.
    Shown,
    /// The value is secret or long: a digest stands for it.
    Text(fn(&T) -> Option<&str>),
    Texts(fn(&T) -> &[String]),
    Pairs(fn(&T) -> &[(String, String)]),
    No,
}

/// Takes one input after the other.
pub(super) trait Visitor<'a>: Sized {
    fn input<T: Pack + PartialEq>(self, input: Input<'a, T>) -> Self;
}

/// Makes one input after the other, each beside that of a model.
pub(super) trait Maker {
    fn input<T: Pack + Clone>(&mut self, model: &T) -> Option<T>;
}

impl Inputs {
    pub(super) fn new(role_arn: String) -> Self {
        Inputs {
            role_arn,
            session_name: default_session_name(),
            operation_timeout: Duration::from_secs(15),
            ..Inputs::default()
        }
    }

    /// Gives each input to `visitor`, in the order in which they are packed.
    pub(super) fn visit<'a, V: Visitor<'a>>(&'a self, model: &'a Inputs, visitor: V) -> V {
        use Identity::{Always, IfSet};
        // A new input does not compile until it is here.
        let Inputs {
            role_arn: arn,
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
        } = self;
        visitor
            .input(Input {
                value: arn,
                model: &model.role_arn,
                identity: Always(|to, arn| to.text("role-arn", arn)),
                rule: |arn| role_arn(arn),
                request: |to, arn| Ok(to.role_arn(arn)),
                description: Description::Shown,
                secrets: none,
            })
            .input(Input {
                value: session_name,
                model: &model.session_name,
                identity: Always(|to, name| to.text("session-name", name)),
                rule: |name| rules::name("session_name", name),
                request: |to, name| Ok(to.role_session_name(name)),
                description: Description::Shown,
                secrets: none,
            })
            .input(Input {
                value: duration,
                model: &model.duration,
                identity: Always(|to, duration| {
                    let nanos = duration.map(|duration| duration.as_nanos().to_le_bytes());
                    to.bytes("duration", nanos.as_ref().map(|nanos| &nanos[..]))
                }),
                rule: |duration| optional(duration, rules::duration),
                request: |to, duration| {
                    Ok(to.set_duration_seconds(duration.map(|d| d.as_secs() as i32)))
                },
                description: Description::Shown,
                secrets: none,
            })
            .input(Input {
                value: external_id,
                model: &model.external_id,
                identity: Always(|to, id| to.optional("external-id", id.as_deref())),
                rule: |id| optional(id, |id| rules::external_id(id)),
                request: |to, id| Ok(to.set_external_id(id.clone())),
                description: Description::Text(Option::as_deref),
                secrets: |id| id.as_deref().into_iter().collect(),
            })
            .input(Input {
                value: policy,
                model: &model.policy,
                identity: Always(|to, policy| to.optional("policy", policy.as_deref())),
                rule: |policy| optional(policy, |policy| rules::policy(policy)),
                request: |to, policy| Ok(to.set_policy(policy.clone())),
                description: Description::Text(Option::as_deref),
                secrets: |policy| policy.as_deref().into_iter().collect(),
            })
            .input(Input {
                value: policy_arns,
                model: &model.policy_arns,
                identity: Always(|to, arns| to.set("policy-arns", arns)),
                rule: |arns| rules::each("policy_arn", arns, 10, |arn| policy_arn(arn)),
                request: |to, arns| {
                    let policy = |arn| PolicyDescriptorType::builder().arn(arn).build();
                    Ok(arns.iter().map(policy).fold(to, Request::policy_arns))
                },
                description: Description::Texts(|arns| arns),
                secrets: none,
            })
            .input(Input {
                value: tags,
                model: &model.tags,
                identity: Always(|to, tags| to.pairs("tags", bytes(tags))),
                rule: |tags| rules::tags(tags),
                request: |to, tags| {
                    let tag = |(key, value): &_| Tag::builder().key(key).value(value).build();
                    tags.iter().map(tag).try_fold(to, |to, tag| tag.map(|tag| to.tags(tag)))
                },
                description: Description::Pairs(|tags| tags),
                secrets: none,
            })
            .input(Input {
                value: transitive_tag_keys,
                model: &model.transitive_tag_keys,
                identity: Always(|to, keys| to.set("transitive-tag-keys", keys)),
                rule: |keys| {
                    let key = |key: &String| rules::tag_key("transitive_tag_key", key);
                    rules::each("transitive_tag_key", keys, 50, key)
                },
                request: |to, keys| Ok(keys.iter().fold(to, Request::transitive_tag_keys)),
                description: Description::Texts(|keys| keys),
                secrets: none,
            })
            .input(Input {
                value: source_identity,
                model: &model.source_identity,
                identity: Always(|to, name| to.optional("source-identity", name.as_deref())),
                rule: |name| optional(name, |name| rules::source_identity(name)),
                request: |to, name| Ok(to.set_source_identity(name.clone())),
                description: Description::Shown,
                secrets: none,
            })
            .input(Input {
                value: provided_contexts,
                model: &model.provided_contexts,
                identity: Always(|to, contexts| to.pairs("provided-contexts", bytes(contexts))),
                rule: |contexts| {
                    rules::each("provided_context", contexts, 5, rules::provided_context)
                },
                request: |to, contexts| {
                    let context = |(arn, assertion): &(String, String)| {
                        let context = ProvidedContext::builder().provider_arn(arn);
                        context.context_assertion(assertion).build()
                    };
                    Ok(contexts.iter().map(context).fold(to, Request::provided_contexts))
                },
                description: Description::Pairs(|contexts| contexts),
                secrets: |contexts| contexts.iter().map(|(_, assertion)| &**assertion).collect(),
            })
            .input(Input {
                value: region,
                model: &model.region,
                identity: Always(|to, region| to.optional("region", region.as_deref())),
                rule: |region| optional(region, |region| validate::region(region)),
                request: not_sent,
                description: Description::Shown,
                secrets: none,
            })
            .input(Input {
                value: regions,
                model: &model.regions,
                identity: IfSet(|to, regions| match &regions[..] {
                    [] => to,
                    regions => to.list("regions", regions),
                }),
                rule: |regions| rules::regions(regions),
                request: not_sent,
                description: Description::Shown,
                secrets: none,
            })
            .input(Input {
                value: endpoint_url,
                model: &model.endpoint_url,
                identity: Always(|to, url| to.optional("endpoint-url", url.as_deref())),
                rule: |url| optional(url, |url| validate::endpoint_url(url)),
                request: not_sent,
                description: Description::Shown,
                secrets: none,
            })
            .input(Input::of_the_way(ca_bundle, &model.ca_bundle, |_| Ok(())))
            .input(Input::of_the_way(proxy, &model.proxy, |proxy| {
                optional(proxy, ProxyUrl::validate)
            }))
            .input(Input::of_the_way(connect_timeout, &model.connect_timeout, |&limit| {
                validate::timeout("connect_timeout", limit)
            }))
            .input(Input::of_the_way(read_timeout, &model.read_timeout, |&limit| {
                validate::timeout("read_timeout", limit)
            }))
            .input(Input::of_the_way(operation_timeout, &model.operation_timeout, |&limit| {
                validate::timeout("operation_timeout", Some(limit))
            }))
            .input(Input::of_the_way(max_attempts, &model.max_attempts, |&attempts| {
                rules::attempts(attempts)
            }))
            .input(Input {
                value: profile,
                model: &model.profile,
                identity: IfSet(|to, profile| match profile {
                    Some(profile) => to.text("profile", profile),
                    None => to,
                }),
                rule: |_| Ok(()),
                request: not_sent,
                description: Description::No,
                secrets: none,
            })
    }

    /// Inputs that are all made by `maker`, in the order of [`visit`](Self::visit).
    pub(super) fn made(maker: &mut impl Maker, model: &Inputs) -> Option<Self> {
        Some(Inputs {
            role_arn: maker.input(&model.role_arn)?,
            session_name: maker.input(&model.session_name)?,
            duration: maker.input(&model.duration)?,
            external_id: maker.input(&model.external_id)?,
            policy: maker.input(&model.policy)?,
            policy_arns: maker.input(&model.policy_arns)?,
            tags: maker.input(&model.tags)?,
            transitive_tag_keys: maker.input(&model.transitive_tag_keys)?,
            source_identity: maker.input(&model.source_identity)?,
            provided_contexts: maker.input(&model.provided_contexts)?,
            region: maker.input(&model.region)?,
            regions: maker.input(&model.regions)?,
            endpoint_url: maker.input(&model.endpoint_url)?,
            ca_bundle: maker.input(&model.ca_bundle)?,
            proxy: maker.input(&model.proxy)?,
            connect_timeout: maker.input(&model.connect_timeout)?,
            read_timeout: maker.input(&model.read_timeout)?,
            operation_timeout: maker.input(&model.operation_timeout)?,
            max_attempts: maker.input(&model.max_attempts)?,
            profile: maker.input(&model.profile)?,
        })
    }
}

impl<'a, T> Input<'a, T> {
    /// An input that STS never sees: it changes the way there, and not whose the credentials are.
    fn of_the_way(value: &'a T, model: &'a T, rule: fn(&T) -> Checked) -> Self {
        let (identity, description) = (Identity::No, Description::No);
        Input { value, model, identity, rule, request: not_sent, description, secrets: none }
    }
}

fn not_sent<T>(request: Request, _: &T) -> Result<Request, BuildError> {
    Ok(request)
}

fn none<T>(_: &T) -> Vec<&str> {
    Vec::new()
}

fn optional<T>(value: &Option<T>, rule: impl Fn(&T) -> Checked) -> Checked {
    value.as_ref().map_or(Ok(()), rule)
}

fn bytes(pairs: &[(String, String)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs.iter().map(|(left, right)| (left.as_bytes(), right.as_bytes()))
}
