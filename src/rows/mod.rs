//! What the bytes of rows mean, without a server.

mod fingerprint;

pub use fingerprint::{Fingerprint, FingerprintStream};
