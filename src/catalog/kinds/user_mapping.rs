//! User mappings: as whom a role, or everybody, goes to a foreign server.

use bstr::BString;

use super::foreign_options;
use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct UserMapping {
    /// Named `FOR role SERVER server`, which is SQL as it stands.
    identity: Identity,
    tag: BString,
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<UserMapping>> {
    // pg_user_mapping itself is for superusers. The view shows no options to those who may not
    // see them (src/backend/catalog/system_views.sql), as if there were none.
    let rows = reader
        .query(
            "user mappings",
            "SELECT m.umid AS oid, '' AS name, pg_get_userbyid(s.srvowner) AS owner, m.srvname,
                    CASE WHEN m.umuser <> 0 THEN m.usename END AS role,
                    coalesce(m.umoptions, '{}') AS options,
                    m.umoptions IS NOT NULL
                    OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                    OR CASE WHEN m.umuser = 0 THEN pg_has_role(s.srvowner, 'USAGE')
                            ELSE m.usename = current_user
                                 AND (pg_has_role(s.srvowner, 'USAGE')
                                      OR has_server_privilege(s.oid, 'USAGE')) END AS visible
             FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid",
        )
        .await?;
    let mut mappings = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::USER_MAPPING, row)?.owned(row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let role = row.optional("role")?;
        let server = row.bytes("srvname")?;
        identity.name = sql!(
            "FOR {} SERVER {}",
            role.map_or_else(|| BString::from("PUBLIC"), sql::identifier),
            sql::identifier(server)
        );
        if !row.bool("visible")? {
            reader.warn(format!(
                "the options of user mapping {} are not in the archive: the role that takes the snapshot may not see them",
                identity.name
            ));
        }
        mappings.push(UserMapping {
            tag: sql!(
                "USER MAPPING {} SERVER {}",
                role.map_or("public".as_bytes(), |role| role.as_ref()),
                server
            ),
            identity,
            options: row.texts("options")?,
        });
    }
    Ok(mappings)
}

impl CatalogObject for UserMapping {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = &self.identity.name;
        let create = sql!(
            "CREATE USER MAPPING {}{};\n",
            name,
            foreign_options::clause(&self.options)
        );
        let mut definition =
            Definition::new("USER MAPPING", Section::PreData, self.tag.clone(), create);
        definition.drop = Drop::Statement {
            plain: sql!("DROP USER MAPPING {};\n", name),
            if_exists: sql!("DROP USER MAPPING IF EXISTS {};\n", name),
        };
        Ok(Some(definition))
    }
}
