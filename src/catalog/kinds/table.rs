//! Tables, partitioned tables and foreign tables.
//!
//! Partitions are created on their own and attached afterwards (`table_attach`), so that each may
//! have columns in another order and a tablespace of its own. What inheritance brings is left out:
//! inherited columns and CHECK constraints, generation expressions, not-null constraints.
//! The rules are those of dumpTableSchema and flagInhAttrs (src/bin/pg_dump).

use std::collections::{HashMap, HashSet};

use bstr::BString;

use super::check_constraint::{self, InlineCheck};
use super::column::{self, Column, NotNull};
use super::{extension_data, foreign_options, relation};
use crate::archive::Section;
use crate::catalog::object::{ColumnAcl, Address, CatalogObject, Defining, Definition, Identity};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::{Oid, Row};
use crate::sql;

#[derive(Debug)]
pub struct Table {
    identity: Identity,
    aliases: Vec<Address>,
    kind: u8,
    persistence: u8,
    columns: Vec<TableColumn>,
    described: Vec<Column>,
    checks: Vec<InlineCheck>,
    column_acls: Vec<ColumnAcl>,
    /// Parents as SQL, for INHERITS. Empty for partitions.
    parents: Vec<BString>,
    is_partition: bool,
    partition_key: Option<BString>,
    of_type: Option<BString>,
    options: Vec<BString>,
    replica_identity: u8,
    force_row_security: bool,
    tablespace: Option<BString>,
    access_method: Option<BString>,
    foreign: Option<Foreign>,
}

/// Where a foreign table's rows are.
#[derive(Debug)]
struct Foreign {
    server: BString,
    options: Vec<BString>,
}

/// What of a column stands in this table's own statement.
#[derive(Debug)]
struct TableColumn {
    /// Declared here; else inherited.
    is_declared: bool,
    default: ColumnDefault,
    /// The clause, or empty: ` CONSTRAINT x NOT NULL`.
    not_null: BString,
    no_inherit: bool,
    /// Undo what a parent's column brings along.
    unlike_parents: Vec<String>,
}

