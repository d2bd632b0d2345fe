//! Views.
//!
//! A view's query is an object of its own (`view_query`), inline in the view: where it leads back
//! to the view, the sort lists the view in `dummy_views`, which is then created with its columns
//! only, and the query in `separate`, which replaces it later.

use bstr::{BString, ByteSlice};

use super::column::{self, Column};
use super::relation;
use crate::archive::Section;
use crate::catalog::object::{ColumnAcl, Address, CatalogObject, Defining, Definition, Identity};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct View {
    identity: Identity,
    aliases: Vec<Address>,
    columns: Vec<Column>,
    column_acls: Vec<ColumnAcl>,
    body: ViewBody,
}

/// All of a view but its name.
#[derive(Debug)]
pub(super) struct ViewBody {
    options: Vec<BString>,
    query: BString,
    check_option: Option<&'static str>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<View>> {
    let mut columns = column::read(reader, "'v'").await?;
    let mut acls = relation::column_acls(reader, "'v'").await?;
    let definition = format!(
        "CASE WHEN {} THEN pg_get_viewdef(c.oid) ELSE '' END AS definition",
        reader.of_wanted()
    );
    let query = relation::query(&definition, "", "'v'");
    let rows = reader.query("views", &query).await?;
    let mut views = Vec::new();
    for row in &rows {
        let oid = row.number("oid")?;
        let column_acls = acls.remove(&oid).unwrap_or_default();
        if let Some(identity) = relation::identity(reader, row, &column_acls)? {
            views.push(View {
                aliases: relation::aliases(row)?,
                columns: columns.remove(&oid).unwrap_or_default(),
                column_acls,
                body: ViewBody::from_row(row)?,
                identity,
            });
        }
    }
    Ok(views)
}

impl ViewBody {
    /// From `reloptions` and `definition`.
    pub fn from_row(row: &Row) -> Result<ViewBody> {
        let mut options = row.texts("reloptions")?;
        let mut check_option = None;
        options.retain(|option| match option.strip_prefix(b"check_option=") {
            Some(b"local") => {
                check_option = Some("LOCAL");
                false
            }
            Some(b"cascaded") => {
                check_option = Some("CASCADED");
                false
            }
            _ => true,
        });
        Ok(ViewBody {
            options,
            query: column::view_query(row.bytes("definition")?.as_bytes()),
            check_option,
        })
    }

    /// `command` is CREATE VIEW or CREATE OR REPLACE VIEW.
    pub fn create(&self, command: &str, name: &BString) -> BString {
        let mut create = sql!("{} {}", command, name);
        if !self.options.is_empty() {
            let options = sql::join(relation::options(&self.options, ""), ", ");
            create.extend_from_slice(&sql!(" WITH ({})", options));
        }
        create.extend_from_slice(&sql!(" AS\n{}", self.query));
        if let Some(option) = self.check_option {
            create.extend_from_slice(&sql!("\n  WITH {} CHECK OPTION", option));
        }
        create.extend_from_slice(b";\n");
        create
    }
}

impl CatalogObject for View {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        column::comments(self.identity.address, &self.identity.sql(), &self.columns)
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let create = if context
            .placement
            .dummy_views
            .contains(&self.identity.address)
        {
            sql!(
                "CREATE VIEW {} AS\n{};\n",
                name,
                column::dummy_query(&self.columns)
            )
        } else {
            self.body.create("CREATE VIEW", &name)
        };
        let definition = Definition::new(
            "VIEW",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("VIEW {}", name));
        Ok(Some(relation::privileges(
            definition,
            "TABLE",
            &self.identity,
            &self.column_acls,
        )))
    }
}
