//! What a user reads: help, errors, logs.

use shmcreds::testing::LocalSts;

use crate::harness::*;

#[test]
fn a_wrong_configuration_is_named_without_its_contents() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("shmcreds.toml");
    for (text_of, code_of, says) in [
        ("external-id = hush", 65, "line 1 is not TOML"),
        ("[hush]\nkey = \"hush\"", 65, "must be a text"),
        ("no-such-option = \"hu\"", 64, "--no-such-option"),
        ("duration-seconds = 1\nrole-arn = \"arn:aws:iam::123456789012:role/app\"", 64, "duration"),
    ] {
        std::fs::write(&config, text_of).unwrap();
        let mut command = shmcreds(&sts);
        command.args(["exec", "--config"]).arg(&config).args(["--", "/bin/echo", "started"]);
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), code_of, "{said}");
        assert!(said.contains(says), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn definitions_give_completions_and_a_manual() {
    let sts = LocalSts::start().unwrap();
    for (arguments, says) in [
        (&["completions", "bash"][..], "--role-arn"),
        (&["completions", "zsh"], "--role-arn"),
        (&["man"], "credential"),
        (&["exec", "--help"], "--external-id"),
    ] {
        let output = shmcreds(&sts).args(arguments).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains(says), "{arguments:?}");
    }
}
