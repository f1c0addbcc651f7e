//! `exec`: runs CMD. The session and the endpoint end with it.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::{Pid, getpid, getppid},
};
use rustix::process::{self, PidfdFlags, pidfd_open, pidfd_send_signal};
use shmcreds::{
    SharedSession,
    endpoint::{environment, memory_files::MemoryFiles, random::random_name},
};
use signal_hook::{
    consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};

use crate::{
    arguments::Exec,
    children::{self, GRACE},
    cmd_environment,
    command_error::{CommandError, Doing, SYSTEM},
    endpoint::Endpoint,
    errno::told,
    log, old_clients,
    process_pair::{self, Guarded, KillSwitch, Role},
    session::{self, Event},
    sources,
};

/// The signals that end this process before CMD runs.
const ENDING: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGTERM];
const PREFIX: &str = "exec-";
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What `exec` does when it fails to listen to signals.
const SIGNALS: &str = "handling signals (sigaction)";

type Signals = SignalsInfo<WithOrigin>;

/// Who gets the forwarded signals.
#[derive(Default)]
enum Target {
    /// CMD does not run yet.
    #[default]
    Nobody,
    /// CMD, by a pidfd: so a signal cannot go to another process with the same pid.
    Cmd(OwnedFd),
    /// CMD, where the kernel has no pidfds. Its pid is not free before it is reaped.
    Unreaped(Pid),
    /// CMD has ended.
    Ended,
    /// The processes that CMD has left.
    Orphans,
}

/// What became of CMD.
enum CmdEnd {
    Ended(WaitStatus),
    /// A signal came before CMD was started.
    NotStarted(ExitCode),
}

const NO_PLACE_FOR_HELPER: &str = "--credential-process needs a file in /dev/shm, and shmcreds cannot write there: mount \
     a tmpfs there, or use --static-keys";

type SharedTarget = Arc<Mutex<Target>>;

pub(crate) fn run(options: Exec) -> Result<ExitCode, CommandError> {
    options.check()?;
    log::learn_secrets(&options.session);
    let files = files();
    let outcome = split(&options, files.as_ref());
    if let Some(files) = &files {
        files.remove();
    }
    outcome
}

fn split(options: &Exec, files: Option<&MemoryFiles>) -> Result<ExitCode, CommandError> {
    let name = options
        .name
        .clone()
        .map_or_else(random_session_name, Ok)
        .doing("choosing a session name")?;
    match process_pair::split(&name)? {
        Role::Guard(code) => Ok(code),
        Role::Supervisor(guarded) => supervise(options, &name, files, guarded),
    }
}

/// Keeps the session as long as CMD runs.
fn supervise(
    options: &Exec,
    name: &str,
    files: Option<&MemoryFiles>,
    guarded: Guarded,
) -> Result<ExitCode, CommandError> {
    // A sealed session has no name that must be removed, and fetches its first set while it is created. So signals
    // may end this process until then, and the guard does the rest.
    let early = if options.sealed { None } else { Some(signals().doing(SIGNALS)?) };
    let session = session::create(name, &options.session, options.sealed)?;
    let signals = early.map_or_else(signals, Ok).doing(SIGNALS)?;
    let outcome = serve(options, &session, files, signals, guarded);
    // The threads end with the process, even during a fetch.
    session.unlink();
    outcome
}

fn serve(
    options: &Exec,
    session: &SharedSession,
    files: Option<&MemoryFiles>,
    signals: Signals,
    guarded: Guarded,
) -> Result<ExitCode, CommandError> {
    let endpoint = Endpoint::on_loopback()?;
    let mut command = command(options, session, files, &endpoint)?;
    let (sender, events) = channel();
    let target = SharedTarget::default();
    let guard = guarded.guard;
    forward(signals, guard, Arc::clone(&target), sender.clone());
    prepare(&mut command, guarded.kill_switch);
    endpoint.serve(session.clone(), sender).doing("starting the endpoint")?;
    if options.session.is_eager() && !options.sealed {
        session::keep_fresh(session);
    }
    let limit = Duration::from_secs(options.session.deadline);
    match first_set(&events, limit)? {
        None => {
            session::warn_of_consumers(session);
            let set = session::credentials(session, options.valid_for)?;
            if options.static_keys {
                old_clients::set_keys(&mut command, &set)?;
            }
            match run_cmd(command, &target, &events)? {
                CmdEnd::Ended(status) => Ok(finish(status, options.wait_orphans, &target, guard)),
                CmdEnd::NotStarted(code) => Ok(code),
            }
        }
        Some(signal) => Ok(killed_by(signal)),
    }
}