#[derive(Debug)]
enum ColumnDefault {
    None,
    /// Unless the sort put the object apart.
    Default(Address, BString),
    /// A parent has a default and this table has none.
    Null,
    Generated(BString),
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Table>> {
    let mut columns = column::read(reader, "'r', 'p', 'f'").await?;
    let mut acls = relation::column_acls(reader, "'r', 'p', 'f'").await?;
    let mut checks = check_constraint::read_inline(reader).await?;
    let mut parents = read_parents(reader).await?;
    let configuration: HashSet<Oid> = extension_data::read(reader).await?.into_keys().collect();

    let wanted = reader.of_wanted();
    let columns_of_tables = format!(
        "c.relispartition, c.relreplident, c.relforcerowsecurity, am.amname,
         tc.reloptions AS toast_options,
         CASE WHEN c.relkind = 'p' AND {wanted} THEN pg_get_partkeydef(c.oid) END AS partition_key,
         CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS of_type,
         fs.srvname AS foreign_server, coalesce(ft.ftoptions, '{{}}') AS foreign_options"
    );
    let query = relation::query(
        &columns_of_tables,
        "LEFT JOIN pg_am am ON am.oid = c.relam
         LEFT JOIN pg_class tc ON tc.oid = c.reltoastrelid
         LEFT JOIN pg_foreign_table ft ON ft.ftrelid = c.oid
         LEFT JOIN pg_foreign_server fs ON fs.oid = ft.ftserver",
        "'r', 'p', 'f'",
    );
    let rows = reader.query("tables", &query).await?;

    // children look at their parents' columns, so all are settled before any is taken
    let mut settled: HashMap<Oid, Vec<TableColumn>> = HashMap::new();
    for row in &rows {
        let oid = row.number("oid")?;
        let own = columns.get(&oid).map_or(&[][..], Vec::as_slice);
        let parents: Vec<&[Column]> = parents
            .get(&oid)
            .into_iter()
            .flatten()
            .map(|parent| columns.get(&parent.oid).map_or(&[][..], Vec::as_slice))
            .collect();
        let is_partition = row.bool("relispartition")?;
        let name = row.text("name")?;
        settled.insert(
            oid,
            own.iter()
                .map(|column| settle(&name, column, &parents, is_partition))
                .collect(),
        );
    }

    let mut tables = Vec::new();
    for row in &rows {
        let oid = row.number("oid")?;
        let column_acls = acls.remove(&oid).unwrap_or_default();
        let identity = match relation::identity(reader, row, &column_acls)? {
            Some(identity) => identity,
            // kept for its rows
            None if configuration.contains(&oid) => member(reader, row)?,
            None => continue,
        };
        let is_partition = row.bool("relispartition")?;
        let described = columns.remove(&oid).unwrap_or_default();
        let mut options = relation::options(&row.texts("reloptions")?, "");
        options.extend(relation::options(&row.texts("toast_options")?, "toast."));
        tables.push(Table {
            aliases: aliases(row, &described)?,
            kind: row.char("relkind")?,
            persistence: row.char("relpersistence")?,
            columns: settled.remove(&oid).unwrap_or_default(),
            described,
            checks: checks.remove(&oid).unwrap_or_default(),
            column_acls,
            parents: match parents.remove(&oid) {
                Some(parents) if !is_partition => {
                    parents.into_iter().map(|parent| parent.name).collect()
                }
                _ => Vec::new(),
            },
            is_partition,
            partition_key: row.optional_text("partition_key")?,
            of_type: row.optional_text("of_type")?,
            options,
            replica_identity: row.char("relreplident")?,
            force_row_security: row.bool("relforcerowsecurity")?,
            tablespace: row.optional_text("tablespace")?,
            access_method: row.optional_text("amname")?,
            foreign: match row.optional_text("foreign_server")? {
                Some(server) => Some(Foreign {
                    server,
                    options: row.texts("foreign_options")?,
                }),
                None => None,
            },
            identity,
        });
    }
    Ok(tables)
}

struct Parent {
    oid: Oid,
    /// As SQL.
    name: BString,
}

/// Parents by child, in the order of INHERITS.
async fn read_parents(reader: &mut Reader<'_>) -> Result<HashMap<Oid, Vec<Parent>>> {
    let rows = reader
        .query(
            "inheritance",
            "SELECT h.inhrelid, h.inhparent, n.nspname, c.relname
             FROM pg_inherits h
             JOIN pg_class c ON c.oid = h.inhparent
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'f')
             ORDER BY h.inhrelid, h.inhseqno",
        )
        .await?;
    let mut parents: HashMap<Oid, Vec<Parent>> = HashMap::new();
    for row in &rows {
        parents
            .entry(row.number("inhrelid")?)
            .or_default()
            .push(Parent {
                oid: row.number("inhparent")?,
                name: sql::qualified(row.bytes("nspname")?, row.bytes("relname")?),
            });
    }
    Ok(parents)
}

/// A member of an extension, with nothing of its own to restore.
fn member(reader: &Reader<'_>, row: &Row) -> Result<Identity> {
    let mut identity = Identity::in_schema(crate::catalog::class::RELATION, row)?.with_privileges(reader, row)?;
    reader.admit(&mut identity);
    if !reader.wants(&identity) {
        // its rows were asked for, not the extension
        identity.acl = None;
    }
    Ok(identity)
}

/// A generation expression cannot be taken out of the table's statement, and a valid not-null
/// constraint is not: what they need, the table needs.
fn aliases(row: &Row, columns: &[Column]) -> Result<Vec<Address>> {
    let mut aliases = relation::aliases(row)?;
    for column in columns {
        if column.generated != 0
            && let Some(default) = &column.default
        {
            aliases.push(default.address);
        }
        if let Some(NotNull {
            constraint: Some((address, _)),
            is_valid: true,
            ..
        }) = &column.not_null
        {
            aliases.push(*address);
        }
    }
    Ok(aliases)
}

