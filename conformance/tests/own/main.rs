//! The suite's own tests: it passes what is right and catches what is wrong.

mod action;
mod assertions;
mod common;
mod ours;
mod page;
mod program;
mod runtimes;
mod suite;
