//! Triggers. Those that partitions have of their parents come with these; only where one was
//! enabled or disabled differently, that is said.

use bstr::BString;

use super::relation::{self, OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct Trigger {
    identity: Identity,
    relation: Relation,
    definition: BString,
    enabled: u8,
    /// The trigger of the parent that made this one, and that one's, up to the first.
    ancestors: Vec<Oid>,
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
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "triggers",
            &format!(
                "SELECT g.oid, g.tgname AS name, g.tgenabled,
                        ARRAY(WITH RECURSIVE ancestor AS (
                                  SELECT g.tgparentid AS oid WHERE g.tgparentid <> 0
                                  UNION ALL
                                  SELECT a.tgparentid
                                  FROM ancestor JOIN pg_trigger a ON a.oid = ancestor.oid
                                  WHERE a.tgparentid <> 0)
                              SELECT oid FROM ancestor) AS ancestors,
                        pg_get_triggerdef(g.oid, false) AS definition, {extensions},
                        {OWNER_COLUMNS}
                 FROM pg_trigger g
                 JOIN pg_class c ON c.oid = g.tgrelid
                 {OWNER_JOINS}
                 LEFT JOIN pg_trigger p ON p.oid = g.tgparentid
                 WHERE {condition} AND {USER_SCHEMAS} AND {wanted}",
                extensions = relation::extensions_column("pg_trigger", "g.oid"),
            ),
        )
        .await?;
    let mut triggers = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            triggers.push(Trigger {
                identity: Identity::in_schema(class::TRIGGER, row)?,
                relation,
                definition: row.text("definition")?,
                enabled: row.char("tgenabled")?,
                ancestors: row.numbers("ancestors")?,
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
        // the server notes only the next one above, which need not be an entry
        let ancestors = self.ancestors.iter();
        ancestors
            .map(|&oid| Address::new(class::TRIGGER, oid))
            .chain([self.relation.address()])
            .collect()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let table = self.relation.sql();
        let name = sql::identifier(&self.identity.name);
        let mut create = BString::default();
        let is_cloned = !self.ancestors.is_empty();
        if !is_cloned {
            create = sql!("{};\n", self.definition);
            create.extend_from_slice(&relation::depends_on_extensions(
                &sql!("TRIGGER {} ON {}", name, table),
                &self.extensions,
            ));
        }
        let clause = relation::enabled_clause(self.enabled)
            // the parent's is not as it is created
            .or(is_cloned.then_some("ENABLE"));
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
        if is_cloned {
            definition.drop = Drop::None;
        }
        Ok(Some(definition))
    }
}
