//! The address of a proxy, which may hold a user and a password.

use std::fmt;

use aws_smithy_http_client::proxy::ProxyConfig;
use hyper::http::Uri;
use serde::{Deserialize, Serialize};

use crate::source::validate;

/// The address. Its `Debug` text has no user and no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::source) struct ProxyUrl(String);

impl ProxyUrl {
    pub(in crate::source) fn new(url: String) -> Self {
        ProxyUrl(url)
    }

    /// The address, with its password.
    pub(in crate::source) fn text(&self) -> &str {
        &self.0
    }

    /// # Errors
    /// A sentence that names the rule. It does not show the value.
    pub(in crate::source) fn validate(&self) -> Result<(), String> {
        let good = self.config().is_some() && validate::is_address(&self.without_user());
        validate::ensure(good, || {
            "proxy is not an address, must be http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before HOST \
             where the proxy asks for that"
                .into()
        })
    }

    /// For all addresses. `None` when it is none.
    pub(super) fn config(&self) -> Option<ProxyConfig> {
        ProxyConfig::all(self.0.as_str()).ok()
    }

    /// `HOST` or `HOST:PORT`, for people.
    pub(super) fn host(&self) -> Option<String> {
        let uri: Uri = self.0.parse().ok()?;
        let host = uri.host()?;
        Some(uri.port_u16().map_or(host.to_owned(), |port| format!("{host}:{port}")))
    }

    fn without_user(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, place)| place))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProxyUrl").field(&self.host()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proxies_are_told_from_others_and_show_no_password() {
        for good in
            ["http://proxy", "http://proxy:3128", "https://me:hush@proxy:3128", "http://[::1]:1"]
        {
            assert_eq!(ProxyUrl::new(good.into()).validate(), Ok(()), "{good}");
        }
        for bad in [
            "",
            "proxy",
            "proxy:3128",
            "ftp://hush",
            "http://",
            "http://hush@",
            "http://a b",
            "socks5://hush",
        ] {
            let error = ProxyUrl::new(bad.into()).validate().expect_err(bad);
            assert!(
                error.starts_with("proxy is not an address") && !error.contains("hush"),
                "{error}"
            );
        }
        let text = format!("{:?}", ProxyUrl::new("http://me:hush@proxy:3128".into()));
        assert_eq!(text, "ProxyUrl(Some(\"proxy:3128\"))");
    }
}
