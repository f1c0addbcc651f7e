//! A server that answers anything, or that sends its clients elsewhere.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use shmcreds::{Fleet, FleetStoreState, SharedSession};

use crate::support::{Child, child, instant, name};

/// A server that sends `answer` again and again to each client, whatever it asks. Gives its URL.
pub fn liar(answer: Vec<u8>) -> (Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let server = child(|_| {
        for stream in listener.incoming().flatten() {
            std::thread::spawn({
                let answer = answer.clone();
                move || serve(stream, &answer)
            });
        }
    });
    (server, url)
}

fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut request = [0; 16 * 1024];
    while stream.read(&mut request).is_ok_and(|count| count > 0) {
        // The handshake of the client is two commands in one.
        if stream.write_all(answer).and_then(|()| stream.write_all(answer)).is_err() {
            return;
        }
    }
}

pub fn whatever_a_server_answers() {
    let mut endless = b"$536870911\r\n".to_vec();
    endless.resize(8 << 20, b'x');
    let deep = b"*1\r\n".repeat(100_000);
    let answers: [(&str, Vec<u8>); 19] = [
        ("nothing", b"".to_vec()),
        ("garbage", b"\xff\xfe\0HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("a negative wait", b"*2\r\n:1\r\n:-5\r\n".to_vec()),
        ("a wait of centuries", b"*2\r\n:1\r\n:9223372036854775807\r\n".to_vec()),
        ("a wait that was not asked for", b"*2\r\n:1\r\n:9000000\r\n".to_vec()),
        ("a number that is too large", b"*2\r\n:1\r\n:99999999999999999999\r\n".to_vec()),
        ("not a number", b"*2\r\n:1\r\n,nan\r\n".to_vec()),
        ("a negative permit", b"*2\r\n:-1\r\n:0\r\n".to_vec()),
        ("a text", b"+OK\r\n".to_vec()),
        ("null", b"$-1\r\n".to_vec()),
        ("an empty list", b"*0\r\n".to_vec()),
        ("a list that is too long", b"*2147483647\r\n".to_vec()),
        ("a list of a negative length", b"*-7\r\n".to_vec()),
        ("a map", b"%1\r\n+a\r\n+b\r\n".to_vec()),
        ("a push", b">2\r\n+message\r\n+x\r\n".to_vec()),
        ("a very deep list", deep),
        ("a very large text", endless),
        ("another node", b"-MOVED 3999 127.0.0.1:1\r\n".to_vec()),
        ("a long error", [b"-ERR ".to_vec(), b"A".repeat(100_000), b"\r\n".to_vec()].concat()),
    ];
    for (what, answer) in answers {
        // The client must not read for as long as a server sends.
        let is_large = what == "a very large text";
        let limit = Duration::from_millis(if is_large { 10_000 } else { 200 });
        let (_server, url) = liar(answer);
        let said = child(|report| {
            let fleet = Fleet::redis(url).answer_limit(limit);
            let session = SharedSession::builder(name("liar"))
                .source(instant())
                .fleet(fleet)
                .create()
                .unwrap();
            let begun = Instant::now();
            session.credentials().unwrap();
            let status = session.status().unwrap();
            let fleet = status.fleet().unwrap();
            assert_ne!(fleet.store, FleetStoreState::Answers, "{what}");
            assert_eq!((fleet.permits, fleet.local_share), (0, 1), "{what}");
            assert!(!is_large || fleet.store != FleetStoreState::Slow, "{:?}", fleet.latency);
            report.say(format!("{:?} ", fleet.store));
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(20), "{what}: {took:?}");
            let peak = peak_memory();
            assert!(peak < 200 << 20, "{what}: {peak} bytes of memory");
        });
        let said = said.finish();
        assert!(!said.is_empty(), "{what}");
    }
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
