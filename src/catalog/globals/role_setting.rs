//! What ALTER ROLE ... SET has set, in all databases. What is set in one database belongs to that.

use bstr::ByteSlice;

use super::{Global, Reader, setting_value};
use crate::error::{Error, Result};
use crate::sql;

pub(super) async fn read(reader: &mut Reader<'_>) -> Result<Vec<Global>> {
    let rows = reader
        .query(
            "settings of roles",
            "SELECT r.rolname AS role, s.setconfig
             FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
             WHERE s.setdatabase = 0 AND (s.setrole = 0 OR r.oid IS NOT NULL)
             ORDER BY r.rolname COLLATE \"C\" NULLS FIRST",
        )
        .await?;
    let mut settings = Vec::new();
    for row in &rows {
        let role = row.optional_text("role")?;
        let whose = role.as_ref().map_or_else(|| "ALL".into(), sql::identifier);
        let mut create = bstr::BString::default();
        for setting in row.texts("setconfig")? {
            let (name, value) = setting.split_once_str("=").ok_or_else(|| {
                Error::new(format!(
                    "setting \"{setting}\" of role {whose} has no value"
                ))
            })?;
            create.extend_from_slice(&sql!(
                "ALTER ROLE {} SET {} TO {};\n",
                whose,
                sql::identifier(name),
                setting_value(name.as_bstr(), value.as_bstr())
            ));
        }
        settings.push(Global {
            descriptor: "ROLE SETTING",
            tag: whose,
            create,
            roles: role.into_iter().collect(),
            ..Global::default()
        });
    }
    Ok(settings)
}
