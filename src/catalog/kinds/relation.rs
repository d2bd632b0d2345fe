//! What the kinds of relations, and the kinds of objects that belong to a relation, share.

use std::collections::HashMap;

use bstr::{BString, ByteSlice};

use crate::catalog::filter::FIRST_NORMAL_OID;
use crate::catalog::object::{Address, ColumnAcl, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::{Oid, Row};
use crate::sql;

/// Joins that lead from a relation's OID to the columns of `OWNER_COLUMNS`; follows a FROM item
/// and is completed by the condition on `c.oid`.
pub(super) const OWNER_JOINS: &str =
    "JOIN pg_namespace n ON n.oid = c.relnamespace AND c.relpersistence <> 't'";

/// What `Relation::from_row` and `Identity::in_schema` read of the relation `c` that an object
/// belongs to.
pub(super) const OWNER_COLUMNS: &str = "c.oid AS relation_oid, c.relname AS relation_name,
     c.relkind, n.nspname AS schema, pg_get_userbyid(c.relowner) AS owner";

/// The relation that a constraint, index, trigger or the like belongs to.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub oid: Oid,
    pub schema: BString,
    pub name: BString,
    pub kind: u8,
}

impl Relation {
    pub fn from_row(row: &Row) -> Result<Relation> {
        Ok(Relation {
            oid: row.number("relation_oid")?,
            schema: row.text("schema")?,
            name: row.text("relation_name")?,
            kind: row.char("relkind")?,
        })
    }

    pub fn address(&self) -> Address {
        Address::relation(self.oid)
    }

    pub fn sql(&self) -> BString {
        sql::qualified(&self.schema, &self.name)
    }

    pub fn is_partitioned(&self) -> bool {
        self.kind == b'p'
    }

    /// A definition's tag and relation: "orders orders_pkey".
    pub fn tag(&self, name: &BString) -> BString {
        sql!("{} {}", self.name, name)
    }

    /// `ALTER TABLE ... DROP CONSTRAINT`, with "ONLY " or nothing.
    pub fn drop_constraint(&self, only: &str, name: &BString) -> Drop {
        let (table, name) = (self.sql(), sql::identifier(name));
        Drop::Statement {
            plain: sql!("ALTER TABLE {}{} DROP CONSTRAINT {};\n", only, table, name),
            if_exists: sql!(
                "ALTER TABLE IF EXISTS {}{} DROP CONSTRAINT IF EXISTS {};\n",
                only,
                table,
                name
            ),
        }
    }

    /// Drop and comment target of what is named `TRIGGER x ON table`.
    pub fn target(&self, mut definition: Definition, kind: &str, name: &BString) -> Definition {
        let target = sql!("{} {} ON {}", kind, sql::identifier(name), self.sql());
        definition.relation = Some(self.name.clone());
        definition.drop = Drop::Object(target.clone());
        definition.comment_target = Some(target);
        definition
    }
}

