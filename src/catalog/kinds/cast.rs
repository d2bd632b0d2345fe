//! Casts.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::sql;

#[derive(Debug)]
pub struct Cast {
    /// Named `CAST (source AS target)`, which is SQL as it stands.
    identity: Identity,
    /// How, and whether on its own.
    clauses: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Cast>> {
    // a range type brings the cast to its multirange type along
    let rows = reader
        .query(
            "casts",
            "SELECT c.oid, 'CAST (' || format_type(c.castsource, NULL) || ' AS '
                           || format_type(c.casttarget, NULL) || ')' AS name,
                    c.castmethod, c.castcontext, n.nspname AS function_schema,
                    p.proname AS function,
                    array_to_string(ARRAY(SELECT format_type(a.type, NULL)
                                          FROM unnest(p.proargtypes)
                                               WITH ORDINALITY AS a (type, number)
                                          ORDER BY a.number), ', ') AS argument_types
             FROM pg_cast c
             LEFT JOIN pg_proc p ON p.oid = c.castfunc
             LEFT JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE c.oid >= 16384
               AND NOT EXISTS (SELECT FROM pg_range r
                               WHERE r.rngtypid = c.castsource AND r.rngmultitypid = c.casttarget)",
        )
        .await?;
    let mut casts = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::CAST, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let unknown = |column: &str, value: u8| {
            Error::new(format!(
                "unknown {column} '{}'",
                char::from(value).escape_default()
            ))
            .context(format!("reading {}", identity.name))
        };
        let how = match row.char("castmethod")? {
            b'b' => sql!("WITHOUT FUNCTION"),
            b'i' => sql!("WITH INOUT"),
            b'f' => sql!(
                "WITH FUNCTION {}({})",
                sql::qualified(row.bytes("function_schema")?, row.bytes("function")?),
                row.bytes("argument_types")?
            ),
            other => return Err(unknown("castmethod", other)),
        };
        let when = match row.char("castcontext")? {
            b'e' => "",
            b'a' => " AS ASSIGNMENT",
            b'i' => " AS IMPLICIT",
            other => return Err(unknown("castcontext", other)),
        };
        casts.push(Cast {
            clauses: sql!("{}{}", how, when),
            identity,
        });
    }
    Ok(casts)
}

impl CatalogObject for Cast {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = &self.identity.name;
        let mut definition = Definition::new(
            "CAST",
            Section::PreData,
            name.clone(),
            sql!("CREATE {} {};\n", name, self.clauses),
        )
        .target(name.clone());
        // a cast belongs to the database's types, to nobody
        definition.owner_target = None;
        Ok(Some(definition))
    }
}
