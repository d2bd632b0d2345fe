//! Rules, but for those that make a view.

use bstr::BString;

use super::relation::{self, OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Rule {
    identity: Identity,
    relation: Relation,
    definition: BString,
    enabled: u8,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Rule>> {
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "rules",
            &format!(
                "SELECT r.oid, r.rulename AS name, r.ev_enabled,
                        pg_get_ruledef(r.oid) AS definition, {OWNER_COLUMNS}
                 FROM pg_rewrite r
                 JOIN pg_class c ON c.oid = r.ev_class
                 {OWNER_JOINS}
                 WHERE NOT (c.relkind IN ('v', 'm') AND r.ev_type = '1') AND {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let mut rules = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            rules.push(Rule {
                identity: Identity::in_schema(class::REWRITE, row)?,
                relation,
                definition: row.text("definition")?,
                enabled: row.char("ev_enabled")?,
            });
        }
    }
    Ok(rules)
}

impl CatalogObject for Rule {
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
        // pg_get_ruledef ends with its own semicolon
        let mut create = sql!("{}\n", self.definition);
        if let Some(clause) = relation::enabled_clause(self.enabled) {
            create.extend_from_slice(&sql!(
                "ALTER TABLE {} {} RULE {};\n",
                self.relation.sql(),
                clause,
                sql::identifier(&self.identity.name)
            ));
        }
        let definition = Definition::new(
            "RULE",
            Section::PostData,
            self.relation.tag(&self.identity.name),
            create,
        );
        Ok(Some(self.relation.target(
            definition,
            "RULE",
            &self.identity.name,
        )))
    }
}
