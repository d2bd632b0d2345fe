//! Integration tests: one program, so that its tests share one server of each version.

#[path = "../support/mod.rs"]
mod support;

mod catalog_scale;
mod chosen_relations;
mod consistency;
mod data_only;
mod ddl;
mod disabled_triggers;
mod disposable;
mod encodings;
mod errors;
mod filters;
mod fixtures;
mod forgotten;
mod harness;
mod hooked;
mod killed;
mod kinds;
mod labels;
mod least_privilege;
mod locks;
mod names;
mod parallel_restores;
mod partial_failures;
mod pooler;
mod privileges;
mod proof;
mod quoting;
mod reading;
mod real_extensions;
mod replacing;
mod repository;
mod restore_flags;
mod role_maps;
mod round_trip;
mod script;
mod secrets;
mod sets;
mod snapshot_filters;
mod standby;
mod statistics;
mod table_restores;
mod transaction_size;
mod whole_server_flags;
