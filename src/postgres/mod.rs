//! The server: connecting as libpq does, sessions over the simple query protocol, COPY streams.

pub mod blockers;
pub mod connect;
mod connector;
pub mod conninfo;
mod copy;
pub mod disposable;
mod message;
mod pooler;
mod rows;
mod session;
pub mod settings;
mod stream;
pub mod tls;
mod workers;

pub use postgres_types::Oid;

pub use connect::{CancelHandle, Established, Transport};
pub use connector::{Connector, Overdue};
pub use copy::{CopyIn, CopyOut, CopyProgress, RowConsumer};
pub use message::Notice;
pub use pooler::refuse_transaction_mode;
pub use rows::{Column, Row, Rows};
pub use session::{ServerVersion, Session, TransactionState};
pub use workers::open_workers;
