//! Integration tests: one program, so that its tests share one server of each version.

#[path = "../support/mod.rs"]
mod support;

mod consistency;
mod data_only;
mod ddl;
mod disposable;
mod encodings;
mod errors;
mod filters;
mod fixtures;
mod harness;
mod hooked;
mod killed;
mod locks;
mod pooler;
mod privileges;
mod proof;
mod round_trip;
mod standby;
