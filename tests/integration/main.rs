//! Integration tests: one program, so that its tests share one server of each version.

#[path = "../support/mod.rs"]
mod support;

mod disposable;
mod encodings;
mod errors;
mod fixtures;
mod harness;
mod privileges;
mod proof;
mod round_trip;
