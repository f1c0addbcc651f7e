//! One request to STS. The client is made for it and dropped after it.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Instant, SystemTime},
};

use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_sdk_sts::{
    Client,
    error::SdkError,
    operation::assume_role::{
        AssumeRoleError, AssumeRoleOutput, builders::AssumeRoleFluentBuilder,
    },
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::{error::operation::BuildError, timeout::TimeoutConfig};

use super::{
    AssumeRole, Base,
    inputs::{Input, Visitor},
    regions,
};
#[cfg(feature = "fleet-kms")]
use crate::source::BaseIdentity;
use crate::source::{
    Fetched, Identity, Source, SourceError, SourceErrorClass, identity,
    profile::{self, Environment, Explicit, Settings, misconfigured},
    server_time::ServerTime,
    with_failed_regions,
};

/// Gets the base credentials, asks STS, and reads the answer. No failure shows a secret of the recipe, although
/// STS, an MFA program or another program may quote one.
pub(super) async fn assume_role(recipe: &AssumeRole) -> Result<Fetched, SourceError> {
    ask(recipe).await.map_err(|failure| without_secrets(recipe, failure))
}

async fn ask(recipe: &AssumeRole) -> Result<Fetched, SourceError> {
    let began = Instant::now();
    let settings = settings(recipe).await?;
    let base = base_credentials(recipe).await?;
    let mut code = String::new();
    if let Some(mfa) = &recipe.mfa {
        code = mfa.code().await?;
    }
    // An endpoint is the same in each Region.
    if recipe.inputs.regions.len() < 2 || settings.endpoint_url.is_some() {
        return ask_sts(recipe, &settings, base, &code).await;
    }
    // A twentieth of the time is left, so that the failures are told before the fetch is given up.
    let left = recipe.timeout().saturating_sub(began.elapsed()) / 20 * 19;
    regions::ask_in_turn(&recipe.inputs.regions, left, |region| {
        let settings = Settings { region: Some(region.to_owned()), ..settings.clone() };
        let (base, code) = (base.clone(), &code);
        async move {
            check_partition(recipe, settings.clone()).await?;
            ask_sts(recipe, &settings, base, code).await
        }
    })
    .await
}

/// One request to one STS.
async fn ask_sts(
    recipe: &AssumeRole,
    settings: &Settings,
    base: Credentials,
    code: &str,
) -> Result<Fetched, SourceError> {
    let client = Client::from_conf(sts_config(recipe, settings, base)?);
    let mut request = request(recipe, &client).map_err(|error| {
        SourceError::new(SourceErrorClass::Misconfigured, format!("building the request: {error}"))
    })?;
    if let Some(mfa) = &recipe.mfa {
        request = request.serial_number(&mfa.serial_number).token_code(code);
    }
    let server_time = ServerTime::default();
    match request.customize().interceptor(server_time.clone()).send().await {
        Ok(answer) => {
            let fetched = Fetched::new(credentials(&answer)?);
            Ok(server_time.get().into_iter().fold(fetched, Fetched::seen))
        }
        Err(error) => Err(refusal(recipe, settings, &error).without(code)),
    }
}

/// Asks the same STS whose credentials these are. Without `credentials`, it asks about the base credentials.
pub(super) async fn identify(
    recipe: &AssumeRole,
    credentials: Option<Credentials>,
) -> Result<Identity, SourceError> {
    let settings = settings(recipe).await?;
    let credentials = match credentials {
        Some(credentials) => credentials,
        None => base_credentials(recipe).await?,
    };
    identity::ask(sts_config(recipe, &settings, credentials)?).await
}

/// The identity that assumes the role, for requests to another service than STS.
#[cfg(feature = "fleet-kms")]
pub(super) fn base_identity(recipe: &AssumeRole) -> BaseIdentity<'_> {
    BaseIdentity {
        credentials: Some(Box::pin(async { base_credentials(recipe).await.map(Fetched::new) })),
        profile: recipe.inputs.profile.as_deref(),
        explicit: Explicit { endpoint_url: None, ..explicit(recipe) },
    }
}

fn explicit(recipe: &AssumeRole) -> Explicit<'_> {
    let first = recipe.inputs.regions.first();
    Explicit {
        region: recipe.inputs.region.as_ref().or(first).map(String::as_str),
        endpoint_url: recipe.inputs.endpoint_url.as_deref(),
        ca_bundle: recipe.inputs.ca_bundle.as_deref(),
        proxy: recipe.inputs.proxy.as_ref(),
        max_attempts: recipe.inputs.max_attempts,
    }
}

