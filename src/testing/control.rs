//! Controls a running server, over the same port as its service.
//!
//! It uses HTTP and not memory. So every process that inherited the handle through a fork can read the log and inject
//! faults.

use std::{io, net::SocketAddr};

use serde::{Serialize, de::DeserializeOwned};

use super::{http, service::Service};

/// The prefix of all control paths.
pub(crate) const PREFIX: &str = "/_control/";

/// The server side: runs the command and returns the answer as JSON.
pub(crate) fn run(service: &mut Service, command: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    match command {
        "calls" => return Ok(serde_json::to_vec(service.log.calls())?),
        "clear-calls" => service.log.clear(),
        "inject" => {
            let (fault, times) = serde_json::from_slice(body)?;
            service.faults.push(fault, times);
        }
        "clear-faults" => service.faults.clear(),
        "configure" => service.settings = serde_json::from_slice(body)?,
        other => return Err(io::Error::new(io::ErrorKind::NotFound, other.to_owned())),
    }
    Ok(b"null".to_vec())
}

/// The client side: sends a command and waits for the answer.
pub(crate) fn command<T: DeserializeOwned>(
    server: SocketAddr,
    name: &str,
    argument: &impl Serialize,
) -> io::Result<T> {
    let body = serde_json::to_vec(argument)?;
    let answer = http::post(server, &format!("{PREFIX}{name}"), &[], &body)?;
    if answer.status != 200 {
        let reason = String::from_utf8_lossy(&answer.body);
        return Err(io::Error::other(format!("the embedded STS refused {name}: {reason}")));
    }
    Ok(serde_json::from_slice(&answer.body)?)
}
