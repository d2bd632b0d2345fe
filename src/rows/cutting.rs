//! Tables cut into pieces that several connections read at once.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::copy::{Slice, slices};
use crate::error::{Error, Result};

/// Smaller pieces of a table are not worth a statement of their own.
pub const LEAST_SLICE: u64 = 64 << 20;

/// Pieces a connection, so that the last ones end at about the same time.
const SLICES_PER_JOB: u64 = 4;

/// How large the pieces of tables may be.
#[derive(Debug, Clone, Copy)]
pub struct Cutting {
    largest: u64,
}

impl Cutting {
    /// For `total` bytes of all tables over so many connections.
    pub fn new(total: u64, jobs: usize, least: u64) -> Cutting {
        let largest = match jobs {
            0 | 1 => u64::MAX,
            _ => (total / (jobs as u64).saturating_mul(SLICES_PER_JOB)).max(least.max(1)),
        };
        Cutting { largest }
    }

    /// The pieces of a table of so many heap blocks, and bytes with its TOAST.
    pub fn pieces(self, blocks: u64, bytes: u64) -> Vec<Option<Slice>> {
        slices(blocks, bytes.div_ceil(self.largest))
    }
}

/// Where the leader is lost the workers miss what it kept for them, and may fail first.
const LEADER_PATIENCE: Duration = Duration::from_millis(500);

/// Runs the leader's part of the work and that of all workers to their ends. The first error ends
/// the rest; the leader's goes before one of a worker.
pub async fn run_all(
    leading: impl Future<Output = Result<()>>,
    mut workers: JoinSet<Result<()>>,
) -> Result<()> {
    tokio::pin!(leading);
    let mut leader_done = false;
    while !leader_done || !workers.is_empty() {
        tokio::select! {
            outcome = &mut leading, if !leader_done => {
                leader_done = true;
                outcome?;
            }
            Some(outcome) = workers.join_next() => {
                let outcome = outcome
                    .unwrap_or_else(|error| Err(Error::new(format!("a worker died: {error}"))));
                if outcome.is_err() && !leader_done {
                    workers.abort_all();
                    if let Ok(led) = timeout(LEADER_PATIENCE, &mut leading).await {
                        led?;
                    }
                }
                outcome?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_many_as_the_connections_need() {
        let gigabyte = 1 << 30;
        let pieces = |total, jobs, bytes| {
            Cutting::new(total, jobs, LEAST_SLICE)
                .pieces(bytes / 8192, bytes)
                .len()
        };
        assert_eq!(pieces(8 * gigabyte, 2, 8 * gigabyte), 8);
        assert_eq!(pieces(8 * gigabyte, 2, gigabyte), 1);
        assert_eq!(pieces(gigabyte, 8, gigabyte), 16);
        assert_eq!(pieces(8 * gigabyte, 1, 8 * gigabyte), 1);
        assert_eq!(pieces(0, 4, 0), 1);
        assert_eq!(Cutting::new(0, 2, 0).pieces(10, 3).len(), 3);
    }

    #[tokio::test]
    async fn the_first_error_ends_the_rest() {
        let mut workers = JoinSet::new();
        workers.spawn(std::future::pending::<Result<()>>());
        let leading = async { Err(Error::new("no")) };
        assert_eq!(run_all(leading, workers).await.unwrap_err().message(), "no");

        let mut workers = JoinSet::new();
        workers.spawn(async { Err(Error::new("nor here")) });
        let error = run_all(std::future::pending(), workers).await.unwrap_err();
        assert_eq!(error.message(), "nor here");

        // whichever is first
        let mut workers = JoinSet::new();
        workers.spawn(async { Err(Error::new("its table is gone")) });
        let leading = async {
            tokio::task::yield_now().await;
            Err(Error::new("the locks are gone"))
        };
        let error = run_all(leading, workers).await.unwrap_err();
        assert_eq!(error.message(), "the locks are gone");

        let mut workers = JoinSet::new();
        workers.spawn(async { Ok(()) });
        assert!(run_all(async { Ok(()) }, workers).await.is_ok());
    }
}
