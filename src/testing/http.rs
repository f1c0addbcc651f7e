//! A blocking POST on a new connection.
//!
//! It does not use hyper's client, which needs an async runtime. The caller may already be inside one. Also, tokio keeps a
//! socket pair in each process that ever started a runtime, and callers that fork later must not have it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The timeout of the connect, and of each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than the server sends.
const MAX_HEADERS: usize = 16;

/// The answer of the server.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends `body` and waits for the complete answer. The names and values of `headers` must be valid.
pub(super) fn post(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    exchange(server, path, headers, body).map_err(|error| match error.kind() {
        // Linux reports the timeout of a blocking socket with this kind.
        io::ErrorKind::WouldBlock => {
            let text = format!("{server} did not answer POST {path} within {TIMEOUT:?}");
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        _ => error,
    })
}

fn exchange(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    request += &format!("Content-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    stream.write_all(&[request.as_bytes(), body].concat())?;
    read_answer(BufReader::new(stream))
}

/// Reads as many bytes as `Content-Length` says. It must not wait for the end of the stream: a process that was forked in
/// the meantime may hold the server's side of the connection open.
fn read_answer(mut stream: impl BufRead) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut answer = parse_head(&head)?;
    let length = answer.header("Content-Length").and_then(|length| length.parse().ok());
    let length: u64 = length.ok_or_else(|| invalid("an answer without Content-Length"))?;
    // The buffer grows with the data that arrives, not with the announced length.
    stream.take(length).read_to_end(&mut answer.body)?;
    if (answer.body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

fn parse_head(head: &[u8]) -> io::Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head).map_err(invalid)?;
    let status = response.code.ok_or_else(|| invalid("an answer without a status"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = response.headers.iter();
    let headers = headers.map(|header| (header.name.to_owned(), text(header.value))).collect();
    Ok(Answer { status, headers, body: Vec::new() })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_it_says() {
        let answer =
            read_answer(&b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno more"[..]).unwrap();
        assert_eq!((answer.status, &*answer.body), (403, &b"no"[..]));
        assert_eq!(answer.header("Content-Length"), Some("2"));
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull";
        read_answer(&whole[..]).unwrap();
        for length in 0..whole.len() {
            let error = read_answer(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
    }

    #[test]
    fn an_invalid_answer_is_an_error() {
        for text in [
            "220 mail\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            let error = read_answer(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}
