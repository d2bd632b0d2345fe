//! Event triggers. They come last of all, lest they fire while the rest is restored.

use bstr::BString;

use super::relation::{depends_on_extensions, enabled_clause, extensions_column};
use crate::archive::{Pass, Section};
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct EventTrigger {
    identity: Identity,
    event: BString,
    tags: Vec<BString>,
    function: BString,
    enabled: u8,
    /// It goes with these, though it is none of their members.
    extensions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<EventTrigger>> {
    let extensions = extensions_column("pg_event_trigger", "e.oid");
    let rows = reader
        .query(
            "event triggers",
            &format!(
                "SELECT e.oid, e.evtname AS name, pg_get_userbyid(e.evtowner) AS owner, e.evtevent,
                        coalesce(e.evttags, '{{}}') AS evttags, e.evtfoid::regproc AS function,
                        e.evtenabled, {extensions}
                 FROM pg_event_trigger e"
            ),
        )
        .await?;
    let mut triggers = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::EVENT_TRIGGER, row)?.owned(row)?;
        if reader.admit(&mut identity) {
            triggers.push(EventTrigger {
                identity,
                event: row.text("evtevent")?,
                tags: row.texts("evttags")?,
                function: row.text("function")?,
                enabled: row.char("evtenabled")?,
                extensions: row.texts("extensions")?,
            });
        }
    }
    Ok(triggers)
}

impl CatalogObject for EventTrigger {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("EVENT TRIGGER {}", self.identity.sql());
        let mut create = sql!("CREATE {} ON {}", target, sql::identifier(&self.event));
        if !self.tags.is_empty() {
            let tags = sql::join(self.tags.iter().map(sql::literal), ", ");
            create.extend_from_slice(&sql!("\n    WHEN TAG IN ({})", tags));
        }
        create.extend_from_slice(&sql!("\n    EXECUTE FUNCTION {}();\n", self.function));
        if let Some(clause) = enabled_clause(self.enabled) {
            create.extend_from_slice(&sql!("ALTER {} {};\n", target, clause));
        }
        create.extend_from_slice(&depends_on_extensions(&target, &self.extensions));
        let mut definition = Definition::new(
            "EVENT TRIGGER",
            Section::PostData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        definition.pass = Pass::Last;
        Ok(Some(definition))
    }
}
