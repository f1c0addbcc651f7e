//! A program of the user that prints an answer to its standard output.

mod output;
mod standard_error;

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use sha2::{Digest, Sha256};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{FingerprintEncoder, SourceError, SourceErrorClass, fingerprint::environment};
use crate::{hexadecimal, sys::process::lead_session};

use output::{End, MOST_OUTPUT};
pub(super) use output::{IsComplete, Written};
use standard_error::{LastLines, log};

/// How long to wait for the last log lines of a program that has ended.
const LOG_TIMEOUT: Duration = Duration::from_millis(100);
/// This variable names the process that runs the program. With it, `shmcreds credentials` notices a session that
/// asks itself.
const ASKED_BY: &str = "SHMCREDS_ASKED_BY";

/// Why a program that wants to ask a person cannot. Each later set needs it again, and then CMD has the terminal.
const NO_TERMINAL: &str = "it has no terminal, because it runs again for each set, when nobody may be there: let it \
     ask in a window, or give a program that needs no answer";

/// The arguments and the time limit of a program. No shell reads them.
#[derive(Clone)]
pub(super) struct Program {
    argv: Vec<String>,
    pub(super) timeout: Duration,
}

impl Program {
    pub(super) fn new<S: Into<String>>(
        argv: impl IntoIterator<Item = S>,
        timeout: Duration,
    ) -> Self {
        Program { argv: argv.into_iter().map(Into::into).collect(), timeout }
    }

    pub(super) fn argv(&self) -> &[String] {
        &self.argv
    }

    /// The program, and a digest of its arguments: they may be secret.
    pub(super) fn describe(&self) -> String {
        let mut hash = Sha256::new();
        for argument in &self.argv {
            hash.update((argument.len() as u64).to_le_bytes());
            hash.update(argument);
        }
        let digest = hexadecimal::text(&hash.finalize()[..8]);
        format!("{:?} arguments={digest}", self.path())
    }

    /// Adds the program and its arguments.
    pub(super) fn encode(&self, tag: &str, encoder: FingerprintEncoder) -> FingerprintEncoder {
        let Program { argv, timeout: _ } = self;
        encoder.bytes(tag, Some(&environment::program(self.path()))).list(tag, argv)
    }

    fn path(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// # Errors
    /// A sentence with the field and the rule.
    pub(super) fn validate(&self, field: &str) -> Result<(), String> {
        if self.path().is_empty() {
            return Err(format!("{field} names no program, must be a path and its arguments"));
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(format!("{field} contains a NUL character, must have none"));
        }
        super::validate::timeout(&format!("{field} timeout"), Some(self.timeout))
    }

    /// Runs the program until it has ended and its answer is complete. It has no standard input. Its standard error
    /// goes to the log. If it takes too long, it is killed with all processes that it has started. If it ends in
    /// time, the processes that it leaves go on.
    pub(super) async fn run(
        &self,
        what: &str,
        is_complete: IsComplete,
    ) -> Result<Written, SourceError> {
        let mut child = self.start(what)?;
        let group = Group(child.id());
        let said = LastLines::default();
        let log = tokio::spawn(log(what.to_owned(), child.stderr.take(), said.clone()));
        let Ok(ended) = timeout(self.timeout, output::read(&mut child, is_complete)).await else {
            let text = format!(
                "{what} gave no answer within {:?}, and was killed; allow more time with --timeout or --mfa-timeout",
                self.timeout
            );
            return Err(SourceError::new(SourceErrorClass::Transient, text));
        };
        let failed = |class, text| Err(SourceError::new(class, format!("{what} {text}")));
        let (written, end) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let text = format!(
                    "ran, but its answer or its end could not be read: {}",
                    crate::errno::told(&error)
                );
                return failed(SourceErrorClass::Transient, text);
            }
        };
        if let End::TooLong = end {
            let text = format!("wrote more than {MOST_OUTPUT} bytes, and was killed");
            return failed(SourceErrorClass::Terminal, text);
        }
        group.ended();
        let _ = timeout(LOG_TIMEOUT, log).await;
        match end {
            End::Status(status) if !status.success() => {
                let said = said.get();
                match wants_terminal(&said) {
                    true => failed(
                        SourceErrorClass::Misconfigured,
                        format!("failed: {status}{said}; {NO_TERMINAL}"),
                    ),
                    false => failed(class_of(status), format!("failed: {status}{said}")),
                }
            }
            _ => Ok(written),
        }
    }

    fn start(&self, what: &str) -> Result<Child, SourceError> {
        let mut command = Command::new(self.path());
        command
            .args(self.argv.iter().skip(1))
            .env(ASKED_BY, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Without a terminal, a program that wants to ask a person fails at once. As a background job of a terminal it
        // would be stopped until the time limit.
        lead_session(command.as_std_mut());
        command.spawn().map_err(|error| {
            let hint = match self.argv.len() == 1 && self.path().contains(' ') {
                true => "; give each argument separately, with --process-arg or --mfa-command-arg",
                false => "",
            };
            let told = crate::errno::told(&error);
            let text = format!("{what} {:?} could not be started: {told}{hint}", self.path());
            SourceError::new(class_of_start(&error), text)
        })
    }
}

