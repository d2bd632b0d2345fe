//! Defaults of columns: within CREATE TABLE where that can be, else added by ALTER TABLE.
//!
//! Always apart are those of views and of columns that are inherited only. Others are put apart
//! where a loop forbids their place: a serial column's default needs the sequence, which is owned
//! by the column. Generation expressions are no objects: there is no other place for them.

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ColumnDefault {
    identity: Identity,
    relation: Relation,
    expression: BString,
    may_be_inline: bool,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ColumnDefault>> {
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "column defaults",
            &format!(
                "SELECT d.oid, a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS expression,
                        c.relkind <> 'v' AND (a.attislocal OR c.relispartition) AS may_be_inline,
                        {OWNER_COLUMNS}
                 FROM pg_attrdef d
                 JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                 JOIN pg_class c ON c.oid = d.adrelid
                 {OWNER_JOINS}
                 WHERE a.attgenerated = '' AND NOT a.attisdropped AND {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let mut defaults = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        if reader.has_relation(relation.oid) {
            defaults.push(ColumnDefault {
                identity: Identity::in_schema(class::ATTRDEF, row)?,
                relation,
                expression: row.text("expression")?,
                may_be_inline: row.bool("may_be_inline")?,
            });
        }
    }
    Ok(defaults)
}

impl CatalogObject for ColumnDefault {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.relation.name.clone()
    }

    fn inline_in(&self) -> Option<Address> {
        self.may_be_inline.then(|| self.relation.address())
    }

    fn separate_section(&self) -> Section {
        Section::PreData
    }

    /// COPY needs no defaults: one may call a function that itself comes after the data.
    fn may_be_postponed(&self) -> bool {
        true
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        if self.may_be_inline && !context.is_separate(self.identity.address) {
            return Ok(None);
        }
        let table = self.relation.sql();
        let column = sql::identifier(&self.identity.name);
        let mut definition = Definition::new(
            "DEFAULT",
            context.section(self.identity.address, Section::PreData),
            self.relation.tag(&self.identity.name),
            sql!(
                "ALTER TABLE ONLY {} ALTER COLUMN {} SET DEFAULT {};\n",
                table,
                column,
                self.expression
            ),
        );
        definition.relation = Some(self.relation.name.clone());
        let drop = |if_exists: &str| {
            sql!(
                "ALTER TABLE {}{} ALTER COLUMN {} DROP DEFAULT;\n",
                if_exists,
                table,
                column
            )
        };
        definition.drop = Drop::Statement {
            plain: drop(""),
            if_exists: drop("IF EXISTS "),
        };
        Ok(Some(definition))
    }
}
