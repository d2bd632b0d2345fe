//! Queries that a second connection answers while the first waits for the server's longest: the
//! definitions of all indexes.
//!
//! Only such as lock no table of the user's. Whoever holds a table's lock may lock it again behind
//! somebody who waits for a stronger one; another connection would have to queue. So it would for a
//! catalog that somebody rewrites: then the first connection asks itself.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::error::{Result, SqlState};
use crate::postgres::settings::set_local;
use crate::postgres::{Rows, Session};
use crate::sql;

/// Long enough for a lock that is released in the normal course of things.
const LOCK_WAIT: &str = "500ms";

type Answer = Result<Rows>;

/// Answers on their way, by their queries.
#[derive(Debug, Default)]
pub struct Ahead(HashMap<String, oneshot::Receiver<Answer>>);

/// What is to be asked, in this order.
pub struct Questions(Vec<(String, oneshot::Sender<Answer>)>);

pub fn asking(queries: Vec<String>) -> (Ahead, Questions) {
    let mut ahead = Ahead::default();
    let mut questions = Questions(Vec::new());
    for query in queries {
        let (sender, receiver) = oneshot::channel();
        ahead.0.insert(query.clone(), receiver);
        questions.0.push((query, sender));
    }
    (ahead, questions)
}

impl Ahead {
    /// The answer to a query that was asked; None if it was not, or nobody answers it.
    pub async fn take(&mut self, query: &str) -> Option<Answer> {
        self.0.remove(query)?.await.ok()
    }
}

impl Questions {
    /// Asks until all are answered, one fails, or nobody waits any more. The transaction keeps no
    /// locks of it.
    pub async fn ask(self, session: &mut Session) -> Result<()> {
        let limit = set_local("lock_timeout", LOCK_WAIT);
        session
            .execute(sql!("SAVEPOINT rdump_catalogs; {}", limit))
            .await?;
        for (query, answer) in self.0 {
            if answer.is_closed() {
                break;
            }
            let rows = session.query(query).await;
            let failed = rows.is_err();
            if let Err(error) = &rows
                && error.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE)
            {
                break;
            }
            // nobody waits where reading has failed meanwhile
            let _ = answer.send(rows);
            if failed {
                break;
            }
        }
        session
            .execute("ROLLBACK TO rdump_catalogs; RELEASE rdump_catalogs")
            .await
    }
}