async fn settings(recipe: &AssumeRole) -> Result<Settings, SourceError> {
    let settings = match &recipe.settings {
        Some(settings) => Ok(settings.clone()),
        None => profile::settings_of(recipe.inputs.profile.as_deref(), "sts", explicit(recipe)),
    };
    let mut settings = settings.map_err(misconfigured)?;
    // A list names Regional endpoints.
    settings.global &= recipe.inputs.regions.is_empty();
    if recipe.mfa.is_some() {
        // STS accepts a code only once.
        settings.max_attempts = Some(1);
    }
    let (environment, role) = (Environment::real(), Some(recipe.inputs.role_arn.as_str()));
    settings.settle_region(&environment, role).await.map_err(misconfigured)?;
    Ok(settings)
}

/// Each Region must be in the partition of the role.
async fn check_partition(recipe: &AssumeRole, mut settings: Settings) -> Result<(), SourceError> {
    let (environment, role) = (Environment::real(), Some(recipe.inputs.role_arn.as_str()));
    settings.settle_region(&environment, role).await.map_err(misconfigured)
}

async fn base_credentials(recipe: &AssumeRole) -> Result<Credentials, SourceError> {
    match &recipe.base {
        Base::DefaultChain => profile::default_chain().await.map(|fetched| fetched.credentials),
        Base::Provider(provider) => {
            let answer = provider.make().await.provide_credentials().await;
            answer.map_err(|error| SourceError::from_error("base credentials", &error))
        }
        Base::Source(source) => {
            // Its Regions are others than those of this role.
            let fetched = with_failed_regions(Arc::default(), source.fetch()).await;
            fetched.map(|fetched| fetched.credentials)
        }
        Base::Keys(credentials) | Base::Ready(credentials) => Ok(credentials.clone()),
    }
}

fn sts_config(
    recipe: &AssumeRole,
    settings: &Settings,
    base: Credentials,
) -> Result<aws_sdk_sts::Config, SourceError> {
    let config = settings.sts(Some(base)).map_err(misconfigured)?;
    Ok(config.timeout_config(timeouts(recipe)).build())
}

fn timeouts(recipe: &AssumeRole) -> TimeoutConfig {
    let mut timeouts = TimeoutConfig::builder();
    timeouts.set_connect_timeout(recipe.inputs.connect_timeout);
    timeouts.set_read_timeout(recipe.inputs.read_timeout);
    timeouts.build()
}

fn request(recipe: &AssumeRole, client: &Client) -> Result<AssumeRoleFluentBuilder, BuildError> {
    recipe.inputs.visit(&recipe.inputs, Request(Ok(client.assume_role()))).0
}

/// The request with one input after the other.
struct Request(Result<AssumeRoleFluentBuilder, BuildError>);

impl<'a> Visitor<'a> for Request {
    fn input<T>(self, input: Input<'a, T>) -> Self {
        Request(self.0.and_then(|request| (input.request)(request, input.value)))
    }
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

/// The fifth field of the assumed role's ARN. Account-based endpoints need it.
fn account_id(answer: &AssumeRoleOutput) -> Option<String> {
    let arn = answer.assumed_role_user()?.arn();
    arn.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
}

/// Part of the text with which STS refuses an MFA code. The error code is the same as for other denials.
const BAD_CODE: &str = "MultiFactorAuthentication failed";

fn refusal(
    recipe: &AssumeRole,
    settings: &Settings,
    error: &SdkError<AssumeRoleError, HttpResponse>,
) -> SourceError {
    let failure = SourceError::from_sdk(&settings.sts_place(), error);
    match recipe.mfa.is_some() && failure.message().contains(BAD_CODE) {
        true => failure.explained("the MFA code is wrong, too old, or was used before"),
        false => failure,
    }
}

fn without_secrets(recipe: &AssumeRole, failure: SourceError) -> SourceError {
    // STS quotes invalid values. The longest secret goes first: it may contain another one.
    let Secrets(mut secrets) = recipe.inputs.visit(&recipe.inputs, Secrets(Vec::new()));
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    secrets.into_iter().fold(failure, |failure, secret| failure.without(secret))
}

struct Secrets<'a>(Vec<&'a str>);

impl<'a> Visitor<'a> for Secrets<'a> {
    fn input<T>(mut self, input: Input<'a, T>) -> Self {
        self.0.extend((input.secrets)(input.value));
        self
    }
}
