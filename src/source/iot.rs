//! The credentials provider of AWS IoT Core as a source: a role, by its alias, for a device that shows an
//! X.509 certificate.

use std::{
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, header::DATE, http::response::Parts};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    Fetched, Fetching, Fingerprint, FingerprintEncoder, Source, SourceError, SourceErrorClass,
    causes::chain,
    environment,
    server_time::{self, Asked},
    validate,
};

/// More than any answer has.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Something in PEM: a file, read anew for each set, or its text.
#[derive(Clone)]
pub struct Pem(Place);

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Text(Arc<Zeroizing<Vec<u8>>>),
}

impl Pem {
    /// The file at `path`. What is there when a set is fetched counts, so a renewed certificate is picked up.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Pem(Place::File(path.as_ref().to_owned()))
    }

    /// The text itself, wiped from memory when the last copy of the source is dropped.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Pem(Place::Text(Arc::new(Zeroizing::new(text.into()))))
    }

    fn read(&self, field: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        match &self.0 {
            Place::File(path) => fs::read(path)
                .map(Zeroizing::new)
                .map_err(|error| format!("{field} {path:?} cannot be read: {error}")),
            Place::Text(text) => Ok(text.to_vec().into()),
        }
    }

    /// Adds the place of a file, which may be renewed there, or all of a text.
    fn encode(&self, tag: &str, encoder: FingerprintEncoder) -> FingerprintEncoder {
        match &self.0 {
            Place::File(path) => encoder.list(tag, [&b"file"[..], &environment::place_of(path)]),
            Place::Text(text) => encoder.list(tag, [&b"text"[..], text]),
        }
    }

    fn certificates(&self, field: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let found =
            CertificateDer::pem_slice_iter(&self.read(field)?).collect::<Result<Vec<_>, _>>();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(format!("{field} holds no certificate, must be X.509 in PEM")),
        }
    }

    fn key(&self, field: &str) -> Result<PrivateKeyDer<'static>, String> {
        // The parser's own errors may quote what it was given.
        PrivateKeyDer::from_pem_slice(&self.read(field)?).map_err(|_| {
            format!("{field} holds no private key, must be PKCS#8, RSA or EC in PEM, not encrypted")
        })
    }
}

/// Where it comes from; of a text nothing but what stands for it.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => write!(f, "{path:?}"),
            Place::Text(text) => {
                let digest = Sha256::digest(&***text);
                digest[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A source that asks the credentials provider of AWS IoT Core, as a device does: over TLS, with a
/// certificate of its own, for the role behind a role alias. The alias decides how long a set lives. It takes no
/// proxy.
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
    /// The account's endpoint of type `iot:CredentialProvider`, `HOST` or `HOST:PORT`; the role alias, 1 to
    /// 128 of `[A-Za-z0-9_=,@-]`; the device's certificate, with those that lead to its CA, if any; and its
    /// private key: PKCS#8, RSA (PKCS#1) or EC (SEC 1), not encrypted.
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

    /// Who may vouch for the server, in place of the authorities of the system.
    pub fn ca(mut self, certificates: Pem) -> Self {
        self.ca = Some(certificates);
        self
    }

    /// The name of the thing that the certificate is attached to, for policies with its variables: 1 to 128
    /// of `[A-Za-z0-9:_-]`.
    pub fn thing_name(mut self, name: impl Into<String>) -> Self {
        self.thing_name = Some(name.into());
        self
    }

    /// How long one fetch may take: 1 ms to a day, 15 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The certificate and the key, which belong together.
    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let chain = self.certificate.certificates("certificate")?;
        let key = self.private_key.key("private_key")?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                "private_key is not that of the certificate, must be its other half".into()
            }
            _ => {
                "private_key or certificate is of no kind that TLS knows, must be RSA or EC".into()
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
            roots
                .add(certificate)
                .map_err(|_| "ca holds a certificate that cannot be read, must be X.509 in PEM")?;
        }
        Ok(roots)
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certified = Arc::new(self.certified(&provider)?);
        let roots = self.roots()?;
        let versions = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS has no version: {error}"))?;
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
        // A new field does not compile until it is decided whether it counts.
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

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.ask())
    }
}

/// No answer came: a server that refuses the certificate ends the connection with an alert.
fn unanswered(error: &(dyn Error + 'static)) -> SourceError {
    let failure = SourceError::from_error("asking IoT Core", error);
    match chain(error).find_map(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(_)) => failure.of_class(SourceErrorClass::Terminal),
        Some(rustls::Error::InvalidCertificate(_)) => {
            failure.of_class(SourceErrorClass::Misconfigured)
        }
        _ => failure,
    }
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

fn refusal(head: &Parts, body: &[u8]) -> SourceError {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let said = serde_json::from_slice(body).map(|Refusal { message }| message);
    let said = said.unwrap_or_else(|_| "IoT Core gave no reason".into());
    let status = head.status.as_u16();
    let text = format!("HTTP status {status}: {said}");
    let failure = SourceError::new(SourceErrorClass::of_status(status), text);
    let mut failure = failure.with_http_status(status);
    if let Some(kind) = header("x-amzn-errortype") {
        // `AccessDeniedException:http://…` with some services.
        failure = failure.with_code(kind.split(':').next().unwrap_or(kind));
    }
    match header("x-amzn-requestid") {
        Some(id) => failure.with_request_id(id),
        None => failure,
    }
}

#[derive(Deserialize)]
struct Answer {
    credentials: Set,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

fn credentials(body: &[u8]) -> Result<Credentials, String> {
    let Answer { credentials: set } = serde_json::from_slice(body).map_err(|error| {
        // Its own text may quote what was answered.
        format!("not the JSON of a set, at line {} column {}", error.line(), error.column())
    })?;
    let expiry = DateTime::from_str(&set.expiration, Format::DateTimeWithOffset)
        .ok()
        .and_then(|time| SystemTime::try_from(time).ok())
        .ok_or("expiration is not a time")?;
    for (field, value) in [
        ("accessKeyId", &set.access_key_id),
        ("secretAccessKey", &set.secret_access_key),
        ("sessionToken", &set.session_token),
    ] {
        if value.is_empty() {
            return Err(format!("{field} is empty"));
        }
    }
    Ok(Credentials::new(
        set.access_key_id,
        set.secret_access_key,
        Some(set.session_token),
        Some(expiry),
        "shmcreds::IotCore",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unusable_answer_is_named_without_its_contents() {
        let full = r#"{"credentials":{"accessKeyId":"ASIA1","secretAccessKey":"hush",
            "sessionToken":"hush-token","expiration":"2030-01-02T03:04:05Z"}}"#;
        assert_eq!(credentials(full.as_bytes()).unwrap().access_key_id(), "ASIA1");
        for (from, to, problem) in [
            (full, "hush", "not the JSON"),
            ("\"hush\"", "7", "not the JSON"),
            ("\"hush\"", "\"\"", "secretAccessKey is empty"),
            ("ASIA1", "", "accessKeyId is empty"),
            ("2030", "hush", "expiration is not a time"),
        ] {
            let error = credentials(full.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.contains(problem) && !error.contains("hush"), "{error}");
        }
    }
}
