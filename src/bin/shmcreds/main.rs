//! The command line: unmodified programs in any language share one set of temporary AWS credentials.
#![deny(unsafe_code)]

mod arguments;
mod arn_table;
mod children;
mod cmd;
mod cmd_environment;
mod command_error;
mod config;
mod credentials_json;
mod doctor;
mod endpoint;
mod exec;
mod export;
mod export_directory;
mod file_limit;
#[cfg(feature = "fleet")]
mod fleet;
mod fleet_metrics;
mod kept;
mod listeners;
mod log;
mod metrics;
mod old_clients;
mod overlaps;
mod port;
mod process_pair;
mod recursion;
// Private modules of the library.
#[path = "../../errno.rs"]
mod errno;
#[path = "../../roles/pattern.rs"]
mod pattern;
#[path = "../../source/redact.rs"]
mod redact;
mod role_book;
mod role_credentials;
mod role_forget;
mod role_grant;
mod role_inputs;
mod role_pool;
mod role_refresher;
mod role_service;
mod roles_file;
mod roles_metrics;
mod roles_status;
#[cfg(feature = "watch")]
mod roles_watch;
mod same_user;
mod serve;
mod session;
mod sources;
mod standard_error;
mod status;
mod tls;
mod token;
mod token_places;
mod toml_table;
mod unix_socket;
#[cfg(feature = "watch")]
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::CommandFactory;
use shmcreds::SharedSession;

use arguments::{Cli, Command};
use command_error::{CommandError, Doing};
use kept::Sets;
use status::Entries;

fn main() -> ExitCode {
    cmd_environment::unset_empty();
    file_limit::make_an_error();
    let cli = match arguments::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    log::start(cli.verbose, cli.log_json);
    run(cli.command).unwrap_or_else(|failure| failure.report())
}

fn run(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Exec(options) => exec::run(options),
        Command::Serve(options) => serve::run(options),
        Command::Credentials { name, valid_for, role: Some(role) } => {
            print(&role_credentials::get(&name, &role, valid_for)?)
        }
        Command::Credentials { name, valid_for, role: None } => {
            let session = SharedSession::attach(&name)?;
            recursion::check(&session)?;
            let set = Sets::Session(session).credentials(valid_for)?;
            print(&credentials_json::process_answer(&set)?)
        }
        #[cfg(feature = "watch")]
        Command::Status { name, watch: true, sort, filter, .. } => {
            watch::run(name.as_deref(), Entries { sort, filter })
        }
        Command::Status { name, json, sort, filter, .. } => {
            status::run(name.as_deref(), json, &Entries { sort, filter })
        }
        Command::Refresh { name } => {
            let session = SharedSession::attach(&name)?;
            session.refresh()?;
            print(&format!("generation {}", session.status()?.generation()))
        }
        Command::Doctor(options) => doctor::run(options),
        Command::Refresher => {
            let Err(text) = shmcreds::run_refresher_program();
            Err(CommandError::new(command_error::USAGE, text))
        }
        Command::Export { name } => export::run(&name),
        Command::List => {
            let names = SharedSession::list()
                .doing("listing the sessions")?
                .into_iter()
                .map(|name| name + "\n");
            write(&names.collect::<String>())
        }
        Command::Remove { name } => {
            SharedSession::remove(&name)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Metrics { name, listen: Some(address) } => metrics::serve(name, address),
        Command::Metrics { name, listen: None } => write(&metrics::of(&name)?),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "shmcreds", &mut text);
            write(&String::from_utf8_lossy(&text))
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut text)
                .doing("writing the manual page")?;
            write(&String::from_utf8_lossy(&text))
        }
    }
}

fn print(line: &str) -> Result<ExitCode, CommandError> {
    write(&format!("{line}\n"))
}

/// Writes to the standard output. A closed pipe is not a failure: the reader may have seen enough.
fn write(text: &str) -> Result<ExitCode, CommandError> {
    printed(io::stdout().write_all(text.as_bytes()))
}

/// What a write to the standard output means.
fn printed(outcome: io::Result<()>) -> Result<ExitCode, CommandError> {
    match outcome.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).doing("writing to the standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
