//! CHECK constraints of tables: within CREATE TABLE, unless they were never validated or a loop
//! forbids it. Here too NOT NULL constraints that were never validated, which servers from 18 on
//! have: like these they are added after the rows.

use std::collections::HashMap;

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct CheckConstraint {
    identity: Identity,
    relation: Relation,
    descriptor: &'static str,
    definition: BString,
    is_validated: bool,
    is_local: bool,
    /// The parents' constraints that bring this one along.
    parents: Vec<u32>,
}

/// A validated constraint as its table needs it.
#[derive(Debug)]
pub(super) struct InlineCheck {
    pub address: Address,
    pub name: BString,
    pub definition: BString,
    pub is_local: bool,
}

/// By table, in order of their names.
pub(super) async fn read_inline(
    reader: &mut Reader<'_>,
) -> Result<HashMap<Oid, Vec<InlineCheck>>> {
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "check constraints",
            &format!(
                "SELECT k.oid, k.conrelid, k.conname, k.conislocal,
                        pg_get_constraintdef(k.oid) AS definition
                 FROM pg_constraint k
                 JOIN pg_class c ON c.oid = k.conrelid
                 {OWNER_JOINS}
                 WHERE k.contype = 'c' AND k.convalidated AND {USER_SCHEMAS} AND {wanted}
                 ORDER BY k.conrelid, k.conname"
            ),
        )
        .await?;
    let mut checks: HashMap<Oid, Vec<InlineCheck>> = HashMap::new();
    for row in &rows {
        checks
            .entry(row.number("conrelid")?)
            .or_default()
            .push(InlineCheck {
                address: Address::new(class::CONSTRAINT, row.number("oid")?),
                name: row.text("conname")?,
                definition: row.text("definition")?,
                is_local: row.bool("conislocal")?,
            });
    }
    Ok(checks)
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<CheckConstraint>> {
    // inherited ones come with the parent, except that a partition must have them to be attached, and
    // may have them validated or enforced where the parent has not; what was never validated comes
    // after the rows, and so must its comment
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "check constraints",
            &format!(
                "SELECT k.oid, k.conname AS name, k.contype, k.conislocal, k.convalidated,
                        pg_get_constraintdef(k.oid) AS definition,
                        ARRAY(SELECT p.oid FROM pg_inherits h
                              JOIN pg_constraint p
                                ON p.conrelid = h.inhparent AND p.contype = k.contype
                              WHERE h.inhrelid = k.conrelid
                                AND NOT (k.convalidated AND (k.conislocal OR c.relispartition))
                                AND CASE k.contype WHEN 'c' THEN p.conname = k.conname
                                                   ELSE NOT p.convalidated END
                              ORDER BY p.oid) AS parents,
                        {OWNER_COLUMNS}
                 FROM pg_constraint k
                 JOIN pg_class c ON c.oid = k.conrelid
                 {OWNER_JOINS}
                 WHERE (k.contype = 'c' OR (k.contype = 'n' AND NOT k.convalidated))
                   AND (k.conislocal OR c.relispartition OR NOT k.convalidated)
                   AND {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let mut constraints = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            constraints.push(CheckConstraint {
                identity: Identity::in_schema(class::CONSTRAINT, row)?,
                relation,
                descriptor: if row.char("contype")? == b'n' {
                    "CONSTRAINT"
                } else {
                    "CHECK CONSTRAINT"
                },
                definition: row.text("definition")?,
                is_validated: row.bool("convalidated")?,
                is_local: row.bool("conislocal")?,
                parents: row.numbers("parents")?,
            });
        }
    }
    Ok(constraints)
}

impl CatalogObject for CheckConstraint {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.relation.name.clone()
    }

    fn section(&self) -> Section {
        if self.is_validated {
            Section::PreData
        } else {
            Section::PostData
        }
    }

    fn inline_in(&self) -> Option<Address> {
        self.is_validated.then(|| self.relation.address())
    }

    fn requires(&self) -> Vec<Address> {
        let parents = self.parents.iter();
        parents
            .map(|&oid| Address::new(class::CONSTRAINT, oid))
            .collect()
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        if self.is_validated && !context.is_separate(self.identity.address) {
            return Ok(None);
        }
        let mut definition = Definition::new(
            self.descriptor,
            Section::PostData,
            self.relation.tag(&self.identity.name),
            "",
        );
        definition.relation = Some(self.relation.name.clone());
        // else the parent's constraint reaches this table, a partition too: it comes after that was
        // attached
        if self.is_local {
            // not ONLY: children inherit it
            definition.create = sql!(
                "ALTER TABLE {}\n    ADD CONSTRAINT {} {};\n",
                self.relation.sql(),
                sql::identifier(&self.identity.name),
                self.definition
            );
            definition.drop = self.relation.drop_constraint("", &self.identity.name);
        }
        definition.comment_target = Some(sql!(
            "CONSTRAINT {} ON {}",
            sql::identifier(&self.identity.name),
            self.relation.sql()
        ));
        Ok(Some(definition))
    }
}
