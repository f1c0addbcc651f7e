//! The agents of a container and of an instance, when they refuse: what the user is told.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use shmcreds::testing::LocalSts;

use crate::harness::*;

const SET: &str = r#"{"Code":"Success","AccessKeyId":"ASIAAGENT","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#;

/// Answers each request with the next of `answers`, the last again and again; gives its address, and what it was
/// asked.
pub fn agent(answers: Vec<(u16, &'static str)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            log.lock().unwrap().push(first);
            let (status, body) = answers[number.min(answers.len() - 1)];
            let head = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n",
                body.len()
            );
            let _ = (&stream).write_all(format!("{head}\r\n{body}").as_bytes());
        }
    });
    (url, asked)
}

/// `shmcreds exec` with these variables; its exit code, and all that it said.
fn exec_with(option: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let sts = LocalSts::start().unwrap();
    let mut command = shmcreds(&sts);
    command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "false");
    command.envs(variables.iter().copied());
    command.args([
        "exec",
        "--deadline",
        "3",
        "--name",
        &name("agent"),
        option,
        "--",
        "/bin/echo",
        "ran",
    ]);
    let output = command.output().unwrap();
    (code(&output), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_refusal_of_the_containers_agent_is_told_in_its_words() {
    let reason = "(AccessDeniedException): EKS does not have permissions to assume the role";
    for (status, class) in [(403, "(terminal)"), (404, "(misconfigured)")] {
        let (url, _) = agent(vec![(status, reason)]);
        let full = format!("{url}/v1/credentials?secret=hush");
        let (code, said) =
            exec_with("--container", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &full)]);
        assert_eq!(code, 69, "{said}");
        let status = format!("/v1/credentials answered with HTTP status {status}");
        assert!(said.contains(&status) && said.contains(reason) && said.contains(class), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn an_agent_that_stumbles_once_is_asked_again() {
    let (url, asked) = agent(vec![(500, "oops"), (200, SET)]);
    let (code, said) = exec_with("--container", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ran"), "{said}");
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[test]
fn a_container_without_an_address_or_a_token_is_told_which_variable() {
    let (code, said) = exec_with("--container", &[]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("neither AWS_CONTAINER_CREDENTIALS_FULL_URI nor"), "{said}");
    let (url, asked) = agent(vec![(200, SET)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hush\n").unwrap();
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap());
    let address = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    let (code, said) = exec_with("--container", &[address, token]);
    assert_eq!(code, 69, "{said}");
    assert!(
        said.contains(token.1) && said.contains("line break") && !said.contains("hush"),
        "{said}"
    );
    assert_eq!(asked.lock().unwrap().len(), 0);
}

#[test]
fn an_instance_without_a_role_and_an_address_that_is_none_are_named() {
    // The session's token first, and then no role.
    let (url, _) = agent(vec![(404, "")]);
    let (code, said) = exec_with("--imds", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&url) && said.contains("(misconfigured)"), "{said}");
    let (code, said) =
        exec_with("--imds", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254")]);
    assert_eq!(code, 69, "{said}");
    assert!(
        said.contains("(AWS_EC2_METADATA_SERVICE_ENDPOINT)") && !said.contains("panic"),
        "{said}"
    );
}

#[test]
fn an_instance_that_knows_version_1_only_is_asked_by_it() {
    let answers = vec![(405, ""), (200, "web"), (200, SET)];
    let (url, asked) = agent(answers.clone());
    let address = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    let (code, said) = exec_with("--imds", &[address]);
    assert_eq!((code, said.as_str()), (0, "ran\n"));
    assert_eq!(asked.lock().unwrap().len(), 3);
    let (url, asked) = agent(answers);
    let address = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    let (code, said) = exec_with("--imds", &[address, ("AWS_EC2_METADATA_V1_DISABLED", "true")]);
    assert_eq!(code, 69, "{said}");
    let told = "gave no session token (HTTP status 405), and AWS_EC2_METADATA_V1_DISABLED disables version 1";
    assert!(said.contains(told) && said.contains("(misconfigured)"), "{said}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

/// The SHA-256 of [`LOGIN`].
const LOGIN_CACHE: &str = "0ea03fbb86266908786ec00fead68e6efc82077e8b31cb39b90d5ca40cd87a66";
const LOGIN: &str = "arn:aws:iam::123456789012:user/jo";

/// What `aws login` writes; the key is of the SDK's documentation.
fn login_session(expires: &str) -> String {
    let key = "-----BEGIN EC PRIVATE KEY-----\\nMHcCAQEEIFDZHUzOG1Pzq+6F0mjMlOSp1syN9LRPBuHMoCFXTcXhoAoGCCqGSM49\\n\
               AwEHoUQDQgAE9qhj+KtcdHj1kVgwxWWWw++tqoh7H7UHs7oXh8jBbgF47rrYGC+t\\n\
               djiIaHK3dBvvdE7MGj5HsepzLm3Kj91bqA==\\n-----END EC PRIVATE KEY-----\\n";
    format!(
        r#"{{"accessToken":{{"accessKeyId":"ASIACACHED","secretAccessKey":"s","sessionToken":"t",
        "accountId":"123456789012","expiresAt":"{expires}"}},"tokenType":"aws_sigv4","refreshToken":"r",
        "clientId":"arn:aws:signin:::devtools/same-device","dpopKey":"{key}"}}"#
    )
}

#[test]
fn the_session_of_aws_login_is_used_and_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = file(
        "config",
        &format!("[profile browser]\nlogin_session = {LOGIN}\nregion = eu-west-1\n"),
    );
    let renewed = r#"{"accessToken":{"accessKeyId":"ASIARENEWED","secretAccessKey":"s","sessionToken":"t"},
        "tokenType":"urn:aws:params:oauth:token-type:access_token_sigv4","expiresIn":900,"refreshToken":"r2"}"#;
    let (url, asked) = agent(vec![(200, renewed)]);
    let run = || {
        let sts = LocalSts::start().unwrap();
        let mut command = shmcreds(&sts);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_REGION");
        command.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command
            .env("AWS_LOGIN_CACHE_DIRECTORY", folder.path())
            .env("AWS_ENDPOINT_URL_SIGNIN", &url);
        command.args([
            "exec",
            "--deadline",
            "3",
            "--name",
            &name("login"),
            "--profile",
            "browser",
            "--",
        ]);
        let output =
            command.args(["/bin/sh", "-c", "$SHMCREDS credentials $SHMCREDS_SESSION"]).output();
        let output = output.unwrap();
        text(&output.stdout) + &text(&output.stderr)
    };
    let cache = format!("{LOGIN_CACHE}.json");
    file(&cache, &login_session("2999-01-01T00:00:00Z"));
    let said = run();
    assert!(said.contains("ASIACACHED"), "{said}");
    assert_eq!(asked.lock().unwrap().len(), 0);
    file(&cache, &login_session("2020-01-01T00:00:00Z"));
    let said = run();
    assert!(said.contains("ASIARENEWED"), "{said}");
    assert!(asked.lock().unwrap()[0].starts_with("POST /v1/token"));
    file(&cache, "{}");
    let said = run();
    assert!(
        said.contains("(terminal)") && said.contains("run `aws login --profile browser`"),
        "{said}"
    );
}
