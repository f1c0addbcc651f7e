//! What a source is answered: by STS, by the metadata of an instance, by single sign-on, by a container's
//! endpoint, by IoT Core, and by a program.
#![allow(unsafe_code)]

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use shmcreds::{AssumeRole, CredentialProcess, IotCore, Pem, Provider, Source};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use crate::{choices::Choices, clock, iot};

/// No source takes longer, whatever it is answered: the longest limit of one, and a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// More than an error has to say.
const LONGEST_TEXT: usize = 64 * 1024;
const START_URL: &str = "https://example.awsapps.com/start";

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    Sts,
    WebIdentity,
    Instance,
    SingleSignOn,
    Container,
    Iot,
    Program,
}

impl Asked {
    pub const ALL: [Asked; 7] = [
        Asked::Sts,
        Asked::WebIdentity,
        Asked::Instance,
        Asked::SingleSignOn,
        Asked::Container,
        Asked::Iot,
        Asked::Program,
    ];
}

/// The sources, and the servers that answer them.
pub struct StandIn {
    folder: tempfile::TempDir,
    /// What is answered to the requests to come.
    answer: Arc<Mutex<Answer>>,
    plain: String,
    secure: String,
    device: iot::Device,
    ca: String,
    runtime: Runtime,
}

/// What is sent.
#[derive(Clone, Debug, Default)]
struct Answer {
    bytes: Vec<u8>,
    /// How many requests are answered as they should be before.
    good: usize,
    /// How many requests there have been.
    asked: usize,
}

impl StandIn {
    /// Starts the servers, and says in the environment where they are. The process has one thread.
    pub fn start() -> Self {
        let answer = Arc::new(Mutex::new(Answer::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listen = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (plain, secure) = (listen(), listen());
        let folder = tempfile::tempdir().unwrap();
        let authority = iot::Authority::new();
        let stand_in = StandIn {
            answer: Arc::clone(&answer),
            plain: format!("http://{}", plain.local_addr().unwrap()),
            secure: secure.local_addr().unwrap().to_string(),
            device: authority.device(iot::Key::Ec),
            ca: authority.certificate().to_owned(),
            runtime,
            folder,
        };
        stand_in.set_environment();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server()));
        // On the thread that calls the sources: the servers run while it waits for them.
        stand_in.runtime.spawn(accept(plain, None, Arc::clone(&answer)));
        stand_in.runtime.spawn(accept(secure, Some(acceptor), answer));
        stand_in
    }

    fn set_environment(&self) {
        let file = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        // The SHA-1 of the start URL.
        let login = ".aws/sso/cache/e8be5486177c5b5392bd9aa76563515b29358e6e.json";
        file(login, r#"{"accessToken":"signed-in","expiresAt":"2999-01-01T00:00:00Z"}"#);
        let old: Vec<String> = std::env::vars().map(|(key, _)| key).collect();
        for key in old.iter().filter(|key| key.starts_with("AWS_")) {
            // SAFETY: the process has one thread.
            unsafe { std::env::remove_var(key) };
        }
        for (key, value) in [
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_MAX_ATTEMPTS", "1"),
            ("HOME", self.folder.path().to_str().unwrap()),
            ("AWS_ENDPOINT_URL_STS", &self.plain),
            ("AWS_ENDPOINT_URL_SSO", &self.plain),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.plain),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/creds", self.plain)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token"),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &file("token", "signed")),
        ] {
            // SAFETY: the process has one thread.
            unsafe { std::env::set_var(key, value) };
        }
    }

    /// Has `asked` answer as `data` says: it ends in time, with a set or with a failure of a few words.
    pub fn attack(&self, asked: Asked, data: &[u8]) {
        let choices = &mut Choices::new(data);
        let good = if let Asked::Instance = asked { choices.below(3) } else { 0 };
        let bytes = match asked {
            Asked::Program => choices.mutated(self::body(asked).as_bytes()),
            _ => response(asked, good, choices),
        };
        // A failure is as good an outcome as a set.
        let _ = self.check(asked, good, bytes);
    }

    /// The same with an answer that is as it should be: the stand-in is one.
    pub fn answer_well(&self, asked: Asked) -> Credentials {
        let good = if let Asked::Instance = asked { 2 } else { 0 };
        let bytes = match asked {
            Asked::Program => body(asked).into_bytes(),
            _ => response(asked, good, &mut Choices::new(&[])),
        };
        self.check(asked, good, bytes).unwrap_or_else(|failure| panic!("{asked:?}: {failure}"))
    }

    fn check(&self, asked: Asked, good: usize, bytes: Vec<u8>) -> Result<Credentials, String> {
        let answer = self.folder.path().join("answer");
        std::fs::write(&answer, &bytes).unwrap();
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) =
            Answer { bytes, good, asked: 0 };
        let (fetched, took) = self.runtime.block_on(async {
            let began = Instant::now();
            let fetching = async { self.source(asked, answer).fetch().await };
            let fetched = match asked {
                // The clock of the program cannot be changed.
                Asked::Program => fetching.await,
                _ => clock::run(fetching).await,
            };
            (fetched, began.elapsed())
        });
        assert!(took < LIMIT, "{asked:?} took {took:?}");
        match fetched {
            Ok(fetched) => Ok(fetched.credentials),
            Err(failure) => {
                let text = format!("{failure} {failure:?}");
                assert!(text.len() < LONGEST_TEXT, "{asked:?} has much to say: {}", text.len());
                Err(text)
            }
        }
    }

    fn source(&self, asked: Asked, answer: PathBuf) -> Box<dyn Source> {
        match asked {
            Asked::Sts => {
                let base = || async {
                    Credentials::new("AKIAIOSFODNN7EXAMPLE", "base", None, None, "base")
                };
                let role =
                    AssumeRole::new("arn:aws:iam::123456789012:role/app").region("us-east-1");
                let role = role.endpoint_url(&self.plain).credentials_provider("base", base);
                Box::new(role.max_attempts(1))
            }
            Asked::WebIdentity => Box::new(Provider::web_identity()),
            Asked::Instance => Box::new(Provider::imds()),
            Asked::SingleSignOn => {
                Box::new(Provider::sso(START_URL, "us-east-1", "123456789012", "reader"))
            }
            Asked::Container => Box::new(Provider::container()),
            Asked::Iot => {
                let pem = |text: &str| Pem::text(text);
                let (certificate, key) = (pem(&self.device.certificate), pem(&self.device.key));
                Box::new(IotCore::new(&self.secure, "app", certificate, key).ca(pem(&self.ca)))
            }
            Asked::Program => {
                Box::new(CredentialProcess::new(["/bin/cat", answer.to_str().unwrap()]))
            }
        }
    }
}

