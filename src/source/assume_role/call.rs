//! One call of STS, with clients that live no longer than it.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use aws_config::{
    BehaviorVersion, ConfigLoader, SdkConfig,
    environment::EnvironmentVariableRegionProvider,
    imds::region::ImdsRegionProvider,
    meta::region::{ProvideRegion, RegionProviderChain},
    profile::ProfileFileRegionProvider,
    timeout::TimeoutConfig,
};
use aws_credential_types::{Credentials, provider::error::CredentialsError};
use aws_sdk_sts::{
    Client,
    config::{IdentityCache, Region, StalledStreamProtectionConfig, retry::RetryConfig},
    error::SdkError,
    operation::assume_role::{
        AssumeRoleError, AssumeRoleOutput, builders::AssumeRoleFluentBuilder,
    },
    types::{PolicyDescriptorType, ProvidedContext, Tag},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{
                BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
            },
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{config_bag::ConfigBag, error::operation::BuildError};

use super::{AssumeRole, Base};
use crate::source::{
    Fetched, Identity, SourceError, SourceErrorClass, http, identity,
    server_time::{self, Asked, Seen},
    source_error::chain,
};

/// Loads the configuration, asks STS, and takes the answer apart.
pub(super) async fn assume_role(recipe: &AssumeRole) -> Result<Fetched, SourceError> {
    let sdk = sdk_config(recipe).await?;
    let client = Client::from_conf(sts_config(recipe, &sdk));
    let mut request = request(recipe, &client).map_err(|error| {
        SourceError::new(SourceErrorClass::Misconfigured, format!("building the request: {error}"))
    })?;
    let mut code = String::new();
    if let Some(mfa) = &recipe.mfa {
        code = mfa.code().await?;
        request = request.serial_number(&mfa.serial_number).token_code(&code);
    }
    let server_time = ServerTime::default();
    match request.customize().interceptor(server_time.clone()).send().await {
        Ok(answer) => {
            let fetched = Fetched::new(credentials(&answer)?);
            Ok(server_time.get().into_iter().fold(fetched, Fetched::seen))
        }
        Err(error) => Err(refusal(recipe, &sdk, &error).without(&code)),
    }
}

/// Asks the same STS whose credentials these are; without any, whose the base credentials are.
pub(super) async fn identify(
    recipe: &AssumeRole,
    credentials: Option<Credentials>,
) -> Result<Identity, SourceError> {
    let sdk = match credentials {
        Some(credentials) => loader(recipe).credentials_provider(credentials).load().await,
        None => sdk_config(recipe).await?,
    };
    identity::ask(sts_config(recipe, &sdk)).await
}

fn loader(recipe: &AssumeRole) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::client())
        .identity_cache(IdentityCache::no_cache())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::standard().with_max_attempts(recipe.max_attempts))
        .timeout_config(timeouts(recipe))
        .region(region(recipe))
}

async fn sdk_config(recipe: &AssumeRole) -> Result<SdkConfig, SourceError> {
    let loader = loader(recipe);
    let loader = match &recipe.base {
        Base::DefaultChain => loader,
        Base::Provider(provider) => loader.credentials_provider(provider.make().await),
        Base::Source(source) => loader.credentials_provider(source.fetch().await?.credentials),
    };
    Ok(loader.load().await)
}

/// The instance's metadata service is slow to be missed, so it is not asked for nothing.
fn region(recipe: &AssumeRole) -> Box<dyn ProvideRegion> {
    if let Some(region) = &recipe.region {
        return Box::new(Region::new(region.clone()));
    }
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    let chain = match recipe.endpoint_url {
        Some(_) => chain,
        None => {
            let instance = ImdsRegionProvider::builder().configure(&http::provider_config());
            chain.or_else(instance.build())
        }
    };
    Box::new(chain.or_else("us-east-1"))
}

fn timeouts(recipe: &AssumeRole) -> TimeoutConfig {
    let mut timeouts = TimeoutConfig::builder();
    timeouts.set_connect_timeout(recipe.connect_timeout);
    timeouts.set_read_timeout(recipe.read_timeout);
    timeouts.build()
}

fn sts_config(recipe: &AssumeRole, sdk: &SdkConfig) -> aws_sdk_sts::Config {
    let mut config = aws_sdk_sts::config::Builder::from(sdk);
    if let Some(url) = &recipe.endpoint_url {
        config.set_endpoint_url(Some(url.clone()));
        if url.starts_with("http://") {
            config = config.http_client(http::without_tls());
        }
    }
    config.build()
}

