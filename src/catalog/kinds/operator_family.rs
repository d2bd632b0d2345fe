//! Operator families, with those of their members that belong to no operator class.

use bstr::BString;

use super::operator_members::{self, Member};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct OperatorFamily {
    identity: Identity,
    method: BString,
    members: Vec<Member>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<OperatorFamily>> {
    let mut members = operator_members::read(reader).await?;
    let rows = reader
        .query(
            "operator families",
            &format!(
                "SELECT f.oid, f.opfname AS name, n.nspname AS schema,
                        pg_get_userbyid(f.opfowner) AS owner, a.amname
                 FROM pg_opfamily f
                 JOIN pg_namespace n ON n.oid = f.opfnamespace
                 JOIN pg_am a ON a.oid = f.opfmethod
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut families = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::OPERATOR_FAMILY, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        families.push(OperatorFamily {
            members: members.remove(&identity.address).unwrap_or_default(),
            identity,
            method: row.text("amname")?,
        });
    }
    Ok(families)
}

impl CatalogObject for OperatorFamily {
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
        let target = sql!(
            "OPERATOR FAMILY {} USING {}",
            self.identity.sql(),
            sql::identifier(&self.method)
        );
        let mut create = sql!("CREATE {};\n", target);
        if !self.members.is_empty() {
            let members = self.members.iter();
            let clauses = members.map(|member| sql!("\n    {}", member.clause));
            create.extend_from_slice(&sql!("ALTER {} ADD{};\n", target, sql::join(clauses, ",")));
        }
        let definition = Definition::new(
            "OPERATOR FAMILY",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        Ok(Some(definition))
    }
}
