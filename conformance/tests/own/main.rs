//! The suite's own tests: it passes what is right and catches what is wrong.

mod assertions;
mod common;
mod page;
mod program;
mod runtimes;
mod suite;
