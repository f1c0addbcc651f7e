//! `export`: joins the endpoint that the processes of a session share, or starts it.
//!
//! The Python package runs this, and gives a Unix socket as the standard input. It gets the variables to set, the
//! descriptor whose lock says that it uses the endpoint, a socket that keeps the port, and a pidfd of the process that
//! serves. That process belongs to no user of it, and ends with the last one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, IoSlice, PipeReader, PipeWriter, Read, Write, stdin},
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, setsid},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use shmcreds::{
    Profile, SharedSession,
    endpoint::{
        environment::{CLEARED, Files, variables},
        random,
        service::PATH,
    },
};

use crate::{
    command_error::{CommandError, Doing, USAGE},
    endpoint::Endpoint,
    export_directory::{ExportDirectory, Server, name_by_content, note},
    port,
    session::Event,
};

/// What a server says when it serves. Anything else is why it does not.
const READY: &str = "ready";
/// How long a server may take for that.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const BY_HAND: &str = "only the Python package starts this command: its standard input is a socket";

/// Which process this is after the start of a server.
enum Started {
    /// The one that was asked to join.
    Beside(Server),
    /// The server.
    Here(Serving),
}

/// What the server needs.
struct Serving {
    listening: Listening,
    /// Locked: this process is the server.
    lock: File,
    /// To the process that has started it.
    starter: PipeWriter,
}

/// The address, and what clients must show there.
struct Listening {
    listener: TcpListener,
    token: String,
    token_file: PathBuf,
}

pub(crate) fn run(name: &str) -> Result<ExitCode, CommandError> {
    let caller = caller()?;
    let session = SharedSession::attach(name)?;
    let directory = ExportDirectory::of(name).doing("making the directory of the endpoint")?;
    let users = directory.join().inspect_err(|_| directory.remove_if_empty());
    let users = users.doing("joining the endpoint (flock)")?;
    let known = directory.server().inspect_err(|_| directory.remove_if_unused(&users));
    let (lock, known) = known.doing("reading the state of the endpoint")?;
    let server = match (lock.try_lock(), known) {
        (Err(_), Some(alive)) => alive,
        (Err(_), None) => {
            let damaged = io::Error::other("it is damaged");
            return Err(damaged).doing("reading the state of the endpoint");
        }
        (Ok(()), before) => match start(&directory, lock, before.as_ref()) {
            Ok(Started::Beside(server)) => server,
            Ok(Started::Here(serving)) => {
                // Otherwise the server would be a user of itself, and the caller would wait for its end.
                drop((users, caller));
                return serving.run(session, directory);
            }
            Err(error) => {
                directory.remove_if_unused(&users);
                return Err(error);
            }
        },
    };
    let port = port::keep(server.port).doing("keeping the port of the endpoint")?;
    let settings = Profile::selected().without_credentials();
    let config = directory.write(&name_by_content("config-", &settings), &settings);
    let message = message(&server, &config.doing("writing a config file")?);
    let pidfd = Pid::from_raw(server.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let kept =
        [Some(users.as_raw_fd()), Some(port.as_raw_fd()), pidfd.as_ref().map(AsRawFd::as_raw_fd)];
    send(&caller, &message, &kept.into_iter().flatten().collect::<Vec<_>>())
        .doing("answering (sendmsg)")?;
    Ok(ExitCode::SUCCESS)
}

fn caller() -> Result<UnixStream, CommandError> {
    let input: OwnedFd = stdin().as_fd().try_clone_to_owned().doing("duplicating a descriptor")?;
    let socket = UnixStream::from(input);
    match socket.peer_addr() {
        Ok(_) => Ok(socket),
        Err(_) => Err(CommandError::new(USAGE, BY_HAND)),
    }
}

/// Starts a server, with the address and the token of the one before, so that its clients find the new one.
#[allow(unsafe_code)]
fn start(
    directory: &ExportDirectory,
    lock: File,
    before: Option<&Server>,
) -> Result<Started, CommandError> {
    let (listener, before) = listen(before).doing("listening on 127.0.0.1")?;
    let port = listener.local_addr().doing("reading an address")?.port();
    let token = before.map_or_else(random::token, |before| Ok(before.token.clone()));
    let token = token.doing("drawing a token (getrandom)")?;
    let token_file = token_file(directory, &token, before).doing("writing the token file")?;
    let (told, starter) = io::pipe().doing("making a pipe")?;
    // The server is never without it: a signal for all processes may come as soon as its caller knows it.
    let callers =
        SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).doing("blocking signals")?;
    // SAFETY: this process has one thread, so no other thread can hold a lock.
    match unsafe { fork() }.doing("starting the endpoint (fork)")? {
        ForkResult::Parent { child } => {
            callers.thread_set_mask().doing("unblocking signals")?;
            drop(starter);
            if let Err(error) = wait_until_ready(told) {
                // It may be stopped. No caller knows of it.
                let _ = kill(child, Signal::SIGKILL);
                return Err(error).doing("starting the endpoint");
            }
            Ok(Started::Beside(Server { pid: child.as_raw(), port, token, token_file }))
        }
        ForkResult::Child => {
            let listening = Listening { listener, token, token_file };
            Ok(Started::Here(Serving { listening, lock, starter }))
        }
    }
}

