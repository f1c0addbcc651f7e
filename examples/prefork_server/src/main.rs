//! A prefork HTTP server whose workers share one set of AWS credentials.
//!
//! The parent binds, creates the session and forks; each worker attaches and serves on the shared
//! listener. `GET /presign?bucket=B&key=K` answers with a presigned S3 URL, `GET /status` with the
//! session's status. Without `--role-arn` it needs no AWS account: it starts an embedded STS.
//!
//! ```sh
//! cargo run --example prefork_server -- --workers 4
//! ```

mod args;
mod drive;
mod parent;
mod watch;
mod worker;

use std::{net::TcpListener, process::ExitCode, time::Duration};

use aws_credential_types::Credentials;
use clap::Parser;
use nix::unistd::{User, geteuid};
use shmcreds::{
    AssumeRole, Refresh, SharedSession,
    testing::{LocalSts, Settings},
};

use args::Args;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// One live line for people; out of the way of the JSON where that is wanted. The server goes on when nobody
/// reads it any more.
macro_rules! say {
    ($json:expr, $($text:tt)*) => {{
        use std::io::Write;
        let line = format!($($text)*) + "\n";
        let _ = match $json {
            true => std::io::stderr().write_all(line.as_bytes()),
            false => std::io::stdout().write_all(line.as_bytes()),
        };
    }};
}
pub(crate) use say;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prefork_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Fallible<()> {
    let user = args.drop_privileges.as_deref().map(user).transpose()?;
    let listener = TcpListener::bind(args.listen).map_err(|e| format!("{}: {e}", args.listen))?;
    listener.set_nonblocking(true)?;
    // Before anything has threads: it forks.
    let sts = if args.role_arn.is_none() { Some(LocalSts::fork()?) } else { None };
    if let Some(sts) = &sts {
        // About as long as the real one takes.
        let latency = Duration::from_millis(50);
        let lifetime = Duration::from_secs(args.lifetime);
        sts.configure(Settings::new().latency(latency).lifetime(lifetime))?;
        say!(args.json, "no --role-arn: using an embedded STS at {}", sts.url());
    }
    let name = args.session.clone().unwrap_or_else(|| format!("prefork-{}", std::process::id()));
    let refresh = if args.eager { Refresh::Eager } else { Refresh::Deferred };
    let builder = SharedSession::builder(name).source(source(args, sts.as_ref())).refresh(refresh);
    let session = if args.sealed { builder.sealed() } else { builder }.create()?;
    say!(args.json, "listening on http://{}", listener.local_addr()?);
    parent::serve(args, user.as_ref(), &listener, &session, sts.as_ref())
}

/// Whom the workers run as. Looked up once, before anything is made.
fn user(name: &str) -> Fallible<User> {
    let user =
        User::from_name(name)?.ok_or_else(|| format!("--drop-privileges {name}: no such user"))?;
    if !geteuid().is_root() {
        return Err(format!("--drop-privileges {name}: only root can change the user").into());
    }
    Ok(user)
}

fn source(args: &Args, sts: Option<&LocalSts>) -> AssumeRole {
    match (&args.role_arn, sts) {
        (Some(arn), _) => AssumeRole::new(arn),
        (None, Some(sts)) => AssumeRole::new("arn:aws:iam::123456789012:role/app")
            .region("us-east-1")
            .endpoint_url(sts.url())
            // The embedded STS checks no signatures.
            .credentials_provider("embedded", || async {
                Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "embedded")
            }),
        (None, None) => unreachable!("without a role there is an embedded STS"),
    }
}
