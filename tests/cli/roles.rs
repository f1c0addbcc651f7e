//! `serve --roles`: many roles behind one endpoint, each with a token of its own.

use std::{
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use aws_credential_types::Credentials;
use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::Value;
use shmcreds::{
    SharedRoles,
    testing::{Fault, LocalSts, Times, is_set_of},
};
use tempfile::TempDir;

use crate::harness::*;

pub const TENANT: &str = "arn:aws:iam::123456789012:role/tenant";

/// A directory with the roles file, and with the token files.
pub struct Folder(pub TempDir);

impl Folder {
    /// The roles, by name and external id, all with the same ARN. `top` is for the top of the file.
    pub fn new(top: &str, roles: &[(&str, &str)]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.tokens()).unwrap();
        folder.write(top, roles);
        folder
    }

    pub fn write(&self, top: &str, roles: &[(&str, &str)]) {
        let mut text = format!("token-directory = {:?}\n{top}\n", self.tokens());
        for (name, id) in roles {
            text += &format!(
                "[role.{name}]\nrole-arn = \"{TENANT}\"\nrole-session-name = \"test\"\nexternal-id = \"{id}\"\n"
            );
        }
        std::fs::write(self.file(), text).unwrap();
    }

    pub fn file(&self) -> PathBuf {
        self.0.path().join("roles.toml")
    }

    pub fn tokens(&self) -> PathBuf {
        self.0.path().join("tokens")
    }

    pub fn token(&self, role: &str) -> String {
        std::fs::read_to_string(self.tokens().join(role)).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.tokens()).unwrap().flatten();
        let mut names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn serve_roles(sts: &LocalSts, name: &str, file: &Path) -> Command {
    let mut command = shmcreds(sts);
    command.args(["serve", "--name", name, "--roles"]).arg(file);
    command
}

pub fn served_roles(sts: &LocalSts, name: &str, folder: &Folder) -> (Running, String) {
    let mut running = Running::start(serve_roles(sts, name, &folder.file()));
    let url = running.line();
    assert!(url.ends_with("/v1/roles/"), "{url}");
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    (running, url)
}

/// What the endpoint answers at `path`: the status and the body.
pub fn ask(url: &str, path: &str, token: &str) -> (u16, Value) {
    let (status, answer) = get(url, path, &format!("Authorization: {token}\r\n"));
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The set of a role, asked for until it is there.
pub fn set_of(url: &str, path: &str, token: &str) -> Value {
    let mut set = Value::Null;
    until("there is a set", || {
        let (status, body) = ask(url, path, token);
        assert!(status == 200 || body["code"] == "NotReady", "{status} {body}");
        set = body;
        status == 200
    });
    set
}

pub fn is_of(set: &Value, id: &str) -> bool {
    let text = |name: &str| set[name].as_str().unwrap().to_owned();
    let token = set["Token"].as_str().or(set["SessionToken"].as_str()).map(str::to_owned);
    let set = Credentials::new(text("AccessKeyId"), text("SecretAccessKey"), token, None, "test");
    let inputs = [("RoleArn", TENANT), ("RoleSessionName", "test"), ("ExternalId", id)];
    is_set_of(&set, &inputs)
}

#[test]
fn two_tenants_with_one_role_get_their_own_sets() {
    let sts = LocalSts::start().unwrap();
    let name = name("tenants");
    let folder = Folder::new("", &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")]);
    let (mut running, url) = served_roles(&sts, &name, &folder);
    assert_eq!(assumed(&sts), 0, "no role is fetched before it is asked for");
    let (alpha, beta) = (folder.token("alpha"), folder.token("beta"));
    for role in ["alpha", "beta"] {
        let found = folder.tokens().join(role).metadata().unwrap();
        assert_eq!((found.mode() & 0o777, found.len()), (0o600, 64));
    }
    let set = set_of(&url, "/v1/roles/alpha", &alpha);
    assert!(is_of(&set, "id-of-alpha"));
    assert_eq!(set["AccountId"], "123456789012");
    assert!(is_of(&set_of(&url, "/v1/roles/beta", &beta), "id-of-beta"));
    assert_eq!(set_of(&url, "/v1/roles/alpha", &alpha), set, "it is shared");
    assert_eq!(assumed(&sts), 2);
    // A token is good for its own role. What does not exist is refused as what belongs to others.
    for (path, token, status, code) in [
        ("/v1/roles/alpha", beta.as_str(), 403, "AccessDenied"),
        ("/v1/roles/beta", &alpha, 403, "AccessDenied"),
        ("/v1/roles/beta?valid_for=60", &alpha, 403, "AccessDenied"),
        ("/v1/roles/alpha", "", 403, "AccessDenied"),
        ("/v1/roles/alpha", &alpha[1..], 403, "AccessDenied"),
        ("/v1/roles/alpha", &format!("{alpha}0"), 403, "AccessDenied"),
        ("/v1/roles/gamma", &alpha, 403, "AccessDenied"),
        ("/v1/roles/", &alpha, 403, "AccessDenied"),
        ("/v1/roles/alpha/", &alpha, 403, "AccessDenied"),
        ("/v1/roles/alpha/../beta", &alpha, 403, "AccessDenied"),
        ("/v1/roles/alpha%00", &alpha, 403, "AccessDenied"),
        ("/v1/roles/%ff", &alpha, 400, "InvalidInput"),
        (&format!("/v1/role-arn/{TENANT}"), &alpha, 403, "AccessDenied"),
        ("/v1/roles", &alpha, 404, "NotFound"),
        ("/credentials", &alpha, 404, "NotFound"),
        ("/", &alpha, 404, "NotFound"),
    ] {
        let (found, body) = ask(&url, path, token);
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{path} {body}");
        assert!(!body.to_string().contains("beta"), "{body}");
    }
    assert_eq!(ask(&url, "/v1/roles/%61lpha", &alpha).1, set);
    let (status, body) = ask(&url, "/v1/roles/alpha?valid_for=30m", &alpha);
    assert_eq!((status, &body), (200, &set));
    assert_eq!(ask(&url, "/v1/roles/alpha?valid_for=13h", &alpha).1["code"], "TooShort");
    // A program of the library reads the same sets.
    let pool = SharedRoles::attach(&name).unwrap();
    assert_eq!(pool.status().unwrap().entries().len(), 2);
    drop(pool);
    running.signal(Signal::SIGTERM);
    running.silence();
    assert_eq!(running.wait(), 0);
    assert!(folder.names().is_empty());
    assert_gone(&name);
}

#[test]
fn roles_by_arn_need_a_pattern_and_their_token() {
    let sts = LocalSts::start().unwrap();
    let name = name("arns");
    let top =
        "allow = [\"arn:aws:iam::*:role/tenant\", \"arn:aws:iam::*:role/team/*\"]\ncapacity = 2";
    let folder = Folder::new(top, &[("alpha", "id-of-alpha")]);
    let any = folder.0.path().join("any");
    let text = std::fs::read_to_string(folder.file()).unwrap();
    let table = format!("[role-arn]\nrole-session-name = \"broker\"\ntoken-file = {any:?}\n");
    std::fs::write(folder.file(), text + &table).unwrap();
    let (_running, url) = served_roles(&sts, &name, &folder);
    let (token, alpha) = (std::fs::read_to_string(&any).unwrap(), folder.token("alpha"));
    let path = |arn: &str| format!("/v1/role-arn/{arn}");
    let set = set_of(&url, &path(TENANT), &token);
    let call = &sts.calls().unwrap()[0];
    assert_eq!(call.parameters["RoleSessionName"], "broker");
    assert!(!call.parameters.contains_key("ExternalId"), "it is another role than alpha");
    assert_eq!(
        set_of(&url, "/v1/role-arn/arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Ftenant", &token),
        set
    );
    set_of(&url, &path("arn:aws:iam::123456789012:role/team/web/app"), &token);
    for (path, token, status, code) in [
        (path(TENANT), &alpha, 403, "AccessDenied"),
        (path("arn:aws:iam::123456789012:role/admin"), &alpha, 403, "AccessDenied"),
        (path("arn:aws:iam::123456789012:role/admin"), &token, 403, "NotAllowed"),
        (path("arn:aws:iam::123456789012:user/team/x"), &token, 403, "NotAllowed"),
        (path("tenant"), &token, 403, "NotAllowed"),
        (path("arn:aws:iam::1:role/tenant"), &token, 400, "InvalidInput"),
        ("/v1/roles/alpha".to_owned(), &token, 403, "AccessDenied"),
    ] {
        let (found, body) = ask(&url, &path, token);
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{path} {body}");
        assert!(!body.to_string().contains("team/*"), "no pattern is told to a client: {body}");
    }
    // The capacity of the file holds: a third role takes the place of another one.
    assert!(is_of(&set_of(&url, "/v1/roles/alpha", &alpha), "id-of-alpha"));
    let pool = SharedRoles::attach(&name).unwrap().status().unwrap();
    assert_eq!((pool.capacity(), pool.entries().len(), pool.evictions()), (2, 2, 1));
}

#[test]
fn a_failing_tenant_is_told_and_others_go_on() {
    let sts = LocalSts::start().unwrap();
    let name = name("failing");
    let folder = Folder::new("", &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")]);
    let (_running, url) = served_roles(&sts, &name, &folder);
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    let alpha = || ask(&url, "/v1/roles/alpha", &folder.token("alpha"));
    let mut told = Value::Null;
    until("the refusal is told", || {
        told = alpha().1;
        told["code"] == "Unavailable"
    });
    assert!(told["message"].as_str().unwrap().contains("AccessDenied"), "{told}");
    assert!(is_of(&set_of(&url, "/v1/roles/beta", &folder.token("beta")), "id-of-beta"));
    assert_eq!(assumed(&sts), 2, "the refusal is not asked for again at once");
}

/// `credentials --role`, as a `credential_process`.
fn helper(sts: &LocalSts, name: &str, role: &str, more: &[&str]) -> (i32, Value, String) {
    let output =
        shmcreds(sts).args(["credentials", name, "--role", role]).args(more).output().unwrap();
    let set = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (code(&output), set, text(&output.stderr))
}

#[test]
fn a_program_of_the_user_gets_a_role_by_its_name() {
    let sts = LocalSts::start().unwrap();
    let name = name("helper");
    let folder = Folder::new("", &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")]);
    let (code, _, said) = helper(&sts, &name, "alpha", &[]);
    assert!(code == 69 && said.contains("no process of this user serves the roles"), "{said}");
    let (running, url) = served_roles(&sts, &name, &folder);
    let (code, set, said) = helper(&sts, &name, "beta", &[]);
    assert!(code == 0 && is_of(&set, "id-of-beta") && set["Version"] == 1, "{said}");
    let served = set_of(&url, "/v1/roles/beta", &folder.token("beta"));
    assert_eq!(served["AccessKeyId"], set["AccessKeyId"]);
    assert_eq!(served["Expiration"], set["Expiration"]);
    assert_eq!(helper(&sts, &name, "beta", &["--valid-for", "30m"]).1, set);
    let (code, _, said) = helper(&sts, &name, "beta", &["--valid-for", "13h"]);
    assert!(
        code == 69 && said.contains("valid for 46800 s") && said.contains("raise duration"),
        "{said}"
    );
    let (code, _, said) = helper(&sts, &name, "no/role", &[]);
    assert!(code == 69 && said.contains("the roles are: alpha, beta"), "{said}");
    let second = serve_roles(&sts, &name, &folder.file()).output().unwrap();
    let said = text(&second.stderr);
    assert_eq!(crate::harness::code(&second), 73, "{said}");
    assert!(said.contains(&format!("process {} serves the roles", running.pid())), "{said}");
    assert_eq!(folder.names(), ["alpha", "beta"], "it has not touched the files of the first one");
}

/// A process of another user may have the name of the socket for programs of this user, and accept nobody.
#[test]
fn a_socket_that_accepts_nobody_delays_little() {
    let (sts, name) = (LocalSts::start().unwrap(), name("squatted"));
    let squatted = format!("shmcreds-roles-{}-{name}", geteuid());
    let squatted = SocketAddr::from_abstract_name(squatted).unwrap();
    let listener = UnixListener::bind_addr(&squatted).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _fills_the_queue = UnixStream::connect_addr(&squatted).unwrap();
    let folder = Folder::new("", &[("alpha", "id-of-alpha")]);
    let (mut running, url) = served_roles(&sts, &name, &folder);
    assert!(is_of(&set_of(&url, "/v1/roles/alpha", &folder.token("alpha")), "id-of-alpha"));
    let (code, _, said) = helper(&sts, &name, "alpha", &[]);
    assert!(code == 69 && said.contains("accepts no connection"), "{code}: {said}");
    running.signal(Signal::SIGTERM);
    let mut log = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("has the socket for this name"), "{log}");
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_killed_one_is_started_again() {
    let sts = LocalSts::start().unwrap();
    let name = name("killed");
    let folder = Folder::new("", &[("alpha", "id-of-alpha")]);
    let (mut first, url) = served_roles(&sts, &name, &folder);
    let old = folder.token("alpha");
    let set = set_of(&url, "/v1/roles/alpha", &old);
    // A reader keeps the pool.
    let reader = SharedRoles::attach(&name).unwrap();
    first.signal(Signal::SIGKILL);
    first.wait_for_end();
    let (mut second, url) = served_roles(&sts, &name, &folder);
    let token = folder.token("alpha");
    assert_ne!(token, old, "a token does not outlive its process");
    assert_eq!(ask(&url, "/v1/roles/alpha", &old).0, 403);
    assert_eq!(set_of(&url, "/v1/roles/alpha", &token), set, "the pool goes on");
    assert_eq!(assumed(&sts), 1);
    drop(reader);
    second.signal(Signal::SIGKILL);
    second.wait_for_end();
    // Now nobody has it.
    let (third, url) = served_roles(&sts, &name, &folder);
    assert!(is_of(&set_of(&url, "/v1/roles/alpha", &folder.token("alpha")), "id-of-alpha"));
    third.signal(Signal::SIGTERM);
    assert_eq!(third.wait(), 0);
    assert!(folder.names().is_empty());
    assert_gone(&name);
}

/// What the Unix socket answers: the status.
fn ask_unix(socket: &Path, path: &str, token: &str) -> u16 {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    text(&answer).split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Being the right user does not take the place of the token of a role.
#[test]
fn a_unix_socket_asks_for_the_token_too() {
    let sts = LocalSts::start().unwrap();
    let name = name("socket");
    let folder = Folder::new("", &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")]);
    let socket = folder.0.path().join("socket");
    let mut command = serve_roles(&sts, &name, &folder.file());
    command.arg("--unix").arg(&socket);
    let mut running = Running::start(command);
    let url = running.line();
    assert_eq!(running.line(), format!("unix:{}", socket.display()));
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let alpha = folder.token("alpha");
    set_of(&url, "/v1/roles/alpha", &alpha);
    for (path, token, status) in [
        ("/v1/roles/alpha", alpha.as_str(), 200),
        ("/v1/roles/alpha", "", 403),
        ("/v1/roles/beta", &alpha, 403),
        ("/v1/roles", &alpha, 404),
    ] {
        assert_eq!(ask_unix(&socket, path, token), status, "{path}");
    }
}

#[test]
fn who_may_read_a_token_file() {
    let sts = LocalSts::start().unwrap();
    let folder = Folder::new("", &[("alpha", "id-of-alpha")]);
    let text_of = std::fs::read_to_string(folder.file()).unwrap();
    let with = |lines: &str| std::fs::write(folder.file(), format!("{text_of}{lines}")).unwrap();
    with("token-group = 61251\ntoken-owner = 61250\n");
    let name = name("owner");
    if geteuid().is_root() {
        let (_running, _) = served_roles(&sts, &name, &folder);
        let found = folder.tokens().join("alpha").metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (61250, 61251));
        assert_eq!(found.permissions().mode() & 0o777, 0o640);
    } else {
        let output = serve_roles(&sts, &name, &folder.file()).output().unwrap();
        let said = text(&output.stderr);
        assert!(code(&output) == 73 && said.contains("CAP_CHOWN"), "{said}");
    }
}

#[test]
fn what_the_file_gets_wrong_is_told() {
    let sts = LocalSts::start().unwrap();
    let name = name("wrong");
    let folder = Folder::new("", &[("alpha", "id-of-alpha")]);
    let right = std::fs::read_to_string(folder.file()).unwrap();
    let missing = folder.0.path().join("missing");
    for (text_of, status, says) in [
        (
            format!("{right}externel-id = \"hush\"\n"),
            65,
            "line 7: role.alpha: \"externel-id\" is no setting",
        ),
        (
            format!("{right}duration-seconds = 7\n"),
            65,
            "role.alpha: duration is 7s, must be 900 to 43200",
        ),
        (format!("{right}tag = [\"aws:x=hush\"]\n"), 65, "role.alpha: tag key \"aws:x\""),
        (right.replace("token-directory", "# "), 65, "role.alpha: it has no token-file"),
        (
            format!("{right}token-file = {missing:?}\n").replace("missing", "missing/token"),
            73,
            "role.alpha: token-file",
        ),
        (format!("{right}token-file = {:?}\n", folder.tokens()), 73, "role.alpha: token-file"),
        ("capacity = 0\n".to_owned(), 64, "capacity: is 0; it must be 1 to 16000"),
    ] {
        std::fs::write(folder.file(), &text_of).unwrap();
        let output = serve_roles(&sts, &name, &folder.file()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), status, "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        assert!(!said.contains("hush"), "{said}");
        assert!(folder.names().is_empty());
        assert_gone(&name);
    }
    let output = serve_roles(&sts, &name, &missing).output().unwrap();
    assert_eq!(code(&output), 66, "{}", text(&output.stderr));
}
