//! `serve`: a session for others.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use shmcreds::testing::LocalSts;

use crate::harness::*;

#[test]
fn a_sidecar_keeps_its_session_until_it_is_told_to_end() {
    let sts = LocalSts::start().unwrap();
    let name = name("sidecar");
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let config = folder.path().join("shmcreds.toml");
    let text = format!(
        "role-arn = \"{}\"\nexternal-id = \"tenant-42\"\ntag = [\"team=web\", \"stage=test\"]\ntoken-file = {token:?}\n",
        ROLE[1]
    );
    std::fs::write(&config, text).unwrap();
    let mut command = shmcreds(&sts);
    command.args(["serve", "--name", &name, "--config"]).arg(&config);
    let mut running = Running::start(command);
    let url = running.line();
    let written = std::fs::read_to_string(&token).unwrap();
    assert_eq!(written.trim(), written, "no newline");
    assert_eq!(token.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    assert!(credentials(&url, &written)["Token"].is_string());
    let call = &sts.calls().unwrap()[0];
    assert_eq!(call.parameters["Tags.member.2.Value"], "test");
    assert!(call.parameters.contains_key("ExternalId"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(!token.exists());
    assert_gone(&name);
}