/// Waits until the server serves. Otherwise the caller would be told of one that has failed to.
fn wait_until_ready(mut server: PipeReader) -> io::Result<()> {
    let mut said = String::new();
    loop {
        let timeout = PollTimeout::try_from(START_TIMEOUT).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(server.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::Error::other(format!(
                "the server did not answer within {START_TIMEOUT:?}"
            )));
        }
        let mut part = [0; 512];
        match server.read(&mut part)? {
            0 if said == READY => return Ok(()),
            0 if said.is_empty() => return Err(io::Error::other("the server was killed")),
            0 => return Err(io::Error::other(said)),
            length => said.push_str(&String::from_utf8_lossy(&part[..length])),
        }
    }
}

/// A socket with the address of the server before. If another program has taken that port, it may belong to another user,
/// and clients send it the token. So the new server has nothing of the one before, and clients do not find its new token
/// where the old one was.
fn listen(before: Option<&Server>) -> io::Result<(TcpListener, Option<&Server>)> {
    let Some(before) = before else { return Ok((port::listen(0)?, None)) };
    match port::listen(before.port) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            fs::remove_file(&before.token_file).or_else(ignore_missing)?;
            Ok((port::listen(0)?, None))
        }
        listening => Ok((listening?, Some(before))),
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// The file with the token. It has a random name, which stays.
fn token_file(
    directory: &ExportDirectory,
    token: &str,
    before: Option<&Server>,
) -> io::Result<PathBuf> {
    let known = before.and_then(|before| before.token_file.file_name()?.to_str());
    let name = known.map_or_else(|| random::random_name("token-"), |name| Ok(name.to_owned()));
    directory.write(&name?, token)
}

impl Serving {
    /// Serves until no process uses the endpoint any more.
    fn run(
        self,
        session: SharedSession,
        directory: ExportDirectory,
    ) -> Result<ExitCode, CommandError> {
        let Serving { listening, lock, mut starter } = self;
        let started = listening.serve(session.clone(), &lock, &directory);
        let said = started.as_ref().map_or_else(ToString::to_string, |_| READY.to_owned());
        // A starter that was killed has told nobody. Then nobody uses the endpoint, and it ends.
        let _ = starter.write_all(said.as_bytes());
        // The next process that joins finds what this process has noted, also if its starter was killed.
        drop((starter, directory));
        let is_end = |event: &Event| matches!(event, Event::Unused | Event::Endpoint(_));
        let end = started?.iter().find(is_end);
        session.leave();
        // Until now it says that this process serves.
        drop(lock);
        match end {
            Some(Event::Endpoint(error)) => Err(error).doing("serving the endpoint"),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

impl Listening {
    /// Serves, and notes that this process does.
    fn serve(
        self,
        session: SharedSession,
        lock: &File,
        directory: &ExportDirectory,
    ) -> Result<Receiver<Event>, CommandError> {
        detach().doing("leaving the caller (setsid, dup2)")?;
        let port = self.listener.local_addr().doing("reading an address")?.port();
        let watch = directory.watch().doing("opening the file of the users")?;
        let (sender, events) = channel();
        let endpoint = Endpoint::of(self.listener, self.token.clone());
        let endpoint = endpoint.doing("reading an address")?;
        endpoint.serve(session, sender.clone()).doing("starting the endpoint")?;
        let (token, token_file) = (self.token, self.token_file);
        let server = Server { pid: getpid().as_raw(), port, token, token_file };
        note(lock, &server).doing("writing the state of the endpoint")?;
        let watch = move || {
            if let Err(error) = watch.remove_when_unused() {
                let _ = sender.send(Event::Endpoint(error));
            }
            let _ = sender.send(Event::Unused);
        };
        thread::Builder::new().spawn(watch).doing("starting a thread")?;
        Ok(events)
    }
}

/// Makes this process independent of the program that started it: of its terminal and its directory. Signals are blocked
/// since its start: it must serve until the last user has ended, and these may still work after a SIGTERM for all of them.
fn detach() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // At most 15 bytes.
    let _ = prctl::set_name(c"shmcreds-export");
    Ok(())
}

/// What the caller needs: what to set, what to remove, and who serves.
fn message(server: &Server, config: &Path) -> String {
    let url = format!("http://127.0.0.1:{}{PATH}", server.port);
    let files = Files { token: Some(&server.token_file), config: Some(config) };
    let set = variables(&url, &server.token, files);
    let set: BTreeMap<&str, String> =
        set.into_iter().map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect();
    json!({"pid": server.pid, "set": set, "remove": CLEARED}).to_string()
}

/// Sends the message with the descriptors.
fn send(caller: &UnixStream, message: &str, descriptors: &[RawFd]) -> io::Result<()> {
    let parts = [IoSlice::new(message.as_bytes())];
    let rights = [ControlMessage::ScmRights(descriptors)];
    sendmsg::<()>(caller.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None)?;
    Ok(())
}
