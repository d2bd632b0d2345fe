//! The parallel part of a restore: rows, and what comes after them.
//!
//! Workers take from one queue of loads first, since whole tables let their indexes start, then
//! from the schedule. A data entry is over when all its loads are, and no more can come.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;

use super::Doing;
use super::create::{self, Place, Shared, after_failure, create, heed, lock};
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
    queue: VecDeque<Task>,
    /// Data entries that have begun and are not over, by entry.
    begun: HashMap<EntryId, Begun>,
    /// Of a stream: entries whose rows have all come, and how many they are. None: a file.
    ended: Option<HashMap<EntryId, u64>>,
}

#[derive(Debug)]
struct Begun {
    step: Step,
    /// Tasks that wait or run.
    left: usize,
    /// Rows that the server has taken for good.
    taken: u64,
    /// Rows that the archive holds. None: a stream has not come to the entry's end.
    expected: Option<u64>,
    /// Found to have failed, and what had been loaded of it is being taken back.
    emptied: bool,
}

/// The loads of a data entry, and how many rows they hold together.
pub struct Loads {
    pub rows: Vec<Rows>,
    pub expected: u64,
}

/// What a worker does next.
enum Task {
    Create(Step),
    Load(Step, Rows),
    /// Takes back what other loads had brought in: all or nothing, as a single COPY would be.
    Empty(Step),
}

impl Parallel {
    /// With rows that are all at hand.
    pub fn new(shared: &Shared, size: impl Fn(EntryId) -> u64) -> Parallel {
        Parallel {
            state: Mutex::new(State {
                schedule: Schedule::new(&shared.entries, size),
                queue: VecDeque::new(),
                begun: HashMap::new(),
                ended: None,
            }),
            changed: Notify::new(),
        }
    }

    /// With rows that arrive: data entries begin as soon as they may.
    pub fn streaming(shared: &Shared) -> Result<Parallel> {
        let parallel = Parallel::new(shared, |_| 0);
        let mut state = lock(&parallel.state);
        state.ended = Some(HashMap::new());
        state.begin_ready(shared)?;
        drop(state);
        Ok(parallel)
    }

    /// Queues a load that has arrived, once its entry may be loaded: rows that others refer to come
    /// first in a stream, but may still be on their way to the server.
    pub async fn arrive(&self, shared: &Shared, entry: EntryId, rows: Rows) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = lock(&self.state);
                // seen under the lock, so that nothing is queued after `give_up`
                if shared.is_stopped() {
                    return Ok(());
                }
                if let Some(begun) = state.begun.get_mut(&entry) {
                    begun.left += 1;
                    let step = begun.step;
                    state.queue.push_back(Task::Load(step, rows));
                    drop(state);
                    self.changed.notify_waiters();
                    return Ok(());
                }
                state.refuse_too_early(shared, entry)?;
            }
            changed.await;
        }
    }

    /// No more loads of this entry will arrive; so many rows they were.
    pub fn close(&self, shared: &Shared, entry: EntryId, rows: u64) -> Result<()> {
        let mut state = lock(&self.state);
        if let Some(ended) = &mut state.ended {
            ended.insert(entry, rows);
        }
        if let Some(begun) = state.begun.get_mut(&entry) {
            begun.expected = Some(rows);
            state.settle(shared, entry)?;
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// After a stop: lets go of all that waits, and with it of who waits for its turn.
    pub fn give_up(&self) {
        lock(&self.state).queue.clear();
        self.changed.notify_waiters();
    }

    /// Lets workers see that the restore was stopped.
    pub fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// One connection's share, to the end. `begin` gives the loads of a data entry of a file.
    pub async fn run(
        &self,
        session: &mut Session,
        shared: &Shared,
        begin: impl Fn(&Entry) -> Result<Loads>,
    ) -> Result<()> {
        let mut place = Place::default();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if shared.is_stopped() {
                break;
            }
            let task = {
                let mut state = lock(&self.state);
                let task = state.next(shared, &begin)?;
                if task.is_none() && state.schedule.is_over() {
                    break;
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
                    let mut state = lock(&self.state);
                    state.schedule.done(step);
                    outcome.and(state.begin_ready(shared))
                }
                Some(Task::Load(step, rows)) => {
                    self.load(session, shared, &shared.entries[step.entry], rows)
                        .await
                }
                Some(Task::Empty(step)) => {
                    self.empty(session, shared, &shared.entries[step.entry])
                        .await
                }
            };
            if outcome.is_err() {
                shared.stop();
            }
            self.changed.notify_waiters();
            outcome?;
        }
        self.changed.notify_waiters();
        create::reset(session, &mut place).await
    }

    async fn load(
        &self,
        session: &mut Session,
        shared: &Shared,
        entry: &Entry,
        rows: Rows,
    ) -> Result<()> {
        let mut outcome = Ok(());
        let mut taken = 0;
        if let Some(missing) = shared
            .not_created(entry)
            .filter(|_| !shared.has_lost_rows(entry))
        {
            let error = Error::new(format!(
                "not loaded: {} could not be created",
                label(missing)
            ));
            outcome = shared.failed(entry, Doing::Loading, error);
        }
        let left_out = shared.failed_table(entry).is_some();
        // of a table that has failed nothing more is loaded; a stream goes on without us
        if !left_out && !shared.has_lost_rows(entry) {
            match load(session, entry, rows, &shared.progress).await {
                Ok(rows) => {
                    taken = rows;
                    outcome = create::count(session, shared).await;
                }
                Err(error) => {
                    outcome = after_failure(session, shared, entry, Doing::Loading, error).await;
                }
            }
        }
        heed(session, shared, entry);
        let mut state = lock(&self.state);
        if let Some(begun) = state.begun.get_mut(&entry.id) {
            begun.left = begun.left.saturating_sub(1);
            begun.taken += taken;
        }
        outcome.and(state.settle(shared, entry.id))
    }

    async fn empty(&self, session: &mut Session, shared: &Shared, entry: &Entry) -> Result<()> {
        let mut outcome = Ok(());
        if let Contents::Rows { relation, .. } = &entry.contents
            && let Err(error) = session.execute(sql!("TRUNCATE ONLY {}", relation)).await
        {
            outcome = after_failure(session, shared, entry, Doing::Emptying, error).await;
        }
        let mut state = lock(&self.state);
        if let Some(begun) = state.begun.get_mut(&entry.id) {
            begun.left = 0;
            begun.taken = 0;
        }
        outcome.and(state.settle(shared, entry.id))
    }
}

