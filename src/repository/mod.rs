//! Repositories of archives: which archives there are, and which are kept.

pub mod retention;
