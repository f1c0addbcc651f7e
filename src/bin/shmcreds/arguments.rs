//! The arguments of the command line.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Args, CommandFactory, Parser, Subcommand, error::ErrorKind, parser::ValueSource, value_parser,
};
use shmcreds::endpoint::service::duration;

use crate::{
    command_error::{CommandError, USAGE},
    config,
    roles_status::Sort,
};

/// The longest time of a part of a fetch, in seconds.
pub(crate) const LONGEST_FETCH: u64 = 86_400;

/// One set of temporary AWS credentials for all processes of a server, in shared memory.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Writes more to the log, on the standard error; twice: even more.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Writes the log as JSON, one object per line.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXEC_EXAMPLE: &str = "\
Examples:
  shmcreds exec --role-arn arn:aws:iam::123456789012:role/app -- gunicorn app:app
  shmcreds exec --profile production --deferred -- python job.py

When shmcreds ends in any way, CMD ends, too. There is one exception: both processes of shmcreds are killed at
the same moment, and CMD has changed its user or its rights (setpriv, su) and closed inherited descriptors.

Exit codes: that of CMD; 128 plus the number of the signal that killed it; 126 or 127 if CMD cannot be
started; 69 no credentials; 64 wrong usage; 73 the name is in use.";

const EXIT_CODES: &str = "Exit codes: 0 success; 64 wrong usage; 65 a damaged session, or one of another source; \
66 no configuration file; 69 no session with this name, or no credentials; 71 the system refused; 73 the name is \
in use; 77 no permission. exec: that of CMD, 128 plus the signal's number, 126 or 127 if CMD cannot be started. \
status: 0 fresh, 1 degraded, 2 expired or empty, 3 absent.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs CMD. CMD and all processes that it starts get the same credentials from a local endpoint.
    Exec(Exec),
    /// Keeps a session and its endpoint for other programs: as a sidecar or a systemd unit.
    Serve(Serve),
    /// Prints the session's credentials in the `credential_process` format, for an AWS config file.
    Credentials {
        /// The session's name.
        name: String,
        /// Prints a set that is valid for at least this long, for example `2h` or `90m`. If the current one is not, all
        /// processes get a new one.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        valid_for: Option<Duration>,
        /// A role of the pool NAME, which a `serve --roles` or an `exec --roles` of this user keeps.
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
    },
    /// Shows the state of a session or a pool of roles, or of all of this user.
    Status {
        /// The session's name. Without it, all sessions.
        name: Option<String>,
        /// Writes JSON.
        #[arg(long)]
        json: bool,
        /// Shows it on the whole screen, until you press q.
        #[cfg(feature = "watch")]
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// The order of the roles of a pool.
        #[arg(long, value_enum, default_value_t, value_name = "COLUMN")]
        sort: Sort,
        /// Shows only those roles of a pool that contain this text in any column.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        filter: String,
    },
    /// Requests a new set, and waits for it.
    Refresh {
        /// The session's name.
        name: String,
    },
    /// Looks at everything that decides whether it will work here, and changes nothing.
    Doctor(Doctor),
    /// Refreshes a session for the library, which hands over what to do.
    #[command(hide = true)]
    Refresher,
    /// Joins or starts the endpoint of a session for the Python package, whose socket is the standard input.
    #[command(hide = true)]
    Export {
        /// The session's name.
        name: String,
    },
    /// Lists the names of this user's sessions.
    List,
    /// Removes a session that killed processes have left. A session in use is not removed.
    Remove {
        /// The session's name.
        name: String,
    },
    /// Prints the state of a session in the text format of Prometheus.
    Metrics {
        /// The session's name.
        name: String,
        /// Serves it over HTTP at this address, until a signal. It contains no secret.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Prints the completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = EXEC_EXAMPLE)]
pub(crate) struct Exec {
    /// The session's name. By default `exec-` and a random number.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Keeps the session in memory without a name. CMD cannot write to it.
    #[arg(long)]
    pub(crate) sealed: bool,
    /// Lets CMD see the AWS config and credentials files. Without this option, CMD sees only settings that are not
    /// credentials. In most SDKs, keys in the default profile take precedence over the session.
    #[arg(long)]
    pub(crate) keep_aws_files: bool,
    /// Also writes a `credential_process` into the config and credentials files that CMD sees. For programs that read
    /// these files, but know no endpoint. Most SDKs then use it instead of the endpoint.
    #[arg(long, conflicts_with_all = ["sealed", "keep_aws_files"])]
    pub(crate) credential_process: bool,
    /// Also puts the keys of the first set into the environment of CMD. For programs that cannot ask an endpoint. These
    /// keys do not change: CMD must end before they expire.
    #[arg(long)]
    pub(crate) static_keys: bool,
    /// Starts CMD only with a set that is valid for at least this long, for example `2h` or `90m`. For a CMD that
    /// keeps its first keys, or presigns URLs.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) valid_for: Option<Duration>,
    /// A TOML file with the roles of a pool. CMD gets the role of --role, and finds the others through the file that the
    /// variable SHMCREDS_ROLES names. The source gives the base credentials.
    #[arg(long, value_name = "FILE", requires = "role", conflicts_with_all = ["sealed", "consumers_keep"])]
    pub(crate) roles: Option<PathBuf>,
    /// The role of the roles file whose credentials CMD gets.
    #[arg(long, value_name = "NAME", requires = "roles")]
    pub(crate) role: Option<String>,
    /// For a CMD that puts itself in the background. When CMD exits with 0, shmcreds does not end the processes that
    /// CMD has left, but waits for them. They get the signals from then on.
    #[arg(long)]
    pub(crate) wait_orphans: bool,
    #[command(flatten)]
    pub(crate) session: Session,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 there are notes, 2 there are faults.")]
pub(crate) struct Doctor {
    /// The profile whose chain it resolves; that of the environment without one.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The role that would be assumed.
    #[arg(long, value_name = "ARN")]
    pub(crate) role_arn: Option<String>,
    /// Asks AWS once for credentials, and once whose they are. Compares the clock with that of STS.
    #[arg(long)]
    pub(crate) online: bool,
    /// Writes JSON: a list of objects.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct Serve {
    /// The session's name.
    #[arg(long)]
    pub(crate) name: String,
    /// The address of the endpoint: 127.0.0.1, or 169.254.170.23 and [fd00:ec2::23], which SDKs accept too. Can be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: Vec<SocketAddr>,
    /// An address of the endpoint for other hosts, over HTTPS: a private one. Can be repeated.
    #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["tls_certificate", "tls_key"])]
    pub(crate) listen_tls: Vec<SocketAddr>,
    /// The file with the certificate for --listen-tls, in PEM. It is read again when it changes.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "listen_tls"])]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The file with the certificate's private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A Unix socket of the endpoint. It asks for no token: this user and root may ask.
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// A user who may ask on the Unix socket, too. Can be repeated.
    #[arg(long, value_name = "UID", requires = "unix")]
    pub(crate) allow_uid: Vec<u32>,
    /// A group whose members may ask on the Unix socket. Can be repeated.
    #[arg(long, value_name = "GID", requires = "unix")]
    pub(crate) allow_gid: Vec<u32>,
    /// A group whose members may read the session and the token file.
    #[arg(long, value_name = "GID")]
    pub(crate) group: Option<u32>,
    /// A TOML file with the roles of a pool, each with a token of its own: see docs/ROLES.md. The source gives the base
    /// credentials. SIGHUP reads the file again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["group", "token_file", "consumers_keep"])]
    pub(crate) roles: Option<PathBuf>,
    /// The file to write the endpoint's token to, for `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) session: Session,
}

#[derive(Debug, Args)]
pub(crate) struct Session {
    /// A TOML file with the same options. Options on the command line take precedence.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Refreshes each set in time, also if no program asks. This is the default.
    #[arg(long, overrides_with = "deferred")]
    pub(crate) eager: bool,
    /// Refreshes when a program asks and the set is due.
    #[arg(long, overrides_with = "eager")]
    pub(crate) deferred: bool,
    /// How long who asks for a set waits for it, in seconds. For the first set, failures that may pass are retried until then.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u64).range(1..))]
    pub(crate) deadline: u64,
    #[cfg(feature = "fleet")]
    #[command(flatten)]
    pub(crate) fleet: crate::fleet::Options,
    /// How long a program keeps a set that it got, whatever its expiry, for example `30m`. Each set is refreshed at least
    /// that long before it expires.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0")]
    pub(crate) consumers_keep: Duration,
    #[command(flatten)]
    pub(crate) source: Source,
}

/// Where the credentials come from. Beside a role, another source gives the base credentials.
#[derive(Debug, Args)]
#[command(next_help_heading = "Source options")]
pub(crate) struct Source {
    /// A profile of the AWS config file, with all its settings.
    #[arg(long, group = "kind")]
    pub(crate) profile: Option<String>,
    /// The SDK's default credential chain. This is the default.
    #[arg(long, group = "kind")]
    pub(crate) default_chain: bool,
    /// A web identity token, which the environment names (IRSA).
    #[arg(long, group = "kind")]
    pub(crate) web_identity: bool,
    /// The container endpoint, on ECS or with EKS Pod Identity.
    #[arg(long, group = "kind")]
    pub(crate) container: bool,
    /// The instance metadata service.
    #[arg(long, group = "kind")]
    pub(crate) imds: bool,
    /// IAM Identity Center: the start URL.
    #[arg(long, value_name = "URL", group = "kind", requires_all = ["sso_region", "sso_account_id", "sso_role_name"])]
    pub(crate) sso_start_url: Option<String>,
    /// IAM Identity Center: its Region.
    #[arg(long, value_name = "REGION", requires = "sso_start_url")]
    pub(crate) sso_region: Option<String>,
    /// IAM Identity Center: the account id.
    #[arg(long, requires = "sso_start_url")]
    pub(crate) sso_account_id: Option<String>,
    /// IAM Identity Center: the role name.
    #[arg(long, requires = "sso_start_url")]
    pub(crate) sso_role_name: Option<String>,
    /// A program in the `credential_process` format.
    #[arg(long, value_name = "PROGRAM", group = "kind")]
    pub(crate) process: Option<String>,
    /// An argument of that program.
    #[arg(long, value_name = "ARGUMENT", requires = "process", allow_hyphen_values = true)]
    pub(crate) process_arg: Vec<String>,
    /// AWS IoT Core: the endpoint of type `iot:CredentialProvider`.
    #[arg(long, group = "kind", requires_all = ["iot_role_alias", "iot_certificate", "iot_private_key"])]
    pub(crate) iot_endpoint: Option<String>,
    /// AWS IoT Core: the role alias.
    #[arg(long, requires = "iot_endpoint")]
    pub(crate) iot_role_alias: Option<String>,
    /// AWS IoT Core: the file with the device's certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "iot_endpoint")]
    pub(crate) iot_certificate: Option<PathBuf>,
    /// AWS IoT Core: the file with the device's private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "iot_endpoint")]
    pub(crate) iot_private_key: Option<PathBuf>,
    /// AWS IoT Core: a file with the certificate authorities for the server, in PEM.
    #[arg(long, value_name = "FILE", requires = "iot_endpoint")]
    pub(crate) iot_ca: Option<PathBuf>,
    /// AWS IoT Core: the thing name.
    #[arg(long, requires = "iot_endpoint")]
    pub(crate) iot_thing_name: Option<String>,
    /// How long a fetch may take, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=LONGEST_FETCH))]
    pub(crate) timeout: Option<u64>,

    /// The role to assume.
    #[arg(long, value_name = "ARN")]
    pub(crate) role_arn: Option<String>,
    /// The name of the role session.
    #[arg(long, requires = "role_arn")]
    pub(crate) role_session_name: Option<String>,
    /// How long a set is valid, in seconds.
    #[arg(long, value_name = "SECONDS", requires = "role_arn")]
    pub(crate) duration_seconds: Option<u64>,
    /// The external id. Prefer the configuration file: other users see the command line.
    #[arg(long, requires = "role_arn")]
    pub(crate) external_id: Option<String>,
    /// A session policy, in JSON.
    #[arg(long, requires = "role_arn")]
    pub(crate) policy: Option<String>,
    /// A managed policy for the session.
    #[arg(long, value_name = "ARN", requires = "role_arn")]
    pub(crate) policy_arn: Vec<String>,
    /// A session tag, KEY=VALUE.
    #[arg(long, value_name = "KEY=VALUE", requires = "role_arn", value_parser = pair)]
    pub(crate) tag: Vec<(String, String)>,
    /// The key of a tag that later roles keep.
    #[arg(long, requires = "role_arn")]
    pub(crate) transitive_tag_key: Vec<String>,
    /// The source identity of the session, for CloudTrail and policies.
    #[arg(long, requires = "role_arn")]
    pub(crate) source_identity: Option<String>,
    /// A context assertion, PROVIDER_ARN=ASSERTION.
    #[arg(long, value_name = "PROVIDER_ARN=ASSERTION", requires = "role_arn", value_parser = pair)]
    pub(crate) provided_context: Vec<(String, String)>,
    /// The serial number of the MFA device whose code the role needs.
    #[arg(long, requires_all = ["mfa_command", "role_arn"])]
    pub(crate) mfa_serial: Option<String>,
    /// The program that prints the code of that MFA device, or of the one that `mfa_serial` of the profile names.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) mfa_command: Option<String>,
    /// An argument of that program.
    #[arg(long, value_name = "ARGUMENT", requires = "mfa_command", allow_hyphen_values = true)]
    pub(crate) mfa_command_arg: Vec<String>,
    /// How long the MFA program may take, in seconds.
    #[arg(long, value_name = "SECONDS", requires = "mfa_command", value_parser = value_parser!(u64).range(1..=LONGEST_FETCH))]
    pub(crate) mfa_timeout: Option<u64>,
    /// The Region of the STS endpoint.
    #[arg(long, value_name = "REGION", requires = "role_arn")]
    pub(crate) sts_region: Option<String>,
    /// The Regions whose STS is asked, in this order, with commas between them. The next one is asked when one
    /// throttles or fails.
    #[arg(
        long,
        value_name = "REGION,REGION",
        requires = "role_arn",
        value_delimiter = ',',
        conflicts_with_all = ["sts_region", "sts_endpoint_url"]
    )]
    pub(crate) sts_regions: Vec<String>,
    /// The URL of STS.
    #[arg(long, value_name = "URL", requires = "role_arn")]
    pub(crate) sts_endpoint_url: Option<String>,
    /// How long the connection to STS may take, in seconds.
    #[arg(long, value_name = "SECONDS", requires = "role_arn", value_parser = value_parser!(u64).range(1..=LONGEST_FETCH))]
    pub(crate) connect_timeout: Option<u64>,
    /// How long STS may take until its answer begins, in seconds.
    #[arg(long, value_name = "SECONDS", requires = "role_arn", value_parser = value_parser!(u64).range(1..=LONGEST_FETCH))]
    pub(crate) read_timeout: Option<u64>,
    /// The number of requests to STS within one fetch.
    #[arg(long, value_name = "NUMBER", requires = "role_arn")]
    pub(crate) max_attempts: Option<u32>,
}

