//! postgres

pub mod disposable;
