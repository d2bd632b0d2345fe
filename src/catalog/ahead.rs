//! Queries that two connections share: the server's longest, such as the definitions of all indexes.
//!
//! Whichever connection comes to a question first asks it: the helper takes them in turn, the
//! reader those that it needs and that nobody has taken yet. The reader holds the locks of all
//! tables and may take them again; the helper would have to queue behind somebody who waits for a
//! stronger one, or for whoever rewrites a catalog. It gives up soon, and the reader asks itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot::{self, Receiver, Sender};

use crate::error::{Result, SqlState};
use crate::postgres::settings::set_local;
use crate::postgres::{Rows, Session};
use crate::sql;

/// Whom the reader's own locks keep waiting will not be done before we are.
const LOCK_WAIT: &str = "100ms";

type Answer = Result<Rows>;

#[derive(Debug)]
struct Question {
    query: String,
    /// Until somebody takes it on himself to ask.
    unasked: Mutex<Option<Sender<Answer>>>,
}

impl Question {
    fn take(&self) -> Option<Sender<Answer>> {
        let mut unasked = self.unasked.lock().unwrap_or_else(PoisonError::into_inner);
        unasked.take()
    }
}

/// The reader's side: questions by their queries, with what will bring the answers.
#[derive(Debug, Default)]
pub struct Ahead(HashMap<String, (Arc<Question>, Receiver<Answer>)>);

/// The helper's side: what is to be asked, in this order.
pub struct Questions(Vec<Arc<Question>>);

pub fn asking(queries: Vec<String>) -> (Ahead, Questions) {
    let mut ahead = Ahead::default();
    let mut questions = Questions(Vec::new());
    for query in queries {
        let (sender, receiver) = oneshot::channel();
        let question = Arc::new(Question {
            query: query.clone(),
            unasked: Mutex::new(Some(sender)),
        });
        ahead.0.insert(query, (Arc::clone(&question), receiver));
        questions.0.push(question);
    }
    (ahead, questions)
}

impl Ahead {
    /// The helper's answer; None if the reader has to ask.
    pub async fn take(&mut self, query: &str) -> Option<Answer> {
        let (question, answer) = self.0.remove(query)?;
        match question.take() {
            Some(_unasked) => None,
            // fails where the helper was kept waiting
            None => answer.await.ok(),
        }
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
        for question in self.0 {
            let Some(answer) = question.take() else {
                continue;
            };
            if answer.is_closed() {
                break;
            }
            let rows = session.query(question.query.as_str()).await;
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
