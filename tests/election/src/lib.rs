//! The election, its lease and the publication as a model: every order of steps of three processes, each
//! of which may be killed or stopped between any two of them.
//!
//! A step is one access to what the processes share: the election word, the kernel's lock table, the
//! version, a slot. What touches nothing that another process could see is part of the step after it. The
//! steps are in the order of the code, and each names it:
//!
//! | here | `src/` |
//! | --- | --- |
//! | `Standing`, `Saw`, `Vacant` | `refresh/election.rs`: `stand`, `exchange`, `holder_of` |
//! | `Elected`, `Renewed` | `segment/notes.rs` `note_elected`, by `stand` and `renew` |
//! | `Noted` | the look after the election: `session/wait.rs` `act`, `session/refreshing.rs` `start_in_background` |
//! | `Serving` | `refresh/refresh_loop.rs` `serve`; a caller that refreshes once resigns there |
//! | `Renewing`, `Marked`, `Lost` | `refresh/election.rs` `Elected::renew` |
//! | `Refreshing`, `Based`, `Calling` | `refresh/fetch.rs` `refresh`, `attempt`: `Basis::of`, `holds`, `ask` |
//! | `Choosing`, `Claiming`, `Releasing` | `refresh/slots.rs` `store`, `Claim` |
//! | `Locked`, `Beginning`, `Writing`, `Written` | `seqlock/mod.rs` `begin`, `word`, `publish` |
//! | `Resigning`, `Freeing` | `refresh/election.rs`, the drop of `Elected` |
//! | `Marking` | `seqlock/mod.rs` `mark_rejected` |
//!
//! Bounds: three processes, three slots as in the layout, two generations, two kills and two stops in any
//! order, one rejection in each generation, one loss of all the locks that a process has (something in it closes the
//! lock file). A look at a mark and the exchange of a claim are one step: who is gone stays so. A lease lasts two ticks of a clock that all share; a candidate may
//! have looked at it a tick ago. A process that is not stopped is never slower than its lease: that is what
//! the length of a lease promises. Not here: failures of the source, which go through the same steps with
//! slots of their own; the words of a record and the memory model, which `tests/model` has; processes with
//! several threads, of which the election lock admits one; sleeping and waking: here every process may look at any time.

#![cfg(test)]

mod model;
mod proofs;
mod state;
