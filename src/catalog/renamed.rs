//! The database of an archive under another name.

use bstr::BString;

use crate::archive::{Entry, Header};
use crate::sql;

/// Gives the database another name, and with it all that is set for it: its settings, those of roles in
/// it, comment and privileges.
pub fn rename_database(header: &mut Header, entries: &mut [Entry], new: &BString) {
    let old = std::mem::replace(&mut header.database, new.clone());
    let from = sql!("DATABASE {}", sql::identifier(&old));
    let to = sql!("DATABASE {}", sql::identifier(new));
    for entry in entries.iter_mut().filter(|entry| entry.is_of_database()) {
        let mut create = BString::default();
        for statement in sql::statements(&entry.create) {
            match sql::find_unquoted(statement, &from) {
                Some(at) => {
                    create.extend_from_slice(&statement[..at]);
                    create.extend_from_slice(&to);
                    create.extend_from_slice(&statement[at + from.len()..]);
                }
                None => create.extend_from_slice(statement),
            }
            create.push(b'\n');
        }
        entry.create = create;
        entry.owner_target = entry.owner_target.take().map(|_| to.clone());
        entry.name = match entry.name.strip_prefix(b"DATABASE ") {
            Some(_) => sql!("DATABASE {}", new),
            None => new.clone(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchiveId, EntryId, Section};

    #[test]
    fn a_new_name_is_that_of_all_that_is_set() {
        let mut header = Header::new(ArchiveId::random());
        header.database = "sh\"op".into();
        let entry = |id, kind: &str, name: &str| Entry {
            name: name.into(),
            ..Entry::new(EntryId(id), kind, Section::PreData)
        };
        let mut database = entry(1, "DATABASE", "sh\"op");
        database.create =
            "CREATE DATABASE \"sh\"\"op\" WITH TEMPLATE = template0 LOCALE = 'C';\n".into();
        database.owner_target = Some("DATABASE \"sh\"\"op\"".into());
        let mut properties = entry(2, "DATABASE PROPERTIES", "sh\"op");
        properties.create = "ALTER DATABASE \"sh\"\"op\" SET a TO 'DATABASE \"sh\"\"op\"';\n\
            ALTER ROLE \"IN DATABASE \"\"sh\" IN DATABASE \"sh\"\"op\" SET b TO 'c';\n"
            .into();
        let mut comment = entry(3, "COMMENT", "DATABASE sh\"op");
        comment.create = "COMMENT ON DATABASE \"sh\"\"op\" IS 'x';\n".into();
        let mut table = entry(4, "TABLE", "sh\"op");
        table.schema = Some("public".into());
        table.create = "COMMENT ON DATABASE \"sh\"\"op\" IS 'x';\n".into();
        let kept = table.clone();
        let mut entries = vec![database, properties, comment, table];
        rename_database(&mut header, &mut entries, &"new".into());
        assert_eq!(header.database, "new");
        let texts: Vec<String> = entries.iter().map(|e| e.create.to_string()).collect();
        assert_eq!(
            texts[0],
            "CREATE DATABASE new WITH TEMPLATE = template0 LOCALE = 'C';\n"
        );
        assert_eq!(
            texts[1],
            "ALTER DATABASE new SET a TO 'DATABASE \"sh\"\"op\"';\n\
             ALTER ROLE \"IN DATABASE \"\"sh\" IN DATABASE new SET b TO 'c';\n"
        );
        assert_eq!(texts[2], "COMMENT ON DATABASE new IS 'x';\n");
        assert_eq!(entries[2].name, "DATABASE new");
        assert_eq!(entries[0].owner_target, Some("DATABASE new".into()));
        assert_eq!(entries[3], kept);
    }
}
