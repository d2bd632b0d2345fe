//! Whether a run may still be given up: until the moment at which its archive gets its name, or its
//! only transaction is committed.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

const RUNNING: u8 = 0;
const CANCELLED: u8 = 1;
const COMMITTED: u8 = 2;

/// Shared by whoever hears of a signal and the thread that commits: exactly one of them is first.
#[derive(Debug, Default)]
pub struct Cancellation(AtomicU8);

impl Cancellation {
    /// True: the run can be dropped, and leaves nothing. False: it is too late, what it made is about
    /// to be there; the run must be awaited.
    pub fn cancel(&self) -> bool {
        self.0
            .compare_exchange(RUNNING, CANCELLED, Ordering::SeqCst, Ordering::SeqCst)
            .map_or_else(|state| state == CANCELLED, |_| true)
    }

    /// To be called right before what was made becomes visible; from then on it stays.
    pub fn commit(&self) -> Result<()> {
        self.0
            .compare_exchange(RUNNING, COMMITTED, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
            .map_err(|_| given_up())
    }

    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::SeqCst) {
            CANCELLED => Err(given_up()),
            _ => Ok(()),
        }
    }
}

fn given_up() -> Error {
    Error::new("the run was given up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_decides() {
        let early = Cancellation::default();
        assert!(early.check().is_ok());
        assert!(early.cancel() && early.cancel());
        assert!(early.check().is_err() && early.commit().is_err());
        let late = Cancellation::default();
        late.commit().unwrap();
        assert!(!late.cancel() && late.check().is_ok());
    }
}
