//! Tablespaces: where they are, their options, owners, privileges and comments.

use bstr::{BString, ByteSlice};

use super::{Global, Reader};
use crate::error::{Error, Result};
use crate::sql;
use crate::sql::privileges::{PrivilegeTargetSql, statements};

pub(super) async fn read(reader: &mut Reader<'_>) -> Result<Vec<Global>> {
    let rows = reader
        .query(
            "tablespaces",
            "SELECT t.spcname AS name, pg_get_userbyid(t.spcowner) AS owner,
                    pg_tablespace_location(t.oid) AS location, coalesce(t.spcoptions, '{}') AS options,
                    coalesce(t.spcacl, acldefault('t', t.spcowner)) AS acl,
                    acldefault('t', t.spcowner) AS acldefault, d.description AS comment
             FROM pg_tablespace t
             LEFT JOIN pg_shdescription d
                    ON d.objoid = t.oid AND d.classoid = 'pg_tablespace'::regclass
             WHERE t.spcname !~ '^pg_'
             ORDER BY t.spcname COLLATE \"C\"",
        )
        .await?;
    let mut tablespaces = Vec::new();
    for row in &rows {
        let tag = row.text("name")?;
        let name = sql::identifier(&tag);
        let owner = row.text("owner")?;
        let mut create = sql!(
            "CREATE TABLESPACE {} LOCATION {};\n",
            name,
            sql::literal(location(row.bytes("location")?))
        );
        let mut options = Vec::new();
        for option in row.texts("options")? {
            let (option, value) = option.split_once_str("=").ok_or_else(|| {
                Error::new(format!(
                    "option \"{option}\" of tablespace {name} has no value"
                ))
            })?;
            options.push(sql!(
                "{} = {}",
                sql::identifier(option),
                sql::literal(value)
            ));
        }
        if !options.is_empty() {
            let options = sql::join(options, ", ");
            create.extend_from_slice(&sql!("ALTER TABLESPACE {} SET ({});\n", name, options));
        }
        let target = PrivilegeTargetSql {
            object_type: "TABLESPACE",
            name: name.as_bstr(),
            column: None,
        };
        let privileges = statements(
            &target,
            row.bytes("acl")?,
            row.bytes("acldefault")?,
            owner.as_bstr(),
        )?;
        let target = sql!("TABLESPACE {}", name);
        let comment = row.optional_text("comment")?;
        tablespaces.push(Global {
            descriptor: "TABLESPACE",
            tag: tag.clone(),
            roles: vec![owner.clone()],
            owner: Some(owner),
            owner_target: Some(target.clone()),
            create,
            comment: comment.map(|text| (target.clone(), text)),
            privileges: Some((target, privileges)),
        });
    }
    Ok(tablespaces)
}

/// One within the server's own folder (`allow_in_place_tablespaces`) has a path that is not
/// absolute, and is made by naming none.
fn location(path: &[u8]) -> BString {
    match path.first() {
        Some(b'/') => path.into(),
        _ => BString::default(),
    }
}
