//! Queries that a second connection answers while the first waits for the server's longest: the
//! definitions of all indexes.
//!
//! Only such as lock no table of the user's. Whoever holds a table's lock may lock it again behind
//! somebody who waits for a stronger one; another connection would have to queue.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::postgres::{Rows, Session};

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
    /// The answer to a query that was asked; None if it was not, or nobody answers any more.
    pub async fn take(&mut self, query: &str) -> Option<Answer> {
        self.0.remove(query)?.await.ok()
    }
}

impl Questions {
    /// Asks until all are answered, one fails, or nobody waits any more. The transaction keeps no
    /// locks of it.
    pub async fn ask(self, session: &mut Session) -> Result<()> {
        session.execute("SAVEPOINT rdump_catalogs").await?;
        for (query, answer) in self.0 {
            if answer.is_closed() {
                break;
            }
            let rows = session.query(query).await;
            let failed = rows.is_err();
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