/// The bytes of an HTTP response: most often one with a valid head.
fn response(asked: Asked, good: usize, choices: &mut Choices) -> Vec<u8> {
    if choices.byte() % 8 == 7 {
        return choices.rest().to_vec();
    }
    let status = choices.one(&[200u16, 200, 200, 200, 400, 401, 403, 404, 418, 500, 503, 999]);
    let step = body_of_step(asked, good);
    let body = choices.mutated(step.as_bytes());
    let length = match choices.byte() % 8 {
        7 => choices.word().to_string(),
        _ => body.len().to_string(),
    };
    let extra = String::from_utf8_lossy(choices.bytes(64));
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Length: {length}\r\nContent-Type: text/xml\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 600\r\nConnection: close\r\nX-Extra: {extra}\r\n\r\n"
    );
    [head.as_bytes(), &body].concat()
}

/// What a good answer to the request number `step` holds.
fn body_of_step(asked: Asked, step: usize) -> String {
    match (asked, step) {
        (Asked::Instance, 0) => "session".to_owned(),
        (Asked::Instance, 1) => "web".to_owned(),
        _ => body(asked),
    }
}

fn body(asked: Asked) -> String {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3600);
    let expiration = DateTime::from_secs(hour.as_secs() as i64).fmt(Format::DateTime).unwrap();
    let lower = |expiration: String| {
        format!(
            r#""accessKeyId":"ASIA1","secretAccessKey":"secret","sessionToken":"token",
            "expiration":{expiration}"#
        )
    };
    let xml = |action: &str| {
        format!(
            r#"<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
            <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/app/web</Arn>
            <AssumedRoleId>AROA:web</AssumedRoleId></AssumedRoleUser><Credentials>
            <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
            <SessionToken>token</SessionToken><Expiration>{expiration}</Expiration></Credentials>
            </{action}Result><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata>
            </{action}Response>"#
        )
    };
    match asked {
        Asked::Sts => xml("AssumeRole"),
        Asked::WebIdentity => xml("AssumeRoleWithWebIdentity"),
        Asked::SingleSignOn => {
            format!(r#"{{"roleCredentials":{{{}}}}}"#, lower(hour.as_millis().to_string()))
        }
        Asked::Iot => format!(r#"{{"credentials":{{{}}}}}"#, lower(format!("{expiration:?}"))),
        Asked::Instance | Asked::Container | Asked::Program => format!(
            r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z","Version":1,
            "AccessKeyId":"ASIA1","SecretAccessKey":"secret","Token":"token","SessionToken":"token",
            "Expiration":"{expiration}"}}"#
        ),
    }
}

/// Answers each connection.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, answer: Arc<Mutex<Answer>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, answer) = (tls.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            match tls {
                Some(tls) => serve(tls.accept(stream).await?, &answer).await,
                None => serve(stream, &answer).await,
            }
        });
    }
}

/// Answers one request, and closes the connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &Mutex<Answer>,
) -> io::Result<()> {
    read_request(&mut stream).await?;
    let bytes = {
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        let step = answer.asked;
        answer.asked += 1;
        match step < answer.good {
            // The instance is asked for its token first, and then for the role.
            true => response(Asked::Instance, step, &mut Choices::new(&[])),
            false => answer.bytes.clone(),
        }
    };
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// Reads the head of a request, and its body as far as the head tells its length.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            if body.len() >= length.and_then(|text| text.trim().parse().ok()).unwrap_or(0) {
                return Ok(());
            }
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            n => request.extend_from_slice(&chunk[..n]),
        }
    }
}
