//! Primary keys, unique and exclusion constraints, each with its index.

use bstr::{BString, ByteSlice};

use super::relation::{self, OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Constraint {
    identity: Identity,
    relation: Relation,
    definition: BString,
    index: super::index::IndexProperties,
    /// It came from a partitioned table's constraint and goes with that.
    is_inherited: bool,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Constraint>> {
    let (keys, exclusions) = (keys_query(reader), query(reader, "'x'"));
    let keys = reader.query("keys", &keys).await?;
    let exclusions = reader.query("exclusion constraints", &exclusions).await?;
    let mut constraints = Vec::new();
    for row in keys.iter().chain(&exclusions) {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            let identity = Identity::in_schema(class::CONSTRAINT, row)?;
            if !row.bool("is_usable")? {
                reader.warn(format!(
                    "constraint {} of table {} is left out: its index is invalid",
                    sql::identifier(&identity.name),
                    relation.sql()
                ));
                continue;
            }
            let kind = row.char("contype")?;
            let mut definition = row.text("definition")?;
            // an exclusion constraint is printed with its index's options, others are not
            if kind != b'x' {
                definition = with_options(
                    &definition,
                    &row.texts("reloptions")?,
                    row.bool("condeferrable")?,
                    row.bool("condeferred")?,
                );
            }
            // meaningless for a primary key, and refused; old servers let it slip in
            if kind == b'p' {
                definition = definition.replacen("KEY NULLS NOT DISTINCT ", "KEY ", 1).into();
            }
            constraints.push(Constraint {
                identity,
                definition,
                index: super::index::IndexProperties::from_row(row, &relation)?,
                is_inherited: row.bool("is_inherited")?,
                relation,
            });
        }
    }
    Ok(constraints)
}

/// Primary keys and unique constraints. Locks no table: their columns are named from the catalogs'
/// caches, whereas an exclusion may have an expression.
pub fn keys_query(reader: &Reader<'_>) -> String {
    query(reader, "'p', 'u'")
}

fn query(reader: &Reader<'_>, types: &str) -> String {
    let wanted = reader.of_wanted();
    format!(
        "SELECT k.oid, k.conname AS name, k.contype, k.condeferrable, k.condeferred,
                k.conparentid <> 0 AS is_inherited,
                (i.indisvalid OR c.relkind = 'p') AND i.indisready AS is_usable,
                pg_get_constraintdef(k.oid) AS definition, x.reloptions,
                {index}, {OWNER_COLUMNS}
         FROM pg_constraint k
         JOIN pg_class c ON c.oid = k.conrelid
         JOIN pg_class x ON x.oid = k.conindid
         JOIN pg_index i ON i.indexrelid = k.conindid
         {OWNER_JOINS}
         WHERE k.contype IN ({types}) AND {USER_SCHEMAS} AND {wanted}",
        index = super::index::properties_columns(),
    )
}

/// Puts `WITH (...)` before the deferrability, where the grammar wants it.
fn with_options(
    definition: &BString,
    options: &[BString],
    deferrable: bool,
    deferred: bool,
) -> BString {
    if options.is_empty() {
        return definition.clone();
    }
    let tail = match (deferrable, deferred) {
        (true, true) => " DEFERRABLE INITIALLY DEFERRED",
        (true, false) => " DEFERRABLE",
        _ => "",
    };
    let head = definition
        .strip_suffix(tail.as_bytes())
        .unwrap_or(definition);
    let options = sql::join(relation::options(options, ""), ", ");
    sql!("{} WITH ({}){}", head, options, tail)
}

impl CatalogObject for Constraint {
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

    fn aliases(&self) -> Vec<Address> {
        vec![self.index.address]
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        let target = sql!("INDEX {}", self.index.sql());
        vec![(self.index.address, 0, target)]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = sql::identifier(&self.identity.name);
        let table = self.relation.sql();
        let mut create = sql!(
            "ALTER TABLE ONLY {}\n    ADD CONSTRAINT {} {};\n",
            table,
            name,
            self.definition
        );
        create.extend_from_slice(&self.index.alterations(&self.relation));
        let mut definition = Definition::new(
            "CONSTRAINT",
            Section::PostData,
            self.relation.tag(&self.identity.name),
            create,
        );
        definition.relation = Some(self.relation.name.clone());
        definition.tablespace = self.index.tablespace.clone();
        definition.comment_target = Some(sql!("CONSTRAINT {} ON {}", name, table));
        definition.drop = if self.is_inherited {
            Drop::None
        } else {
            self.relation.drop_constraint("ONLY ", &self.identity.name)
        };
        Ok(Some(definition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_before_deferrability() {
        let options = [BString::from("fillfactor=70")];
        assert_eq!(
            with_options(
                &"UNIQUE (a) INCLUDE (b) DEFERRABLE INITIALLY DEFERRED".into(),
                &options,
                true,
                true
            ),
            "UNIQUE (a) INCLUDE (b) WITH (fillfactor='70') DEFERRABLE INITIALLY DEFERRED"
        );
        assert_eq!(
            with_options(&"PRIMARY KEY (a)".into(), &options, false, false),
            "PRIMARY KEY (a) WITH (fillfactor='70')"
        );
    }
}