/// The query for relations `c` of the given kinds (`'r', 'p'`), with `columns` and `joins` beside
/// the usual. System relations come along where their ACL is not as initdb left it.
pub(super) fn query(columns: &str, joins: &str, kinds: &str) -> String {
    format!(
        "SELECT c.oid, c.relname AS name, n.nspname AS schema,
                pg_get_userbyid(c.relowner) AS owner, c.relacl AS acl,
                acldefault((CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\", c.relowner)
                    AS acldefault,
                c.relkind, c.relpersistence, c.reloptions, c.reltoastrelid,
                c.reltype, coalesce(rt.typarray, 0) AS typarray,
                CASE WHEN c.reltablespace <> 0
                     THEN (SELECT s.spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace)
                     END AS tablespace,
                {columns}
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_type rt ON rt.oid = c.reltype
         LEFT JOIN pg_init_privs i
           ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0
         {joins}
         WHERE c.relkind IN ({kinds}) AND c.relpersistence <> 't'
           AND (({USER_SCHEMAS})
                OR (n.nspname = 'pg_catalog'
                    AND (c.relacl IS DISTINCT FROM i.initprivs
                         OR c.oid IN (SELECT a.attrelid FROM pg_attribute a
                                      LEFT JOIN pg_init_privs ai
                                        ON ai.classoid = 'pg_class'::regclass
                                       AND ai.objoid = a.attrelid AND ai.objsubid = a.attnum
                                      WHERE a.attrelid < {FIRST_NORMAL_OID}
                                        AND a.attacl IS DISTINCT FROM ai.initprivs))))"
    )
}

/// Column ACLs of relations of the given kinds that are not what an extension or initdb set.
pub(super) async fn column_acls(
    reader: &mut Reader<'_>,
    kinds: &str,
) -> Result<HashMap<Oid, Vec<ColumnAcl>>> {
    let rows = reader
        .query(
            "privileges on columns",
            &format!(
                "SELECT a.attrelid, a.attname, coalesce(a.attacl, '{{}}') AS acl,
                        coalesce(i.initprivs, '{{}}') AS fresh
                 FROM pg_attribute a
                 JOIN pg_class c ON c.oid = a.attrelid
                 LEFT JOIN pg_init_privs i
                   ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid
                  AND i.objsubid = a.attnum
                 WHERE a.attacl IS DISTINCT FROM i.initprivs AND NOT a.attisdropped
                   AND c.relkind IN ({kinds})
                   -- the same for most columns: neither
                   AND (a.attacl IS NOT NULL
                        OR a.attrelid IN (SELECT p.objoid FROM pg_init_privs p
                                          WHERE p.classoid = 'pg_class'::regclass
                                            AND p.objsubid <> 0))
                 ORDER BY a.attrelid, a.attnum"
            ),
        )
        .await?;
    let mut acls: HashMap<Oid, Vec<ColumnAcl>> = HashMap::new();
    for row in &rows {
        acls.entry(row.number("attrelid")?)
            .or_default()
            .push(ColumnAcl {
                column: row.text("attname")?,
                acl: reader.without_gone_roles(row.text("acl")?)?,
                fresh: reader.without_gone_roles(row.text("fresh")?)?,
            });
    }
    Ok(acls)
}

/// A relation's identity, if it is wanted: for itself, or for its own or its columns' privileges.
/// Relations that we define are made known to the kinds that belong to them.
pub(super) fn identity(
    reader: &mut Reader<'_>,
    row: &Row,
    column_acls: &[ColumnAcl],
) -> Result<Option<Identity>> {
    let mut identity = Identity::in_schema(class::RELATION, row)?.with_privileges(reader, row)?;
    let is_admitted = reader.admit(&mut identity);
    let is_wanted = reader.wants(&identity);
    if !identity.privileges_only {
        reader.add_relation(identity.address.oid, is_wanted);
    }
    Ok((is_admitted || (is_wanted && !column_acls.is_empty())).then_some(identity))
}

/// By what else pg_depend means a relation: its row type, the array of that, its TOAST table.
pub(super) fn aliases(row: &Row) -> Result<Vec<Address>> {
    let mut aliases = Vec::new();
    for (class, column) in [
        (class::TYPE, "reltype"),
        (class::TYPE, "typarray"),
        (class::RELATION, "reltoastrelid"),
    ] {
        let oid: Oid = row.number(column)?;
        if oid != 0 {
            aliases.push(Address::new(class, oid));
        }
    }
    Ok(aliases)
}

/// The privileges of a relation and its columns, on a definition.
pub(super) fn privileges(
    definition: Definition,
    object_type: &'static str,
    identity: &Identity,
    columns: &[ColumnAcl],
) -> Definition {
    let mut definition = definition.privileges(object_type, identity.sql());
    if let Some(target) = &mut definition.privileges {
        target.columns = columns.to_vec();
    }
    definition
}

/// `name=value, ...` of a reloptions array, each name behind `prefix`. Values that are no plain
/// identifier are quoted, since an extension's option may hold anything.
pub(super) fn options<'a>(
    options: impl IntoIterator<Item = &'a BString>,
    prefix: &str,
) -> Vec<BString> {
    options
        .into_iter()
        .map(|option| {
            let (name, value) = match option.find_byte(b'=') {
                Some(at) => (&option[..at], &option[at + 1..]),
                None => (option.as_slice(), &b""[..]),
            };
            let bare = sql::identifier(value);
            let value = if bare == value {
                bare
            } else {
                sql::literal(value)
            };
            sql!("{}{}={}", prefix, sql::identifier(name), value)
        })
        .collect()
}

/// A column of a query: names of extensions that the object `oid` of `catalog` was made to
/// depend on by ALTER ... DEPENDS ON EXTENSION.
pub(super) fn extensions_column(catalog: &str, oid: &str) -> String {
    format!(
        // few have any: whether one does is looked up in a list that is made once
        "CASE WHEN {oid} IN (SELECT own.objid FROM pg_depend own
                             WHERE own.classid = '{catalog}'::regclass
                               AND own.refclassid = 'pg_extension'::regclass
                               AND own.deptype = 'x')
              THEN ARRAY(SELECT e.extname
                         FROM pg_depend own JOIN pg_extension e ON e.oid = own.refobjid
                         WHERE own.classid = '{catalog}'::regclass AND own.objid = {oid}
                           AND own.refclassid = 'pg_extension'::regclass AND own.deptype = 'x'
                         ORDER BY e.extname)
              ELSE '{{}}' END AS extensions"
    )
}

/// `ALTER <target> DEPENDS ON EXTENSION` for each.
pub(super) fn depends_on_extensions(target: &BString, extensions: &[BString]) -> BString {
    sql::join(
        extensions.iter().map(|extension| {
            sql!(
                "ALTER {} DEPENDS ON EXTENSION {};\n",
                target,
                sql::identifier(extension)
            )
        }),
        "",
    )
}

/// ENABLE and DISABLE of triggers and rules; None where it is as it is created.
pub(super) fn enabled_clause(enabled: u8) -> Option<&'static str> {
    match enabled {
        b'D' => Some("DISABLE"),
        b'A' => Some("ENABLE ALWAYS"),
        b'R' => Some("ENABLE REPLICA"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_values_are_quoted_where_they_must_be() {
        let list = [
            BString::from("fillfactor=70"),
            BString::from("autovacuum_enabled=false"),
            BString::from("note=it's"),
            BString::from("buffering=auto"),
            BString::from("bare"),
        ];
        assert_eq!(
            sql::join(options(&list, "toast."), ", "),
            "toast.fillfactor='70', toast.autovacuum_enabled='false', toast.note='it''s', \
             toast.buffering=auto, toast.bare=''"
        );
    }
}