/// `KEY=VALUE`. An error does not show the text: it may be secret.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads the command line, and the configuration file that it names.
pub(crate) fn parse(argv: Vec<OsString>) -> Result<Cli, ExitCode> {
    let Some(line) = Line::of(&argv) else {
        return Cli::try_parse_from(&argv).map_err(|error| refuse(&error));
    };
    let written =
        config::arguments(&line.config, &line.given).map_err(|failure| failure.report())?;
    let verb = argv.iter().position(|word| *word == *line.verb);
    let place = verb.map_or(argv.len(), |place| place + 1);
    let mut all = argv;
    all.splice(place..place, written);
    Cli::try_parse_from(&all).map_err(|error| refuse_file(&line.config, &error))
}

/// The command line without its configuration file.
struct Line {
    verb: String,
    config: PathBuf,
    /// The names of the options on the command line, without dashes.
    given: BTreeSet<String>,
}

impl Line {
    /// `None` without a configuration file. Errors are ignored here: the file may contain the missing options.
    fn of(argv: &[OsString]) -> Option<Self> {
        let matches = Cli::command().ignore_errors(true).try_get_matches_from(argv).ok()?;
        let (verb, options) = matches.subcommand()?;
        let config = options.try_get_one::<PathBuf>("config").ok()??.clone();
        let is_given =
            |id: &&clap::Id| options.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let given =
            options.ids().filter(is_given).map(|id| id.as_str().replace('_', "-")).collect();
        Some(Line { verb: verb.to_owned(), config, given })
    }
}

