//! Access methods of tables and indexes.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::sql;

#[derive(Debug)]
pub struct AccessMethod {
    identity: Identity,
    type_name: &'static str,
    handler: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<AccessMethod>> {
    let rows = reader
        .query(
            "access methods",
            "SELECT a.oid, a.amname AS name, a.amtype, a.amhandler FROM pg_am a",
        )
        .await?;
    let mut methods = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::ACCESS_METHOD, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let type_name = match row.char("amtype")? {
            b'i' => "INDEX",
            b't' => "TABLE",
            other => {
                return Err(Error::new(format!(
                    "access method {} has the unknown amtype '{}'",
                    identity.sql(),
                    char::from(other).escape_default()
                )));
            }
        };
        methods.push(AccessMethod {
            identity,
            type_name,
            handler: row.text("amhandler")?,
        });
    }
    Ok(methods)
}

impl CatalogObject for AccessMethod {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let create = sql!(
            "CREATE ACCESS METHOD {} TYPE {} HANDLER {};\n",
            name,
            self.type_name,
            self.handler
        );
        let mut definition = Definition::new(
            "ACCESS METHOD",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("ACCESS METHOD {}", name));
        definition.owner_target = None;
        Ok(Some(definition))
    }
}
