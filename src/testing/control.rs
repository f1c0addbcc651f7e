//! Control of a running server, over the same port as its service.
//!
//! HTTP rather than memory, so that every process that inherited the handle through a fork can
//! look at the log and inject faults.

use std::{io, net::SocketAddr};

use serde::{Serialize, de::DeserializeOwned};

use super::{http, service::Service};

/// What the paths of control begin with.
pub(crate) const PREFIX: &str = "/_control/";

/// Server side: obeys the command, and returns what to answer in JSON.
pub(crate) fn obey(service: &mut Service, command: &str, body: &[u8]) -> io::Result<Vec<u8>> {
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

/// Client side: gives a command and waits for the answer.
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
