//! `[grant.NAME]`: roles by their ARN, with a token that is good for the patterns of one tenant alone.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::Value;
use shmcreds::{
    SharedRoles,
    testing::{LocalSts, Settings},
};

use crate::{harness::*, roles::*};

const OF_ALPHA: &str = "arn:aws:iam::123456789012:role/alpha-web";
const OF_BETA: &str = "arn:aws:iam::123456789012:role/beta-web";

fn grant(name: &str, pattern: &str, more: &str) -> String {
    format!(
        "[grant.{name}]\nallow = \"arn:aws:iam::*:role/{pattern}\"\nrole-session-name = \"{name}\"\n{more}\n"
    )
}

fn path(arn: &str) -> String {
    format!("/v1/role-arn/{arn}")
}

/// The session name of the last call.
fn caller(sts: &LocalSts) -> String {
    sts.calls().unwrap().last().unwrap().parameters["RoleSessionName"].clone()
}

#[test]
fn a_token_is_good_for_the_patterns_of_its_grant() {
    let sts = LocalSts::start().unwrap();
    let name = name("grants");
    let both =
        grant("alpha", "alpha-*", "") + &grant("beta", "beta-*", "external-id = \"id-of-beta\"");
    let folder = Folder::new(&both, &[("alpha", "id-of-alpha")]);
    let (running, url) = served_roles(&sts, &name, &folder);
    assert_eq!(folder.names(), ["alpha", "grant.alpha", "grant.beta"]);
    let found = folder.tokens().join("grant.alpha").metadata().unwrap();
    assert_eq!((found.mode() & 0o777, found.len()), (0o600, 64));
    let [alpha, beta] = ["grant.alpha", "grant.beta"].map(|file| folder.token(file));
    let of_alpha = set_of(&url, &path(OF_ALPHA), &alpha);
    assert_eq!(caller(&sts), "alpha");
    set_of(&url, &path(OF_BETA), &beta);
    assert_eq!(caller(&sts), "beta");
    assert_eq!(sts.calls().unwrap()[1].parameters["ExternalId"], "id-of-beta");
    let encoded = path(OF_ALPHA).replace(':', "%3A").replace("role/", "role%2F");
    assert_eq!(set_of(&url, &encoded, &alpha), of_alpha);
    let named = folder.token("alpha");
    for (path, token, code) in [
        (path(OF_BETA), alpha.as_str(), "NotAllowed"),
        (path(OF_ALPHA), &beta, "NotAllowed"),
        (path(OF_BETA) + "?valid_for=60", &alpha, "NotAllowed"),
        (path(&OF_BETA.replace("beta", "%62eta")), &alpha, "NotAllowed"),
        (path("arn:aws:iam::123456789012:role/alpha-web/../beta-web"), "", "AccessDenied"),
        (path("arn:aws:iam::123456789012:role/../role/beta-web"), &alpha, "NotAllowed"),
        (path("arn:aws:iam::123456789012:role/ALPHA-web"), &alpha, "NotAllowed"),
        (path(&format!("{OF_ALPHA}%00")), &beta, "NotAllowed"),
        (path(OF_ALPHA), &named, "AccessDenied"),
        (path(OF_ALPHA), "", "AccessDenied"),
        (path(OF_ALPHA), &alpha[1..], "AccessDenied"),
        (path(OF_ALPHA), &format!("{alpha}{beta}"), "AccessDenied"),
        ("/v1/roles/alpha".to_owned(), &alpha, "AccessDenied"),
    ] {
        let (status, body) = ask(&url, &path, token);
        assert_eq!((status, body["code"].as_str()), (403, Some(code)), "{path} {body}");
        assert!(!body.to_string().contains("-*"), "no pattern is told to a client: {body}");
    }
    // What is in the pattern and is no ARN of a role is refused before STS is asked.
    for wrong in ["alpha-*", "alpha-web%00", "alpha-%0a", "alpha-web:x"] {
        let arn = format!("arn:aws:iam::123456789012:role/{wrong}");
        assert_eq!(ask(&url, &path(&arn), &alpha).1["code"], "InvalidInput", "{wrong}");
    }
    assert_eq!(assumed(&sts), 2);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(folder.names().is_empty());
    assert_gone(&name);
}

