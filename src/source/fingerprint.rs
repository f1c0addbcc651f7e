//! The fingerprint: identifies whose credentials a source gives, in 32 bytes.

pub(super) mod environment;

use std::fmt;

use sha2::{Digest, Sha256};

/// The [`fingerprint`](super::Source::fingerprint) of a source. It is equal for sources that give the credentials of
/// one identity.
pub type Fingerprint = [u8; 32];

/// Encodes everything that can change whose credentials a source gives, and hashes it.
///
/// Each value follows its tag, a byte that says whether the value is present, and its length. So different lists of
/// values have different encodings. Nothing is cut. The encoding is the same on every machine and in every version.
/// `docs/PROTOCOL.md` describes it.
///
/// ```
/// use shmcreds::FingerprintEncoder;
///
/// let fingerprint = |namespace: Option<&str>| {
///     FingerprintEncoder::new("vault").text("role", "web").optional("namespace", namespace).finish()
/// };
/// assert_ne!(fingerprint(None), fingerprint(Some("")));
/// ```
#[derive(Clone)]
pub struct FingerprintEncoder(Sha256);

impl FingerprintEncoder {
    /// Starts with the kind of the source, so that two kinds never have the same fingerprint.
    pub fn new(source: &str) -> Self {
        FingerprintEncoder(Sha256::new()).text("source", source)
    }

    /// Adds a text.
    pub fn text(self, tag: &str, text: &str) -> Self {
        self.bytes(tag, Some(text.as_bytes()))
    }

    /// Adds a text that may be absent. Absent is not the same as empty.
    pub fn optional(self, tag: &str, text: Option<&str>) -> Self {
        self.bytes(tag, text.map(str::as_bytes))
    }

    /// Adds bytes that may be absent.
    pub fn bytes(mut self, tag: &str, bytes: Option<&[u8]>) -> Self {
        self.sized(tag.as_bytes());
        match bytes {
            Some(bytes) => {
                self.0.update([1]);
                self.sized(bytes);
            }
            None => self.0.update([0]),
        }
        self
    }

    /// Adds a number.
    pub fn number(self, tag: &str, number: u64) -> Self {
        self.bytes(tag, Some(&number.to_le_bytes()))
    }

    /// Adds a list whose order counts.
    pub fn list(self, tag: &str, items: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        // Most lists have one item at most: they need no memory.
        let mut items = items.into_iter();
        let Some(first) = items.next() else { return self.number(tag, 0) };
        let Some(second) = items.next() else {
            return self.number(tag, 1).bytes(tag, Some(first.as_ref()));
        };
        let items: Vec<_> = [first, second].into_iter().chain(items).collect();
        let counted = self.number(tag, items.len() as u64);
        items.iter().fold(counted, |encoder, item| encoder.bytes(tag, Some(item.as_ref())))
    }

    /// Adds a list whose order does not count.
    pub fn set(self, tag: &str, items: impl IntoIterator<Item: AsRef<[u8]> + Ord>) -> Self {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort_unstable();
        self.list(tag, items)
    }

    /// Adds pairs whose order does not count.
    pub fn pairs<'a>(
        self,
        tag: &str,
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        // As for a list.
        let mut pairs = pairs.into_iter();
        let Some(first) = pairs.next() else { return self.number(tag, 0) };
        let Some(second) = pairs.next() else { return self.number(tag, 1).pair(tag, first) };
        let mut pairs: Vec<_> = [first, second].into_iter().chain(pairs).collect();
        pairs.sort_unstable();
        let counted = self.number(tag, pairs.len() as u64);
        pairs.into_iter().fold(counted, |encoder, pair| encoder.pair(tag, pair))
    }

    fn pair(self, tag: &str, (left, right): (&[u8], &[u8])) -> Self {
        self.bytes(tag, Some(left)).bytes(tag, Some(right))
    }

    /// The fingerprint of all added values.
    pub fn finish(self) -> Fingerprint {
        self.0.finalize().into()
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

/// Shows no state: anybody who knows the state of a hash can continue it.
impl fmt::Debug for FingerprintEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintEncoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn begun() -> FingerprintEncoder {
        FingerprintEncoder::new("test")
    }

    #[test]
    fn different_inputs_have_different_encodings() {
        let all = [
            begun(),
            FingerprintEncoder::new("tes"),
            begun().text("a", ""),
            begun().optional("a", None),
            begun().text("", "a"),
            begun().text("ab", "c"),
            begun().text("a", "bc"),
            begun().text("a", "b").text("c", ""),
            begun().text("a", "").text("c", "b"),
            begun().list("a", [""; 0]),
            begun().list("a", [""]),
            begun().list("a", ["", ""]),
            begun().list("a", ["b", "c"]),
            begun().list("a", ["c", "b"]),
            begun().list("a", ["bc"]),
            begun().pairs("a", [(&b"b"[..], &b"c"[..])]),
            begun().pairs("a", [(&b"bc"[..], &b""[..])]),
            begun().number("a", 1),
            begun().number("a", 256),
            begun().text("a", &"x".repeat(300)),
            begun().text("a", &("x".repeat(299) + "y")),
        ];
        let count = all.len();
        let different: HashSet<Fingerprint> = all.into_iter().map(|one| one.finish()).collect();
        assert_eq!(different.len(), count);
    }

    #[test]
    fn the_order_of_sets_and_pairs_does_not_count() {
        let set = |items: [&str; 2]| begun().set("a", items).finish();
        assert_eq!(set(["b", "c"]), set(["c", "b"]));
        let pairs = |items: [(&str, &str); 2]| {
            begun().pairs("a", items.map(|(l, r)| (l.as_bytes(), r.as_bytes()))).finish()
        };
        assert_eq!(pairs([("b", "1"), ("c", "2")]), pairs([("c", "2"), ("b", "1")]));
        assert_ne!(pairs([("b", "1"), ("c", "2")]), pairs([("b", "2"), ("c", "1")]));
    }
}
