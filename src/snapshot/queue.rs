//! What is still to be copied, and what may be copied now: rows that refer to others come behind
//! those in the archive.

use std::collections::HashMap;

use super::plan::{Plan, Task};

pub struct Queue {
    /// Those that may begin; largest last.
    ready: Vec<Task>,
    /// Of sources that wait for others, by source.
    waiting: HashMap<usize, Vec<Task>>,
    /// Tables on which a worker could not get a lock, since somebody waits for a conflicting one.
    /// The leader holds the lock already.
    for_leader: Vec<Task>,
    /// Sources that others wait for.
    needed: HashMap<usize, Needed>,
    /// For how many others a source still waits.
    unmet: HashMap<usize, usize>,
}

struct Needed {
    /// Tasks of it that are not over.
    left: u32,
    by: Vec<usize>,
}

/// What a worker does next.
pub enum Next {
    Copy(Box<Task>),
    /// Nothing may begin before something else is over.
    Wait,
    Over,
}

impl Queue {
    pub fn new(plan: &Plan) -> Queue {
        let mut queue = Queue {
            ready: Vec::new(),
            waiting: HashMap::new(),
            for_leader: Vec::new(),
            needed: HashMap::new(),
            unmet: HashMap::new(),
        };
        for (source, needs) in &plan.needs {
            queue.unmet.insert(*source, needs.len());
            for other in needs {
                let needed = queue.needed.entry(*other).or_insert_with(|| Needed {
                    left: plan.sources[*other].tasks,
                    by: Vec::new(),
                });
                needed.by.push(*source);
            }
        }
        for task in &plan.tasks {
            match queue.unmet.contains_key(&task.source) {
                true => queue
                    .waiting
                    .entry(task.source)
                    .or_default()
                    .push(task.clone()),
                false => queue.ready.push(task.clone()),
            }
        }
        queue
    }

    /// For a worker.
    pub fn next(&mut self) -> Next {
        match self.ready.pop() {
            Some(task) => Next::Copy(Box::new(task)),
            None if self.waiting.is_empty() => Next::Over,
            None => Next::Wait,
        }
    }

    /// For the leader, who has locked everything. None: nothing now.
    pub fn next_for_leader(&mut self) -> Option<Task> {
        self.for_leader.pop().or_else(|| self.ready.pop())
    }

    pub fn leave_to_leader(&mut self, task: Task) {
        self.for_leader.push(task);
    }

    /// Whether other rows must come behind those of a source.
    pub fn is_needed(&self, source: usize) -> bool {
        self.needed.contains_key(&source)
    }

    /// A task of a needed source is over: what it copied is on its way into the archive.
    pub fn over(&mut self, source: usize) {
        let Some(needed) = self.needed.get_mut(&source) else {
            return;
        };
        needed.left = needed.left.saturating_sub(1);
        if needed.left > 0 {
            return;
        }
        let by = std::mem::take(&mut needed.by);
        for source in by {
            let unmet = self.unmet.entry(source).or_default();
            *unmet = unmet.saturating_sub(1);
            if *unmet == 0 {
                self.ready
                    .extend(self.waiting.remove(&source).into_iter().flatten());
            }
        }
        self.ready.sort_by_key(|task| task.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::EntryId;
    use crate::snapshot::plan::Source;

    /// Sources of so many tasks and bytes, with what each needs.
    fn queue(sources: &[(u32, u64, &[usize])]) -> Queue {
        let mut plan = Plan::default();
        for (number, (tasks, bytes, needs)) in sources.iter().enumerate() {
            plan.sources.push(Source {
                label: number.to_string(),
                tasks: *tasks,
            });
            if !needs.is_empty() {
                plan.needs.insert(number, needs.to_vec());
            }
            plan.tasks.extend((0..*tasks).map(|_| Task {
                entry: EntryId(number as u32 + 1),
                source: number,
                copy: "".into(),
                lock: None,
                locks_indexes: None,
                bytes: *bytes,
            }));
        }
        plan.tasks.sort_by_key(|task| task.bytes);
        Queue::new(&plan)
    }

    fn source(next: Next) -> Option<usize> {
        match next {
            Next::Copy(task) => Some(task.source),
            _ => None,
        }
    }

    #[test]
    fn what_waits_for_nothing_goes_by_size() {
        let mut queue = queue(&[(1, 5, &[]), (2, 9, &[]), (1, 7, &[])]);
        let order: Vec<_> = std::iter::from_fn(|| source(queue.next())).collect();
        assert_eq!(order, [1, 1, 2, 0]);
        assert!(matches!(queue.next(), Next::Over));
    }

    #[test]
    fn rows_wait_for_all_pieces_of_what_they_refer_to() {
        let mut queue = queue(&[(2, 1, &[]), (2, 50, &[0]), (1, 90, &[0, 1]), (1, 2, &[])]);
        assert_eq!(source(queue.next()), Some(3));
        assert_eq!(source(queue.next()), Some(0));
        assert_eq!(source(queue.next()), Some(0));
        assert!(matches!(queue.next(), Next::Wait));
        queue.over(0);
        assert!(matches!(queue.next(), Next::Wait));
        queue.over(0);
        // two connections share it
        assert_eq!(source(queue.next()), Some(1));
        assert_eq!(source(queue.next()), Some(1));
        queue.over(1);
        assert!(queue.next_for_leader().is_none());
        queue.over(1);
        assert_eq!(source(queue.next()), Some(2));
        assert!(!queue.is_needed(2));
        assert!(matches!(queue.next(), Next::Over));
    }
}
