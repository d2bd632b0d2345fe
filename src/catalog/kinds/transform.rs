//! Transforms: how values of a type go into a procedural language and back.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Transform {
    /// Named `FOR type LANGUAGE language`, which is SQL as it stands.
    identity: Identity,
    functions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Transform>> {
    let rows = reader
        .query(
            "transforms",
            "SELECT t.oid, '' AS name, format_type(t.trftype, NULL) AS type, l.lanname,
                    nullif(t.trffromsql, 0)::regprocedure AS from_sql,
                    nullif(t.trftosql, 0)::regprocedure AS to_sql
             FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang",
        )
        .await?;
    let mut transforms = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::TRANSFORM, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let language = sql::identifier(row.bytes("lanname")?);
        identity.name = sql!("FOR {} LANGUAGE {}", row.bytes("type")?, language);
        let mut functions = Vec::new();
        for (words, column) in [("FROM SQL", "from_sql"), ("TO SQL", "to_sql")] {
            if let Some(function) = row.optional(column)? {
                functions.push(sql!("{} WITH FUNCTION {}", words, function));
            }
        }
        transforms.push(Transform {
            identity,
            functions,
        });
    }
    Ok(transforms)
}

impl CatalogObject for Transform {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = &self.identity.name;
        let target = sql!("TRANSFORM {}", name);
        let create = sql!(
            "CREATE {} ({});\n",
            target,
            sql::join(&self.functions, ", ")
        );
        let mut definition =
            Definition::new("TRANSFORM", Section::PreData, target.clone(), create);
        definition.drop = Drop::Statement {
            plain: sql!("DROP {};\n", target),
            if_exists: sql!("DROP TRANSFORM IF EXISTS {};\n", name),
        };
        definition.comment_target = Some(target);
        Ok(Some(definition))
    }
}
