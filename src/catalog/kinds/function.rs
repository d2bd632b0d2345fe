//! Functions, procedures and window functions.

use bstr::{BString, ByteSlice};

use super::relation::{depends_on_extensions, extensions_column};
use super::routines;
use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Function {
    identity: Identity,
    is_procedure: bool,
    /// Types of the input arguments.
    argument_types: BString,
    /// Arguments as DROP and ALTER take them.
    identity_arguments: BString,
    /// From the arguments' closing parenthesis on.
    clauses: BString,
    /// With names, modes and defaults.
    arguments: BString,
    /// It goes with these, though it is none of their members.
    extensions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Function>> {
    let columns = extensions_column("pg_proc", "p.oid");
    let wanted = reader.in_wanted_schemas();
    let query = routines::query(
        &format!(
            "{columns}, p.prokind, p.proretset, p.prosrc, p.probin, p.provolatile, p.proisstrict, p.prosecdef,
         p.proleakproof, p.proparallel, p.procost, p.prorows, p.proconfig, l.lanname,
         pg_get_function_result(p.oid) AS result,
         (p.prosqlbody IS NOT NULL AND {wanted}) AS has_body,
         CASE WHEN {wanted} THEN pg_get_function_sqlbody(p.oid) END AS body,
         nullif(p.prosupport::text, '-') AS support,
         array_to_string(ARRAY(SELECT 'FOR TYPE ' || format_type(a.type, NULL)
                               FROM unnest(p.protrftypes) WITH ORDINALITY AS a (type, number)
                               ORDER BY a.number), ', ') AS transforms"
        ),
        "JOIN pg_language l ON l.oid = p.prolang",
        // what the system made along with something else is that object's, as constructors of
        // range types are
        "p.prokind <> 'a'
         AND NOT EXISTS (SELECT FROM pg_depend d
                         WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                           AND d.deptype = 'i')",
    );
    let rows = reader.query("functions", &query).await?;
    let mut functions = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::PROC, row)?.with_privileges(reader, row)?;
        if reader.admit(&mut identity) {
            functions.push(Function {
                is_procedure: row.char("prokind")? == b'p',
                argument_types: row.text("argument_types")?,
                identity_arguments: row.text("identity_arguments")?,
                arguments: row.text("arguments")?,
                clauses: clauses(row).map_err(|error| {
                    error.context(format!("reading function {}", identity.sql()))
                })?,
                extensions: row.texts("extensions")?,
                identity,
            });
        }
    }
    Ok(functions)
}

/// All that follows the arguments in CREATE FUNCTION.
fn clauses(row: &Row) -> Result<BString> {
    let mut text = BString::default();
    let mut add = |piece: BString| text.extend_from_slice(&piece);
    let kind = row.char("prokind")?;
    if kind != b'p' {
        add(sql!(" RETURNS {}", row.bytes("result")?));
    }
    let language = row.bytes("lanname")?;
    add(sql!("\n    LANGUAGE {}", sql::identifier(language)));
    let transforms = row.bytes("transforms")?;
    if !transforms.is_empty() {
        add(sql!(" TRANSFORM {}", transforms));
    }
    if kind == b'w' {
        add(sql!(" WINDOW"));
    }
    match row.char("provolatile")? {
        b'i' => add(sql!(" IMMUTABLE")),
        b's' => add(sql!(" STABLE")),
        b'v' => {}
        other => return Err(unknown("provolatile", other)),
    }
    for (column, clause) in [
        ("proisstrict", " STRICT"),
        ("prosecdef", " SECURITY DEFINER"),
        ("proleakproof", " LEAKPROOF"),
    ] {
        if row.bool(column)? {
            add(BString::from(clause));
        }
    }
    // defaults as in functioncmds.c; procedures take neither clause, and have the defaults
    let compiled = language == "internal" || language == "c";
    let default_cost = if compiled { "1" } else { "100" };
    let cost = row.bytes("procost")?;
    if cost != default_cost && cost != "0" {
        add(sql!(" COST {}", cost));
    }
    let rows = row.bytes("prorows")?;
    if row.bool("proretset")? && rows != "1000" && rows != "0" {
        add(sql!(" ROWS {}", rows));
    }
    if let Some(support) = row.optional("support")? {
        add(sql!(" SUPPORT {}", support));
    }
    match row.char("proparallel")? {
        b's' => add(sql!(" PARALLEL SAFE")),
        b'r' => add(sql!(" PARALLEL RESTRICTED")),
        b'u' => {}
        other => return Err(unknown("proparallel", other)),
    }
    for setting in row.texts("proconfig")? {
        if let Some((name, value)) = setting.split_once_str("=") {
            add(sql!(
                "\n    SET {} TO {}",
                sql::identifier(name),
                routines::setting_value(name.as_bstr(), value.as_bstr())
            ));
        }
    }
    let source = row.bytes("prosrc")?;
    match row.optional("probin")? {
        // NULL were it dropped meanwhile
        _ if row.bool("has_body")? => add(sql!("\n    {}", row.bytes("body")?)),
        Some(object) if !object.is_empty() => {
            add(sql!("\n    AS {}, {}", sql::literal(object), sql::literal(source)));
        }
        _ => add(sql!("\n    AS {}", sql::dollar_quoted(source))),
    }
    Ok(text)
}

fn unknown(column: &str, value: u8) -> Error {
    Error::new(format!(
        "unknown {column} '{}'",
        char::from(value).escape_default()
    ))
}

impl Function {
    fn keyword(&self) -> &'static str {
        if self.is_procedure {
            "PROCEDURE"
        } else {
            "FUNCTION"
        }
    }
}

impl CatalogObject for Function {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.argument_types.clone()
    }

    /// The body of a function in SQL may need a primary key, as GROUP BY does.
    fn may_be_postponed(&self) -> bool {
        true
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let signature = sql!("{}({})", name, self.identity_arguments);
        let mut create = sql!(
            "CREATE {} {}({}){};\n",
            self.keyword(),
            name,
            self.arguments,
            self.clauses
        );
        create.extend_from_slice(&depends_on_extensions(
            &sql!("{} {}", self.keyword(), signature),
            &self.extensions,
        ));
        let definition = Definition::new(
            self.keyword(),
            context.section(self.identity.address, Section::PreData),
            sql!("{}({})", self.identity.name, self.argument_types),
            create,
        )
        .target(sql!("{} {}", self.keyword(), signature))
        .privileges(self.keyword(), signature);
        Ok(Some(definition))
    }
}
