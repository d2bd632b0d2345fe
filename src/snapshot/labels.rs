//! Labels of enums. Rows show the label that a value has when it is read, whatever the snapshot says,
//! and no lock keeps a label's name.

use std::collections::HashMap;

use bstr::BString;

use crate::error::{Result, ResultExt};
use crate::postgres::{Oid, Session};

const LABELS: &str =
    "SELECT e.oid, e.enumlabel, format_type(e.enumtypid, NULL) AS type FROM pg_enum e";

/// The labels that a transaction sees.
pub struct Labels(HashMap<Oid, (BString, BString)>);

impl Labels {
    pub async fn read(session: &mut Session) -> Result<Labels> {
        let rows = session
            .query(LABELS)
            .await
            .context("reading the labels of enums")?;
        let mut labels = HashMap::new();
        for row in &rows {
            labels.insert(
                row.number("oid")?,
                (row.text("enumlabel")?, row.text("type")?),
            );
        }
        Ok(Labels(labels))
    }

    /// A label that has another name in `later`, as a sentence.
    pub fn change(&self, later: &Labels) -> Option<String> {
        self.0.iter().find_map(|(oid, (label, of_type))| {
            let (renamed, _) = later.0.get(oid)?;
            (renamed != label)
                .then(|| format!("label \"{label}\" of type {of_type} was renamed \"{renamed}\""))
        })
    }
}
