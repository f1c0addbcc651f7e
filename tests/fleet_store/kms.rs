//! Keys of a shared set that KMS decrypts. A process stands in for KMS.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use aws_credential_types::Credentials;
use aws_smithy_types::base64;
use serde_json::{Value, json};
use shmcreds::{FleetKeys, FleetRole, KmsKeys, Refresh, SharedSession, testing::LocalSts};
use tempfile::TempDir;

use crate::{
    budget::fleet,
    command_line::exec,
    harness::{BINARY, code, text},
    memory,
    server::Server,
    shared_set::{KEY, OTHER, a_set, host, open, sharing, status},
    support::{self, BASE_SECRET, assumed, child, name, role},
};

const KMS_KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const BASE_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// Stands in for KMS. A ciphertext is a word that says what becomes of it.
struct Kms {
    _process: support::Child,
    url: String,
    folder: TempDir,
}

impl Kms {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = folder.path().join("log");
        let process = child(|_| {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Kms { _process: process, url, folder }
    }

    /// A file with these ciphertexts.
    fn file(&self, words: &[&str]) -> PathBuf {
        let path = self.folder.path().join(words.join("-"));
        let lines: Vec<String> = words.iter().map(base64::encode).collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        path
    }

    /// The requests so far: action, who signed for which service, and the body.
    fn requests(&self) -> Vec<(String, String, Value)> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let request = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let mut next = || parts.next().unwrap().to_owned();
            (next(), next(), serde_json::from_str(&next()).unwrap())
        };
        log.lines().map(request).collect()
    }
}

