//! Clients of AWS services, made from [`Settings`]. They read nothing else from the environment or from files.

use std::path::Path;

use aws_config::{SdkConfig, provider_config::ProviderConfig};
use aws_credential_types::Credentials;
use aws_sdk_sts::config::{
    BehaviorVersion, Builder, IdentityCache, Region, SharedHttpClient,
    StalledStreamProtectionConfig, retry::RetryConfig,
};
use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use hyper::http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{
    environment::Environment,
    files::Files,
    proxy::ProxyUrl,
    settings::{Settings, partition},
};
use crate::source::{http, instance_metadata, user_file, validate};

/// The Region if nothing sets one.
const FALLBACK: &str = "us-east-1";
const GLOBAL_STS: &str = "https://sts.amazonaws.com";

impl Settings {
    /// Sets the Region if neither the program, nor the environment, nor a file sets it: to that of the instance, or to
    /// `us-east-1`. `role_arn` must be in the partition of the Region.
    ///
    /// # Errors
    /// The role is in another partition than the Region, or needs a Region and has none. The instance metadata is asked,
    /// and its address breaks its rule.
    pub(in crate::source) async fn settle_region(
        &mut self,
        environment: &Environment,
        role_arn: Option<&str>,
    ) -> Result<(), String> {
        // A configured endpoint may accept any Region.
        let anywhere = self.endpoint_url.is_some();
        let known = |partition: &str| partition == "aws" || KNOWN_PARTITIONS.contains(&partition);
        let wanted = role_arn.and_then(|arn| arn.split(':').nth(1)).filter(|&name| known(name));
        if self.region.is_none() {
            self.region = match anywhere {
                true => None,
                false => self.instance_region(environment).await?,
            };
        }
        let Some(region) = &self.region else {
            return match wanted {
                Some(other) if other != "aws" && !anywhere => Err(format!(
                    "the role is in partition {other}, but no Region is known; {SET_REGION}"
                )),
                _ => {
                    self.region = Some(FALLBACK.into());
                    Ok(())
                }
            };
        };
        match wanted {
            Some(wanted) if wanted != partition(region) && !anywhere => Err(format!(
                "the role is in partition {wanted}, but the Region {region} belongs to partition {}; \
                 {SET_REGION}",
                partition(region)
            )),
            _ => Ok(()),
        }
    }

    /// On other hosts than instances the request needs a time-out, so it is made only if needed.
    async fn instance_region(&self, environment: &Environment) -> Result<Option<String>, String> {
        let profile = self.profile.as_deref().unwrap_or("default");
        instance_metadata::region(environment, &Files::read(environment), profile).await
    }

    pub(in crate::source) fn region(&self) -> Region {
        Region::new(self.region.clone().unwrap_or_else(|| FALLBACK.into()))
    }

    /// The address of STS, for error texts.
    pub(in crate::source) fn sts_place(&self) -> String {
        let place = match &self.endpoint_url {
            Some(url) => format!("STS at {url}"),
            None => format!("STS in {}", self.region()),
        };
        match (&self.given_proxy, self.proxy()) {
            (Some(_), Some(proxy)) => format!("{place} through the proxy {proxy}"),
            (None, Some(proxy)) => format!("{place} through the proxy {proxy} of the environment"),
            (_, None) => place,
        }
    }

    /// The proxy on the way to STS, without its user and password.
    fn proxy(&self) -> Option<String> {
        if let Some(given) = &self.given_proxy {
            return given.host();
        }
        let usual = || format!("https://sts.{}.amazonaws.com", self.region());
        let uri: Uri = self.endpoint_url.clone().unwrap_or_else(usual).parse().ok()?;
        // The client of this library uses a proxy only for https.
        uri.scheme_str().filter(|scheme| *scheme == "https")?;
        let proxy = Matcher::from_env().intercept(&uri)?;
        let host = proxy.uri().host()?;
        Some(proxy.uri().port_u16().map_or(host.to_owned(), |port| format!("{host}:{port}")))
    }

    pub(in crate::source) fn retries(&self) -> RetryConfig {
        let retries = match self.adaptive {
            true => RetryConfig::adaptive(),
            false => RetryConfig::standard(),
        };
        // The session has its own back-off, which all processes share.
        retries.with_max_attempts(self.max_attempts.unwrap_or(1))
    }

    /// The configuration of a client of STS. Without `credentials` the client signs nothing.
    ///
    /// # Errors
    /// A CA bundle that cannot be used, or credentials that cannot sign.
    pub(in crate::source) fn sts(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<Builder, String> {
        let mut config = Builder::from(&self.sdk_config()?);
        if let Some(credentials) = credentials {
            validate::signing_keys(&credentials)
                .map_err(|problem| format!("the credentials for STS cannot be used: {problem}"))?;
            config = config.credentials_provider(credentials);
        }
        if self.global {
            config = config.region(Region::new(FALLBACK)).endpoint_url(GLOBAL_STS);
        }
        Ok(config)
    }

    /// The configuration for SDK providers that make their own clients.
    ///
    /// # Errors
    /// A CA bundle that cannot be used.
    pub(super) fn provider_config(&self) -> Result<ProviderConfig, String> {
        Ok(ProviderConfig::without_region()
            .with_region(Some(self.region()))
            .with_use_fips(Some(self.fips))
            .with_use_dual_stack(Some(self.dual_stack))
            .with_http_client(self.http_client()?))
    }

    /// The configuration of a client of any service.
    ///
    /// # Errors
    /// A CA bundle that cannot be used.
    pub(in crate::source) fn sdk_config(&self) -> Result<SdkConfig, String> {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region())
            .retry_config(self.retries())
            .use_fips(self.fips)
            .use_dual_stack(self.dual_stack)
            .identity_cache(IdentityCache::no_cache())
            // Of these, the SDK's renewal of an SSO token has no default: it panics without them.
            .time_source(SystemTimeSource::new())
            .sleep_impl(TokioSleep::new())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        config.set_endpoint_url(self.endpoint_url.clone());
        config.set_http_client(Some(self.http_client()?));
        Ok(config.build())
    }

