//! Finding out what a store does rather than says.

use bytes::Bytes;

use super::object::{Created, Key, Storage};
use crate::error::{Error, Kind, Result};

/// What a store does with the second of two who create one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Conditional {
    /// Refuses it, as it must.
    Refuses,
    /// Overwrites, or says that it has created it: what was there is lost without a word.
    Ignores,
}

/// Creates an object under a random key below `probe/` twice, looks what is there, and deletes it, if
/// the credential may.
pub async fn probe_conditional(storage: &dyn Storage) -> Result<Conditional> {
    let key = Key::new(format!("probe/{:032x}", rand::random::<u128>()))?;
    let first = Bytes::from_static(b"the first of two");
    let made = storage.create(&key, first.clone()).await?;
    if made == Created::Exists {
        return Err(Error::new(format!(
            "{storage} says of a random key that it exists: {key}"
        )));
    }
    let again = storage
        .create(&key, Bytes::from_static(b"the second"))
        .await;
    let there = storage.get(&key, 1 << 10).await;
    match storage.delete(&key).await {
        Err(error) if error.kind() != Kind::Denied => return Err(error),
        _ => {}
    }
    match (again?, there?) {
        (Created::Exists, Some(there)) if there == first => Ok(Conditional::Refuses),
        (_, Some(_)) => Ok(Conditional::Ignores),
        (_, None) => Err(Error::new(format!(
            "{storage} does not have what it has just taken: {key}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Conditional, probe_conditional};
    use crate::storage::memory::{Memory, Operation};

    #[tokio::test]
    async fn a_store_that_keeps_the_first_is_recognised() {
        let memory = Memory::new();
        assert_eq!(
            probe_conditional(&memory).await.unwrap(),
            Conditional::Refuses
        );
        assert!(memory.contents().is_empty());
        memory.deny(Operation::Delete);
        assert_eq!(
            probe_conditional(&memory).await.unwrap(),
            Conditional::Refuses
        );
        memory.deny(Operation::Create);
        assert!(probe_conditional(&memory).await.is_err());
    }
}
