//! The sources that the SDK knows, each under a name of its own. All are read by the elected process
//! only, so that the workers of a host ask its metadata service once, and not each for itself. The proxy of the
//! environment is taken for what is neither on this machine nor on its link.

use aws_credential_types::Credentials;

use super::{
    Fetched, Profile, Provider, Source, SourceError, container_endpoint,
    fingerprint::environment::Part, http, instance_metadata, profile, provider::Inputs, validate,
};

impl Provider {
    /// Whatever an SDK program would find here by itself: the environment, the profile that it names or
    /// `[default]`, web identity, the container's endpoint, the instance's. Keys without an expiry are refused.
    pub fn default_chain() -> Self {
        Provider::from_fn("default chain", || async {
            named("default chain", profile::default_chain().await)
        })
        .made_of(inputs("default-chain", [], Part::ALL))
    }

    /// A role by a web identity token, as EKS gives its service accounts (IRSA): reads
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN` and `AWS_ROLE_SESSION_NAME`, and the token file anew
    /// for each set. The Region and the address of STS are those of the environment.
    pub fn web_identity() -> Self {
        let role = std::env::var("AWS_ROLE_ARN").unwrap_or_default();
        Provider::from_fn(short(format!("web identity {role}")), || async {
            named("web identity", profile::pod_role().await)
        })
        .made_of(inputs("web-identity", [], &[Part::WebIdentity, Part::Profile, Part::Place]))
        .of_a_role()
    }

    /// The endpoint of the container, on ECS, or of EKS Pod Identity: reads
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `…_FULL_URI`, and `AWS_CONTAINER_AUTHORIZATION_TOKEN`
    /// or the file that `…_TOKEN_FILE` names, anew for each set.
    pub fn container() -> Self {
        Provider::from_fn("container endpoint", || container_endpoint::fetch(http::client()))
            .made_of(inputs("container", [], &[Part::Container]))
    }

    /// The role of the EC2 instance, by its metadata service (IMDSv2): reads
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` and `AWS_EC2_METADATA_DISABLED`.
    pub fn imds() -> Self {
        Provider::from_fn("instance metadata", || instance_metadata::fetch(http::client()))
            .made_of(inputs("instance-metadata", [], &[Part::Metadata, Part::Profile]))
    }

    /// A role of IAM Identity Center (SSO): its start URL and Region, the account's number, and the role's name.
    /// Reads the token that `aws sso login` has left in `~/.aws/sso/cache`, anew for each set.
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
        .made_of(inputs("sso", values, &[Part::SignOn, Part::Profile, Part::Place]))
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

/// A failure that no service has explained names its source.
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

/// The environment may say more than a description holds.
fn short(mut description: String) -> String {
    description.truncate(description.floor_char_boundary(256));
    description
}