/// Compares a column with those of the same name in the parents.
fn settle(table: &BString, column: &Column, parents: &[&[Column]], partition: bool) -> TableColumn {
    let inherited: Vec<&Column> = parents
        .iter()
        .filter_map(|columns| columns.iter().find(|parent| parent.name == column.name))
        .collect();
    let is_declared = column.is_local || partition;

    let default = match &column.default {
        Some(own) if column.generated != 0 => {
            let mut generated = inherited.iter().filter(|parent| parent.generated != 0);
            let same = |parent: &&&Column| {
                parent
                    .default
                    .as_ref()
                    .is_some_and(|theirs| theirs.expression == own.expression)
            };
            let comes_with_parent = !partition
                && generated.clone().next().is_some()
                && generated.all(|parent| same(&parent));
            if comes_with_parent {
                ColumnDefault::None
            } else {
                let kind = if column.generated == b's' {
                    " STORED"
                } else {
                    ""
                };
                ColumnDefault::Generated(sql!(
                    " GENERATED ALWAYS AS ({}){}",
                    own.expression,
                    kind
                ))
            }
        }
        Some(own) => ColumnDefault::Default(own.address, own.expression.clone()),
        None if inherited
            .iter()
            .any(|parent| parent.generated == 0 && parent.default.is_some()) =>
        {
            ColumnDefault::Null
        }
        None => ColumnDefault::None,
    };

    let no_inherit = column
        .not_null
        .as_ref()
        .is_some_and(|found| found.no_inherit);
    let not_null = match &column.not_null {
        Some(own) if own.is_valid => {
            let from_parent = inherited.iter().any(|parent| parent.has_valid_not_null());
            let is_local = match own.constraint {
                // servers before 18 do not say whose it is
                None => !from_parent,
                // a parent's that was never validated does not make this one valid
                Some(_) => own.is_local || (!parents.is_empty() && !from_parent),
            };
            if is_local || partition {
                not_null_clause(table, column, own, !parents.is_empty())
            } else {
                BString::default()
            }
        }
        _ => BString::default(),
    };
    TableColumn {
        is_declared,
        default,
        not_null,
        no_inherit,
        // a partition is made before it has a parent
        unlike_parents: match partition {
            true => Vec::new(),
            false => inherited
                .first()
                .map_or(Vec::new(), |parent| column.unlike_parent(parent)),
        },
    }
}

/// The name is left out where the server would choose the same.
fn not_null_clause(table: &BString, column: &Column, own: &NotNull, has_parents: bool) -> BString {
    match &own.constraint {
        Some((_, name))
            if has_parents || *name != sql!("{}_{}_not_null", table, column.name) =>
        {
            sql!(" CONSTRAINT {} NOT NULL", sql::identifier(name))
        }
        _ => BString::from(" NOT NULL"),
    }
}

impl Table {
    pub fn is_partitioned(&self) -> bool {
        self.kind == b'p'
    }

    /// What stands between the parentheses of CREATE TABLE.
    fn elements(&self, context: &Defining<'_>) -> Vec<BString> {
        let mut elements = Vec::new();
        for (column, own) in self.described.iter().zip(&self.columns) {
            let name = sql::identifier(&column.name);
            let no_inherit = if own.no_inherit && !own.not_null.is_empty() {
                " NO INHERIT"
            } else {
                ""
            };
            if !own.is_declared {
                // the constraint alone; servers before 18 have no such clause
                if !own.not_null.is_empty() && context.version.at_least(18) {
                    let clause = own.not_null.strip_prefix(b" ").unwrap_or(&own.not_null);
                    elements.push(sql!("{} {}{}", clause, name, no_inherit));
                }
                continue;
            }
            let default = match &own.default {
                ColumnDefault::Default(address, expression) if !context.is_separate(*address) => {
                    sql!(" DEFAULT {}", expression)
                }
                ColumnDefault::Null => BString::from(" DEFAULT NULL"),
                ColumnDefault::Generated(clause) => clause.clone(),
                _ => BString::default(),
            };
            if self.of_type.is_none() {
                elements.push(sql!(
                    "{} {}{}{}{}{}",
                    name,
                    column.type_name,
                    column.collate,
                    default,
                    own.not_null,
                    no_inherit
                ));
            } else if !default.is_empty() || !own.not_null.is_empty() {
                elements.push(sql!("{}{}{}{}", name, default, own.not_null, no_inherit));
            }
        }
        for check in &self.checks {
            if (check.is_local || self.is_partition) && !context.is_separate(check.address) {
                elements.push(sql!(
                    "CONSTRAINT {} {}",
                    sql::identifier(&check.name),
                    check.definition
                ));
            }
        }
        elements
    }

