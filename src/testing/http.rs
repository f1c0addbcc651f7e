//! One blocking POST on a connection of its own.
//!
//! Not hyper's client: that needs an async runtime. A caller may be inside one already, and tokio
//! leaves a socket pair behind in the process that has started one, which callers that are about to
//! fork must not have.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest wait to connect, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than our server sends.
const MAX_HEADERS: usize = 16;

/// What the server answered.
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

/// Sends `body`, and waits for the whole answer. The names and values of `headers` must be valid.
pub(super) fn post(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    exchange(server, path, headers, body).map_err(|error| match error.kind() {
        // How Linux reports the timeout of a blocking socket.
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

/// Reads as many bytes as the head announces. The end of the stream is no end of the answer: a process
/// that was forked meanwhile may hold the server's side of the connection open.
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
    // Grows with what arrives, not with what was announced.
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
    fn what_is_no_answer_is_an_error() {
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