impl State {
    /// Ends a data entry if nothing of it is left: it succeeds if the server has as many rows as
    /// the archive.
    fn settle(&mut self, shared: &Shared, id: EntryId) -> Result<()> {
        let Some(begun) = self.begun.get_mut(&id) else {
            return Ok(());
        };
        let (step, taken) = (begun.step, begun.taken);
        let Some(expected) = begun.expected.filter(|_| begun.left == 0) else {
            return Ok(());
        };
        let entry = &shared.entries[step.entry];
        let left_out = shared.failed_table(entry).is_some();
        if left_out {
            let line = format!(
                "{}: not loaded, since the table could not be created",
                label(entry)
            );
            lock(&shared.warnings).push(line);
        } else if taken != expected && !shared.has_lost_rows(entry) {
            shared.failed(
                entry,
                Doing::Loading,
                Error::new(format!(
                    "{taken} rows were loaded, the archive holds {expected}"
                ))
                .hint("rdump verify says whether the archive is damaged"),
            )?;
        }
        if taken > 0 && !begun.emptied && shared.has_lost_rows(entry) && shared.may_empty(entry) {
            begun.emptied = true;
            begun.left = 1;
            self.queue.push_back(Task::Empty(step));
            return Ok(());
        }
        self.begun.remove(&id);
        self.schedule.done(step);
        shared.loaded(taken);
        if !shared.has_lost_rows(entry) {
            shared.progress.log(|| format!("loaded {}", label(entry)));
        }
        shared.progress.table_done();
        self.begin_ready(shared)
    }

    /// Of a stream: begins the data entries that wait for nothing any more.
    fn begin_ready(&mut self, shared: &Shared) -> Result<()> {
        let Some(ended) = &self.ended else {
            return Ok(());
        };
        let steps = self.schedule.take_ready_data(&shared.entries);
        for step in &steps {
            let id = shared.entries[step.entry].id;
            let begun = Begun {
                step: *step,
                left: 0,
                taken: 0,
                expected: ended.get(&id).copied(),
                emptied: false,
            };
            self.begun.insert(id, begun);
        }
        for step in steps {
            self.settle(shared, shared.entries[step.entry].id)?;
        }
        Ok(())
    }

    /// An archive has the rows that others refer to before those: waiting for what is still to
    /// come would be for ever.
    fn refuse_too_early(&self, shared: &Shared, id: EntryId) -> Result<()> {
        let ended = |id: &EntryId| {
            let ended = self.ended.as_ref();
            ended.is_none_or(|ended| ended.contains_key(id))
        };
        // also by way of definitions, in an archive that is forged
        let mut seen = HashSet::new();
        let mut open = vec![id];
        while let Some(entry) = open.pop().and_then(|id| shared.entry(id)) {
            let needed = entry.dependencies.iter().filter(|id| seen.insert(**id));
            for needed in needed.filter_map(|id| shared.entry(*id)) {
                if !is_data(needed) {
                    open.push(needed.id);
                } else if !ended(&needed.id) {
                    return Err(Error::new(format!(
                        "the archive has the rows of entry {} before those of {}, which they need",
                        id.0,
                        label(needed)
                    ))
                    .hint("restore it from a file"));
                }
            }
        }
        Ok(())
    }

    fn next(
        &mut self,
        shared: &Shared,
        begin: &impl Fn(&Entry) -> Result<Loads>,
    ) -> Result<Option<Task>> {
        if let Some(task) = self.queue.pop_front() {
            return Ok(Some(task));
        }
        while let Some(step) = self.schedule.take() {
            let entry = &shared.entries[step.entry];
            if !is_data(entry) {
                return Ok(Some(Task::Create(step)));
            }
            let loads = begin(entry)?;
            let begun = Begun {
                step,
                left: loads.rows.len(),
                taken: 0,
                expected: Some(loads.expected),
                emptied: false,
            };
            self.begun.insert(entry.id, begun);
            let tasks = loads.rows.into_iter().map(|rows| Task::Load(step, rows));
            self.queue.extend(tasks);
            self.settle(shared, entry.id)?;
            if let Some(task) = self.queue.pop_front() {
                return Ok(Some(task));
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