/// Answers one request.
fn serve(stream: TcpStream, log: &Path) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut action, mut signer, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => action = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            "authorization" => {
                let scope =
                    value.split("Credential=").nth(1).and_then(|rest| rest.split(',').next());
                signer = scope.unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
    log.write_all(format!("{action} {signer} {body}\n").as_bytes()).unwrap();
    let word = base64::decode(body["CiphertextBlob"].as_str().unwrap()).unwrap();
    let context = &body["EncryptionContext"]["fleet"];
    let refused = |code: &str| (400, json!({ "__type": code, "message": "no" }));
    let plain = |bytes: &[u8]| {
        (
            200,
            json!({ "KeyId": KMS_KEY, "Plaintext": base64::encode(bytes), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" }),
        )
    };
    let (status, answer) = match (word.as_slice(), signer.starts_with(BASE_KEY)) {
        (_, false) => refused("AccessDeniedException"),
        (b"bytes", _) if context == "web" => plain(&bytes(KEY)),
        (b"digits", _) if context == "web" => plain(format!("{KEY}\n").as_bytes()),
        (b"other", _) if context == "web" => plain(OTHER.as_bytes()),
        (b"short", _) => plain(&[1; 31]),
        (b"nothing", _) => (200, json!({ "KeyId": KMS_KEY })),
        (b"proxy", _) => (502, json!("a gateway")),
        (b"silence", _) => loop {
            std::thread::park();
        },
        _ => refused("InvalidCiphertextException"),
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n"
    );
    let text = format!("{head}Content-Length: {}\r\n\r\n{answer}", answer.len());
    let _ = (&stream).write_all(text.as_bytes());
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |place| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn keys(kms: &Kms, words: &[&str]) -> FleetKeys {
    KmsKeys::file(kms.file(words)).key(KMS_KEY).encryption_context("fleet", "web").into()
}

/// What a host with these keys says of its set: in a process of its own.
fn with(
    kms: &Kms,
    server: &Server,
    sts: &LocalSts,
    words: &[&str],
    work: fn(&SharedSession),
) -> String {
    child(|report| {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var("AWS_ENDPOINT_URL_KMS", &kms.url) };
        let fleet = fleet(server).hosts(1).share_set("web", keys(kms, words));
        let session = open(role(sts), fleet);
        let set = a_set(&session).access_key_id().to_owned();
        work(&session);
        let fleet = status(&session);
        report.say(format!("{set} {} {}", fleet.role.as_str(), fleet.unusable));
    })
    .finish()
}

pub fn kms_decrypts_the_keys() {
    let (server, sts, kms) = (Server::start(), LocalSts::fork().unwrap(), Kms::start());
    let key = memory::masked(bytes(KEY));
    assert!(!memory::is_in(memory::private(), &key));
    let first = with(&kms, &server, &sts, &["bytes"], |_| {
        let key = memory::masked(bytes(KEY));
        assert!(!memory::is_in(memory::private(), &key), "the key stays in memory");
        // What is in memory, the search finds.
        let copy = bytes(KEY);
        assert!(memory::is_in(memory::private(), &key), "{}", copy.len());
    });
    let set = first.strip_suffix(" leader 0").unwrap_or_else(|| panic!("{first}"));
    for words in [&["digits"][..], &["other", "bytes"], &["bytes", "other"]] {
        let said = with(&kms, &server, &sts, words, |_| ());
        assert_eq!(said, format!("{set} follower 0"), "{words:?}");
    }
    // The same key, from a variable.
    let alike = |session: &SharedSession| {
        assert_eq!((status(session).role, status(session).unusable), (FleetRole::Follower, 0));
        a_set(session).access_key_id().to_owned()
    };
    let read = |session: &SharedSession| {
        a_set(session);
        alike(session)
    };
    assert_eq!(host(role(&sts), || sharing(&server, KEY), read), set);
    let requests = kms.requests();
    assert_eq!((requests.len(), assumed(&sts)), (6, 1), "{requests:?}");
    for (action, signer, body) in &requests {
        assert_eq!(action, "TrentService.Decrypt");
        // The identity that assumes the role asks, in the Region of the key.
        assert!(signer.starts_with(&format!("{BASE_KEY}/")), "{signer}");
        assert!(signer.ends_with("/eu-west-1/kms/aws4_request"), "{signer}");
        assert_eq!(
            (&body["KeyId"], &body["EncryptionContext"]),
            (&json!(KMS_KEY), &json!({ "fleet": "web" }))
        );
    }
    // A refresher that is a program of its own has the same keys.
    server.say(&["DEL", crate::shared_set::SET], "1");
    let said = child(|report| {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var("AWS_ENDPOINT_URL_KMS", &kms.url) };
        let base = Credentials::new(BASE_KEY, BASE_SECRET, None, None, "base");
        let session = SharedSession::builder(name("kms"))
            .source(role(&sts).base_keys(base))
            .refresher_program(BINARY)
            .refresh(Refresh::Eager)
            .fleet(fleet(&server).hosts(1).share_set("web", keys(&kms, &["bytes"])))
            .create()
            .unwrap();
        a_set(&session);
        report.say(format!("{} {}", status(&session).given, status(&session).unusable));
    });
    assert_eq!(said.finish(), "1 0");
}

/// Without its keys a host goes on alone, and says why.
pub fn a_failure_of_kms() {
    let (server, sts, kms) = (Server::start(), LocalSts::fork().unwrap(), Kms::start());
    let url = server.url();
    let context = "fleet=web";
    let run = |file: &Path, context: &str, variables: &[(&str, &str)]| {
        let name = name("kms");
        let options = [
            "-v",
            "--fleet",
            &url,
            "--fleet-set",
            "web",
            "--fleet-key-kms",
            file.to_str().unwrap(),
            "--fleet-kms-context",
            context,
        ];
        let script = format!("\"$SHMCREDS\" status {name}");
        let mut command = exec(&sts, &name, &options, &script);
        command.env("AWS_ENDPOINT_URL_KMS", &kms.url).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (code(&output), text(&output.stderr) + &text(&output.stdout))
    };
    let (exit, said) = run(&kms.file(&["bytes"]), context, &[]);
    assert!(exit == 0 && said.contains("leader, sets taken 0, given 1, unusable 0"), "{said}");
    let closed = [("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")];
    for (words, context, variables, problem) in [
        (&["bytes"][..], "fleet=api", &[][..], "InvalidCiphertextException"),
        (&["bytes", "junk"], context, &[], "InvalidCiphertextException"),
        (&["short"], context, &[], "KMS decrypted something that is no key"),
        (&["nothing"], context, &[], "gave no plaintext"),
        (&["proxy"], context, &[], "HTTP status 502"),
        (&["silence"], context, &[], "KMS gave no answer within 3s"),
        (&["bytes"], context, &closed[..], "no answer from KMS at http://127.0.0.1:1"),
    ] {
        let before = assumed(&sts);
        let (exit, said) = run(&kms.file(words), context, variables);
        assert_eq!((exit, assumed(&sts)), (0, before + 1), "{words:?}: {said}");
        assert!(
            said.contains(", sets taken 0, given 0, unusable 1,") && said.contains(problem),
            "{words:?}: {said}"
        );
        assert!(said.contains("the file of encrypted keys "), "{said}");
        assert!(!said.contains(&KEY[..16]) && !said.contains(BASE_SECRET), "{said}");
    }
    // The identity of the program may not decrypt.
    let denied = [("AWS_ACCESS_KEY_ID", "AKIADENIEDDENIEDDENI")];
    let (_, said) = run(&kms.file(&["bytes"]), context, &denied);
    assert!(said.contains("AccessDeniedException"), "{said}");
    // What can be seen before a request is a mistake.
    for (file, context, problem) in [
        (Path::new("/no/such/file"), context, "the file of encrypted keys /no/such/file: "),
        (Path::new("/dev/null"), context, "/dev/null"),
        (&kms.file(&["bytes"]), "fleet", "must be KEY=VALUE"),
    ] {
        let (exit, said) = run(file, context, &[]);
        assert!(exit != 0 && said.contains(problem), "{said}");
    }
}
