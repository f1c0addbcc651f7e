//! What a client may send to the endpoint: anything.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use crate::choices::Choices;

/// More than an answer takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// An endpoint, and what only a client with its token may see.
pub struct Endpoint {
    /// The address and the port.
    pub host: String,
    pub token: String,
    pub secret: String,
}

impl Endpoint {
    /// Sends what `data` says. Only a client with the token sees the secret, nobody is told the token, and no request is
    /// a fault of the endpoint.
    pub fn attack(&self, data: &[u8]) {
        let choices = &mut Choices::new(data);
        let request = match choices.byte() % 4 {
            0 => choices.rest().to_vec(),
            _ => {
                let valid = self.valid(choices);
                choices.mutated(valid.as_bytes())
            }
        };
        let answer = String::from_utf8_lossy(&self.send(&request)).into_owned();
        let has_token = contains(&request, self.token.as_bytes());
        assert!(has_token || !answer.contains(&self.secret), "the secret is told: {answer}");
        assert!(!answer.contains(&self.token), "the token is told: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
    }

    fn valid(&self, choices: &mut Choices) -> String {
        // As long as the token, and another.
        let wrong = self.token.replace(|c| c != '0', "0");
        let token = choices.one(&[&wrong, &wrong, &wrong, &self.token]);
        let time = choices.word();
        let path = match choices.byte() % 8 {
            0 => "/live".to_owned(),
            1 => "/ready".to_owned(),
            2 => format!("/credentials?valid_for={time}"),
            3 => format!("/credentials?valid_for={time}h{time}ms"),
            _ => "/credentials".to_owned(),
        };
        let host = &self.host;
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nContent-Length: 3\r\n\r\nabc"
        )
    }

    /// Sends `request` and nothing more; gives what comes until the endpoint closes the connection.
    fn send(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may have refused the first half.
        let _ = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the endpoint keeps a connection whose client has said all")
            }
            _ => answer,
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
