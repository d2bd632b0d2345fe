//! Materialised views, always created empty: `refresh` fills them once all else stands.

use bstr::{BString, ByteSlice};

use super::column::{self, Column};
use super::relation;
use crate::archive::Section;
use crate::catalog::object::{ColumnAcl, Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct MaterializedView {
    identity: Identity,
    aliases: Vec<Address>,
    columns: Vec<Column>,
    column_acls: Vec<ColumnAcl>,
    options: Vec<BString>,
    query: BString,
    replica_identity: u8,
    tablespace: Option<BString>,
    access_method: Option<BString>,
    extensions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<MaterializedView>> {
    let mut columns = column::read(reader, "'m'").await?;
    let mut acls = relation::column_acls(reader, "'m'").await?;
    let query = relation::query(
        &format!(
            "CASE WHEN {} THEN pg_get_viewdef(c.oid) ELSE '' END AS definition, r.oid AS rule, am.amname, c.relreplident,
             tc.reloptions AS toast_options, {}",
            reader.of_wanted(),
            relation::extensions_column("pg_class", "c.oid")
        ),
        "JOIN pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1'
         LEFT JOIN pg_am am ON am.oid = c.relam
         LEFT JOIN pg_class tc ON tc.oid = c.reltoastrelid",
        "'m'",
    );
    let rows = reader.query("materialized views", &query).await?;
    let mut views = Vec::new();
    for row in &rows {
        let oid = row.number("oid")?;
        let column_acls = acls.remove(&oid).unwrap_or_default();
        let Some(identity) = relation::identity(reader, row, &column_acls)? else {
            continue;
        };
        let mut aliases = relation::aliases(row)?;
        aliases.push(Address::new(class::REWRITE, row.number("rule")?));
        let mut options = relation::options(&row.texts("reloptions")?, "");
        options.extend(relation::options(&row.texts("toast_options")?, "toast."));
        views.push(MaterializedView {
            identity,
            aliases,
            columns: columns.remove(&oid).unwrap_or_default(),
            column_acls,
            options,
            query: column::view_query(row.bytes("definition")?.as_bytes()),
            replica_identity: row.char("relreplident")?,
            tablespace: row.optional_text("tablespace")?,
            access_method: row.optional_text("amname")?,
            extensions: row.texts("extensions")?,
        });
    }
    Ok(views)
}

impl CatalogObject for MaterializedView {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn may_be_postponed(&self) -> bool {
        true
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        column::comments(self.identity.address, &self.identity.sql(), &self.columns)
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let target = sql!("MATERIALIZED VIEW {}", name);
        let mut create = sql!("CREATE {}", target);
        if !self.options.is_empty() {
            create.extend_from_slice(&sql!("\nWITH ({})", sql::join(&self.options, ", ")));
        }
        create.extend_from_slice(&sql!(" AS\n{}\n  WITH NO DATA;\n", self.query));
        create.extend_from_slice(&relation::depends_on_extensions(&target, &self.extensions));
        create.extend_from_slice(&column::alterations(&name, &self.columns));
        let identity = match self.replica_identity {
            b'n' => Some("NOTHING"),
            b'f' => Some("FULL"),
            _ => None,
        };
        if let Some(identity) = identity {
            create.extend_from_slice(&sql!(
                "ALTER TABLE ONLY {} REPLICA IDENTITY {};\n",
                name,
                identity
            ));
        }
        let definition = Definition::new(
            "MATERIALIZED VIEW",
            context.section(self.identity.address, Section::PreData),
            self.identity.name.clone(),
            create,
        )
        .target(target);
        let mut definition =
            relation::privileges(definition, "TABLE", &self.identity, &self.column_acls);
        definition.tablespace = self.tablespace.clone();
        definition.access_method = self.access_method.clone();
        Ok(Some(definition))
    }
}
