//! A memory barrier with two sides that cost very different amounts: nearly nothing in a read, and a system call
//! (`membarrier`) for the rare thread that takes away what is read.
//!
//! The promise: if one thread stores `x`, runs a [`Light`] and loads `y`, and another one stores `y`, calls [`heavy`] and
//! loads `x`, then at least one of them sees the other's store.

#[cfg(not(loom))]
pub(crate) use kernel::{Light, heavy, prepare};
#[cfg(loom)]
pub(crate) use model::{Light, heavy};

#[cfg(not(loom))]
mod kernel {
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    use rustix::{
        io::Errno,
        thread::{MembarrierCommand, membarrier},
    };

    /// Whether the kernel makes the barrier of both sides. Never reset: a forked child inherits it with the
    /// registration.
    static BY_KERNEL: AtomicBool = AtomicBool::new(false);

    /// Registers this process, before any of its threads makes a [`Light`]. Without a registration that is a full fence:
    /// before Linux 4.14, or in a sandbox that does not know the call.
    pub(crate) fn prepare() {
        // Relaxed: a thread that does not see it yet makes a full fence, which is correct, too.
        if !BY_KERNEL.load(Ordering::Relaxed) && register() {
            BY_KERNEL.store(true, Ordering::Relaxed);
        }
    }

    fn register() -> bool {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
    }

    /// The side of the reader, which runs it at both ends of a section and looks only once which kind it is.
    #[derive(Clone, Copy)]
    pub(crate) struct Light {
        by_kernel: bool,
    }

    impl Light {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            // Relaxed: the word changes once, to true. A reader that does not see that yet makes full fences, which is
            // correct, too.
            Light { by_kernel: BY_KERNEL.load(Ordering::Relaxed) }
        }

        #[inline(always)]
        pub(crate) fn run(self) {
            match self.by_kernel {
                // The processor may still reorder. `heavy` makes each processor that runs this process do a full fence.
                true => compiler_fence(Ordering::SeqCst),
                false => fence(Ordering::SeqCst),
            }
        }
    }

    /// The other side. False when this cannot be a barrier for all threads: a sandbox that was set up later refuses the
    /// call.
    pub(crate) fn heavy() -> bool {
        let call = || membarrier(MembarrierCommand::PrivateExpedited);
        match call() {
            Ok(()) => true,
            Err(Errno::PERM) if register() => call().is_ok(),
            Err(_) => {
                fence(Ordering::SeqCst);
                !BY_KERNEL.load(Ordering::Relaxed)
            }
        }
    }
}

/// The model checker knows no system call: both sides are full fences, which the kernel's barrier stands for.
#[cfg(loom)]
mod model {
    use crate::atomic::{Ordering, fence};

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
