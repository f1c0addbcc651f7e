//! One call of the source by the elected process. Its async runtime ends with the call, and so does its thread, unless that is
//! the thread of a caller.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use tokio::runtime::Runtime;
use tracing::{info, warn};

use super::{
    election::Elected,
    gate::{Gate, Passage, Passing},
    policy::Windows,
    publish::{self, Basis},
    service::Service,
};
use crate::{
    clock::{Clock, Moment},
    errno,
    error::Fault,
    fault_point::{FaultPoint, hit},
    segment::{Counter, EntryWriter, pool::PoolCounter},
    source::{self, Exchange, Fetched, Source, SourceError, SourceErrorClass},
    sys::{descriptor::ReservedStreams, runtime, stack},
};

/// The time that a lease allows in addition to the call: to build the client, and to publish.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// How much later than its wait ends a caller may get the failure of its own call. By default both last equally long for a role
/// with a base source.
const OVERRUN: Duration = Duration::from_millis(100);
/// The room on the stack that a call needs at most, by far. A new thread has twice as much.
const STACK: usize = 1024 * 1024;

/// What a process needs to refresh. It is plain data, so it stays valid after `fork`.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) windows: Windows,
    /// What each call passes before the source, if there is such a thing.
    pub(crate) gate: Option<Arc<dyn Gate>>,
}

impl Recipe {
    /// The lease of an election. No call takes longer, because its time is limited.
    pub(crate) fn lease(&self) -> Duration {
        self.time().saturating_add(LEASE_MARGIN)
    }

    /// The longest time of one call, with the gate.
    fn time(&self) -> Duration {
        let gate = self.gate.as_ref().map_or(Duration::ZERO, |gate| gate.delay(&*self.source));
        self.source.timeout().saturating_add(gate)
    }
}

/// The input of a refresh, besides the election.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) session: String,
    /// Whether a dedicated process refreshes. If it dies, another one must replace it at once.
    pub(crate) eager: bool,
    pub(crate) recipe: Recipe,
    pub(crate) clock: Clock,
    /// When a dedicated refresher may fetch the first set, in nanoseconds since boot. 0 is at once.
    pub(crate) first_call: u64,
    /// When this call may be made, in nanoseconds since boot: the budget of a pool says so. 0 is at once.
    pub(crate) not_before: u64,
    /// What a refresher does in a pool, in place of refreshing one set.
    pub(crate) service: Option<Arc<dyn Service>>,
}

/// Starts one refresh on a new thread. The thread ends by itself, even if no caller waits for it any more.
///
/// # Errors
/// `System` when the kernel gives no thread, or no resources for a runtime. That concerns this process only, so it is
/// not published as a failure.
pub(crate) fn start(elected: Elected, job: Job) -> Result<FetchHandle, Fault> {
    start_then(elected, job, || ())
}

/// As [`start`]. The thread calls `after` last.
pub(crate) fn start_then(
    elected: Elected,
    job: Job,
    after: impl FnOnce() + Send + 'static,
) -> Result<FetchHandle, Fault> {
    let call =
        Call::new().map_err(|e| Fault::system("starting the async runtime of the refresh", e))?;
    let answered = Arc::clone(&call.answered);
    let thread = Builder::new()
        .name("shmcreds-fetch".into())
        .spawn(move || once(elected, &job, call, after))
        .map_err(|error| Fault::system("starting the refresh thread", error))?;
    Ok(FetchHandle { thread, answered })
}

/// Whether a caller that waits for the call, at most `left`, may make it on its own thread: that saves the start of a thread,
/// its memory, and three wake-ups. Only where it comes to the same for the caller:
///
/// * The call ends in time. It has a time limit, but only if no code of the program runs in it, which could block the thread.
/// * The thread can run it: it is in no async runtime, and has room on its stack.
pub(crate) fn may_be_here(job: &Job, left: Duration) -> bool {
    let Job { recipe, not_before, .. } = job;
    left.saturating_add(OVERRUN) >= recipe.time()
        && *not_before == 0
        && !runtime::is_inside()
        && recipe.source.portable().is_some()
        && stack::left() >= STACK
}