/// A name that no other process has. It is random: pid namespaces may share one `/dev/shm`, so a pid is not unique.
/// Sessions that killed processes have left under such names are removed.
fn random_session_name() -> io::Result<String> {
    for name in SharedSession::list()?.iter().filter(|name| name.starts_with(PREFIX)) {
        // It fails for a session in use.
        let _ = SharedSession::remove(name);
    }
    random_name(PREFIX)
}

/// The directory for files that CMD reads. CMD can run without it.
fn files() -> Option<MemoryFiles> {
    let files = MemoryFiles::create();
    files
        .inspect_err(|error| {
            tracing::warn!("CMD gets neither a token file nor an AWS config file: {error}");
        })
        .ok()
}

/// Waits for the first set. Gives the signal if one comes first. A failure that may pass counts only after `limit`.
fn first_set(events: &Receiver<Event>, limit: Duration) -> Result<Option<i32>, CommandError> {
    let began = Instant::now();
    loop {
        match events.recv() {
            Ok(Event::First(Err(no_set))) if no_set.may_pass && began.elapsed() < limit => {}
            Ok(Event::First(first)) => {
                return first.map(|()| None).map_err(|no_set| no_set.failure);
            }
            Ok(Event::Signal(signal)) => return Ok(Some(signal)),
            Ok(Event::Endpoint(error)) => return Err(error).doing("serving the endpoint"),
            // Only `export` has users that leave.
            Ok(Event::Unused) | Err(_) => return Ok(None),
        }
    }
}

fn killed_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// CMD, with an environment in which every SDK finds only the endpoint.
fn command(
    options: &Exec,
    session: &SharedSession,
    files: Option<&MemoryFiles>,
    endpoint: &Endpoint,
) -> Result<Command, CommandError> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    cmd_environment::clear(&mut command);
    #[cfg(feature = "fleet")]
    if let Some(variable) = options.session.fleet.key_variable() {
        command.env_remove(variable);
    }
    cmd_environment::bypass_proxies(&mut command);
    let profile = sources::chosen_profile(&options.session.source);
    let region = profile.region().unwrap_or_else(|failure| {
        // CMD may need no Region.
        tracing::warn!("CMD gets no Region: {failure}");
        None
    });
    cmd_environment::keep_region(&mut command, region.as_deref());
    // CMD may need neither. The directory may be full.
    let write = |name, text: &str| {
        let written = files?.write(name, text);
        let warn = |e: &io::Error| tracing::warn!("CMD gets no {name}file: {}", told(e));
        written.inspect_err(warn).ok()
    };
    if !options.keep_aws_files {
        let mut settings = profile.without_credentials();
        let mut keys = None;
        if options.credential_process {
            let helper =
                old_clients::helper(session.name()).doing("finding the shmcreds program")?;
            settings = old_clients::with_helper(&settings, &helper);
            keys = write("credentials-", &format!("[default]\n{helper}"));
            if keys.is_none() {
                return Err(CommandError::new(SYSTEM, NO_PLACE_FOR_HELPER));
            }
        }
        let settings = write("config-", &settings);
        let null = || "/dev/null".into();
        command.env("AWS_CONFIG_FILE", settings.unwrap_or_else(null));
        command.env("AWS_SHARED_CREDENTIALS_FILE", keys.unwrap_or_else(null));
    }
    if let Some(token) = write("token-", &endpoint.token) {
        command.env(environment::TOKEN_FILE, token);
    }
    command
        .env(environment::URI, endpoint.url())
        .env(environment::TOKEN, &endpoint.token)
        .env("SHMCREDS_SESSION", session.name())
        .env_remove("SHMCREDS_ASKED_BY")
        // What the Python package has set aside for itself.
        .env_remove("SHMCREDS_EXPORTED");
    session.pass_to(&mut command)?;
    Ok(command)
}

fn signals() -> io::Result<Signals> {
    Signals::new(process_pair::forwarded().into_iter().map(|signal| signal as i32))
}

