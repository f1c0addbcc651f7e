//! Ready-made providers: the credential sources that the SDK knows.
//!
//! Only the elected process asks them. So all workers of a host ask its metadata service once, not once each. The
//! proxy of the environment is used, except for addresses of this host and its link.

use aws_credential_types::Credentials;

use super::{
    Fetched, Profile, Provider, Source, SourceError, container_endpoint,
    fingerprint::environment::Part,
    http, instance_metadata,
    profile::{self, Environment, Files},
    provider::Inputs,
    validate,
};

impl Provider {
    /// The SDK's default chain: the environment, the profile that it names or `[default]`, web identity, the container
    /// endpoint, the instance metadata. Keys without an expiry are refused.
    pub fn default_chain() -> Self {
        Provider::from_fn("default chain", || async {
            named("default chain", profile::default_chain().await)
        })
        .made_of(inputs("default-chain", [], Part::ALL))
    }

    /// A role with a web identity token, as EKS gives it to service accounts (IRSA). For each set it reads
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`, `AWS_ROLE_SESSION_NAME` and the token file. The environment
    /// gives the Region and the endpoint of STS.
    pub fn web_identity() -> Self {
        let role = std::env::var("AWS_ROLE_ARN").unwrap_or_default();
        Provider::from_fn(short(format!("web identity {role}")), || async {
            named("web identity", profile::pod_role().await)
        })
        .made_of(inputs("web-identity", [], &[Part::WebIdentity, Part::Profile, Part::Endpoints]))
        .of_a_role()
    }

    /// The container endpoint, on ECS or with EKS Pod Identity. For each set it reads
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `…_FULL_URI`, and `AWS_CONTAINER_AUTHORIZATION_TOKEN` or the file
    /// that `…_TOKEN_FILE` names.
    pub fn container() -> Self {
        Provider::from_fn("container endpoint", || container_endpoint::fetch(http::client()))
            .made_of(inputs("container", [], &[Part::Container]))
    }

    /// The role of the EC2 instance, from its metadata service. It reads `AWS_EC2_METADATA_SERVICE_ENDPOINT`,
    /// `AWS_EC2_METADATA_DISABLED` and `AWS_EC2_METADATA_V1_DISABLED`. It uses version 2 of the service. If the service
    /// does not know the request for a token, or does not answer it, version 1 is used, as by the AWS CLI.
    pub fn imds() -> Self {
        Provider::from_fn("instance metadata", || async {
            let environment = Environment::real();
            let profile = environment.profile().unwrap_or_else(|| "default".into());
            instance_metadata::fetch(&environment, &Files::read(&environment), &profile).await
        })
        .made_of(inputs("instance-metadata", [], &[Part::Metadata, Part::Profile]))
    }

    /// A role of IAM Identity Center (SSO): the start URL, its Region, the account id and the role name. For each
    /// set it reads the token that `aws sso login` writes to `~/.aws/sso/cache`.
    pub fn sso(
        start_url: impl Into<String>,
        region: impl Into<String>,
        account_id: impl Into<String>,
        role_name: impl Into<String>,
    ) -> Self {
        let (start_url, region) = (start_url.into(), region.into());
        let (account_id, role_name) = (account_id.into(), role_name.into());
        let checked = validate::sso(&start_url, &region, &account_id, &role_name);
        let values = [
            ("start-url", start_url.clone()),
            ("region", region.clone()),
            ("account-id", account_id.clone()),
            ("role-name", role_name.clone()),
        ];
        Provider::from_fn(short(format!("sso {start_url} {account_id} {role_name}")), move || {
            let role = profile::sso_role(
                start_url.clone(),
                region.clone(),
                account_id.clone(),
                role_name.clone(),
            );
            async { named("sso", role.await) }
        })
        .made_of(inputs("sso", values, &[Part::LoginTokens, Part::Profile, Part::Endpoints]))
        .of_a_role()
        .checked(checked)
    }

    /// A profile of the AWS config and credentials files, as [`Profile::new`] reads it.
    pub fn profile(name: impl Into<String>) -> Self {
        let profile = Profile::new(name);
        let (timeout, checked) = (Source::timeout(&profile), profile.validate());
        let values = [("name", profile.name().to_owned())];
        Provider::from_fn(short(format!("profile {}", profile.name())), move || {
            let profile = profile.clone();
            async move { named(&format!("profile {}", profile.name()), profile.fetch().await) }
        })
        .timeout(timeout)
        .made_of(inputs("profile", values, Part::ALL))
        .checked(checked)
    }
}

/// Adds the name of the source to a failure that has no error code of a service.
fn named(source: &str, outcome: Result<Fetched, SourceError>) -> Result<Credentials, SourceError> {
    match outcome {
        Ok(fetched) => Ok(fetched.credentials),
        Err(failure) if failure.code().is_none() => Err(failure.explained(source)),
        Err(failure) => Err(failure),
    }
}

fn inputs<const N: usize>(
    source: &'static str,
    values: [(&'static str, String); N],
    environment: &'static [Part],
) -> Inputs {
    Inputs { source, values: values.into(), environment }
}

/// Cuts the text to the longest description: a variable may be longer.
fn short(mut description: String) -> String {
    description.truncate(description.floor_char_boundary(256));
    description
}
