//! What the tests of sources share: their environment, and a stand-in for a server that gives sets.
#![allow(dead_code, unsafe_code)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_smithy_types::{DateTime, date_time::Format};

use crate::support::{Child, child};

/// Clears what this machine says of AWS, and says `variables` instead, but for the empty ones. For a process that only this
/// test has.
pub fn environment(variables: &[(&str, &str)]) {
    let old: Vec<String> = std::env::vars().map(|(key, _)| key).collect();
    let nowhere = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"].map(|key| (key, "/dev/null"));
    let fixed = [("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "us-east-1")];
    let removed = old.iter().map(String::as_str).filter(|key| key.starts_with("AWS_"));
    let removed = removed.map(|key| (key, ""));
    for (key, value) in removed.chain(fixed).chain(nowhere).chain(variables.iter().copied()) {
        match value {
            // SAFETY: the process has one thread.
            "" => unsafe { std::env::remove_var(key) },
            // SAFETY: the process has one thread.
            value => unsafe { std::env::set_var(key, value) },
        }
    }
}

/// A config file with the profile `app`: a role, and the keys that sign for it. It is removed when dropped.
pub fn profile_with_a_role() -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let text = "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n\
                [profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
                aws_secret_access_key = any\n";
    fs::write(&file, text).unwrap();
    file
}

/// A request that a stand-in has been asked.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A server in a process of its own, which answers one request per connection. Gives its address. With the status 0
/// there is no answer, and the connection stays open; with 1 it is closed.
pub fn stand_in(mut answer: impl FnMut(&Asked) -> (u16, String)) -> (Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = child(|_| {
        let mut unanswered = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            let mut words = first.split(' ').map(str::to_owned);
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let (status, body) = answer(&Asked { method, path, headers });
            if status == 0 {
                unanswered.push(stream);
                continue;
            }
            if status == 1 {
                continue;
            }
            // A redirect leads to what the body says.
            let location = if (300..400).contains(&status) { &*body } else { "" };
            let after = if status == 429 { "Retry-After: 7\r\n" } else { "" };
            let head = format!(
                "HTTP/1.1 {status} Answer\r\nLocation: {location}\r\nContent-Length: {}\r\nContent-Type: application/json\r\n{after}\
                 x-aws-ec2-metadata-token-ttl-seconds: 600\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            // The client may have heard enough and gone.
            let _ = stream.write_all(head.as_bytes());
        }
    });
    (server, url)
}

/// A set that lives an hour, in the forms of the container's endpoint, the instance's and `credential_process`.
pub fn set_json(number: u32) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3600);
    let expiration = DateTime::from_secs(since.as_secs() as i64).fmt(Format::DateTime).unwrap();
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z","Version":1,
        "AccessKeyId":"ASIA{number}","SecretAccessKey":"secret","Token":"token","SessionToken":"token",
        "Expiration":"{expiration}"}}"#
    )
}

pub const START_URL: &str = "https://example.awsapps.com/start";

/// A home in which somebody has signed in.
pub fn signed_in(token: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join(".aws/sso/cache");
    fs::create_dir_all(&cache).unwrap();
    // The SHA-1 of the start URL.
    let file = cache.join("e8be5486177c5b5392bd9aa76563515b29358e6e.json");
    let text = format!(r#"{{"accessToken":"{token}","expiresAt":"2999-01-01T00:00:00Z"}}"#);
    fs::write(file, text).unwrap();
    home
}
