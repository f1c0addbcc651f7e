//! The credentials provider of AWS IoT Core as a source: a role alias, for a device with an X.509 certificate.

mod answer;
mod pem;

use std::{fmt, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, header::DATE};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::{
    Fetched, Fetching, Fingerprint, FingerprintEncoder, Source, SourceError, SourceErrorClass,
    portable::{PortableSource, Recipe, Thing},
    server_time::{self, Asked},
    validate,
};
use answer::{credentials, refusal, unanswered};
pub use pem::Pem;

/// No answer is longer.
const LONGEST_ANSWER: usize = 64 * 1024;

/// A source that asks the credentials provider of AWS IoT Core, as a device does: over TLS, with a client
/// certificate, for the role behind a role alias. The role alias decides how long a set is valid. It uses no proxy.
///
/// ```
/// use shmcreds::{IotCore, Pem};
///
/// let source = IotCore::new(
///     "c1a2b3c4d5e6f7.credentials.iot.eu-central-1.amazonaws.com",
///     "camera-upload",
///     Pem::file("/etc/device/certificate.pem"),
///     Pem::file("/etc/device/private-key.pem"),
/// )
/// .thing_name("camera-7");
/// assert!(format!("{source:?}").contains("camera-upload"));
/// ```
#[derive(Clone)]
pub struct IotCore {
    endpoint: String,
    role_alias: String,
    certificate: Pem,
    private_key: Pem,
    ca: Option<Pem>,
    thing_name: Option<String>,
    timeout: Duration,
}

impl IotCore {
    /// Takes four inputs:
    ///
    /// * the endpoint of the account, of type `iot:CredentialProvider`: `HOST` or `HOST:PORT`
    /// * the role alias: 1 to 128 of `[A-Za-z0-9_=,@-]`
    /// * the certificate of the device, with its intermediate certificates, if any
    /// * the private key of the device: PKCS#8, RSA (PKCS#1) or EC (SEC 1), not encrypted
    pub fn new(
        endpoint: impl Into<String>,
        role_alias: impl Into<String>,
        certificate: Pem,
        private_key: Pem,
    ) -> Self {
        IotCore {
            endpoint: endpoint.into(),
            role_alias: role_alias.into(),
            certificate,
            private_key,
            ca: None,
            thing_name: None,
            timeout: Duration::from_secs(15),
        }
    }

    /// The certificate authorities that may sign the server's certificate, instead of those of the system.
    pub fn ca(mut self, certificates: Pem) -> Self {
        self.ca = Some(certificates);
        self
    }

    /// The name of the thing that has the certificate, for policies with thing variables: 1 to 128 of
    /// `[A-Za-z0-9:_-]`.
    pub fn thing_name(mut self, name: impl Into<String>) -> Self {
        self.thing_name = Some(name.into());
        self
    }

    /// How long one fetch may take: 1 ms to a day, 15 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The certificate and its key. It fails if they do not match.
    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let chain = self.certificate.certificates("certificate")?;
        let key = self.private_key.key("private_key")?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                "private_key does not match the certificate, must be its private key".into()
            }
            _ => {
                "private_key or certificate has a type that TLS does not support, must be RSA or EC"
                    .into()
            }
        })
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        for certificate in ca.certificates("ca")? {
            roots.add(certificate).map_err(
                |_| "ca contains a certificate that cannot be read, must be X.509 in PEM",
            )?;
        }
        Ok(roots)
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certified = Arc::new(self.certified(&provider)?);
        let roots = self.roots()?;
        let versions = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("no TLS version is available: {error}"))?;
        let resolver = rustls::sign::SingleCertAndKey::from(certified);
        Ok(versions.with_root_certificates(roots).with_client_cert_resolver(Arc::new(resolver)))
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, SourceError> {
        let url = format!("https://{}/role-aliases/{}/credentials", self.endpoint, self.role_alias);
        let mut request = Request::get(url);
        if let Some(thing) = &self.thing_name {
            request = request.header("x-amzn-iot-thingname", thing);
        }
        request.body(Empty::new()).map_err(|error| {
            SourceError::new(
                SourceErrorClass::Misconfigured,
                format!("building the request: {error}"),
            )
        })
    }

    async fn ask(&self) -> Result<Fetched, SourceError> {
        let tls =
            self.tls().map_err(|text| SourceError::new(SourceErrorClass::Misconfigured, text))?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let asked = Asked::now();
        let answer = client.request(self.request()?).await.map_err(|error| unanswered(&error))?;
        let (head, body) = answer.into_parts();
        let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
        let seen = asked.answered(date.and_then(server_time::parse));
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| unanswered(&*error))?.to_bytes();
        let body = Zeroizing::new(Vec::from(body));
        if head.status.as_u16() != 200 {
            return Err(refusal(&head, &body));
        }
        let set = credentials(&body).map_err(|problem| {
            let text = format!("IoT Core's answer cannot be used: {problem}");
            SourceError::new(SourceErrorClass::Transient, text)
        })?;
        Ok(Fetched::new(set).seen(seen))
    }
}

impl fmt::Debug for IotCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IotCore({})", self.describe())
    }
}

impl Source for IotCore {
    fn describe(&self) -> String {
        format!(
            "iot-core {:?} role-alias={:?} thing={:?} certificate={:?}",
            self.endpoint,
            self.role_alias,
            self.thing_name.as_deref().unwrap_or("none"),
            self.certificate,
        )
    }

    fn fingerprint(&self) -> Fingerprint {
        // A new field does not compile until this function handles it.
        let IotCore { endpoint, role_alias, certificate, private_key, ca, thing_name, timeout: _ } =
            self;
        let encoder = FingerprintEncoder::new("iot-core")
            .text("endpoint", endpoint)
            .text("role-alias", role_alias)
            .optional("thing-name", thing_name.as_deref());
        let encoder = certificate.encode("certificate", encoder);
        let encoder = private_key.encode("private-key", encoder);
        match ca {
            Some(ca) => ca.encode("ca", encoder),
            None => encoder.optional("ca", None),
        }
        .finish()
    }

    fn host_bound(&self) -> Option<String> {
        Some("the certificate identifies this host".into())
    }

    fn validate(&self) -> Result<(), String> {
        validate::host("endpoint", &self.endpoint)?;
        validate::word("role_alias", &self.role_alias, 1..=128, "_=,@-")?;
        if let Some(thing) = &self.thing_name {
            validate::word("thing_name", thing, 1..=128, ":_-")?;
        }
        validate::timeout("timeout", Some(self.timeout))?;
        self.certified(&aws_lc_rs::default_provider())?;
        match &self.ca {
            Some(_) => self.roots().map(drop),
            None => Ok(()),
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn portable(&self) -> Option<PortableSource> {
        // A new field does not compile until it is handed over.
        let IotCore { endpoint, role_alias, certificate, private_key, ca, thing_name, timeout } =
            self.clone();
        Some(PortableSource(Recipe::IotCore(Box::new(Thing {
            endpoint,
            role_alias,
            certificate: certificate.portable(),
            private_key: private_key.portable(),
            ca: ca.as_ref().map(Pem::portable),
            thing_name,
            timeout,
        }))))
    }

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.ask())
    }
}
