//! Opens sessions on one server, and can cancel all that they run.

use std::sync::{Arc, Mutex, PoisonError};

use super::connect::{CancelHandle, Endpoint, establish};
use super::conninfo::ConnectionTarget;
use super::session::Session;
use crate::error::Result;

/// Where to connect, narrowed to one server once the first session has reached it.
#[derive(Debug, Clone)]
pub struct Connector {
    target: ConnectionTarget,
    opened: Arc<Mutex<Vec<CancelHandle>>>,
}

impl Connector {
    pub fn new(target: ConnectionTarget) -> Connector {
        Connector {
            target,
            opened: Arc::default(),
        }
    }

    /// The first session, and a connector for more on the very same server.
    pub async fn first(self) -> Result<(Session, Connector)> {
        let established = establish(&self.target).await?;
        let endpoint: &Endpoint = established.as_ref();
        let pinned = Connector {
            target: self.target.pinned_to(endpoint),
            opened: self.opened,
        };
        let session = pinned.register(Session::new(established));
        Ok((session, pinned))
    }

    pub async fn open(&self) -> Result<Session> {
        Ok(self.register(Session::new(establish(&self.target).await?)))
    }

    /// The same server, another database.
    pub fn with_database(&self, name: impl Into<bstr::BString>) -> Connector {
        Connector {
            target: self.target.with_database(name),
            opened: Arc::clone(&self.opened),
        }
    }

    pub fn target(&self) -> &ConnectionTarget {
        &self.target
    }

    fn register(&self, session: Session) -> Session {
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session.cancel_handle());
        session
    }

    /// Cancels whatever any of the sessions is running: a backend in the middle of a COPY or an
    /// index build would not notice soon that its client is gone.
    pub async fn cancel_all(&self) {
        let handles =
            std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        let requests: Vec<_> = handles
            .into_iter()
            // a session that has ended cannot be cancelled; that is no failure
            .map(|handle| tokio::spawn(async move { handle.cancel().await.is_ok() }))
            .collect();
        for request in requests {
            let _ = request.await;
        }
    }
}
