//! The HTTP client of the sources that use the SDK. It limits the length of an answer.
//!
//! The SDK's own client uses the proxy of the environment for every address. But a proxy must not see the token of
//! the container endpoint, and must not answer in place of this host. So this client connects directly to
//! addresses of this host and its link.

use std::net::{IpAddr, Ipv6Addr};

use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{self, TlsContext, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;
use hyper::http::Uri;

/// No answer is longer. The SDK has no limit.
const LONGEST_ANSWER: usize = 256 * 1024;

/// A client that uses the proxy of the environment, but no proxy for addresses of this host and its link.
pub(super) fn client() -> SharedHttpClient {
    trusting(&TlsContext::default())
}

/// The same client, which trusts these certificate authorities.
pub(super) fn trusting(authorities: &TlsContext) -> SharedHttpClient {
    through(authorities, ProxyConfig::from_env())
}

/// The same, with this proxy in place of that of the environment.
pub(super) fn through(authorities: &TlsContext, proxy: ProxyConfig) -> SharedHttpClient {
    SharedHttpClient::new(Client {
        // The other two read the TLS roots of the host when they are made.
        plain: Builder::new().build_http(),
        direct: with_tls(authorities, ProxyConfig::disabled()),
        elsewhere: with_tls(authorities, proxy),
    })
}

fn with_tls(authorities: &TlsContext, proxies: ProxyConfig) -> SharedHttpClient {
    let authorities = authorities.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(authorities.clone())
            .proxy_config(proxies.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build()
    })
}

#[derive(Clone, Debug)]
struct Client {
    plain: SharedHttpClient,
    direct: SharedHttpClient,
    elsewhere: SharedHttpClient,
}

impl Client {
    async fn for_address(&self, address: &str) -> &SharedHttpClient {
        // Each of the clients refuses an invalid address.
        let Ok(uri) = address.parse::<Uri>() else { return &self.elsewhere };
        let plain = uri.scheme_str() == Some("http");
        match is_local(&uri).await {
            true if plain => &self.plain,
            true => &self.direct,
            false => &self.elsewhere,
        }
    }
}

impl HttpClient for Client {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Chooser {
            client: self.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

/// Chooses a client for each request.
#[derive(Debug)]
struct Chooser {
    client: Client,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for Chooser {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, components) = (self.client.clone(), self.components.clone());
        let settings = self.settings.clone();
        HttpConnectorFuture::new(async move {
            let chosen = client.for_address(request.uri()).await;
            let answer = chosen.http_connector(&settings, &components).call(request).await?;
            Ok(answer.map(|body| SdkBody::from_body_1_x(Limited::new(body, LONGEST_ANSWER))))
        })
    }
}

/// Whether the address is one of this host or of its link. A name is resolved only for plain HTTP: with TLS a proxy
/// sees nothing that it could use.
async fn is_local(uri: &Uri) -> bool {
    let Some(host) = uri.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return is_local_address(address);
    }
    if is_localhost(host) || uri.scheme_str() != Some("http") {
        return is_localhost(host);
    }
    let found = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(80))).await;
    found.is_ok_and(|mut found| found.any(|socket| is_local_address(socket.ip())))
}

/// The names of this host by definition (RFC 6761).
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn is_local_address(address: IpAddr) -> bool {
    /// The prefix of the local services of EC2 and EKS.
    const OF_THE_HOST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0);
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            let of_the_host = v6.segments()[..2] == OF_THE_HOST.segments()[..2];
            v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || of_the_host
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn local_addresses_are_known_in_every_form() {
        for local in [
            "http://127.0.0.1:8080/creds",
            "https://127.0.0.1/",
            "http://127.255.0.9/",
            "http://localhost:8080/",
            "https://LOCALHOST./",
            "http://sts.localhost/",
            "http://[::1]:9/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0:9/",
            "http://[::]/",
            // Forms that the resolver accepts.
            "http://127.1/",
            "http://2130706433/",
            "http://169.254.169.254/latest/api/token",
            "http://169.254.170.2/v2/credentials",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fe80::1]/",
        ] {
            assert!(is_local(&local.parse().unwrap()).await, "{local}");
        }
        for remote in [
            "https://sts.eu-central-1.amazonaws.com/",
            "http://192.0.2.1/",
            "http://10.0.0.1/",
            "http://[2001:db8::1]/",
            "http://[fd00:ec3::1]/",
            "http://localhost.example.invalid/",
            "https://mylocalhost/",
            "http://sts.example.invalid/",
        ] {
            assert!(!is_local(&remote.parse().unwrap()).await, "{remote}");
        }
    }
}