/// Forwards the signals of the guard to CMD. CMD gets a signal that the terminal or another process sends to the whole
/// job itself.
fn forward(mut signals: Signals, guard: Pid, target: SharedTarget, events: Sender<Event>) {
    thread::spawn(move || {
        for origin in signals.forever() {
            let guard_is_dead = getppid() != guard;
            let by_the_guard = origin.process.is_some_and(|sender| sender.pid == guard.as_raw());
            match &*target.lock().unwrap_or_else(PoisonError::into_inner) {
                Target::Nobody if guard_is_dead || ENDING.contains(&origin.signal) => {
                    let _ = events.send(Event::Signal(origin.signal));
                }
                Target::Nobody => {}
                target if guard_is_dead => target.end(),
                target if by_the_guard => target.signal(origin.signal),
                _ => {}
            }
        }
    });
}

impl Target {
    /// The target may have ended already.
    fn signal(&self, signal: i32) {
        match self {
            Target::Nobody | Target::Ended => {}
            Target::Unreaped(pid) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    let _ = kill(*pid, signal);
                }
            }
            Target::Cmd(cmd) => {
                if let Some(signal) = process::Signal::from_named_raw(signal) {
                    let _ = pidfd_send_signal(cmd, signal);
                }
            }
            Target::Orphans => {
                if let Ok(signal) = Signal::try_from(signal) {
                    children::signal_all(signal);
                }
            }
        }
    }

    fn end(&self) {
        self.signal(Signal::SIGTERM as i32);
        // A stopped process gets SIGTERM only when it continues.
        self.signal(Signal::SIGCONT as i32);
        thread::sleep(GRACE);
        self.signal(Signal::SIGKILL as i32);
    }
}

/// Starts CMD and waits for its end. It runs on the main thread, because the kernel kills CMD when the thread that
/// started it ends.
fn run_cmd(
    mut command: Command,
    target: &SharedTarget,
    events: &Receiver<Event>,
) -> Result<CmdEnd, CommandError> {
    prctl::set_child_subreaper(true).doing("adopting orphans (prctl)")?;
    let lock = || target.lock().unwrap_or_else(PoisonError::into_inner);
    let mut target = lock();
    // A signal may have come while there was no CMD to forward it to.
    for event in events.try_iter() {
        if let Event::Signal(signal) = event {
            return Ok(CmdEnd::NotStarted(killed_by(signal)));
        }
    }
    let pid = match command.spawn() {
        Ok(started) => Pid::from_raw(started.id() as i32),
        Err(error) => {
            let code = match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            };
            let program = command.get_program().to_string_lossy().into_owned();
            return Err(CommandError::new(code, format!("{program}: {}", told(&error))));
        }
    };
    let number = process::Pid::from_raw(pid.as_raw());
    let descriptor = number.and_then(|number| pidfd_open(number, PidfdFlags::empty()).ok());
    *target = descriptor.map_or(Target::Unreaped(pid), Target::Cmd);
    drop(target);
    let ended = children::wait_for(pid, || *lock() = Target::Ended);
    Ok(CmdEnd::Ended(ended.doing("waiting for the end of CMD (wait4)")?))
}

/// Ends the processes that CMD has left. With `--wait-orphans`, and if CMD exited with 0, waits for them instead.
fn finish(status: WaitStatus, wait_orphans: bool, target: &SharedTarget, guard: Pid) -> ExitCode {
    match status {
        WaitStatus::Exited(_, 0) if wait_orphans => {
            *target.lock().unwrap_or_else(PoisonError::into_inner) = Target::Orphans;
            // If the guard is dead, the thread that forwards signals ends the orphans.
            if getppid() == guard {
                children::wait_for_all();
            }
        }
        WaitStatus::Exited(_, 0) => warn_of_orphans(),
        _ => {}
    }
    children::end_all();
    ExitCode::from(children::exit_code(status))
}

/// Explains what happens to a program that puts itself in the background.
fn warn_of_orphans() {
    let left = children::left();
    if !left.is_empty() {
        tracing::warn!(
            "CMD has ended and left {} behind, which is ended, too; run CMD in the foreground, or use \
             --wait-orphans or `shmcreds serve`",
            left.join(", ")
        );
    }
}

/// Makes the kernel kill CMD when this process is killed, even by SIGKILL. CMD gets the file descriptor limit
/// that this process was started with. This process may raise its own limit later.
#[allow(unsafe_code)]
fn prepare(command: &mut Command, kill_switch: KillSwitch) {
    let parent = getpid();
    // A sandbox that refuses the limits has refused to raise them as well.
    let limits = getrlimit(Resource::RLIMIT_NOFILE).ok();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        kill_switch.tie_to_this_process()?;
        if let Some((soft, hard)) = limits {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        // The parent may have died before `set_pdeathsig`.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec the closure only makes system calls.
    unsafe { command.pre_exec(prepare) };
}
