//! The standard error of a program. It goes to the log. The last lines also go into an error.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing::info;

use crate::source::redact::redact;

/// The log shows at most this many bytes of one program.
const LONGEST_LOG: u64 = 64 * 1024;
/// An error shows at most this many of the last lines.
const LAST_LINES: usize = 3;
/// An error shows at most this many characters of each line.
const LONGEST_LINE: usize = 200;

/// Logs the standard error of the program up to a limit, and reads the rest without logging it. So the program never
/// finds the pipe closed or full. The last lines are kept for an error.
pub(super) async fn log(what: String, stderr: Option<impl AsyncRead + Unpin>, last: LastLines) {
    let Some(stderr) = stderr else { return };
    let mut stderr = BufReader::new(stderr);
    let mut lines = (&mut stderr).take(LONGEST_LOG).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = redact(&String::from_utf8_lossy(&line));
        info!("{what} says: {line}");
        last.add(&line);
    }
    if tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.is_ok_and(|rest| rest > 0) {
        info!(
            "{what} wrote more than {LONGEST_LOG} bytes to its standard error; the rest is not shown"
        );
    }
}

/// The last lines of the program. Processes that it leaves may still add lines.
#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn add(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.trim().is_empty() {
            lines.push_back(line.trim().chars().take(LONGEST_LINE).collect());
        }
        if lines.len() > LAST_LINES {
            lines.pop_front();
        }
    }

    /// For the end of a sentence. Empty if the program wrote nothing.
    pub(super) fn get(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        match lines.is_empty() {
            true => String::new(),
            false => format!("; it said: {}", lines.join(" / ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::source::program::Program;

    fn shell(script: &str) -> Program {
        Program::new(["/bin/sh", "-c", script], Duration::from_secs(60))
    }

    fn has_code(written: &[u8]) -> bool {
        written.windows(6).any(|six| six == b"123456")
    }

    #[tokio::test]
    async fn the_log_has_its_standard_error_without_secrets_and_nothing_else() {
        let log = tempfile::NamedTempFile::new().unwrap();
        // With one subscriber alone, tracing asks the thread that first logs at a place, for all threads. That may be
        // another one. With two it asks both.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let writer = std::sync::Mutex::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        let _here = tracing::subscriber::set_default(subscriber);
        // Another thread logs in the meantime.
        let other = || async { shell("echo 123456; echo other >&2").run("it", has_code).await };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(other()).map(drop)).join().unwrap().unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let script = format!("echo answer; echo touch the key >&2; echo {secret} >&2");
        let program = Program::new(["/bin/sh", "-c", &script], Duration::from_secs(60));
        program.run("the helper", has_code).await.unwrap();
        let said = || std::fs::read_to_string(log.path()).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while !said().contains("[redacted]") && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let said = said();
        assert!(said.contains("the helper says: touch the key"), "{said}");
        assert!(said.contains("[redacted]") && !said.contains(secret), "{said}");
        assert!(!said.contains("answer"), "{said}");
    }

    #[tokio::test]
    async fn a_long_standard_error_neither_stops_nor_kills_it() {
        for noise in
            ["head -c 10000000 /dev/zero >&2", "printf '\\377\\n' >&2; sleep 0.1; echo x >&2"]
        {
            let script = format!("{noise}; echo 123456");
            let written = shell(&script).run("it", has_code).await;
            assert_eq!(&**written.unwrap_or_else(|e| panic!("{noise}: {e}")), b"123456\n");
        }
    }
}