/// A grant is added, made narrower, and removed: what it permits no longer is refused at once and wiped.
#[test]
fn grants_are_read_again() {
    let sts = LocalSts::start().unwrap();
    let name = name("grants-again");
    let alpha = grant("alpha", "alpha-*", "");
    let folder = Folder::new(&alpha, &[]);
    let (mut running, url) = served_roles(&sts, &name, &folder);
    let token = folder.token("grant.alpha");
    let set = set_of(&url, &path(OF_ALPHA), &token);
    let pool = SharedRoles::attach(&name).unwrap();
    let arns = || -> Vec<String> {
        let status = pool.status().unwrap();
        status.entries().iter().filter_map(|entry| entry.arn().map(str::to_owned)).collect()
    };
    folder.write(&(alpha.clone() + &grant("beta", "beta-*", "")), &[]);
    running.signal(Signal::SIGHUP);
    until("beta is there", || folder.names() == ["grant.alpha", "grant.beta"]);
    set_of(&url, &path(OF_BETA), &folder.token("grant.beta"));
    assert_eq!(folder.token("grant.alpha"), token, "a grant that stays keeps its token");
    assert_eq!(ask(&url, &path(OF_ALPHA), &token).1, set);
    // One of two tenants would get the roles of the other: the file is refused.
    folder.write(&(alpha + &grant("beta", "*", "")), &[]);
    running.signal(Signal::SIGHUP);
    let mut line = String::new();
    BufReader::new(running.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("the roles stay as they are") && line.contains("may-overlap"), "{line}");
    assert_eq!(folder.names(), ["grant.alpha", "grant.beta"]);
    folder.write(&grant("alpha", "alpha-api", ""), &[]);
    running.signal(Signal::SIGHUP);
    until("beta is removed", || folder.names() == ["grant.alpha"]);
    assert_eq!(ask(&url, &path(OF_ALPHA), &token).1["code"], "NotAllowed");
    until("what no grant permits is wiped", || arns().is_empty());
    assert!(set_of(&url, &path("arn:aws:iam::123456789012:role/alpha-api"), &token).is_object());
    drop(pool);
    drop(running);
    assert_gone(&name);
}

#[test]
fn who_may_read_the_token_of_a_grant() {
    let sts = LocalSts::start().unwrap();
    let name = name("grant-owner");
    let owned = grant("alpha", "alpha-*", "token-owner = 61250\ntoken-group = 61251");
    let folder = Folder::new(&owned, &[]);
    if geteuid().is_root() {
        let (_running, _) = served_roles(&sts, &name, &folder);
        let found = folder.tokens().join("grant.alpha").metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (61250, 61251));
        assert_eq!(found.permissions().mode() & 0o777, 0o640);
    } else {
        let output = serve_roles(&sts, &name, &folder.file()).output().unwrap();
        let said = text(&output.stderr);
        assert!(code(&output) == 73 && said.contains("CAP_CHOWN"), "{said}");
    }
}

/// One program that acts for all has the one token that is good for all, because the file names it.
#[test]
fn a_token_for_all_is_asked_for_by_name() {
    let sts = LocalSts::start().unwrap();
    let name = name("grant-all");
    let allow = "allow = \"arn:aws:iam::*:role/*\"\n";
    let folder = Folder::new(allow, &[]);
    let output = serve_roles(&sts, &name, &folder.file()).output().unwrap();
    let said = text(&output.stderr);
    assert!(code(&output) == 65 && said.contains("add [role-arn]"), "{said}");
    folder.write(&format!("{allow}[role-arn]\n{}", grant("alpha", "alpha-*", "")), &[]);
    let (_running, url) = served_roles(&sts, &name, &folder);
    assert_eq!(folder.names(), ["grant.alpha", "role-arn"]);
    let all = folder.token("role-arn");
    for arn in [OF_ALPHA, OF_BETA] {
        assert!(set_of(&url, &path(arn), &all).is_object());
    }
    assert_eq!(ask(&url, &path(OF_BETA), &folder.token("grant.alpha")).0, 403);
    let answer: Value = ask(&url, &path(OF_ALPHA), &folder.token("grant.alpha")).1;
    assert!(answer["code"].is_null() || answer["code"] == "NotReady", "{answer}");
}

/// Waits for sets of some length are limited. Those of one tenant do not delay another one, who has a set.
#[test]
fn the_waits_of_one_tenant_delay_no_other() {
    const MANY: usize = 24;
    let sts = LocalSts::start().unwrap();
    let name = name("waits");
    let patient = "timeout = 60\nread-timeout = 60";
    let both = grant("alpha", "alpha-*", patient) + &grant("beta", "beta-*", "");
    let folder = Folder::new(&format!("calls-per-second = 1000\n{both}"), &[]);
    let (running, url) = served_roles(&sts, &name, &folder);
    let [alpha, beta] = ["grant.alpha", "grant.beta"].map(|file| folder.token(file));
    set_of(&url, &path(OF_BETA), &beta);
    sts.configure(Settings::new().latency(Duration::from_secs(600))).unwrap();
    let mut waiting = Vec::new();
    for number in 0..MANY {
        let path = path(&format!("{OF_ALPHA}-{number}?valid_for=60"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {alpha}\r\n\r\n",
            address(&url)
        );
        let mut stream = TcpStream::connect(address(&url)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        waiting.push(stream);
    }
    until("alpha waits", || assumed(&sts) > MANY);
    set_of(&url, &path(&format!("{OF_BETA}?valid_for=60")), &beta);
    for mut stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let answer = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(
            answer,
            Err(ErrorKind::WouldBlock),
            "the waits of alpha came before that of beta"
        );
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}
