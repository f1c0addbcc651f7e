//! Nothing: the tests are in `rotations.rs`.
