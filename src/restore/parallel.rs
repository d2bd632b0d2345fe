//! The parallel part of a restore: rows, and what comes after them.
//!
//! Workers take from one queue of loads first, since whole tables let their indexes start, then
//! from the schedule. A data entry is over when all its loads are, and no more can come.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;

use super::create::{Place, Shared, after_failure, create, lock};
use super::load::load;
use super::schedule::{Schedule, Step, is_data};
use super::selection::label;
use super::source::Rows;
use crate::archive::{Contents, Entry, EntryId};
use crate::error::{Error, Result};
use crate::postgres::Session;
use crate::sql;

pub struct Parallel {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    schedule: Schedule,
    /// Loads that wait for a connection.
    queue: VecDeque<(Step, Rows)>,
    /// Data entries that have begun and are not over, by entry.
    begun: HashMap<EntryId, Begun>,
}

#[derive(Debug)]
struct Begun {
    step: Step,
    /// Loads that wait or run.
    left: usize,
    /// Loads there were in all.
    loads: usize,
    /// More may come: a stream has not reached the entry's end.
    open: bool,
}

/// What a worker does next.
enum Task {
    Create(Step),
    Load(Step, Rows),
}

impl Parallel {
    /// With rows that are all at hand.
    pub fn new(shared: &Shared, size: impl Fn(EntryId) -> u64) -> Parallel {
        Parallel {
            state: Mutex::new(State {
                schedule: Schedule::new(&shared.entries, size),
                queue: VecDeque::new(),
                begun: HashMap::new(),
            }),
            changed: Notify::new(),
        }
    }

    /// With rows that arrive: all data entries begin at once, open until `close`d.
    pub fn streaming(shared: &Shared) -> Parallel {
        let parallel = Parallel::new(shared, |_| 0);
        let mut state = lock(&parallel.state);
        for step in state.schedule.take_data(&shared.entries) {
            state.begun.insert(
                shared.entries[step.entry].id,
                Begun {
                    step,
                    left: 0,
                    loads: 0,
                    open: true,
                },
            );
        }
        drop(state);
        parallel
    }

    /// Queues a load that has arrived. Entries that are not restored are passed over.
    pub fn arrive(&self, entry: EntryId, rows: Rows) {
        let mut state = lock(&self.state);
        if let Some(begun) = state.begun.get_mut(&entry) {
            begun.left += 1;
            begun.loads += 1;
            let step = begun.step;
            state.queue.push_back((step, rows));
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Whether rows of this entry are wanted.
    pub fn wants(&self, entry: EntryId) -> bool {
        lock(&self.state).begun.contains_key(&entry)
    }

    /// No more loads of this entry will arrive.
    pub fn close(&self, shared: &Shared, entry: EntryId) {
        let mut state = lock(&self.state);
        if let Some(begun) = state.begun.get_mut(&entry) {
            begun.open = false;
            state.settle(shared, entry);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Lets workers see that the restore was stopped.
    pub fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// One connection's share, to the end. `begin` gives the loads of a data entry.
    pub async fn run(
        &self,
        session: &mut Session,
        shared: &Shared,
        begin: impl Fn(&Entry) -> Result<Vec<Rows>>,
    ) -> Result<()> {
        let mut place = Place::default();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if shared.is_stopped() {
                self.changed.notify_waiters();
                return Ok(());
            }
            let task = {
                let mut state = lock(&self.state);
                let task = state.next(shared, &begin)?;
                if task.is_none() && state.schedule.is_over() {
                    self.changed.notify_waiters();
                    return Ok(());
                }
                task
            };
            let outcome = match task {
                None => {
                    changed.await;
                    continue;
                }
                Some(Task::Create(step)) => {
                    let entry = &shared.entries[step.entry];
                    let outcome = create(session, shared, entry, &mut place).await;
                    lock(&self.state).schedule.done(step);
                    outcome
                }
                Some(Task::Load(step, rows)) => {
                    let entry = &shared.entries[step.entry];
                    self.load(session, shared, entry, rows).await
                }
            };
            if outcome.is_err() {
                shared.stop();
            }
            self.changed.notify_waiters();
            outcome?;
        }
    }

    async fn load(
        &self,
        session: &mut Session,
        shared: &Shared,
        entry: &Entry,
        rows: Rows,
    ) -> Result<()> {
        let mut outcome = Ok(());
        // of a table that has failed nothing more is loaded; a stream goes on without us
        if !shared.has_failed(entry)
            && let Err(error) = load(session, entry, rows, &shared.progress).await
        {
            outcome = after_failure(session, shared, entry, "loading its rows", error).await;
        }
        let emptied = {
            let mut state = lock(&self.state);
            let last = state.begun.get_mut(&entry.id).map(|begun| {
                begun.left = begun.left.saturating_sub(1);
                begun.left == 0 && !begun.open && begun.loads > 1
            });
            last == Some(true) && shared.has_failed(entry) && !shared.options.selection.data_only
        };
        if emptied && outcome.is_ok() {
            // what other connections had loaded of it: all or nothing, as a single COPY would be
            if let Contents::Rows { relation, .. } = &entry.contents
                && entry.load_into.is_none()
                && let Err(error) = session.execute(sql!("TRUNCATE ONLY {}", relation)).await
            {
                outcome = after_failure(session, shared, entry, "emptying it", error).await;
            }
        }
        lock(&self.state).settle(shared, entry.id);
        outcome
    }
}

impl State {
    /// Ends a data entry if nothing of it is left.
    fn settle(&mut self, shared: &Shared, entry: EntryId) {
        if let Some(begun) = self.begun.get(&entry)
            && begun.left == 0
            && !begun.open
        {
            let step = begun.step;
            self.begun.remove(&entry);
            self.schedule.done(step);
            shared.progress.table_done();
        }
    }

    fn next(
        &mut self,
        shared: &Shared,
        begin: &impl Fn(&Entry) -> Result<Vec<Rows>>,
    ) -> Result<Option<Task>> {
        if let Some((step, rows)) = self.queue.pop_front() {
            return Ok(Some(Task::Load(step, rows)));
        }
        while let Some(step) = self.schedule.take() {
            let entry = &shared.entries[step.entry];
            if !is_data(entry) {
                return Ok(Some(Task::Create(step)));
            }
            let loads = begin(entry)?;
            self.begun.insert(
                entry.id,
                Begun {
                    step,
                    left: loads.len(),
                    loads: loads.len(),
                    open: false,
                },
            );
            self.queue
                .extend(loads.into_iter().map(|rows| (step, rows)));
            match self.queue.pop_front() {
                Some((step, rows)) => return Ok(Some(Task::Load(step, rows))),
                None => self.settle(shared, entry.id),
            }
        }
        if self.schedule.is_stuck() {
            let stuck: Vec<String> = self
                .schedule
                .unreached()
                .into_iter()
                .map(|entry| label(&shared.entries[entry]))
                .collect();
            return Err(Error::new(format!(
                "entries of the archive wait for each other: {}",
                stuck.join(", ")
            )));
        }
        Ok(None)
    }
}
