//! A program in the `credential_process` format as a source.

use std::{fmt, time::Duration};

use aws_credential_types::Credentials;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    Fetched, Fetching, Fingerprint, FingerprintEncoder, Source, SourceError, SourceErrorClass,
    fingerprint::environment::{self, Part},
    portable::{PortableSource, Recipe},
    program::Program,
    timestamp,
};

/// A source that runs a program, as `credential_process` in the AWS config file does. The program writes
/// `{"Version": 1, "AccessKeyId": …, "SecretAccessKey": …, "SessionToken": …, "Expiration": …}` to its
/// standard output and exits with 0.
///
/// The elected process runs it, without a shell, a standard input and a terminal. Its standard error goes to the
/// log, without anything that looks like a secret. Its standard output goes nowhere else.
///
/// ```
/// use shmcreds::CredentialProcess;
///
/// let source = CredentialProcess::new(["/usr/local/bin/helper", "--role", "app"]);
/// assert!(format!("{source:?}").contains("/usr/local/bin/helper"));
/// ```
#[derive(Clone)]
pub struct CredentialProcess(Program);

impl CredentialProcess {
    /// The program and its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        CredentialProcess(Program::new(argv, Duration::from_secs(30)))
    }

    /// How long the program may take: 1 ms to a day, 30 s by default. After that it is killed with all processes
    /// that it has started. If it ends in time with a complete answer, the processes that it leaves go on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = timeout;
        self
    }

    async fn ask(&self) -> Result<Fetched, SourceError> {
        let written = self.0.run("the credential process", is_complete).await?;
        credentials(&written).map(Fetched::new).map_err(|problem| {
            let text = format!("the credential process gave no usable set: {problem}");
            SourceError::new(SourceErrorClass::Misconfigured, text)
        })
    }
}

impl fmt::Debug for CredentialProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialProcess({})", self.0.describe())
    }
}

impl Source for CredentialProcess {
    fn describe(&self) -> String {
        format!("process {}", self.0.describe())
    }

    /// The program inherits the whole environment. All variables that AWS's tools read count.
    fn fingerprint(&self) -> Fingerprint {
        let CredentialProcess(program) = self;
        let encoder = program.encode("program", FingerprintEncoder::new("process"));
        environment::encode(Part::ALL, encoder).finish()
    }

    fn validate(&self) -> Result<(), String> {
        self.0.validate("process")
    }

    /// The limit of the program, and the time to start and to kill it.
    fn timeout(&self) -> Duration {
        self.0.timeout.saturating_add(Duration::from_secs(1))
    }

    fn portable(&self) -> Option<PortableSource> {
        let (argv, timeout) = (self.0.argv().to_vec(), self.0.timeout);
        Some(PortableSource(Recipe::Process { argv, timeout }))
    }

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.ask())
    }
}

/// Programs write the version and the account as a number or as a string.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    version: Option<Value>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    /// The container endpoint and some programs use this name for the session token.
    token: Option<String>,
    expiration: Option<String>,
    account_id: Option<Value>,
}

/// False only if the JSON so far is the beginning of a longer one. Text that is not JSON needs no more reading.
fn is_complete(written: &[u8]) -> bool {
    let read = serde_json::from_slice::<IgnoredAny>(without_mark(written));
    !matches!(read, Err(error) if error.is_eof())
}

/// Some programs begin with a byte order mark.
fn without_mark(written: &[u8]) -> &[u8] {
    written.strip_prefix(b"\xef\xbb\xbf").unwrap_or(written)
}

fn credentials(written: &[u8]) -> Result<Credentials, String> {
    let written = without_mark(written);
    if written.trim_ascii().is_empty() {
        return Err("it wrote nothing to its standard output".into());
    }
    let answer: Answer = serde_json::from_slice(written).map_err(|error| {
        // The parser's error text may quote the answer.
        let (line, column) = (error.line(), error.column());
        format!("it is not the JSON of credential_process, at line {line} column {column}")
    })?;
    match answer.version.as_ref().map(is_one) {
        Some(true) => {}
        Some(false) => return Err("Version is wrong, must be 1".into()),
        None => return Err("Version is missing, must be 1".into()),
    }
    let needed = |field: Option<String>, name: &str| {
        field.filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} is missing"))
    };
    let expiration = answer
        .expiration
        .filter(|text| !text.is_empty())
        .ok_or("Expiration is missing; only temporary credentials can be shared")?;
    let expiry = timestamp::parse(&expiration)
        .ok_or("Expiration is not a time, must be like 2030-01-01T00:00:00Z")?;
    let mut credentials = Credentials::builder()
        .access_key_id(needed(answer.access_key_id, "AccessKeyId")?)
        .secret_access_key(needed(answer.secret_access_key, "SecretAccessKey")?)
        .expiry(expiry)
        .provider_name("shmcreds::CredentialProcess");
    let token = answer.session_token.or(answer.token);
    credentials.set_session_token(token.filter(|token| !token.is_empty()));
    credentials.set_account_id(answer.account_id.as_ref().and_then(account).map(Into::into));
    Ok(credentials.build())
}

