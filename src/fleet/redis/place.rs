//! Where a store is: what its URL says.

use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

/// The most servers in a URL.
const MOST: usize = 16;
/// The port of a Sentinel, unless the URL names one.
const SENTINEL_PORT: &str = "26379";

const FORM: &str = "it must be redis://HOST:PORT/DATABASE, or rediss:// for TLS; \
                    redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE asks Sentinels";

/// The servers of a URL. It holds a password.
#[derive(Clone)]
pub(super) struct Place {
    /// At least one.
    pub(super) addresses: Vec<Address>,
    /// The service whose primary is asked for, if the addresses are those of Sentinels.
    pub(super) service: Option<String>,
    /// How to log in at the servers that keep the data.
    pub(super) login: RedisConnectionInfo,
    pub(super) is_tls: bool,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(std::path::PathBuf),
    Tcp { host: String, port: u16 },
}

impl Place {
    /// Reads a URL.
    ///
    /// # Errors
    /// The problem, and the rule. It does not show the URL, which may have a password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (scheme, asks_sentinels) = match scheme.strip_suffix("+sentinel") {
            Some(scheme) => (scheme, true),
            None => (scheme, false),
        };
        let is_tls = matches!(scheme, "rediss" | "valkeys");
        let is_unix = matches!(scheme, "redis+unix" | "valkey+unix" | "unix");
        if !(is_tls || matches!(scheme, "redis" | "valkey") || is_unix && !asks_sentinels) {
            return Err(format!("the URL has no known scheme; {FORM}"));
        }
        if rest.contains('#') {
            return Err(
                "the URL has a fragment (#); leave it out: the server's certificate is always checked".into(),
            );
        }
        let unreadable = || format!("the URL cannot be read; {FORM}");
        if is_unix {
            let (address, login) = server(url).ok_or_else(unreadable)?;
            return Ok(Place { addresses: vec![address], service: None, login, is_tls });
        }
        let (authority, end) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (service, end) = match asks_sentinels {
            true => service(end).map(|(name, end)| (Some(name), end)).ok_or_else(|| {
                format!(
                    "the URL names no service, or none of letters, digits, '.', '-' and '_'; {FORM}"
                )
            })?,
            false => (None, end),
        };
        let hosts_begin = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, hosts) = authority.split_at(hosts_begin);
        let servers: Option<Vec<_>> = hosts
            .split(',')
            .map(|host| match asks_sentinels && !has_port(host) {
                true => server(&format!("redis://{user}{host}:{SENTINEL_PORT}{end}")),
                false => server(&format!("redis://{user}{host}{end}")),
            })
            .collect();
        let servers = servers.ok_or_else(unreadable)?;
        if servers.len() > MOST {
            return Err(format!("the URL has {} servers; it may have {MOST}", servers.len()));
        }
        let (addresses, logins): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
        let login = logins.into_iter().next().ok_or_else(unreadable)?;
        Ok(Place { addresses, service, login, is_tls })
    }
}

/// One server, by a URL of the crate. The crate's error may quote the URL, so it is not shown.
fn server(url: &str) -> Option<(Address, RedisConnectionInfo)> {
    let info = url.into_connection_info().ok()?;
    let address = match info.addr() {
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        ConnectionAddr::Tcp(host, port) => Address::Tcp { host: host.clone(), port: *port },
        _ => return None,
    };
    Some((address, info.redis_settings().clone()))
}

/// The service in `/SERVICE/DATABASE?QUERY`, and what is behind it.
fn service(end: &str) -> Option<(String, &str)> {
    let path = end.strip_prefix('/')?;
    let (name, end) = path.split_at(path.find(['/', '?']).unwrap_or(path.len()));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!name.is_empty() && name.chars().all(is_plain)).then(|| (name.to_owned(), end))
}

fn has_port(host: &str) -> bool {
    host.rsplit(']').next().is_some_and(|after| after.contains(':'))
}

/// Without a password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service} of ")?;
        }
        for (place, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Address {
    /// The address of another node, as a server of a cluster gives it: HOST:PORT. Without a host it is the same one.
    pub(super) fn moved(&self, to: &str) -> Option<Self> {
        let Address::Tcp { host: old, .. } = self else { return None };
        let (host, port) = to.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() { old.clone() } else { host.to_owned() };
        Some(Address::Tcp { host, port: port.parse().ok()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_a_list_or_sentinels() {
        for (url, shown, is_tls) in [
            ("redis://a", "a:6379", false),
            ("rediss://:p@a:1/2", "a:1", true),
            ("redis://a:1,b,[::1]:3/2", "a:1,b:6379,::1:3", false),
            ("valkey+unix:///run/a,b", "/run/a,b", false),
            (
                "redis+sentinel://a,b:1,[::1],[::1]:7/web",
                "web of a:26379,b:1,::1:26379,::1:7",
                false,
            ),
            (
                "valkeys+sentinel://u:p%40,w@a/my.we-b_1/3?protocol=resp3",
                "my.we-b_1 of a:26379",
                true,
            ),
        ] {
            let place = Place::parse(url).unwrap_or_else(|problem| panic!("{url}: {problem}"));
            assert_eq!((place.to_string().as_str(), place.is_tls), (shown, is_tls), "{url}");
        }
        let place = Place::parse("redis+sentinel://u:p%40,w@a,b/web/3?protocol=resp3").unwrap();
        let login = &place.login;
        assert_eq!((login.username(), login.password()), (Some("u"), Some("p@,w")));
        assert_eq!((login.db(), place.service.as_deref()), (3, Some("web")));
    }

    #[test]
    fn a_problem_of_a_url_does_not_show_it() {
        let many = format!("redis://{}", ["host"; 17].join(","));
        for (url, problem) in [
            ("hunter2", "the URL has no known scheme"),
            ("http://:hunter2@host", "the URL has no known scheme"),
            ("unix+sentinel:///hunter2/web", "the URL has no known scheme"),
            ("redis://:hunter2@host#insecure", "the URL has a fragment"),
            ("redis://user:hunter2@:x/", "the URL cannot be read"),
            ("redis://:hunter2@host,/1", "the URL cannot be read"),
            ("redis://:hunter2@host/one", "the URL cannot be read"),
            ("redis+sentinel://:hunter2@host", "the URL names no service"),
            ("redis+sentinel://:hunter2@host/", "the URL names no service"),
            ("redis+sentinel://:hunter2@host/a%20b", "the URL names no service"),
            ("redis+sentinel://:hunter2@host/web/one", "the URL cannot be read"),
            (&many, "the URL has 17 servers; it may have 16"),
        ] {
            let found = Place::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(found.starts_with(problem) && !found.contains("hunter2"), "{url}: {found}");
        }
    }

    #[test]
    fn a_node_without_a_host_is_on_the_same_one() {
        let from = Address::Tcp { host: "a".into(), port: 1 };
        for (to, moved) in [
            ("b:2", Some("b:2")),
            (":2", Some("a:2")),
            ("[::1]:2", Some("::1:2")),
            ("b", None),
            ("b:70000", None),
        ] {
            assert_eq!(from.moved(to).map(|to| to.to_string()).as_deref(), moved, "{to}");
        }
        assert_eq!(Address::Unix("/a".into()).moved("b:2"), None);
    }
}
