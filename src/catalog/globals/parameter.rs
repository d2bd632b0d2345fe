//! Privileges on configuration parameters, which PostgreSQL has since 15.

use bstr::ByteSlice;

use super::{Global, Reader};
use crate::error::Result;
use crate::sql;
use crate::sql::privileges::{PrivilegeTargetSql, statements};

pub(super) async fn read(reader: &mut Reader<'_>) -> Result<Vec<Global>> {
    if !reader.server.at_least(15) {
        return Ok(Vec::new());
    }
    let rows = reader
        .query(
            "privileges on parameters",
            "SELECT p.parname AS name, p.paracl AS acl, acldefault('p', 10) AS acldefault,
                    pg_get_userbyid(10) AS owner
             FROM pg_parameter_acl p ORDER BY p.parname COLLATE \"C\"",
        )
        .await?;
    let mut parameters = Vec::new();
    for row in &rows {
        // a name of an extension has a point between its parts, each of which may need quotes
        let name = sql::join(row.bytes("name")?.split_str(".").map(sql::identifier), ".");
        let target = PrivilegeTargetSql {
            object_type: "PARAMETER",
            name: name.as_bstr(),
            column: None,
        };
        let create = statements(
            &target,
            row.bytes("acl")?,
            row.bytes("acldefault")?,
            row.bytes("owner")?,
        )?;
        parameters.push(Global {
            privileges: Some((sql!("PARAMETER {}", name), create)),
            ..Global::default()
        });
    }
    Ok(parameters)
}
