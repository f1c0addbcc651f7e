//! Which addresses the endpoint may have.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use shmcreds::endpoint::http;

use crate::{
    command_error::{CommandError, SYSTEM, USAGE},
    errno::told,
};

/// What SDKs accept over plain HTTP, besides the loopback: the addresses of EKS Pod Identity.
const POD_IDENTITY: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Listens on `address`.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, CommandError> {
    http::bind(address).map_err(|error| {
        let text = format!("listening: --listen {address}: {}", told(&error));
        CommandError::new(SYSTEM, text)
    })
}

/// Checks an address for plain HTTP.
pub(crate) fn check_plain(address: SocketAddr) -> Result<(), CommandError> {
    if address.ip() == LOOPBACK || POD_IDENTITY.contains(&address.ip()) {
        return Ok(());
    }
    let text = format!(
        "--listen {address} must be on 127.0.0.1, 169.254.170.23 or [fd00:ec2::23]: SDKs accept no other address over \
         plain HTTP, and no other host can reach these; use --listen-tls for other hosts"
    );
    Err(CommandError::new(USAGE, text))
}

/// Checks an address for HTTPS.
pub(crate) fn check_tls(address: SocketAddr) -> Result<(), CommandError> {
    let ip = address.ip();
    if is_private(ip) || ip.is_loopback() {
        return Ok(());
    }
    let what = if ip.is_unspecified() { "means all addresses" } else { "is a public address" };
    let text = format!(
        "--listen-tls {address} {what}: credentials are for hosts of the same network; give a private address \
         (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7) or a loopback address"
    );
    Err(CommandError::new(USAGE, text))
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_sdks_accept_and_others_cannot_reach() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        for text in ["127.0.0.1:0", "169.254.170.23:80", "[fd00:ec2::23]:80"] {
            assert!(check_plain(at(text)).is_ok(), "{text}");
        }
        for text in [
            "0.0.0.0:0",
            "[::]:0",
            "[::1]:0",
            "127.0.0.2:0",
            "10.0.0.1:0",
            "169.254.169.254:80",
            "169.254.170.2:80",
            "[fd00:ec2::254]:80",
            "[::ffff:169.254.170.23]:80",
            "52.1.2.3:80",
        ] {
            let error = check_plain(at(text)).unwrap_err();
            assert!(error.to_string().contains("--listen-tls"), "{error}");
        }
    }

    #[test]
    fn https_is_for_private_addresses() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        for text in [
            "10.1.2.3:443",
            "172.31.0.1:443",
            "192.168.0.1:0",
            "100.127.0.1:0",
            "[fd12::1]:0",
            "127.0.0.1:0",
        ] {
            assert!(check_tls(at(text)).is_ok(), "{text}");
        }
        for text in [
            "0.0.0.0:443",
            "[::]:443",
            "52.1.2.3:443",
            "100.128.0.1:0",
            "172.32.0.1:0",
            "169.254.170.23:443",
            "[2001:db8::1]:443",
            "[fe80::1]:443",
            "[::ffff:10.0.0.1]:443",
        ] {
            let error = check_tls(at(text)).unwrap_err();
            assert!(error.to_string().contains("give a private address"), "{error}");
        }
    }
}
