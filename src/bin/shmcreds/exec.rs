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
    endpoint::{memory_files::MemoryFiles, random::random_name},
};
use signal_hook::{
    consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};

use crate::{
    arguments::Exec,
    children::{self, GRACE},
    cmd,
    command_error::{CommandError, Doing},
    endpoint::Endpoint,
    errno::told,
    file_limit,
    kept::{Kept, Sets},
    log, old_clients,
    process_pair::{self, Guarded, KillSwitch, Role},
    role_pool, role_refresher,
    same_user::SameUser,
    session::{self, Event, THREAD},
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
    let same_user = options.roles.as_ref().map(|_| SameUser::bind(name)).transpose()?.flatten();
    let kept = keep(options, name)?;
    let signals = early.map_or_else(signals, Ok).doing(SIGNALS)?;
    let outcome = serve(options, &kept, same_user, files, signals, guarded);
    // The threads end with the process, even during a fetch.
    kept.unlink();
    outcome
}

fn keep(options: &Exec, name: &str) -> Result<Kept, CommandError> {
    Ok(match &options.roles {
        Some(path) => Kept::Roles(Arc::new(role_pool::create(name, &options.session, path)?)),
        None => Kept::Session(session::create(name, &options.session, options.sealed)?),
    })
}

fn serve(
    options: &Exec,
    kept: &Kept,
    same_user: Option<SameUser>,
    files: Option<&MemoryFiles>,
    signals: Signals,
    guarded: Guarded,
) -> Result<ExitCode, CommandError> {
    let endpoint = Endpoint::on_loopback()?;
    let offer = kept.offer(options.role.as_deref(), &endpoint.token)?;
    let mut command = cmd::command(options, kept, &offer, files, &endpoint)?;
    let (sender, events) = channel();
    let target = SharedTarget::default();
    let guard = guarded.guard;
    forward(signals, guard, Arc::clone(&target), sender.clone()).doing(THREAD)?;
    prepare(&mut command, guarded.kill_switch);
    let sets = offer.sets;
    let _refresher = match kept {
        Kept::Roles(book) => role_refresher::start(&options.session, &book.roles)?,
        Kept::Session(_) => None,
    };
    let served = match kept {
        Kept::Session(session) => endpoint.serve(session.clone(), sender),
        Kept::Roles(book) => {
            endpoint.serve_roles(Arc::clone(book), same_user, Some(sets.clone()), sender)
        }
    };
    served.doing("starting the endpoint")?;
    if let Sets::Session(session) = &sets
        && options.session.is_eager()
        && !options.sealed
    {
        session::keep_fresh(session)?;
    }
    let limit = Duration::from_secs(options.session.deadline);
    match first_set(&events, limit)? {
        None => {
            if let Sets::Session(session) = &sets {
                session::warn_of_consumers(session);
            }
            let set = sets.credentials(options.valid_for)?;
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

fn signals() -> io::Result<Signals> {
    Signals::new(process_pair::forwarded().into_iter().map(|signal| signal as i32))
}

/// Forwards the signals of the guard to CMD. CMD gets a signal that the terminal or another process sends to the whole
/// job itself.
fn forward(
    mut signals: Signals,
    guard: Pid,
    target: SharedTarget,
    events: Sender<Event>,
) -> io::Result<()> {
    let work = move || {
        process_pair::unblock();
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
    };
    thread::Builder::new().name("signals".into()).spawn(work).map(drop)
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
    file_limit::as_at_the_start(command);
}
