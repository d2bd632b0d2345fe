//! Foreign servers.

use bstr::BString;

use super::foreign_options;
use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ForeignServer {
    identity: Identity,
    type_name: Option<BString>,
    version: Option<BString>,
    wrapper: BString,
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ForeignServer>> {
    let rows = reader
        .query(
            "foreign servers",
            "SELECT s.oid, s.srvname AS name, pg_get_userbyid(s.srvowner) AS owner,
                    s.srvacl AS acl, acldefault('S', s.srvowner) AS acldefault,
                    s.srvtype, s.srvversion, f.fdwname, coalesce(s.srvoptions, '{}') AS options
             FROM pg_foreign_server s JOIN pg_foreign_data_wrapper f ON f.oid = s.srvfdw",
        )
        .await?;
    let mut servers = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::FOREIGN_SERVER, row)?
            .owned(row)?
            .with_privileges(reader, row)?;
        if reader.admit(&mut identity) {
            servers.push(ForeignServer {
                identity,
                type_name: row.optional_text("srvtype")?,
                version: row.optional_text("srvversion")?,
                wrapper: row.text("fdwname")?,
                options: row.texts("options")?,
            });
        }
    }
    Ok(servers)
}

impl CatalogObject for ForeignServer {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let mut create = sql!("CREATE SERVER {}", name);
        for (word, value) in [("TYPE", &self.type_name), ("VERSION", &self.version)] {
            if let Some(value) = value {
                create.extend_from_slice(&sql!(" {} {}", word, sql::literal(value)));
            }
        }
        create.extend_from_slice(&sql!(
            " FOREIGN DATA WRAPPER {}{};\n",
            sql::identifier(&self.wrapper),
            foreign_options::clause(&self.options)
        ));
        let definition = Definition::new(
            "SERVER",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("SERVER {}", name))
        .privileges("FOREIGN SERVER", name);
        Ok(Some(definition))
    }
}
