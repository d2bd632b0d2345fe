//! One connection's share of the work: take the largest task, copy it, take the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::plan::{Plan, Task};
use super::queue::{Next, Queue};
use super::rows::{Collector, Seal, Tally};
use super::sealing::Sealer;
use crate::archive::{BlockBuilder, EndRecord};
use crate::error::{Error, Result, ResultExt, SqlState};
use crate::postgres::settings::set_local;
use crate::postgres::{CopyProgress, Session, TransactionState};
use crate::report::Progress;

/// The tasks of a run and what came of them.
pub struct Work {
    labels: Vec<String>,
    tallies: Vec<Tally>,
    queue: Mutex<Queue>,
    /// Workers that may still hand a task to the leader.
    busy: AtomicUsize,
    changed: Notify,
    progress: Arc<Progress>,
}

impl Work {
    pub fn new(plan: &Plan, progress: Arc<Progress>) -> Work {
        Work {
            labels: plan
                .sources
                .iter()
                .map(|source| source.label.clone())
                .collect(),
            tallies: plan
                .sources
                .iter()
                .map(|source| Tally::new(source.tasks))
                .collect(),
            queue: Mutex::new(Queue::new(plan)),
            busy: AtomicUsize::new(0),
            changed: Notify::new(),
            progress,
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a worker before it runs, so that the leader waits for it.
    pub fn join(&self) {
        self.busy.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// What a worker beside the leader does, to its end.
    pub async fn run_worker(&self, session: &mut Session, sealer: Sealer) -> Result<()> {
        let mut copier = Copier::new(self, sealer);
        let outcome = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let next = self.queue().next();
                let task = match next {
                    Next::Copy(task) => task,
                    Next::Wait => {
                        copier.flush().await?;
                        changed.await;
                        continue;
                    }
                    Next::Over => break,
                };
                if lock_again(session, &task).await? {
                    copier.copy(session, &task).await?;
                } else {
                    self.queue().leave_to_leader(*task);
                    self.changed.notify_waiters();
                }
            }
            Ok::<(), Error>(())
        }
        .await;
        self.leave();
        outcome?;
        copier.finish().await
    }

    /// The leader takes part, and stays until no worker can hand it a task any more.
    pub async fn run_leader(&self, session: &mut Session, sealer: Sealer) -> Result<()> {
        let mut copier = Copier::new(self, sealer);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // before the queue: a worker leaves after its last task has been handed over
            let alone = self.busy.load(Ordering::SeqCst) == 0;
            let task = self.queue().next_for_leader();
            match task {
                Some(task) => copier.copy(session, &task).await?,
                None if alone => break,
                None => {
                    copier.flush().await?;
                    changed.await;
                }
            }
        }
        copier.finish().await
    }
}

/// Long enough for a lock that is free, or is released in the normal course of things.
const INDEX_LOCK_WAIT: &str = "500ms";

