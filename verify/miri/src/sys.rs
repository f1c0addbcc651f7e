//! The copies that threads read.

#[path = "../../../src/sys/copies/mod.rs"]
mod copies;

/// Miri knows no `membarrier`: both sides are full fences, as in a sandbox that refuses the call.
pub(crate) mod barrier {
    use std::sync::atomic::{Ordering, fence};

    pub(crate) fn prepare() {}

    #[derive(Clone, Copy)]
    pub(crate) struct Light;

    impl Light {
        pub(crate) fn new() -> Self {
            Light
        }

        pub(crate) fn run(self) {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn heavy() -> bool {
        fence(Ordering::SeqCst);
        true
    }
}
