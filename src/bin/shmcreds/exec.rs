//! `exec`: runs a program, and everything that it needs dies with it.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitCode, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid, getppid},
};
use shmcreds::SharedSession;
use signal_hook::{
    consts::signal::{
        SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
    },
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};

use crate::{
    arguments::Exec,
    endpoint::Endpoint,
    failure::Failure,
    session::{self, Event},
};

/// What CMD is told, too.
const FORWARDED: &[i32] =
    &[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTTIN, SIGTTOU];
/// What ends this process as long as CMD is not there.
const DEADLY: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// What CMD started and left behind gets as long to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const PREFIX: &str = "exec-";
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What would win over the endpoint, in one SDK or another.
const CLEARED: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

pub(crate) fn run(options: Exec) -> Result<ExitCode, Failure> {
    options.check()?;
    let name = options.name.clone().unwrap_or_else(own_name);
    let session = session::create(&name, &options.session, options.sealed)?;
    let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into())?;
    let command = command(&options, &session, &endpoint)?;
    let (sender, events) = channel();
    let child = Arc::new(AtomicI32::new(0));
    forward_signals(&child, sender.clone())?;
    endpoint.serve(session.clone(), sender)?;
    if options.session.is_eager() && !options.sealed {
        session::keep_fresh(&session);
    }
    let code = match first_set(&events) {
        Ok(None) => supervise(command, &child),
        Ok(Some(signal)) => Ok(ExitCode::from(128 + signal)),
        Err(failure) => Err(failure),
    };
    // The threads end with the process, in the middle of a fetch, too.
    session.unlink();
    code
}

/// A name that no other process has. What killed ones have left under such names goes.
fn own_name() -> String {
    for name in SharedSession::list().iter().filter(|name| name.starts_with(PREFIX)) {
        // A live one refuses.
        let _ = SharedSession::remove(name);
    }
    format!("{PREFIX}{}", getpid())
}

/// Waits for the first set; gives the signal that came sooner.
fn first_set(events: &Receiver<Event>) -> Result<Option<u8>, Failure> {
    match events.recv() {
        Ok(Event::First(first)) => first.map(|()| None),
        Ok(Event::Signal(signal)) => Ok(u8::try_from(signal).ok()),
        Ok(Event::Endpoint(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// CMD, with an environment in which every SDK finds the endpoint and nothing else.
fn command(
    options: &Exec,
    session: &SharedSession,
    endpoint: &Endpoint,
) -> Result<Command, Failure> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    for key in CLEARED {
        command.env_remove(key);
    }
    if !options.keep_aws_files {
        for key in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            if let (None, Some(region)) = (std::env::var_os(key), region()) {
                command.env(key, region);
            }
        }
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    }
    command
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url())
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", &endpoint.token)
        .env("SHMCREDS_SESSION", session.name());
    session.pass_to(&mut command)?;
    Ok(command)
}

/// The Region of the environment or of the profile, which CMD would not find any more.
fn region() -> Option<String> {
    use aws_config::{
        environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
        profile::ProfileFileRegionProvider,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    runtime.block_on(chain.region()).map(|region| region.to_string())
}

/// Tells CMD of every signal that this process is sent. What the terminal sends, it has got itself.
fn forward_signals(child: &Arc<AtomicI32>, events: Sender<Event>) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new(FORWARDED)?;
    let child = Arc::clone(child);
    thread::spawn(move || {
        for origin in signals.forever() {
            let pid = child.load(Ordering::Acquire);
            if pid == 0 {
                if DEADLY.contains(&origin.signal) {
                    let _ = events.send(Event::Signal(origin.signal));
                }
            } else if origin.process.is_some()
                && let Ok(signal) = Signal::try_from(origin.signal)
            {
                // It may have ended a moment ago.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    });
    Ok(())
}

/// Starts CMD, waits for its end, and ends what it has left behind. Runs on the main thread: the kernel
/// kills CMD when the thread that started it ends.
fn supervise(mut command: Command, child: &AtomicI32) -> Result<ExitCode, Failure> {
    // Orphans of CMD become children of this process.
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    die_with_parent(&mut command);
    let pid = match command.spawn() {
        Ok(started) => Pid::from_raw(started.id() as i32),
        Err(error) => {
            let code = match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            };
            let program = command.get_program().to_string_lossy().into_owned();
            return Err(Failure::new(code, format!("{program}: {error}")));
        }
    };
    child.store(pid.as_raw(), Ordering::Release);
    let status = wait_for(pid)?;
    child.store(0, Ordering::Release);
    end_orphans();
    Ok(exit_code(status))
}

/// CMD is killed when this process is, even by SIGKILL.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let die = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have died before.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec it makes system calls and nothing else.
    unsafe { command.pre_exec(die) };
}

/// Waits for CMD, and reaps the orphans that come before.
fn wait_for(pid: Pid) -> io::Result<ExitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => {
                return Ok(ExitStatus::from_raw(code << 8));
            }
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Ends every process that CMD has left: they share a session that is about to go.
fn end_orphans() {
    let deadline = Instant::now() + GRACE;
    tell_children(Signal::SIGTERM);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Ok(WaitStatus::StillAlive) => {
                tell_children(Signal::SIGKILL);
                thread::sleep(Duration::from_millis(1));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn tell_children(signal: Signal) {
    let own = getpid();
    let children = std::fs::read_to_string(format!("/proc/self/task/{own}/children"));
    for pid in children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