/// A lack of descriptors, processes or memory may pass.
fn class_of_start(error: &io::Error) -> SourceErrorClass {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
            SourceErrorClass::Transient
        }
        _ => SourceErrorClass::Misconfigured,
    }
}

/// The exit codes that tell the class: from `sysexits.h` for wrong usage, no permission and wrong configuration, and
/// from the shell for a program that is absent or cannot run.
fn class_of(status: ExitStatus) -> SourceErrorClass {
    match status.code() {
        Some(77) => SourceErrorClass::Terminal,
        Some(64 | 78 | 126 | 127) => SourceErrorClass::Misconfigured,
        _ => SourceErrorClass::Transient,
    }
}

/// Whether the standard error says that the program looked for a terminal.
fn wants_terminal(said: &str) -> bool {
    let said = said.to_lowercase();
    ["/dev/tty", "not a tty", "not a terminal", "inappropriate ioctl for device"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// The process group of a running program: killed when dropped.
struct Group(Option<u32>);

impl Group {
    /// The program has been reaped. Another process may get its pid.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended already.
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

    #[test]
    fn a_lack_of_resources_may_pass() {
        for (errno, class) in [
            (Errno::EMFILE, SourceErrorClass::Transient),
            (Errno::EAGAIN, SourceErrorClass::Transient),
            (Errno::ENOENT, SourceErrorClass::Misconfigured),
            (Errno::EACCES, SourceErrorClass::Misconfigured),
        ] {
            assert_eq!(class_of_start(&errno.into()), class, "{errno}");
        }
    }

    #[tokio::test]
    async fn the_answer_is_what_it_wrote() {
        let written = shell("cat; echo noise >&2; echo 'a b'").run("test", has_code).await.unwrap();
        assert_eq!(&**written, b"a b\n");
        let awkward = "$HOME `id` 'x y'";
        let echo = Program::new(["/bin/echo", awkward], Duration::from_secs(60));
        assert_eq!(*echo.run("test", has_code).await.unwrap(), format!("{awkward}\n").into_bytes());
    }

    #[tokio::test]
    async fn it_has_no_terminal_and_leads_its_group() {
        let cat = Program::new(["/bin/cat", "/proc/self/stat"], Duration::from_secs(60));
        let stat = String::from_utf8(cat.run("test", has_code).await.unwrap().to_vec()).unwrap();
        let (pid, fields) = (stat.split(' ').next().unwrap(), stat.rsplit(')').next().unwrap());
        // The fields after state and parent: group, session, terminal.
        let fields: Vec<&str> = fields.split_whitespace().skip(2).take(3).collect();
        assert_eq!(fields, [pid, pid, "0"], "{stat}");
    }

    #[tokio::test]
    async fn each_failure_has_its_own_text() {
        let failure =
            |script: &'static str| async { shell(script).run("it", has_code).await.unwrap_err() };
        assert!(failure("echo hush; exit 3").await.message().contains("it failed: exit status: 3"));
        let said =
            failure("echo one >&2; echo two >&2; echo >&2; echo three >&2; echo four >&2; exit 1")
                .await;
        assert!(said.message().ends_with("exit status: 1; it said: two / three / four"), "{said}");
        let secret = failure("echo key AKIAIOSFODNN7EXAMPLE >&2; exit 1").await;
        assert!(secret.message().ends_with("it said: key [redacted]"), "{secret}");
        for (code, class) in [
            (1, SourceErrorClass::Transient),
            (77, SourceErrorClass::Terminal),
            (78, SourceErrorClass::Misconfigured),
            (127, SourceErrorClass::Misconfigured),
        ] {
            let script = format!("exit {code}");
            assert_eq!(shell(&script).run("it", has_code).await.unwrap_err().class(), class);
        }
        assert!(failure("kill -9 $$").await.message().contains("it failed: signal: 9"));
        let flood = failure("head -c 200000 /dev/zero").await;
        assert!(flood.message().contains("wrote more than 65536 bytes"), "{flood}");
        let absent = Program::new(["/no/such/program"], Duration::from_secs(60));
        let failure = absent.run("it", has_code).await.unwrap_err();
        assert_eq!(failure.class(), SourceErrorClass::Misconfigured);
        assert!(!failure.message().contains("--process-arg"), "{failure}");
        let line = Program::new(["/no/such/program --flag"], Duration::from_secs(60));
        let failure = line.run("it", has_code).await.unwrap_err();
        assert!(failure.message().contains("--process-arg"), "{failure}");
        assert!(failure.message().contains("/no/such/program"), "{failure}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let began = Instant::now();
        let mut program = shell("sleep 1000 & wait");
        program.timeout = Duration::from_millis(50);
        let failure = program.run("it", has_code).await.unwrap_err();
        assert_eq!(failure.class(), SourceErrorClass::Transient);
        assert!(failure.message().contains("no answer within 50ms"), "{failure}");
        assert!(began.elapsed() < Duration::from_secs(900));
    }

    /// Runs the script, in which `stay` is a process that lives until the file `$0` is gone.
    fn leaving(script: &str) -> (Program, tempfile::TempPath) {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let script = format!("stay() {{ while test -e \"$0\"; do sleep 0.05; done; }}; {script}");
        let argv = ["/bin/sh", "-c", &script, file.to_str().unwrap()];
        (Program::new(argv, Duration::from_secs(60)), file)
    }

    #[tokio::test]
    async fn the_answer_of_an_ended_program_is_taken_at_once() {
        for (script, expected) in [
            ("stay & echo 123456", "123456\n"),
            ("stay >/dev/null & echo 123456", "123456\n"),
            ("stay 2>/dev/null & echo 123456", "123456\n"),
            ("(stay & exit) & wait; echo 123456", "123456\n"),
            ("stay & echo old; echo 123456", "old\n123456\n"),
            // The process that it leaves gives the answer.
            ("(sleep 0.1; echo 123456; stay) & exit 0", "123456\n"),
            ("echo 123456; exec >&-; sleep 0.1", "123456\n"),
        ] {
            let (program, file) = leaving(script);
            let written = program.run("it", has_code).await;
            let written = written.unwrap_or_else(|failure| panic!("{script}: {failure}"));
            assert_eq!(std::str::from_utf8(&written).unwrap(), expected, "{script}");
            drop(file);
        }
    }

    #[tokio::test]
    async fn the_failure_of_an_ended_program_is_taken_at_once() {
        let (program, _file) = leaving("stay & echo why >&2; echo 123456; exit 3");
        let failure = program.run("it", has_code).await.unwrap_err();
        assert!(failure.message().ends_with("exit status: 3; it said: why"), "{failure}");
        let (program, _file) = leaving("stay & echo 123456; kill -9 $$");
        let failure = program.run("it", has_code).await.unwrap_err();
        assert!(failure.message().contains("signal: 9"), "{failure}");
    }

    #[tokio::test]
    async fn a_program_that_looks_for_a_terminal_is_told_why_there_is_none() {
        for script in
            ["stay & read code </dev/tty || exit 1", "echo 'stdin: is not a tty' >&2; exit 1"]
        {
            let (program, _file) = leaving(script);
            let failure = program.run("it", has_code).await.unwrap_err();
            assert_eq!(failure.class(), SourceErrorClass::Misconfigured, "{failure}");
            assert!(failure.message().contains("it has no terminal, because"), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_process_that_is_left_without_an_answer_is_killed() {
        for script in
            ["stay & echo $! >\"$0\"", "echo 123456; echo $$ >\"$0\"; exec >&- 2>&-; stay"]
        {
            let (mut program, file) = leaving(script);
            program.timeout = Duration::from_millis(500);
            let failure = program.run("it", has_code).await.unwrap_err();
            assert!(failure.message().contains("no answer within 500ms"), "{script}: {failure}");
            let pid = std::fs::read_to_string(&file).unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            while !is_dead(pid.trim()) {
                assert!(Instant::now() < end, "{script}: {pid} lives");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Whether the process is gone or a zombie.
    fn is_dead(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
            || stat.is_empty()
    }

    #[tokio::test]
    async fn all_that_it_wrote_by_its_end_is_read() {
        // More than a pipe holds. The program ends at once, and the pipe stays open.
        let (program, _file) = leaving("stay & head -c 65000 /dev/zero; echo 123456");
        assert_eq!(program.run("it", has_code).await.unwrap().len(), 65_007);
        let (program, _file) = leaving("stay & head -c 70000 /dev/zero; echo 123456");
        let failure = program.run("it", has_code).await.unwrap_err();
        assert!(failure.message().contains("wrote more than 65536 bytes"), "{failure}");
    }

    fn has_code(written: &[u8]) -> bool {
        written.windows(6).any(|six| six == b"123456")
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