    fn alterations(&self, context: &Defining<'_>) -> BString {
        let name = self.identity.sql();
        let mut text = BString::default();
        for (column, own) in self.described.iter().zip(&self.columns) {
            let mut change = |clause: &str| {
                text.extend_from_slice(&sql!(
                    "ALTER TABLE ONLY {} ALTER COLUMN {} {};\n",
                    name,
                    sql::identifier(&column.name),
                    clause
                ));
            };
            for clause in &own.unlike_parents {
                change(clause);
            }
            if own.is_declared {
                continue;
            }
            if matches!(own.default, ColumnDefault::Null) {
                change("SET DEFAULT NULL");
            }
            if !own.not_null.is_empty() && !context.version.at_least(18) {
                change("SET NOT NULL");
            }
        }
        text.extend_from_slice(&column::alterations(&name, &self.described));
        match self.replica_identity {
            // foreign tables have none
            _ if self.foreign.is_some() => {}
            b'n' => text.extend_from_slice(&sql!(
                "ALTER TABLE ONLY {} REPLICA IDENTITY NOTHING;\n",
                name
            )),
            b'f' => text.extend_from_slice(&sql!(
                "ALTER TABLE ONLY {} REPLICA IDENTITY FULL;\n",
                name
            )),
            // an index: said with the index
            _ => {}
        }
        if self.force_row_security {
            text.extend_from_slice(&sql!(
                "ALTER TABLE ONLY {} FORCE ROW LEVEL SECURITY;\n",
                name
            ));
        }
        // a partitioned table has no storage for default_table_access_method to apply to
        if let (true, Some(method)) = (self.is_partitioned(), &self.access_method) {
            text.extend_from_slice(&sql!(
                "ALTER TABLE {} SET ACCESS METHOD {};\n",
                name,
                sql::identifier(method)
            ));
        }
        text
    }
}

impl CatalogObject for Table {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        let name = self.identity.sql();
        let mut comments = column::comments(self.identity.address, &name, &self.described);
        let not_null = self.described.iter().filter_map(|column| {
            let own = column.not_null.as_ref().filter(|own| own.is_valid)?;
            own.constraint.as_ref()
        });
        let checks = self
            .checks
            .iter()
            .filter(|check| check.is_local)
            .map(|check| (check.address, &check.name));
        for (address, constraint) in not_null.map(|(a, n)| (*a, n)).chain(checks) {
            let constraint = sql::identifier(constraint);
            comments.push((address, 0, sql!("CONSTRAINT {} ON {}", constraint, name)));
        }
        comments
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        // PostgreSQL 18 refuses UNLOGGED for partitioned tables; it never had a meaning there
        let unlogged = if self.persistence == b'u' && !self.is_partitioned() {
            "UNLOGGED "
        } else {
            ""
        };
        let kind = match self.foreign {
            Some(_) => "FOREIGN TABLE",
            None => "TABLE",
        };
        let mut create = sql!("CREATE {}{} {}", unlogged, kind, name);
        if let Some(of_type) = &self.of_type {
            create.extend_from_slice(&sql!(" OF {}", of_type));
        }
        let elements = self.elements(context);
        if !elements.is_empty() {
            let list = sql::join(elements, ",\n    ");
            create.extend_from_slice(&sql!(" (\n    {}\n)", list));
        } else if self.of_type.is_none() {
            create.extend_from_slice(b" (\n)");
        }
        if !self.parents.is_empty() {
            let parents = sql::join(&self.parents, ", ");
            create.extend_from_slice(&sql!("\nINHERITS ({})", parents));
        }
        if let Some(key) = &self.partition_key {
            create.extend_from_slice(&sql!("\nPARTITION BY {}", key));
        }
        if let Some(foreign) = &self.foreign {
            create.extend_from_slice(&sql!(
                "\nSERVER {}{}",
                sql::identifier(&foreign.server),
                foreign_options::clause(&foreign.options)
            ));
        }
        if !self.options.is_empty() {
            create.extend_from_slice(&sql!("\nWITH ({})", sql::join(&self.options, ", ")));
        }
        create.extend_from_slice(b";\n");
        create.extend_from_slice(&self.alterations(context));

        let definition =
            Definition::new(kind, Section::PreData, self.identity.name.clone(), create)
                .target(sql!("{} {}", kind, name));
        let mut definition =
            relation::privileges(definition, "TABLE", &self.identity, &self.column_acls);
        definition.tablespace = self.tablespace.clone();
        if !self.is_partitioned() {
            definition.access_method = self.access_method.clone();
        }
        Ok(Some(definition))
    }
}
