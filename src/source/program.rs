//! A program of the user's that answers on its standard output.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tracing::info;
use zeroize::Zeroizing;

use super::{Failure, FailureClass, FingerprintEncoder, environment, redact::redact};
use crate::sys::process::lead_session;

/// More than any answer has.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long the log waits for the rest of what an ended program has written.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// An argument vector and a limit. No shell ever sees it.
#[derive(Clone)]
pub(super) struct Program {
    argv: Vec<String>,
    pub(super) timeout: Duration,
}

/// What the program wrote: wiped when dropped.
pub(super) type Written = Zeroizing<Vec<u8>>;

impl Program {
    pub(super) fn new<S: Into<String>>(
        argv: impl IntoIterator<Item = S>,
        timeout: Duration,
    ) -> Self {
        Program { argv: argv.into_iter().map(Into::into).collect(), timeout }
    }

    /// The program, and what stands for its arguments, which may be secret.
    pub(super) fn describe(&self) -> String {
        let mut hash = Sha256::new();
        for argument in &self.argv {
            hash.update((argument.len() as u64).to_le_bytes());
            hash.update(argument);
        }
        let digest: String = hash.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect();
        format!("{:?} arguments={digest}", self.path())
    }

    /// Adds which program it is, and with which arguments.
    pub(super) fn encode(&self, tag: &str, encoder: FingerprintEncoder) -> FingerprintEncoder {
        let Program { argv, timeout: _ } = self;
        encoder.bytes(tag, Some(&environment::program(self.path()))).list(tag, argv)
    }

    fn path(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// # Errors
    /// A sentence that names the field and the rule.
    pub(super) fn validate(&self, field: &str) -> Result<(), String> {
        if self.path().is_empty() {
            return Err(format!("{field} names no program, must be a path and its arguments"));
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(format!("{field} holds a NUL character, must have none"));
        }
        super::validate::timeout(&format!("{field} timeout"), Some(self.timeout))
    }

    /// Runs the program to its end. It has no standard input; what it writes to its standard error
    /// goes to the log. One that takes too long is killed with all that it has started.
    pub(super) async fn run(&self, what: &str) -> Result<Written, Failure> {
        let mut child = self.start(what)?;
        let group = Group(child.id());
        let stderr = child.stderr.take();
        let log = tokio::spawn(log(what.to_owned(), stderr));
        let Ok(ended) = timeout(self.timeout, answer(&mut child)).await else {
            let text = format!("{what} gave no answer within {:?}, and was killed", self.timeout);
            return Err(Failure::new(FailureClass::Transient, text));
        };
        let failed = |class, text| Err(Failure::new(class, format!("{what} {text}")));
        let (written, status) = match ended {
            Ok((_, None)) => {
                let text = format!("wrote more than {LONGEST_ANSWER} bytes, and was killed");
                return failed(FailureClass::Terminal, text);
            }
            Ok((written, Some(status))) => (written, status),
            Err(error) => {
                return failed(
                    FailureClass::Transient,
                    format!("could not be waited for: {error}"),
                );
            }
        };
        group.ended();
        let _ = timeout(LAST_WORDS, log).await;
        if !status.success() {
            return failed(FailureClass::Transient, format!("failed: {status}"));
        }
        Ok(written)
    }

    fn start(&self, what: &str) -> Result<Child, Failure> {
        let mut command = Command::new(self.path());
        command
            .args(self.argv.iter().skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // One that opens the terminal to ask fails at once. In the background of the terminal it would be
        // stopped, and its time run out.
        lead_session(command.as_std_mut());
        command.spawn().map_err(|error| {
            let text = format!("{what} {:?} could not be started: {error}", self.path());
            Failure::new(FailureClass::Misconfigured, text)
        })
    }
}

/// What the program wrote, and how it ended; no end when it wrote too much.
async fn answer(child: &mut Child) -> std::io::Result<(Written, Option<ExitStatus>)> {
    // All the room at once, so that no smaller one with secrets in it is given back.
    let mut written = Zeroizing::new(Vec::with_capacity(2 * LONGEST_ANSWER));
    if let Some(stdout) = &mut child.stdout {
        stdout.take(LONGEST_ANSWER as u64 + 1).read_to_end(&mut written).await?;
    }
    let status = match written.len() {
        0..=LONGEST_ANSWER => Some(child.wait().await?),
        _ => None,
    };
    Ok((written, status))
}

async fn log(what: String, stderr: Option<impl AsyncRead + Unpin>) {
    let Some(stderr) = stderr else { return };
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        info!("{what} says: {}", redact(&line));
    }
}

/// The process group of a running program: killed when dropped.
struct Group(Option<u32>);

impl Group {
    /// The program has been waited for: its number may be another's.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Program {
        Program::new(["/bin/sh", "-c", script], Duration::from_secs(60))
    }

