//! Foreign-data wrappers.

use bstr::BString;

use super::foreign_options;
use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ForeignDataWrapper {
    identity: Identity,
    /// ` HANDLER f VALIDATOR g`
    functions: BString,
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ForeignDataWrapper>> {
    let rows = reader
        .query(
            "foreign-data wrappers",
            "SELECT f.oid, f.fdwname AS name, pg_get_userbyid(f.fdwowner) AS owner,
                    f.fdwacl AS acl, acldefault('F', f.fdwowner) AS acldefault,
                    nullif(f.fdwhandler, 0)::regproc AS handler,
                    nullif(f.fdwvalidator, 0)::regproc AS validator,
                    coalesce(f.fdwoptions, '{}') AS options
             FROM pg_foreign_data_wrapper f",
        )
        .await?;
    let mut wrappers = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::FOREIGN_DATA_WRAPPER, row)?
            .owned(row)?
            .with_privileges(reader, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let mut functions = BString::default();
        for (word, column) in [("HANDLER", "handler"), ("VALIDATOR", "validator")] {
            if let Some(function) = row.optional(column)? {
                functions.extend_from_slice(&sql!(" {} {}", word, function));
            }
        }
        wrappers.push(ForeignDataWrapper {
            identity,
            functions,
            options: row.texts("options")?,
        });
    }
    Ok(wrappers)
}

impl CatalogObject for ForeignDataWrapper {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let target = sql!("FOREIGN DATA WRAPPER {}", name);
        let create = sql!(
            "CREATE {}{}{};\n",
            target,
            self.functions,
            foreign_options::clause(&self.options)
        );
        let definition = Definition::new(
            "FOREIGN DATA WRAPPER",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(target)
        .privileges("FOREIGN DATA WRAPPER", name);
        Ok(Some(definition))
    }
}