/// Makes one refresh on the calling thread.
///
/// # Errors
/// As those of [`start`].
pub(crate) fn here(elected: Elected, job: &Job) -> Result<(), Fault> {
    let call =
        Call::new().map_err(|e| Fault::system("starting the async runtime of the refresh", e))?;
    once(elected, job, call, || ());
    Ok(())
}

/// A running refresh.
#[derive(Debug)]
pub(crate) struct FetchHandle {
    thread: JoinHandle<()>,
    answered: Arc<AtomicBool>,
}

impl FetchHandle {
    /// Joins the thread if the source has answered: then the thread ends soon. If the source has not answered, it may
    /// never do so. Then this does not wait, and the thread ends later by itself.
    pub(crate) fn join(self) {
        // Acquire pairs with the release in `ask`.
        if self.answered.load(Ordering::Acquire) {
            let _ = self.thread.join();
        }
    }

    /// Joins the thread, also if the source has not answered yet.
    pub(crate) fn wait(self) {
        let _ = self.thread.join();
    }
}

fn once(elected: Elected, job: &Job, call: Call, after: impl FnOnce()) {
    elected.mark_thread();
    wait_until(job.not_before, &job.clock);
    attempt(&elected, job, &call);
    elected.resign();
    // After all that others wait for, because it takes as long as everything else together.
    call.end();
    after();
}

fn wait_until(time: u64, clock: &Clock) {
    loop {
        match time.saturating_sub(clock.boot()) {
            0 => return,
            left => std::thread::sleep(clock.longest_sleep(Duration::from_nanos(left))),
        }
    }
}

/// One refresh of the refresh loop, on the current thread.
pub(crate) fn refresh(elected: &Elected, job: &Job) {
    match Call::new() {
        Ok(call) => {
            attempt(elected, job, &call);
            call.end();
        }
        Err(error) => {
            let error = errno::told(&error);
            let failure = transient(format!("starting the async runtime of the refresh: {error}"));
            record(elected, job, Basis::of(elected), &failure);
        }
    }
}

/// Asks the source once and publishes the result.
fn attempt(elected: &Elected, job: &Job, call: &Call) {
    let session = job.session.as_str();
    let basis = Basis::of(elected);
    hit(FaultPoint::Elected);
    let Some(answer) = ask(elected, job, basis, call) else {
        return info!(session, "stopped for too long; another process refreshes");
    };
    hit(FaultPoint::Answered);
    let _ = conclude(elected, job, basis, answer);
    hit(FaultPoint::Published);
}

/// Publishes the answer: the set, or the failure that it returns. Returns the generation of the set; `None` when another
/// process published first.
pub(super) fn conclude(
    elected: &Elected,
    job: &Job,
    basis: Basis,
    answer: Result<Fetched, SourceError>,
) -> Result<Option<u64>, SourceError> {
    let session = job.session.as_str();
    let outcome = answer.and_then(|fetched| {
        let Recipe { source, windows, .. } = &job.recipe;
        publish::set(elected, basis, &fetched, (windows, source.role_arn()), &job.clock)
    });
    match &outcome {
        Ok(Some(generation)) => info!(session, generation, "published a new set"),
        Ok(None) => info!(session, "another process published first"),
        Err(failure) => {
            // Before the failure is seen: its outcome is known, and a process that is elected after the end of this
            // lease must not count it as a death.
            elected.end_attempt();
            record(elected, job, basis, failure);
        }
    }
    elected.end_attempt();
    outcome
}

/// Asks the source. `None` when this process is not elected any more, so that it did not ask.
fn ask(
    elected: &Elected,
    job: &Job,
    basis: Basis,
    call: &Call,
) -> Option<Result<Fetched, SourceError>> {
    // After the end of the lease another process may be elected at any moment.
    let holds = elected.holds() && job.clock.boot() < elected.lease_end();
    let answer = holds.then(|| {
        elected.begin_attempt(basis.generation());
        call.make(job, elected.view())
    });
    // Release pairs with the acquire in `join`. It comes before the publication, so a waiter that sees the result sees
    // this, too.
    call.answered.store(true, Ordering::Release);
    answer
}

