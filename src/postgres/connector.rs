//! Opens sessions on one server, and can cancel all that they run.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::connect::{CancelHandle, Endpoint, Established, establish};
use super::conninfo::ConnectionTarget;
use super::pooler::refuse_transaction_mode;
use super::session::{Session, Unanswered};
use crate::error::Result;
use crate::sql;

/// Where to connect, narrowed to one server once the first session has reached it.
#[derive(Debug, Clone)]
pub struct Connector {
    target: ConnectionTarget,
    /// Taken on by SET ROLE in every session.
    role: Option<String>,
    opened: Arc<Mutex<Vec<Opened>>>,
}

/// A session that was opened, and may be gone.
#[derive(Debug)]
struct Opened {
    cancel: CancelHandle,
    process: i32,
    target: ConnectionTarget,
    unanswered: Weak<Unanswered>,
}

/// Sessions that the server has not answered for a while.
pub struct Overdue {
    /// Where the first of them is; what it opens is not its sibling.
    pub connector: Connector,
    pub processes: Vec<i32>,
    /// All sessions of the run.
    pub own: Vec<i32>,
}

impl Connector {
    pub fn new(target: ConnectionTarget) -> Connector {
        Connector {
            target,
            role: None,
            opened: Arc::default(),
        }
    }

    /// Lets every session act as another role.
    pub fn with_role(self, role: Option<String>) -> Connector {
        Connector { role, ..self }
    }

    /// The first session, and a connector for more on the very same server.
    pub async fn first(self) -> Result<(Session, Connector)> {
        let established = establish(&self.target).await?;
        let endpoint: &Endpoint = established.as_ref();
        let pinned = Connector {
            target: self.target.pinned_to(endpoint),
            role: self.role,
            opened: self.opened,
        };
        let mut session = pinned.track(established);
        if pinned.role.is_some() {
            refuse_transaction_mode(&mut session, &pinned, "--role").await?;
        }
        pinned.take_role(&mut session).await?;
        Ok((session, pinned))
    }

    pub async fn open(&self) -> Result<Session> {
        let mut session = self.open_plain().await?;
        self.take_role(&mut session).await?;
        Ok(session)
    }

    /// A session that acts as the user it logged in as.
    pub(super) async fn open_plain(&self) -> Result<Session> {
        Ok(self.track(establish(&self.target).await?))
    }

    /// The same server, another database.
    pub fn with_database(&self, name: impl Into<bstr::BString>) -> Connector {
        Connector {
            target: self.target.with_database(name),
            role: self.role.clone(),
            opened: Arc::clone(&self.opened),
        }
    }

    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    pub fn target(&self) -> &ConnectionTarget {
        &self.target
    }

    fn track(&self, established: Established) -> Session {
        let session = Session::new(established);
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Opened {
                cancel: session.cancel_handle(),
                process: session.backend_pid(),
                target: self.target.clone(),
                unanswered: Arc::downgrade(session.unanswered()),
            });
        session
    }

    /// Those of the sessions that have waited for the server for so long.
    pub fn overdue(&self, patience: Duration) -> Option<Overdue> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let mut overdue = Vec::new();
        let mut own = Vec::new();
        let mut connector = None;
        for one in opened.iter() {
            // None: the session is gone
            let Some(unanswered) = one.unanswered.upgrade() else {
                continue;
            };
            own.push(unanswered.process());
            if unanswered
                .since()
                .is_some_and(|since| since.elapsed() >= patience)
            {
                overdue.push(unanswered.process());
                connector.get_or_insert_with(|| Connector::new(one.target.clone()));
            }
        }
        Some(Overdue {
            connector: connector?,
            processes: overdue,
            own,
        })
    }

    async fn take_role(&self, session: &mut Session) -> Result<()> {
        match &self.role {
            Some(role) => {
                session
                    .execute(sql!("SET ROLE {}", sql::identifier(role)))
                    .await
            }
            None => Ok(()),
        }
    }

    /// The server's processes of all sessions since the last `cancel_all`, of those that are gone too.
    pub fn processes(&self) -> Vec<i32> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().map(|one| one.process).collect()
    }

    /// Cancels whatever any of the sessions is running: a backend in the middle of a COPY or an
    /// index build would not notice soon that its client is gone.
    pub async fn cancel_all(&self) {
        let opened =
            std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        let requests: Vec<_> = opened
            .into_iter()
            // a session that has ended cannot be cancelled; that is no failure
            .map(|one| tokio::spawn(async move { one.cancel.cancel().await.is_ok() }))
            .collect();
        for request in requests {
            let _ = request.await;
        }
    }
}