    #[tokio::test]
    async fn the_answer_is_what_it_wrote() {
        let written = shell("cat; echo noise >&2; echo 'a b'").run("test").await.unwrap();
        assert_eq!(&**written, b"a b\n");
        let awkward = "$HOME `id` 'x y'";
        let echo = Program::new(["/bin/echo", awkward], Duration::from_secs(60));
        assert_eq!(*echo.run("test").await.unwrap(), format!("{awkward}\n").into_bytes());
    }

    #[tokio::test]
    async fn the_log_has_its_standard_error_without_secrets_and_nothing_else() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Mutex::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        let _here = tracing::subscriber::set_default(subscriber);
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let script = format!("echo answer; echo touch the key >&2; echo {secret} >&2");
        let program = Program::new(["/bin/sh", "-c", &script], Duration::from_secs(60));
        program.run("the helper").await.unwrap();
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
    async fn it_has_no_terminal_and_leads_its_group() {
        let cat = Program::new(["/bin/cat", "/proc/self/stat"], Duration::from_secs(60));
        let stat = String::from_utf8(cat.run("test").await.unwrap().to_vec()).unwrap();
        let (pid, fields) = (stat.split(' ').next().unwrap(), stat.rsplit(')').next().unwrap());
        // After the state and the parent: group, session, terminal.
        let fields: Vec<&str> = fields.split_whitespace().skip(2).take(3).collect();
        assert_eq!(fields, [pid, pid, "0"], "{stat}");
    }

    #[tokio::test]
    async fn each_way_to_fail_is_told_apart() {
        let failure = |script: &'static str| async { shell(script).run("it").await.unwrap_err() };
        assert!(failure("echo hush; exit 3").await.message().contains("it failed: exit status: 3"));
        assert!(failure("kill -9 $$").await.message().contains("it failed: signal: 9"));
        let flood = failure("head -c 200000 /dev/zero").await;
        assert!(flood.message().contains("wrote more than 65536 bytes"), "{flood}");
        let absent = Program::new(["/no/such/program"], Duration::from_secs(60));
        let failure = absent.run("it").await.unwrap_err();
        assert_eq!(failure.class(), FailureClass::Misconfigured);
        assert!(failure.message().contains("/no/such/program"), "{failure}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_its_children() {
        let began = Instant::now();
        let mut program = shell("sleep 1000 & wait");
        program.timeout = Duration::from_millis(50);
        let failure = program.run("it").await.unwrap_err();
        assert_eq!(failure.class(), FailureClass::Transient);
        assert!(failure.message().contains("no answer within 50ms"), "{failure}");
        assert!(began.elapsed() < Duration::from_secs(900));
    }

    #[test]
    fn a_program_is_checked_and_described_without_its_arguments() {
        let program = |argv: &[&str]| Program::new(argv.to_vec(), Duration::from_secs(1));
        assert!(program(&[]).validate("command").unwrap_err().starts_with("command names no"));
        assert!(program(&["a", "b\0"]).validate("command").unwrap_err().contains("NUL"));
        assert!(!program(&["/bin/x", "hush"]).describe().contains("hush"));
        assert_ne!(program(&["x", "ab", "c"]).describe(), program(&["x", "a", "bc"]).describe());
    }
}