fn record(elected: &Elected, job: &Job, basis: Basis, failure: &SourceError) {
    let session = job.session.as_str();
    // After a lost election the error is outdated, and may have been caused by the stop.
    if !elected.holds() {
        return info!(session, "stopped for too long; another process refreshes");
    }
    warn!(session, class = %failure.class(), %failure, "the refresh failed");
    if let Err(fault) = publish::failure(elected, basis, failure, &job.clock) {
        warn!(session, "could not publish the failure: {}", fault.message);
    }
}

/// One call of the source, with its own async runtime.
struct Call {
    runtime: Option<Runtime>,
    /// Keeps files that the call opens off the numbers of standard streams, into which the program may print.
    _reserved: ReservedStreams,
    answered: Arc<AtomicBool>,
}

impl Call {
    fn new() -> io::Result<Self> {
        let reserved = ReservedStreams::new();
        let runtime = runtime::build()?;
        Ok(Call { runtime: Some(runtime), _reserved: reserved, answered: Arc::default() })
    }

    /// Makes the call. A panic in the user's source counts as a failure.
    fn make(&self, job: &Job, view: &EntryWriter) -> Result<Fetched, SourceError> {
        let Some(runtime) = &self.runtime else { unreachable!("only `end` takes the runtime") };
        // The source knows from earlier calls which Regions failed, and notes it for later ones.
        // Relaxed: the word is a hint. A process that was stopped for longer than its lease may store an old one.
        let failed_regions = view.failed_regions();
        let known = Arc::new(AtomicU64::new(failed_regions.load(Ordering::Relaxed)));
        let fetch = source::with_failed_regions(Arc::clone(&known), pass(job, view));
        let called = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(source::by_clock(job.clock.clone(), fetch))
        }));
        failed_regions.store(known.load(Ordering::Relaxed), Ordering::Relaxed);
        // Do not show the payload of a panic: it could contain a secret.
        called.unwrap_or_else(|_| {
            Err(SourceError::new(SourceErrorClass::Terminal, "the source panicked"))
        })
    }

    /// Ends the runtime. It does not wait for a name look-up that hangs.
    fn end(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // The thread could not be started. The caller may be inside another runtime, where a blocking drop panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Asks the source, through the gate if there is one.
async fn pass(job: &Job, view: &EntryWriter) -> Result<Fetched, SourceError> {
    let ask = || -> Passing<'_> { Box::pin(ask_in_time(job, view)) };
    let Recipe { source, gate, .. } = &job.recipe;
    let Some(gate) = gate else { return ask().await };
    let (generation, expires) = publish::newest(view.reader());
    let passage = Passage {
        session: &job.session,
        source: &**source,
        clock: &job.clock,
        notes: view.fleet(),
        generation,
        expires: expires / 1_000_000,
        ask: &ask,
    };
    let limit = job.recipe.time();
    tokio::time::timeout(limit, gate.pass(passage)).await.unwrap_or_else(|_| Err(silent(limit)))
}

/// Asks the source once, within its time limit.
async fn ask_in_time(job: &Job, view: &EntryWriter) -> Result<Fetched, SourceError> {
    let (source, clock) = (&job.recipe.source, &job.clock);
    let limit = source.timeout();
    view.count(Counter::SourceCalls);
    if let Some(pool) = view.pool() {
        pool.count(PoolCounter::Calls);
    }
    let asked = Moment::now(clock);
    let answer = tokio::time::timeout(limit, source.fetch()).await;
    let answered = Moment::now(clock);
    let answer = answer.unwrap_or_else(|_| Err(silent(limit)));
    answer.map(|fetched| fetched.within(Exchange { asked, answered }))
}

fn silent(limit: Duration) -> SourceError {
    transient(format!("no answer within {limit:?}"))
}

fn transient(message: String) -> SourceError {
    SourceError::new(SourceErrorClass::Transient, message)
}
