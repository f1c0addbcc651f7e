//! The environment as data. An empty variable counts as unset: compose files and Helm charts write such variables.

use std::{collections::BTreeMap, env, path::PathBuf};

/// The variables of this process, or those of a test.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Environment(Option<BTreeMap<String, String>>);

impl Environment {
    /// The variables of this process. They are read at each call.
    pub(in crate::source) fn real() -> Self {
        Environment(None)
    }

    #[cfg(test)]
    pub(in crate::source) fn of<K: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let pairs = variables.into_iter().map(|(key, value)| (key.into(), value.into()));
        Environment(Some(pairs.collect()))
    }

    pub(in crate::source) fn get(&self, key: &str) -> Option<String> {
        let value = match &self.0 {
            Some(variables) => variables.get(key).cloned(),
            None => env::var(key).ok(),
        };
        value.filter(|value| !value.trim().is_empty())
    }

    /// The value as a path. `~/` at its beginning is the home directory.
    pub(in crate::source) fn path(&self, key: &str) -> Option<PathBuf> {
        self.get(key).map(|path| self.expand(&path))
    }

    pub(in crate::source) fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.get("HOME")) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// A file below `.aws` in the home directory.
    pub(in crate::source) fn in_home(&self, path: &str) -> PathBuf {
        self.expand(&format!("~/.aws/{path}"))
    }

    /// The profile that the environment names.
    pub(in crate::source) fn profile(&self) -> Option<String> {
        self.get("AWS_PROFILE").or_else(|| self.get("AWS_DEFAULT_PROFILE"))
    }

    /// Whether a variable is `true`, in any case, as for the SDKs.
    pub(in crate::source) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| value.trim().eq_ignore_ascii_case("true"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment = Environment::of([("A", ""), ("B", " "), ("C", "c")]);
        assert_eq!(environment.get("A"), None);
        assert_eq!(environment.get("B"), None);
        assert_eq!(environment.get("C").as_deref(), Some("c"));
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let environment =
            Environment::of([("HOME", "/home/jo"), ("FILE", "~/x/y"), ("OTHER", "/z")]);
        assert_eq!(environment.path("FILE").unwrap(), PathBuf::from("/home/jo/x/y"));
        assert_eq!(environment.path("OTHER").unwrap(), PathBuf::from("/z"));
        assert_eq!(environment.in_home("config"), PathBuf::from("/home/jo/.aws/config"));
        let none = Environment::of([("FILE", "~/x")]);
        assert_eq!(none.path("FILE").unwrap(), PathBuf::from("~/x"));
    }
}
