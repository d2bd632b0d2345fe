//! What may hold a password is kept, and not shown.

use super::errors::Folder;
use crate::support::{self, VERSIONS, server};

const SCHEMA: &str = "
    CREATE FOREIGN DATA WRAPPER own;
    CREATE SERVER far FOREIGN DATA WRAPPER own;
    CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (\"user\" 'u', password 'secret-of-mapping');
    CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=secret-of-subscription' PUBLICATION p
        WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false);
    CREATE TABLE t (i int);";

#[test]
fn show_hides_connection_strings_and_options_of_user_mappings() {
    for major in VERSIONS {
        let source = server(major).create_database("secrets");
        source.sql(SCHEMA);
        let folder = Folder::new();
        let file = folder.file("secrets.rdump");
        support::rdump_ok(&["snapshot", "-q", "-d", &source.conninfo(), "-f", &file]);
        let json = support::rdump_ok(&["show", "--json", &file]).text();
        let definition = |kind: &str| {
            let mut entries = json
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            let entry = entries.find(|entry| entry["kind"] == kind);
            let entry = entry.unwrap_or_else(|| panic!("no {kind}: {json}"));
            entry["definition"].as_str().expect("a text").to_owned()
        };
        for kind in ["USER MAPPING", "SUBSCRIPTION"] {
            assert_eq!(
                definition(kind),
                "-- not shown: it may hold a password\n",
                "{kind}"
            );
        }
        assert!(definition("TABLE").starts_with("CREATE TABLE public.t"));
        assert!(definition("SERVER").starts_with("CREATE SERVER far"));
        let target = server(major).create_database("secrets_target");
        let said = [
            json.clone(),
            support::rdump_ok(&["show", &file]).text(),
            support::rdump_ok(&["restore", "-v", "-d", &target.conninfo(), &file]).stderr,
        ];
        for said in said {
            assert!(!said.contains("secret-of"), "{said}");
        }
        // they are kept all the same
        let kept = "SELECT umoptions::text LIKE '%secret-of-mapping%',
                           (SELECT subconninfo LIKE '%secret-of-subscription' FROM pg_subscription
                            WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
                    FROM pg_user_mapping";
        assert_eq!(target.query_text(kept), "t|t");
    }
}
