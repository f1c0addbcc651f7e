//! Asks the STS of one Region after the other.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use crate::source::{
    Fetched, SourceError, SourceErrorClass,
    regions::{failed, note},
    server_time::milliseconds,
};

/// Asks the Regions until one gives a set, or refuses for a reason that is the same in each Region. Each has an equal part
/// of the time that is left. Regions that have failed lately are asked last.
pub(super) async fn ask_in_turn<F>(
    regions: &[String],
    limit: Duration,
    ask: impl Fn(&str) -> F,
) -> Result<Fetched, SourceError>
where
    F: Future<Output = Result<Fetched, SourceError>>,
{
    let end = Instant::now() + limit;
    let mut failures: Vec<(&str, SourceError)> = Vec::new();
    for region in failed().order(regions.len(), milliseconds()) {
        let left = end.saturating_duration_since(Instant::now());
        let part = left / (regions.len() - failures.len()) as u32;
        let name = regions[region].as_str();
        let answer = timeout(part, ask(name)).await.unwrap_or_else(|_| Err(silent(name, part)));
        match answer {
            Ok(fetched) => {
                note(failed().without(region));
                return Ok(fetched);
            }
            Err(failure) if !is_of_the_region(failure.class()) => return Err(failure),
            Err(failure) => {
                // At once: the fetch may be given up during the next request.
                note(failed().with(region, milliseconds()));
                failures.push((name, failure));
            }
        }
    }
    Err(all_failed(failures))
}

/// Whether the same request may succeed in another Region.
fn is_of_the_region(class: SourceErrorClass) -> bool {
    matches!(class, SourceErrorClass::Throttled | SourceErrorClass::Transient)
}

fn silent(region: &str, part: Duration) -> SourceError {
    let text = format!("STS in {region} gave no answer within {part:?}");
    SourceError::new(SourceErrorClass::Transient, text)
}

/// One failure for all: that of a Region that throttles, if there is one, because it decides how long STS is not asked.
fn all_failed(mut failures: Vec<(&str, SourceError)>) -> SourceError {
    let throttles =
        |(_, failure): &(&str, SourceError)| failure.class() == SourceErrorClass::Throttled;
    if failures.is_empty() {
        return SourceError::new(SourceErrorClass::Misconfigured, "regions names no Region");
    }
    let place = failures.iter().position(throttles).unwrap_or(0);
    let (name, failure) = failures.remove(place);
    let others: Vec<String> =
        failures.iter().map(|(name, failure)| format!("{name}: {failure}")).collect();
    failure.explained(&format!("no Region gave a set: {}; {name}", others.join("; ")))
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        sync::{Arc, atomic::AtomicU64},
    };

    use aws_credential_types::Credentials;

    use super::*;
    use crate::{
        clock::Clock,
        source::{by_clock, with_failed_regions},
    };

    const LIMIT: Duration = Duration::from_millis(60);

    /// How a Region answers.
    #[derive(Clone, Copy, Debug)]
    enum Region {
        Set,
        Fails(SourceErrorClass),
        Hangs,
    }

    /// Asks three Regions twice. Gives which were asked, and the last outcome.
    async fn twice(regions: [Region; 3]) -> (Vec<String>, Result<(), SourceError>) {
        let names = ["a", "b", "c"].map(str::to_owned);
        let asked = RefCell::new(Vec::new());
        let ask = |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            let region = regions[usize::from(name.as_bytes()[0] - b'a')];
            async move {
                match region {
                    Region::Set => Ok(Fetched::new(Credentials::for_tests())),
                    Region::Fails(class) => Err(SourceError::new(class, format!("{class} it is"))),
                    Region::Hangs => std::future::pending().await,
                }
            }
        };
        let word = Arc::<AtomicU64>::default();
        let mut last = Ok(());
        for _ in 0..2 {
            let fetch = ask_in_turn(&names, LIMIT, ask);
            let fetch = with_failed_regions(Arc::clone(&word), fetch);
            last = by_clock(Clock::default(), fetch).await.map(drop);
        }
        (asked.into_inner(), last)
    }

    #[tokio::test]
    async fn the_next_region_is_asked_and_a_failure_is_remembered() {
        use Region::{Fails, Hangs, Set};
        use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
        for (regions, expected) in [
            ([Set, Set, Set], "a a"),
            ([Fails(Throttled), Set, Set], "a b b"),
            ([Fails(Transient), Set, Set], "a b b"),
            ([Hangs, Set, Set], "a b b"),
            ([Fails(Throttled), Hangs, Set], "a b c c"),
            ([Fails(Terminal), Set, Set], "a a"),
            ([Fails(Misconfigured), Set, Set], "a a"),
            ([Fails(Transient), Fails(Terminal), Set], "a b b"),
            ([Hangs, Hangs, Hangs], "a b c a b c"),
        ] {
            let (asked, _) = twice(regions).await;
            assert_eq!(asked.join(" "), expected, "{regions:?}");
        }
    }

    #[tokio::test]
    async fn the_failure_names_each_region() {
        use Region::{Fails, Hangs};
        use SourceErrorClass::{Terminal, Throttled, Transient};
        let (_, outcome) = twice([Fails(Transient), Hangs, Fails(Throttled)]).await;
        let failure = outcome.unwrap_err();
        assert_eq!(failure.class(), Throttled, "{failure}");
        for part in
            ["a: transient it is", "b: STS in b gave no answer within", "c: throttled it is"]
        {
            assert!(failure.message().contains(part), "{failure}");
        }
        let (_, outcome) = twice([Hangs, Fails(Transient), Fails(Transient)]).await;
        assert_eq!(outcome.unwrap_err().class(), Transient);
        let (_, outcome) = twice([Hangs, Fails(Terminal), Fails(Transient)]).await;
        assert_eq!(outcome.unwrap_err().class(), Terminal);
    }
}
