//! Operator classes.

use bstr::BString;

use super::operator_members::{self, Member};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct OperatorClass {
    identity: Identity,
    method: BString,
    is_default: bool,
    type_name: BString,
    family: BString,
    /// Where index entries are of another type.
    storage: Option<BString>,
    members: Vec<Member>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<OperatorClass>> {
    let mut members = operator_members::read(reader).await?;
    let rows = reader
        .query(
            "operator classes",
            &format!(
                "SELECT c.oid, c.opcname AS name, n.nspname AS schema,
                        pg_get_userbyid(c.opcowner) AS owner, a.amname, c.opcdefault,
                        format_type(c.opcintype, NULL) AS type,
                        CASE WHEN c.opckeytype <> 0 THEN format_type(c.opckeytype, NULL) END AS storage,
                        fn.nspname AS family_schema, f.opfname
                 FROM pg_opclass c
                 JOIN pg_namespace n ON n.oid = c.opcnamespace
                 JOIN pg_am a ON a.oid = c.opcmethod
                 JOIN pg_opfamily f ON f.oid = c.opcfamily
                 JOIN pg_namespace fn ON fn.oid = f.opfnamespace
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut classes = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::OPERATOR_CLASS, row)?;
        if reader.admit(&mut identity) {
            classes.push(OperatorClass {
                members: members.remove(&identity.address).unwrap_or_default(),
                identity,
                method: row.text("amname")?,
                is_default: row.bool("opcdefault")?,
                type_name: row.text("type")?,
                family: sql::qualified(row.bytes("family_schema")?, row.bytes("opfname")?),
                storage: row.optional_text("storage")?,
            });
        }
    }
    Ok(classes)
}

impl CatalogObject for OperatorClass {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.method.clone()
    }

    fn aliases(&self) -> Vec<Address> {
        self.members.iter().map(|member| member.address).collect()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let method = sql::identifier(&self.method);
        let mut items: Vec<BString> = Vec::new();
        if let Some(storage) = &self.storage {
            items.push(sql!("STORAGE {}", storage));
        }
        items.extend(self.members.iter().map(|member| member.clause.clone()));
        if items.is_empty() {
            // the grammar wants one; this changes nothing
            items.push(sql!("STORAGE {}", self.type_name));
        }
        let items = items.iter().map(|item| sql!("\n    {}", item));
        let create = sql!(
            "CREATE OPERATOR CLASS {}\n    {}FOR TYPE {} USING {} FAMILY {} AS{};\n",
            name,
            if self.is_default { "DEFAULT " } else { "" },
            self.type_name,
            method,
            self.family,
            sql::join(items, ",")
        );
        let definition = Definition::new(
            "OPERATOR CLASS",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("OPERATOR CLASS {} USING {}", name, method));
        Ok(Some(definition))
    }
}
