//! Connecting to PostgreSQL and speaking its protocol.

pub mod connect;
pub mod conninfo;
pub mod tls;
