//! The refresher: one call of the source, by the elected process, on a thread and a runtime of its
//! own that end with the call.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use tokio::runtime::Runtime;
use tracing::{info, warn};

use super::{
    election::Elected,
    policy::Windows,
    publish::{self, Basis},
};
use crate::{
    clock::Clock,
    error::Fault,
    segment::Counter,
    source::{Failure, FailureClass, Fetched, Source},
    stage::{Stage, reach},
};

/// What a lease allows beyond the call itself: building the client, publishing.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// Everything a process needs in order to refresh. Plain data: it survives fork.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) windows: Windows,
}

impl Recipe {
    /// How long the election lasts: no honest call takes longer.
    pub(crate) fn lease(&self) -> Duration {
        self.source.timeout().saturating_add(LEASE_MARGIN)
    }
}

/// What the thread works with.
struct Work {
    elected: Elected,
    session: String,
    recipe: Recipe,
    clock: Clock,
}

/// Starts the refresh. The thread ends by itself, whatever becomes of those who wait for it.
///
/// # Errors
/// `System` when the kernel gives no thread.
pub(crate) fn start(
    elected: Elected,
    session: &str,
    recipe: &Recipe,
    clock: &Clock,
) -> Result<JoinHandle<()>, Fault> {
    let session = session.to_owned();
    let work = Work { elected, session, recipe: recipe.clone(), clock: clock.clone() };
    Builder::new()
        .name("shmcreds-fetch".into())
        .spawn(move || refresh(work))
        .map_err(|error| Fault::system("starting the refresh thread", error))
}

fn refresh(work: Work) {
    if work.elected.takeover {
        work.elected.view().count(Counter::Takeovers);
        info!(session = work.session, "took over from a refresher that died or hung");
    }
    let basis = Basis::of(&work.elected);
    reach(Stage::Elected);
    if !work.elected.holds() {
        info!(session = work.session, "stopped for too long; another process refreshes");
        return work.elected.resign();
    }
    let (answer, runtime) = call(&work);
    reach(Stage::Answered);
    let outcome = answer.and_then(|fetched| {
        publish::set(&work.elected, basis, &fetched, &work.recipe.windows, &work.clock)
    });
    match outcome {
        Ok(Some(generation)) => info!(session = work.session, generation, "published a new set"),
        Ok(None) => info!(session = work.session, "another process published first"),
        Err(failure) => record(&work, basis, &failure),
    }
    reach(Stage::Published);
    work.elected.resign();
    // Last, because it takes as long as all the rest. A name look-up that hangs is left behind.
    if let Some(runtime) = runtime {
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

fn record(work: &Work, basis: Basis, failure: &Failure) {
    warn!(session = work.session, class = %failure.class(), %failure, "the refresh failed");
    if let Err(fault) = publish::failure(&work.elected, basis, failure, &work.clock) {
        warn!(session = work.session, "could not publish the failure: {}", fault.message);
    }
}

/// One call of the source, in a runtime of its own, which comes back with the answer. A panic in the
/// user's code is a failure.
fn call(work: &Work) -> (Result<Fetched, Failure>, Option<Runtime>) {
    work.elected.view().count(Counter::SourceCalls);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return (Err(transient(format!("building the refresh's runtime: {e}"))), None),
    };
    let limit = work.recipe.source.timeout();
    let called = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { tokio::time::timeout(limit, work.recipe.source.fetch()).await })
    }));
    let answer = match called {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(transient(format!("no answer within {limit:?}"))),
        // The payload is not shown: it could hold anything.
        Err(_) => Err(Failure::new(FailureClass::Terminal, "the source panicked")),
    };
    (answer, Some(runtime))
}

fn transient(message: String) -> Failure {
    Failure::new(FailureClass::Transient, message)
}
