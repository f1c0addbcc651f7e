//! The command line of a fleet, and the refresher that is a program of its own.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::Value;
use shmcreds::{Fleet, Refresh, SharedSession, testing::LocalSts};

use crate::{
    budget::fleet,
    harness::{BINARY, ROLE, code, shmcreds, text},
    server::Server,
    shared_set::{KEY, OTHER},
    support::{assumed, child, name, role},
};

/// `exec` of a script, in a fleet.
pub fn exec(sts: &LocalSts, name: &str, options: &[&str], script: &str) -> Command {
    let mut command = shmcreds(sts);
    command.args(["exec", "--name", name]).args(ROLE).args(options);
    command.args(["--fleet-answer-limit", "10000", "--", "/bin/sh", "-c", script]);
    command
}

pub fn commands_share_a_set() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    let file = server.folder.path().join("keys");
    fs::write(&file, format!("{KEY}\n{OTHER}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let url = server.url();
    let budget =
        ["--fleet", &url, "--fleet-budget", "123456789012/us-east-1", "--fleet-set", "web"];
    let show = "echo \"[$FLEET_KEYS]\"; \"$SHMCREDS\" status NAME --json; \"$SHMCREDS\" status NAME; \"$SHMCREDS\" metrics NAME";
    let run = |key: [&str; 2]| {
        let name = name("fleet");
        let mut command =
            exec(&sts, &name, &[&budget[..], &key].concat(), &show.replace("NAME", &name));
        let output = command.env("FLEET_KEYS", KEY).output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let first = run(["--fleet-key-file", file.to_str().unwrap()]);
    let second = run(["--fleet-key-env", "FLEET_KEYS"]);
    assert_eq!(assumed(&sts), 1);
    let fleet_of = |said: &str| -> Value {
        let line = said.lines().find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str::<Value>(line).unwrap()["fleet"].clone()
    };
    let (leader, follower) = (fleet_of(&first), fleet_of(&second));
    assert_eq!(
        (&leader["role"], &leader["sets_given"], &leader["permits"]),
        (&"leader".into(), &1.into(), &1.into())
    );
    assert_eq!(
        (&follower["role"], &follower["sets_taken"], &follower["permits"]),
        (&"follower".into(), &1.into(), &0.into())
    );
    assert!(
        second.contains("  fleet: its store answers (")
            && second.contains(", follower, sets taken 1"),
        "{second}"
    );
    for line in [
        "shmcreds_fleet_store{state=\"answers\"} 1",
        "shmcreds_fleet_sets_taken_total 1",
        "shmcreds_fleet_leader 0",
    ] {
        assert!(second.contains(line), "{line}: {second}");
    }
    // CMD has no use for the key.
    assert!(second.starts_with("[]\n"), "{second}");
    assert!(
        !first.contains(&KEY[..16]) || first.starts_with(&format!("[{KEY}]")),
        "only the variable of the test"
    );
}

pub fn mistakes_show_no_password() {
    let sts = LocalSts::fork().unwrap();
    let closed = "redis://user:hunter2secret@127.0.0.1:1/0";
    for (options, problem) in [
        (&["--fleet", "http://:hunter2secret@host"][..], "fleet: the URL has no known scheme"),
        (&["--fleet", "redis://user:hunter2secret@:x"], "fleet: the URL cannot be read"),
        (&["--fleet", closed, "--fleet-budget", "a b"], "fleet: the name of the budget is"),
        (&["--fleet", closed, "--fleet-hosts", "many"], "--fleet-hosts"),
        (&["--fleet", closed, "--fleet-set", "web"], "--fleet-key"),
        (
            &["--fleet", closed, "--fleet-set", "web", "--fleet-key-env", "NONE"],
            "the key variable NONE is not set",
        ),
        (&["--fleet-hosts", "5"], "--fleet <URL>"),
    ] {
        let mut command = shmcreds(&sts);
        command.args(["exec"]).args(ROLE).args(options).args(["--deadline", "1", "--", "true"]);
        let output = command.output().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains(problem), "{options:?}: {said}");
        assert_ne!(code(&output), 0, "{options:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // A server that refuses the connection: the log names it, and CMD gets its credentials.
    let name = name("fleet-closed");
    let script = format!("\"$SHMCREDS\" status {name}");
    let output = exec(&sts, &name, &["-vv", "--fleet", closed], &script).output().unwrap();
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(code(&output), 0, "{said}");
    assert!(said.contains("127.0.0.1:1") && said.contains("its store unreachable"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

pub fn a_refresher_of_its_own() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    for (program, sealed) in [(None, false), (Some(BINARY), false), (None, true)] {
        let say = |fleet: Fleet| {
            child(|report| {
                let mut builder = SharedSession::builder(name("own"));
                if let Some(program) = program {
                    // The base credentials of the test are a closure, which no other program has.
                    let keys = aws_credential_types::Credentials::new(
                        "AKIAIOSFODNN7EXAMPLE",
                        "any",
                        None,
                        None,
                        "base",
                    );
                    builder = builder.source(role(&sts).base_keys(keys)).refresher_program(program);
                } else {
                    builder = builder.source(role(&sts));
                }
                if sealed {
                    builder = builder.sealed();
                }
                let session = builder.refresh(Refresh::Eager).fleet(fleet).create().unwrap();
                let first = session.credentials().unwrap();
                let second = session.refresh().unwrap();
                assert_ne!(first.access_key_id(), second.access_key_id());
                let status = session.status().unwrap();
                report.say(format!(
                    "{} {}",
                    status.fleet().unwrap().permits,
                    status.source_calls()
                ));
            })
            .finish()
        };
        assert_eq!(say(fleet(&server)), "2 2", "{program:?}, sealed: {sealed}");
    }
    assert_eq!(assumed(&sts), 6);
}
