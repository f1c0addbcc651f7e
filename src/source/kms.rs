//! `kms:Decrypt` with the identity that a source has before it has a set. The client is made for it and dropped after it.

use std::collections::BTreeMap;

use aws_sdk_kms::{Client, config::Builder, primitives::Blob};
use zeroize::Zeroizing;

use super::{
    BaseIdentity, Source, SourceError, SourceErrorClass,
    profile::{self, Environment, misconfigured},
    validate,
};

/// What KMS decrypts.
pub(crate) struct Decryption<'a> {
    pub(crate) ciphertexts: Vec<Vec<u8>>,
    /// The key that must have encrypted them.
    pub(crate) key: Option<&'a str>,
    pub(crate) context: &'a BTreeMap<String, String>,
}

/// The plaintexts, in the order of the ciphertexts. They are wiped when dropped.
pub(crate) async fn decrypt(
    source: &dyn Source,
    decryption: Decryption<'_>,
) -> Result<Vec<Zeroizing<Vec<u8>>>, SourceError> {
    let BaseIdentity { credentials, profile, mut explicit } = source.base_identity();
    if let Some(region) = decryption.key.and_then(region_of) {
        explicit.region = Some(region);
    }
    let mut settings = profile::settings_of(profile, "kms", explicit).map_err(misconfigured)?;
    settings.settle_region(&Environment::real(), None).await.map_err(misconfigured)?;
    let fetched = match credentials {
        Some(credentials) => credentials.await?,
        None => profile::default_chain().await?,
    };
    let credentials = fetched.credentials;
    validate::signing_keys(&credentials).map_err(|problem| {
        misconfigured(format!("the credentials for KMS cannot be used: {problem}"))
    })?;
    let config = settings.sdk_config().map_err(misconfigured)?;
    let config = Builder::from(&config).credentials_provider(credentials).build();
    let client = Client::from_conf(config);
    let place = match &settings.endpoint_url {
        Some(url) => format!("KMS at {url}"),
        None => format!("KMS in {}", settings.region()),
    };
    let mut plaintexts = Vec::new();
    for ciphertext in decryption.ciphertexts {
        let context = decryption.context.clone().into_iter().collect();
        let request = client
            .decrypt()
            .ciphertext_blob(Blob::new(ciphertext))
            .set_key_id(decryption.key.map(str::to_owned))
            .set_encryption_context(Some(context).filter(|_| !decryption.context.is_empty()));
        let answer = request.send().await.map_err(|error| SourceError::from_sdk(&place, &error))?;
        let plaintext = answer.plaintext.ok_or_else(|| {
            SourceError::new(SourceErrorClass::Transient, format!("{place} gave no plaintext"))
        })?;
        plaintexts.push(Zeroizing::new(plaintext.into_inner()));
    }
    Ok(plaintexts)
}

/// The Region in the ARN of a key.
fn region_of(key: &str) -> Option<&str> {
    let mut parts = key.split(':');
    let is_arn = parts.next() == Some("arn") && parts.nth(1) == Some("kms");
    parts.next().filter(|region| is_arn && validate::region(region).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_a_key_says_the_region() {
        for (key, region) in [
            ("arn:aws:kms:eu-central-1:123456789012:key/1234", Some("eu-central-1")),
            ("arn:aws-cn:kms:cn-north-1:123456789012:alias/fleet", Some("cn-north-1")),
            ("arn:aws:iam:eu-central-1:123456789012:role/a", None),
            ("arn:aws:kms::123456789012:key/1234", None),
            ("alias/fleet", None),
            ("1234abcd-12ab-34cd-56ef-1234567890ab", None),
        ] {
            assert_eq!(region_of(key), region, "{key}");
        }
    }
}
