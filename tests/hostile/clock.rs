//! Time as it is. `verify/fuzz` has a faster clock in its place.

/// Does `work`.
pub async fn run<F: Future>(work: F) -> F::Output {
    work.await
}