    fn http_client(&self) -> Result<SharedHttpClient, String> {
        let has_tls = !self.endpoint_url.as_ref().is_some_and(|url| url.starts_with("http://"));
        let authorities = match &self.ca_bundle {
            // Without TLS the bundle is not read.
            Some(bundle) if has_tls => authorities_of(bundle)?,
            _ => TlsContext::default(),
        };
        Ok(match self.given_proxy.as_ref().and_then(ProxyUrl::config) {
            Some(proxy) => http::through(&authorities, proxy),
            None => http::trusting(&authorities),
        })
    }
}

const SET_REGION: &str = "set AWS_REGION, or region in the profile";
const KNOWN_PARTITIONS: [&str; 7] =
    ["aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"];

/// Only the authorities of this bundle are trusted, as in the AWS CLI.
fn authorities_of(bundle: &Path) -> Result<TlsContext, String> {
    let trust = authorities(bundle)?
        .into_iter()
        .fold(TrustStore::empty(), |trust, pem| trust.with_pem_certificate(pem));
    let context = TlsContext::builder().with_trust_store(trust).build();
    context.map_err(|error| format!("ca_bundle {bundle:?}: {error}"))
}

/// The usable certificates, each in PEM. The SDK panics if one is not usable.
fn authorities(bundle: &Path) -> Result<Vec<Vec<u8>>, String> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = user_file::read(bundle).map_err(|error| {
        let told = crate::errno::told(&error);
        format!("ca_bundle {bundle:?} cannot be read: {told}; see AWS_CA_BUNDLE")
    })?;
    let text = String::from_utf8_lossy(&text);
    let is_usable = |pem: &&str| {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        certificate.is_ok_and(|certificate| RootCertStore::empty().add(certificate).is_ok())
    };
    let usable: Vec<Vec<u8>> =
        text.split_inclusive(END).filter(is_usable).map(|pem| pem.as_bytes().to_vec()).collect();
    match usable.is_empty() {
        true => Err(format!("ca_bundle {bundle:?} contains no certificate, must be X.509 in PEM")),
        false => Ok(usable),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(region: Option<&str>, endpoint_url: Option<&str>) -> Settings {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Settings { region: own(region), endpoint_url: own(endpoint_url), ..Settings::default() }
    }

    #[tokio::test]
    async fn a_region_of_another_partition_is_refused() {
        let environment = Environment::of([("AWS_EC2_METADATA_DISABLED", "true")]);
        let role = |partition: &str| format!("arn:{partition}:iam::123456789012:role/app");
        for (region, endpoint, partition, expected) in [
            (Some("cn-north-1"), None, "aws-cn", Ok("cn-north-1")),
            (Some("eu-central-1"), None, "aws", Ok("eu-central-1")),
            (Some("eu-central-1"), None, "aws-cn", Err("eu-central-1 belongs to partition aws")),
            (Some("us-gov-west-1"), None, "aws", Err("belongs to partition aws-us-gov")),
            (Some("us-isob-east-1"), None, "aws-iso-b", Ok("us-isob-east-1")),
            (Some("eu-central-1"), Some("http://x"), "aws-cn", Ok("eu-central-1")),
            (Some("xx-1"), None, "aws-new", Ok("xx-1")),
            (None, None, "aws", Ok("us-east-1")),
            (None, Some("http://x"), "aws-cn", Ok("us-east-1")),
            (None, None, "aws-cn", Err("no Region is known")),
        ] {
            let mut settings = settings(region, endpoint);
            let outcome = settings.settle_region(&environment, Some(&role(partition))).await;
            match expected {
                Ok(region) => {
                    assert_eq!(outcome, Ok(()));
                    assert_eq!(settings.region.as_deref(), Some(region));
                }
                Err(text) => {
                    assert!(outcome.as_ref().is_err_and(|e| e.contains(text)), "{outcome:?}")
                }
            }
        }
    }

    #[test]
    fn an_unusable_bundle_is_named_and_one_bad_certificate_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let refused = |path: &Path| authorities(path).unwrap_err();
        assert!(refused(&path).contains("ca.pem\" cannot be read"), "{}", refused(&path));
        fs::write(&path, "no certificate").unwrap();
        assert!(refused(&path).contains("contains no certificate"), "{}", refused(&path));
        let key = rcgen::KeyPair::generate().unwrap();
        let good = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&path, format!("# corp\n{good}{bad}{good}")).unwrap();
        assert_eq!(authorities(&path).unwrap().len(), 2);
        authorities_of(&path).unwrap();
    }
}