fn request(recipe: &AssumeRole, client: &Client) -> Result<AssumeRoleFluentBuilder, BuildError> {
    let tags = recipe.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    let policies =
        recipe.policy_arns.iter().map(|arn| PolicyDescriptorType::builder().arn(arn).build());
    let contexts = recipe.provided_contexts.iter().map(|(arn, assertion)| {
        ProvidedContext::builder().provider_arn(arn).context_assertion(assertion).build()
    });
    Ok(client
        .assume_role()
        .role_arn(&recipe.role_arn)
        .role_session_name(&recipe.session_name)
        .set_duration_seconds(recipe.duration.map(|d| d.as_secs() as i32))
        .set_external_id(recipe.external_id.clone())
        .set_policy(recipe.policy.clone())
        .set_policy_arns(list(policies))
        .set_tags(list(tags.collect::<Result<Vec<_>, _>>()?))
        .set_transitive_tag_keys(list(recipe.transitive_tag_keys.iter().cloned()))
        .set_source_identity(recipe.source_identity.clone())
        .set_provided_contexts(list(contexts)))
}

/// An empty list is left out of the request.
fn list<T>(items: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then_some(items)
}

fn credentials(answer: &AssumeRoleOutput) -> Result<Credentials, SourceError> {
    let lacks = |what| {
        move || SourceError::new(SourceErrorClass::Transient, format!("incomplete set: no {what}"))
    };
    let set = answer.credentials().ok_or_else(lacks("Credentials"))?;
    let text = |value: &str, what| match value {
        "" => Err(lacks(what)()),
        value => Ok(value.to_owned()),
    };
    let expiry =
        SystemTime::try_from(*set.expiration()).map_err(|_| lacks("valid Expiration")())?;
    let mut credentials = Credentials::builder()
        .access_key_id(text(set.access_key_id(), "AccessKeyId")?)
        .secret_access_key(text(set.secret_access_key(), "SecretAccessKey")?)
        .session_token(text(set.session_token(), "SessionToken")?)
        .expiry(expiry)
        .provider_name("shmcreds::AssumeRole");
    credentials.set_account_id(account_id(answer).map(Into::into));
    Ok(credentials.build())
}

/// The fifth field of the assumed role's ARN; account-based endpoints need it.
fn account_id(answer: &AssumeRoleOutput) -> Option<String> {
    let arn = answer.assumed_role_user()?.arn();
    arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
}

/// What STS says of a code that it does not take; its error code is that of any denial.
const BAD_CODE: &str = "MultiFactorAuthentication failed";

fn refusal(recipe: &AssumeRole, sdk: &SdkConfig, error: &SdkError<AssumeRoleError>) -> SourceError {
    let failure = match error.as_service_error().and_then(|e| SourceError::from_service(e.meta())) {
        Some(failure) if recipe.mfa.is_some() && failure.message().contains(BAD_CODE) => {
            failure.explained("the MFA code is wrong, too old, or was used before")
        }
        Some(failure) => failure,
        None if chain(error).any(|e| e.is::<CredentialsError>()) => {
            SourceError::from_error("base credentials", error)
        }
        None => SourceError::from_error(&format!("no answer from {}", place(recipe, sdk)), error),
    };
    // STS repeats values that it finds invalid. The longest goes first: it may hold another.
    let mut secrets: Vec<&String> = [&recipe.external_id, &recipe.policy]
        .into_iter()
        .flatten()
        .chain(recipe.provided_contexts.iter().map(|(_, assertion)| assertion))
        .collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    secrets.into_iter().fold(failure, |failure, secret| failure.without(secret))
}

fn place(recipe: &AssumeRole, sdk: &SdkConfig) -> String {
    match (&recipe.endpoint_url, sdk.region()) {
        (Some(url), _) => format!("STS at {url}"),
        (None, Some(region)) => format!("STS in {region}"),
        (None, None) => "STS".into(),
    }
}

/// Keeps the `Date` header of the last answer, and when that was asked for and seen.
#[derive(Clone, Debug, Default)]
struct ServerTime(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    asked: Option<Asked>,
    seen: Option<Seen>,
}

impl ServerTime {
    fn get(&self) -> Option<Seen> {
        self.times().seen.take()
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "shmcreds::ServerTime"
    }

    /// Once for each attempt.
    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.times() = Times { asked: Some(Asked::now()), seen: None };
        Ok(())
    }

    /// The headers have come, and maybe nothing of the body.
    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(server_time::parse);
        let mut times = self.times();
        times.seen = times.asked.take().map(|asked| asked.answered(date));
        Ok(())
    }
}
