//! A fast clock: 100 ms go by in each millisecond. So a source that waits before it tries again, or for a server that is
//! silent, is done soon.

use std::{
    future::Future,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::spawn_blocking, time};

const TICK: Duration = Duration::from_millis(1);
const STEP: Duration = Duration::from_millis(100);

/// Does `work` by the fast clock. The runtime has one thread, and the servers run on it, too. So the clock moves only as
/// often as they could act.
pub async fn run<F: Future>(work: F) -> F::Output {
    time::pause();
    let (end, ended) = channel::<()>();
    let ticks = Arc::new(Notify::new());
    let ticking = Arc::clone(&ticks);
    // While a blocking task runs, the runtime does not advance a paused clock by itself.
    let ticker = spawn_blocking(move || {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
            ticking.notify_one();
        }
    });
    let moving = async {
        loop {
            ticks.notified().await;
            time::advance(STEP).await;
        }
    };
    let outcome = tokio::select! {
        biased;
        outcome = work => outcome,
        () = moving => unreachable!("the clock does not stop"),
    };
    drop(end);
    ticker.await.expect("the ticker does not panic");
    time::resume();
    outcome
}
