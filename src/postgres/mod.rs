//! The server: connecting as libpq does, sessions over the simple query protocol, COPY streams.

pub mod array;
pub mod copy;
mod message;
mod rows;
pub mod session;
mod stream;

pub use copy::{CopyIn, CopyOut, CopyProgress, RowConsumer};
pub use rows::{Row, Rows};
pub use session::{ServerVersion, Session, TransactionState};
pub use stream::Transport;