/// Prints help or the version if they were requested. Everything else is a mistake.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return crate::printed(error.print()).unwrap_or_else(|failure| failure.report());
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(USAGE);
    }
    CommandError::new(USAGE, one_line(error) + "; --help names the options").report()
}

fn refuse_file(path: &Path, error: &clap::Error) -> ExitCode {
    let (file, problem) = (path.display(), one_line(error));
    CommandError::new(USAGE, format!("with the options of {file}: {problem}")).report()
}

/// The problem, without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let is_given = |line: &&str| !line.is_empty() && !line.starts_with("For more information");
    let lines = lines.filter(is_given).filter(|line| !line.starts_with("tip: to pass"));
    let lines: Vec<&str> = lines.map(|line| line.trim_start_matches("tip: ")).collect();
    lines.join("; ").trim_start_matches("error: ").replace(":; ", ": ")
}

impl Session {
    pub(crate) fn is_eager(&self) -> bool {
        !self.deferred
    }
}

impl Exec {
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.sealed && self.session.deferred {
            let text = "--sealed cannot be used with --deferred: only the refresher of an eager session can write";
            return Err(CommandError::new(USAGE, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("7200", 7200), ("2h", 7200), ("1h30m", 5400), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "2", "h", "-1", "1 fortnight", "99999999999999999999h", "9".repeat(30).as_str()]
        {
            assert_eq!(duration(text).is_ok(), text == "2", "{text}");
        }
    }

    #[test]
    fn the_definitions_are_valid() {
        Cli::command().debug_assert();
    }
}