/// Locks a task's table in the worker's own transaction, without waiting: behind somebody who
/// waits for ACCESS EXCLUSIVE, which the leader's lock keeps waiting, a worker would wait for ever
/// and the server could not see it. False if the lock is not to be had.
///
/// A query over the table locks its indexes as well, for as long as the transaction lasts. REINDEX
/// wants them for itself while the table's lock lets it pass, so that one of our sessions may hold
/// up a REINDEX that holds up another: those locks are taken here too, with a limit.
async fn lock_again(session: &mut Session, task: &Task) -> Result<bool> {
    let Some(lock) = &task.lock else {
        return Ok(true);
    };
    let mut statement = crate::sql!("SAVEPOINT rdump_lock; {};", lock);
    if let Some(plan) = &task.locks_indexes {
        statement.extend_from_slice(&set_local("lock_timeout", INDEX_LOCK_WAIT));
        statement.extend_from_slice(plan);
        statement.extend_from_slice(b";");
        statement.extend_from_slice(&set_local("lock_timeout", "0"));
    }
    statement.extend_from_slice(b"RELEASE rdump_lock");
    match session.execute(statement).await {
        Ok(()) => Ok(true),
        Err(error) if error.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            if session.state() == TransactionState::Failed {
                session
                    .execute("ROLLBACK TO rdump_lock; RELEASE rdump_lock")
                    .await?;
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Copies tasks into blocks; a block may hold several small tables.
pub struct Copier<'a> {
    work: &'a Work,
    sealer: Sealer,
    builder: BlockBuilder,
}

impl<'a> Copier<'a> {
    fn new(work: &'a Work, sealer: Sealer) -> Copier<'a> {
        let builder = sealer.builder();
        Copier {
            work,
            sealer,
            builder,
        }
    }

    async fn copy(&mut self, session: &mut Session, task: &Task) -> Result<()> {
        let label = &self.work.labels[task.source];
        let tally = &self.work.tallies[task.source];
        let progress = &self.work.progress;
        let mut collector = Collector::new(std::mem::take(&mut self.builder), task.entry, tally);
        let mut copy = session
            .copy_out(&task.copy)
            .await
            .with_context(|| format!("reading table {label}"))?;
        let mut seen = (0, 0);
        let counted = loop {
            let state = copy
                .read(&mut collector)
                .await
                .with_context(|| format!("reading table {label}"))?;
            let now = (collector.fingerprint.rows, collector.raw_length);
            progress.add(now.0 - seen.0, now.1 - seen.1);
            seen = now;
            match state {
                CopyProgress::Done { rows } => break rows,
                CopyProgress::Paused => match collector.close_full()? {
                    Seal::No => {}
                    seal => {
                        let full = std::mem::take(&mut collector.builder);
                        collector.builder = self.sealer.seal(full, seal == Seal::Part).await?;
                    }
                },
            }
        };
        collector.end_chunk()?;
        let (fingerprint, raw_length) = (collector.fingerprint, collector.raw_length);
        self.builder = collector.builder;
        if counted != fingerprint.rows {
            return Err(Error::new(format!(
                "table {label}: the server counted {counted} rows, {} arrived",
                fingerprint.rows
            )));
        }
        if let Some(end) = tally.add(task.entry, fingerprint, raw_length) {
            self.builder.end_entry(end)?;
            progress.table_done();
            progress.log(|| format!("copied {label}: {} rows", end.rows));
        }
        if self.work.queue().is_needed(task.source) {
            // what waits for these rows must not overtake them
            self.flush().await?;
            self.work.queue().over(task.source);
            self.work.changed.notify_waiters();
            return Ok(());
        }
        self.seal_if_full().await
    }

    /// Rows that were not copied but made here: a chunk of one entry, and its end.
    pub async fn put(&mut self, rows: &[u8], count: u64, mut end: EndRecord) -> Result<()> {
        if count > 0 {
            self.builder.buffer().extend_from_slice(rows);
            self.builder.end_rows(end.entry, 0, count)?;
            end.chunks = 1;
        }
        self.builder.end_entry(end)?;
        self.seal_if_full().await
    }

    async fn seal_if_full(&mut self) -> Result<()> {
        if self.builder.is_full() {
            let full = std::mem::take(&mut self.builder);
            self.builder = self.sealer.seal(full, false).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        self.flush().await
    }

    /// Hands over all that was copied: who waits for others must not hold the writer's turn.
    async fn flush(&mut self) -> Result<()> {
        if !self.builder.is_empty() {
            let last = std::mem::take(&mut self.builder);
            self.builder = self.sealer.seal(last, false).await?;
        }
        self.sealer.flush().await
    }
}

/// Puts what is known without a COPY: sequence values, and the ends of entries that were skipped.
pub async fn put_known(
    work: &Work,
    sealer: Sealer,
    known: impl IntoIterator<Item = (Vec<u8>, u64, EndRecord)>,
) -> Result<()> {
    let mut copier = Copier::new(work, sealer);
    for (rows, count, end) in known {
        copier.put(&rows, count, end).await?;
    }
    copier.finish().await
}
