//! Security labels. Whoever provides them must be loaded where they are restored, and only there.

use std::collections::HashMap;

use bstr::{BStr, BString};

use super::object::Address;
use super::reader::Reader;
use crate::error::Result;
use crate::sql;

/// What one provider says of an object, or of one of its columns.
#[derive(Debug)]
struct Label {
    column: i32,
    provider: BString,
    label: BString,
}

/// By object; those of its columns with it.
#[derive(Debug, Default)]
pub struct Labels(HashMap<Address, Vec<Label>>);

impl Labels {
    /// Those of the database's objects and of the database itself; roles and tablespaces belong to
    /// the whole cluster. So, in the catalogs, do subscriptions.
    pub async fn read(reader: &mut Reader<'_>) -> Result<Labels> {
        let rows = reader
            .query(
                "security labels",
                "SELECT classoid, objoid, objsubid, provider, label FROM pg_seclabel
                 UNION ALL
                 SELECT classoid, objoid, 0, provider, label FROM pg_shseclabel
                 WHERE (classoid = 'pg_database'::regclass
                        AND objoid = (SELECT oid FROM pg_database
                                      WHERE datname = current_database()))
                    OR classoid = 'pg_subscription'::regclass
                 ORDER BY classoid, objoid, objsubid, provider",
            )
            .await?;
        let mut labels = Labels::default();
        for row in &rows {
            let address = Address::new(row.number("classoid")?, row.number("objoid")?);
            labels.0.entry(address).or_default().push(Label {
                column: row.number("objsubid")?,
                provider: row.text("provider")?,
                label: row.text("label")?,
            });
        }
        Ok(labels)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// SECURITY LABEL for each label of this object or column; `target` as COMMENT ON takes it.
    pub fn statements(&self, address: Address, column: i32, target: &BStr) -> BString {
        let own = self.0.get(&address).into_iter().flatten();
        let statements = own.filter(|label| label.column == column).map(|label| {
            sql!(
                "SECURITY LABEL FOR {} ON {} IS {};\n",
                sql::identifier(&label.provider),
                target,
                sql::literal(&label.label)
            )
        });
        sql::join(statements, "")
    }
}