/// `1`, `1.0` or `"1"`.
fn is_one(version: &Value) -> bool {
    version.as_f64().or_else(|| version.as_str()?.parse().ok()) == Some(1.0)
}

/// Twelve digits. A number has lost its leading zeros.
fn account(id: &Value) -> Option<String> {
    match id {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => id.as_u64().map(|id| format!("{id:012}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"hush-hush",
        "SessionToken":"hush-token","Expiration":"2030-01-02T03:04:05Z","AccountId":"123456789012"}"#;

    #[tokio::test]
    async fn a_full_answer_is_a_set() {
        let fetched = CredentialProcess::new(["/bin/echo", FULL]).fetch().await.unwrap();
        let set = fetched.credentials;
        assert_eq!(set.access_key_id(), "ASIA1");
        assert_eq!(set.secret_access_key(), "hush-hush");
        assert_eq!(set.session_token(), Some("hush-token"));
        let since = set.expiry().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 1_893_553_445);
        assert_eq!(set.account_id().unwrap().as_str(), "123456789012");
    }

    #[test]
    fn each_unusable_answer_is_named_without_its_contents() {
        let without = |from: &str, to: &str| FULL.replace(from, to);
        for (written, problem) in [
            ("hush-hush".into(), "not the JSON"),
            (without("\"hush-hush\"", "7"), "not the JSON"),
            (without("\"Version\":1", "\"Version\":2"), "Version is wrong, must be 1"),
            (without("\"Version\":1", "\"Version\":\"hush\""), "Version is wrong"),
            (without("\"Version\":1", "\"Version\":1.5"), "Version is wrong"),
            (String::new(), "it wrote nothing"),
            (" \n".into(), "it wrote nothing"),
            (without("2030-01-02T03:04:05Z", ""), "Expiration is missing"),
            (without("\"Version\":1,", ""), "Version is missing"),
            (without("AccessKeyId", "Other"), "AccessKeyId is missing"),
            (without("ASIA1", ""), "AccessKeyId is missing"),
            (without("SecretAccessKey", "Other"), "SecretAccessKey is missing"),
            (without("Expiration", "Other"), "Expiration is missing"),
            (without("2030-01", "hush-hush"), "Expiration is not a time"),
        ] {
            let error = credentials(written.as_bytes()).unwrap_err();
            assert!(error.contains(problem) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn what_every_sdk_takes_is_taken() {
        let with = |from: &str, to: &str| FULL.replace(from, to);
        for written in [
            with("\"Version\":1", "\"Version\":1.0"),
            with("\"Version\":1", "\"Version\":\"1\""),
            with("{\"Version", "\u{feff}{\"Version"),
            with("\"Version\":1", "\"Version\":1,\"Meta\":{\"a\":[null]}"),
            with("SessionToken", "Token"),
            with("2030-01-02T03:04:05Z", "2030-01-02 03:04:05.1234567+00:00"),
            with("\"123456789012\"", "123456789012"),
        ] {
            let set = credentials(written.as_bytes()).unwrap();
            assert_eq!(set.access_key_id(), "ASIA1", "{written}");
            assert_eq!(set.session_token(), Some("hush-token"));
            assert_eq!(set.account_id().unwrap().as_str(), "123456789012");
        }
        let zeros = credentials(with("\"123456789012\"", "3456789012").as_bytes()).unwrap();
        assert_eq!(zeros.account_id().unwrap().as_str(), "003456789012");
        let none = credentials(with("\"123456789012\"", "null").as_bytes()).unwrap();
        assert_eq!(none.account_id(), None);
    }
}
