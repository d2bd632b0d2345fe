//! Triggers. Those that partitions have of their parents come with these; only where one was
//! enabled or disabled differently, that is said.

use bstr::BString;

use super::relation::{self, OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Trigger {
    identity: Identity,
    relation: Relation,
    definition: BString,
    enabled: u8,
    /// Made by the parent's trigger.
    is_cloned: bool,
    extensions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Trigger>> {
    // before 15, clones are marked internal, as are a foreign key's triggers
    let condition = if reader.version.at_least(15) {
        "NOT g.tgisinternal AND (g.tgparentid = 0 OR g.tgenabled <> p.tgenabled)"
    } else {
        "(NOT g.tgisinternal
          OR (g.tgenabled <> p.tgenabled AND g.tgname !~ '^RI_ConstraintTrigger_'))"
    };
    let rows = reader
        .query(
            "triggers",
            &format!(
                "SELECT g.oid, g.tgname AS name, g.tgenabled, g.tgparentid <> 0 AS is_cloned,
                        pg_get_triggerdef(g.oid, false) AS definition, {extensions},
                        {OWNER_COLUMNS}
                 FROM pg_trigger g
                 JOIN pg_class c ON c.oid = g.tgrelid
                 {OWNER_JOINS}
                 LEFT JOIN pg_trigger p ON p.oid = g.tgparentid
                 WHERE {condition} AND {USER_SCHEMAS}",
                extensions = relation::extensions_column("pg_trigger", "g.oid"),
            ),
        )
        .await?;
    let mut triggers = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            triggers.push(Trigger {
                identity: Identity::from_row(class::TRIGGER, row)?,
                relation,
                definition: row.text("definition")?,
                enabled: row.char("tgenabled")?,
                is_cloned: row.bool("is_cloned")?,
                extensions: row.texts("extensions")?,
            });
        }
    }
    Ok(triggers)
}

impl CatalogObject for Trigger {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.relation.name.clone()
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.relation.address()]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let table = self.relation.sql();
        let name = sql::identifier(&self.identity.name);
        let mut create = BString::default();
        if !self.is_cloned {
            create = sql!("{};\n", self.definition);
            create.extend_from_slice(&relation::depends_on_extensions(
                &sql!("TRIGGER {} ON {}", name, table),
                &self.extensions,
            ));
        }
        let clause = relation::enabled_clause(self.enabled)
            // the parent's is not as it is created
            .or(self.is_cloned.then_some("ENABLE"));
        if let Some(clause) = clause {
            create.extend_from_slice(&sql!("ALTER TABLE {} {} TRIGGER {};\n", table, clause, name));
        }
        let definition = Definition::new(
            "TRIGGER",
            Section::PostData,
            self.relation.tag(&self.identity.name),
            create,
        );
        let mut definition = self
            .relation
            .target(definition, "TRIGGER", &self.identity.name);
        if self.is_cloned {
            definition.drop = Drop::None;
        }
        Ok(Some(definition))
    }
}
