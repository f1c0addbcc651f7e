//! The command line.

use std::{net::SocketAddr, num::NonZeroU32};

use clap::Parser;

/// A prefork HTTP server whose workers share one set of AWS credentials.
#[derive(Debug, Parser)]
pub struct Args {
    /// How many worker processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: u32,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The role to assume, at the STS that the environment names; an embedded STS without it
    #[arg(long)]
    pub role_arn: Option<String>,
    /// How many seconds the embedded STS's credentials live
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, conflicts_with = "role_arn")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=43200))]
    pub lifetime: u64,
    /// The name of the session [default: prefork-PID]
    #[arg(long)]
    pub session: Option<String>,
    /// Let a process of its own refresh the credentials, instead of the workers that need them
    #[arg(long)]
    pub eager: bool,
    /// Keep the session where workers cannot write it
    #[arg(long, requires = "eager")]
    pub sealed: bool,
    /// Let the workers run as this user; needs root
    #[arg(long, value_name = "USER")]
    pub drop_privileges: Option<String>,
    /// Send so many requests per worker, and end
    #[arg(long, value_name = "R")]
    pub drive: Option<NonZeroU32>,
    /// Print the outcome of --drive as one JSON object on the last line of stdout
    #[arg(long, requires = "drive")]
    pub json: bool,
}
