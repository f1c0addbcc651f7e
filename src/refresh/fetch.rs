//! The refresher: one call of the source, by the elected process, on a thread and a runtime of its
//! own that end with the call.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    clock::{Clock, Moment},
    error::Fault,
    fault_point::{FaultPoint, hit},
    segment::Counter,
    source::{self, Exchange, Fetched, Source, SourceError, SourceErrorClass},
    sys::{descriptor::ReservedStreams, runtime},
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

/// What a refresh works with, beside the election.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) session: String,
    /// Whether a dedicated process refreshes: another is to take its place at once.
    pub(crate) eager: bool,
    pub(crate) recipe: Recipe,
    pub(crate) clock: Clock,
}

/// Starts one refresh. The thread ends by itself, whatever becomes of those who wait for it.
///
/// # Errors
/// `System` when the kernel gives no thread, or not what a runtime needs: a shortage of this process, of
/// which the others are not told.
pub(crate) fn start(elected: Elected, job: Job) -> Result<FetchHandle, Fault> {
    let call = Call::new().map_err(|e| Fault::system("building the refresh's runtime", e))?;
    let answered = Arc::clone(&call.answered);
    let thread = Builder::new()
        .name("shmcreds-fetch".into())
        .spawn(move || once(elected, &job, call))
        .map_err(|error| Fault::system("starting the refresh thread", error))?;
    Ok(FetchHandle { thread, answered })
}

/// A refresh that has been started.
#[derive(Debug)]
pub(crate) struct FetchHandle {
    thread: JoinHandle<()>,
    answered: Arc<AtomicBool>,
}

impl FetchHandle {
    /// Waits for the end of its thread, a matter of moments once the source has answered. A source that has
    /// not may never do so: then the thread goes on alone.
    pub(crate) fn join(self) {
        if self.answered.load(Ordering::Acquire) {
            let _ = self.thread.join();
        }
    }
}

fn once(elected: Elected, job: &Job, call: Call) {
    elected.mark_thread();
    attempt(&elected, job, &call);
    elected.resign();
    // Last, because it takes as long as all the rest.
    call.end();
}

/// One refresh of many, by a process that does nothing else.
pub(crate) fn refresh(elected: &Elected, job: &Job) {
    match Call::new() {
        Ok(call) => {
            attempt(elected, job, &call);
            call.end();
        }
        Err(error) => {
            let failure = transient(format!("building the refresh's runtime: {error}"));
            record(elected, job, Basis::of(elected), &failure);
        }
    }
}

/// Notes that a predecessor died or hung: maybe after its last publication and before it woke anyone, maybe in its
/// call, which is a failed attempt for everybody then. Whoever is elected does this first.
pub(crate) fn succeed(elected: &mut Elected, job: &Job) {
    let takeover = std::mem::take(&mut elected.takeover);
    let (view, session) = (elected.view(), job.session.as_str());
    if takeover {
        view.count(Counter::Takeovers);
        view.announce();
        info!(session, "took over from a refresher that died or hung");
    }
    let Some(attempt) = view.attempt() else { return };
    // It may have published a set before it died.
    if attempt.generation == view.reader().published().generation() {
        let died = publish::death(elected, elected.predecessor, job.eager, &job.clock);
        if let Err(fault) = died {
            warn!(session, "could not publish a refresher's death: {}", fault.message);
        }
    }
    view.end_attempt(attempt.ticket);
}

/// Asks the source once and publishes what comes of it.
fn attempt(elected: &Elected, job: &Job, call: &Call) {
    let session = job.session.as_str();
    let basis = Basis::of(elected);
    hit(FaultPoint::Elected);
    let Some(answer) = ask(elected, job, basis, call) else {
        return info!(session, "stopped for too long; another process refreshes");
    };
    hit(FaultPoint::Answered);
    let outcome = answer.and_then(|fetched| {
        publish::set(elected, basis, &fetched, &job.recipe.windows, &job.clock)
    });
    match outcome {
        Ok(Some(generation)) => info!(session, generation, "published a new set"),
        Ok(None) => info!(session, "another process published first"),
        Err(failure) => record(elected, job, basis, &failure),
    }
    elected.end_attempt();
    hit(FaultPoint::Published);
}

/// The source's answer; `None` when it was not asked any more.
fn ask(
    elected: &Elected,
    job: &Job,
    basis: Basis,
    call: &Call,
) -> Option<Result<Fetched, SourceError>> {
    // Its lease may be over although nobody has noticed yet: then somebody may at any moment.
    let holds = elected.holds() && job.clock.boot() < elected.lease_end();
    let answer = holds.then(|| {
        elected.begin_attempt(basis.generation());
        elected.view().count(Counter::SourceCalls);
        call.make(&*job.recipe.source, &job.clock)
    });
    // Before the outcome is published: who waits for that sees this, too. Pairs with the acquire in `join`.
    call.answered.store(true, Ordering::Release);
    answer
}

fn record(elected: &Elected, job: &Job, basis: Basis, failure: &SourceError) {
    let session = job.session.as_str();
    // What it got is of no use any more, and says nothing of the source.
    if !elected.holds() {
        return info!(session, "stopped for too long; another process refreshes");
    }
    warn!(session, class = %failure.class(), %failure, "the refresh failed");
    if let Err(fault) = publish::failure(elected, basis, failure, &job.clock) {
        warn!(session, "could not publish the failure: {}", fault.message);
    }
}

/// One call of the source, in a runtime of its own.
struct Call {
    runtime: Option<Runtime>,
    /// What a call opens is no standard stream: the program may print into it.
    _reserved: ReservedStreams,
    answered: Arc<AtomicBool>,
}

impl Call {
    fn new() -> io::Result<Self> {
        let reserved = ReservedStreams::new();
        let runtime = runtime::build()?;
        Ok(Call { runtime: Some(runtime), _reserved: reserved, answered: Arc::default() })
    }

    /// The source's answer. A panic in the user's code is a failure.
    fn make(&self, source: &dyn Source, clock: &Clock) -> Result<Fetched, SourceError> {
        let Some(runtime) = &self.runtime else {
            unreachable!("only the end of the call takes it")
        };
        let limit = source.timeout();
        let asked = Moment::now(clock);
        let fetch = async { tokio::time::timeout(limit, source.fetch()).await };
        let called = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(source::by_clock(clock.clone(), fetch))
        }));
        match called {
            Ok(Ok(answer)) => {
                let answered = Moment::now(clock);
                answer.map(|fetched| fetched.within(Exchange { asked, answered }))
            }
            Ok(Err(_)) => Err(transient(format!("no answer within {limit:?}"))),
            // The payload is not shown: it could hold anything.
            Err(_) => Err(SourceError::new(SourceErrorClass::Terminal, "the source panicked")),
        }
    }

    /// Ends the runtime. A name look-up that hangs is left behind.
    fn end(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Where no thread was to be had: the caller may be in a runtime of its own, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn transient(message: String) -> SourceError {
    SourceError::new(SourceErrorClass::Transient, message)
}
