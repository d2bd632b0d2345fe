//! Operators.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Operator {
    identity: Identity,
    /// `integer, integer`; NONE on the left of a prefix operator.
    operands: BString,
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Operator>> {
    // those without a function are placeholders for a commutator or negator that was never made
    let rows = reader
        .query(
            "operators",
            &format!(
                "SELECT o.oid, o.oprname AS name, n.nspname AS schema,
                        pg_get_userbyid(o.oprowner) AS owner, o.oprcode,
                        CASE WHEN o.oprleft <> 0 THEN format_type(o.oprleft, NULL) END AS left,
                        format_type(o.oprright, NULL) AS right,
                        c.oprname AS commutator, cn.nspname AS commutator_schema,
                        g.oprname AS negator, gn.nspname AS negator_schema,
                        o.oprcanmerge, o.oprcanhash,
                        nullif(o.oprrest::text, '-') AS oprrest,
                        nullif(o.oprjoin::text, '-') AS oprjoin
                 FROM pg_operator o
                 JOIN pg_namespace n ON n.oid = o.oprnamespace
                 LEFT JOIN pg_operator c ON c.oid = o.oprcom
                 LEFT JOIN pg_namespace cn ON cn.oid = c.oprnamespace
                 LEFT JOIN pg_operator g ON g.oid = o.oprnegate
                 LEFT JOIN pg_namespace gn ON gn.oid = g.oprnamespace
                 WHERE o.oprcode <> 0 AND {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut operators = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::OPERATOR, row)?;
        if reader.admit(&mut identity) {
            let left = row.optional_text("left")?;
            operators.push(Operator {
                identity,
                operands: sql!(
                    "{}, {}",
                    left.unwrap_or_else(|| BString::from("NONE")),
                    row.bytes("right")?
                ),
                options: options(row)?,
            });
        }
    }
    Ok(operators)
}

fn options(row: &Row) -> Result<Vec<BString>> {
    let mut options = vec![sql!("FUNCTION = {}", row.bytes("oprcode")?)];
    if let Some(left) = row.optional("left")? {
        options.push(sql!("LEFTARG = {}", left));
    }
    options.push(sql!("RIGHTARG = {}", row.bytes("right")?));
    for (word, name, schema) in [
        ("COMMUTATOR", "commutator", "commutator_schema"),
        ("NEGATOR", "negator", "negator_schema"),
    ] {
        if let Some(name) = row.optional(name)? {
            let schema = sql::identifier(row.bytes(schema)?);
            options.push(sql!("{} = OPERATOR({}.{})", word, schema, name));
        }
    }
    for (word, column) in [("MERGES", "oprcanmerge"), ("HASHES", "oprcanhash")] {
        if row.bool(column)? {
            options.push(BString::from(word));
        }
    }
    for (word, column) in [("RESTRICT", "oprrest"), ("JOIN", "oprjoin")] {
        if let Some(function) = row.optional(column)? {
            options.push(sql!("{} = {}", word, function));
        }
    }
    Ok(options)
}

impl CatalogObject for Operator {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.operands.clone()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        // the name of an operator is never quoted
        let name = match &self.identity.schema {
            Some(schema) => sql!("{}.{}", sql::identifier(schema), self.identity.name),
            None => self.identity.name.clone(),
        };
        let options = self.options.iter().map(|option| sql!("\n    {}", option));
        let create = sql!(
            "CREATE OPERATOR {} ({}\n);\n",
            name,
            sql::join(options, ",")
        );
        let definition = Definition::new(
            "OPERATOR",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("OPERATOR {} ({})", name, self.operands));
        Ok(Some(definition))
    }
}
