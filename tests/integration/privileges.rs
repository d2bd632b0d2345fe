//! ACLs that real servers made of random GRANTs and REVOKEs, made again from their text.

use bstr::BStr;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rdump::sql::privileges::{PrivilegeTargetSql, statements};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::support::{self, VERSIONS};

const OWNER: &str = "fixture_owner";
const ROLES: [&str; 4] = [
    OWNER,
    "fixture_reader",
    "fixture_writer",
    "\"Fixture \"\"Odd\"\" role\"",
];

struct Kind {
    object_type: &'static str,
    name: &'static str,
    column: Option<&'static str>,
    create: &'static str,
    drop: &'static str,
    /// Selects the ACL and the default one.
    acl: &'static str,
    privileges: &'static [&'static str],
}

const KINDS: [Kind; 4] = [
    Kind {
        object_type: "TABLE",
        name: "acl.t",
        column: None,
        create: "CREATE TABLE acl.t (a int)",
        drop: "DROP TABLE IF EXISTS acl.t",
        acl: "SELECT relacl, acldefault('r', relowner) FROM pg_class
              WHERE oid = 'acl.t'::regclass",
        privileges: &["SELECT", "INSERT", "UPDATE", "DELETE", "ALL"],
    },
    Kind {
        object_type: "TABLE",
        name: "acl.t",
        column: Some("a"),
        create: "CREATE TABLE acl.t (a int)",
        drop: "DROP TABLE IF EXISTS acl.t",
        acl: "SELECT attacl, '{}'::text FROM pg_attribute
              WHERE attrelid = 'acl.t'::regclass AND attname = 'a'",
        privileges: &["SELECT (a)", "UPDATE (a)", "ALL (a)"],
    },
    Kind {
        object_type: "SEQUENCE",
        name: "acl.q",
        column: None,
        create: "CREATE SEQUENCE acl.q",
        drop: "DROP SEQUENCE IF EXISTS acl.q",
        acl: "SELECT relacl, acldefault('s', relowner) FROM pg_class
              WHERE oid = 'acl.q'::regclass",
        privileges: &["SELECT", "USAGE", "UPDATE", "ALL"],
    },
    Kind {
        object_type: "FUNCTION",
        name: "acl.f()",
        column: None,
        create: "CREATE FUNCTION acl.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        drop: "DROP FUNCTION IF EXISTS acl.f()",
        acl: "SELECT proacl, acldefault('f', proowner) FROM pg_proc
              WHERE oid = 'acl.f()'::regprocedure",
        privileges: &["EXECUTE", "ALL"],
    },
];

impl Kind {
    async fn create(&self, client: &Client) {
        let sql = format!(
            "{}; SET ROLE {OWNER}; {}; RESET ROLE",
            self.drop, self.create
        );
        client.batch_execute(&sql).await.unwrap();
    }

    /// The ACL (None: default) and the default one.
    async fn acl(&self, client: &Client) -> (Option<String>, String) {
        let messages = client.simple_query(self.acl).await.unwrap();
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.unwrap();
        (
            row.get(0).map(str::to_owned),
            row.get(1).unwrap().to_owned(),
        )
    }

    /// A statement by anyone, which the server may well refuse.
    fn random_statement(&self, random: &mut StdRng) -> String {
        let someone = |random: &mut StdRng| *ROLES.choose(random).unwrap();
        let by = if random.random_bool(0.5) {
            OWNER
        } else {
            someone(random)
        };
        let privilege = self.privileges.choose(random).unwrap();
        let public = random.random_bool(0.15);
        let role = if public { "PUBLIC" } else { someone(random) };
        let (object_type, name) = (self.object_type, self.name);
        let option = !public && random.random_bool(0.6);
        let statement = if random.random_bool(0.7) {
            let option = if option { " WITH GRANT OPTION" } else { "" };
            format!("GRANT {privilege} ON {object_type} {name} TO {role}{option}")
        } else {
            let option = if option { "GRANT OPTION FOR " } else { "" };
            let cascade = if random.random_bool(0.5) {
                " CASCADE"
            } else {
                ""
            };
            format!("REVOKE {option}{privilege} ON {object_type} {name} FROM {role}{cascade}")
        };
        format!("SET ROLE {by}; {statement}; RESET ROLE")
    }
}

/// Not only the same items: in the same order.
#[tokio::test]
async fn statements_make_the_same_acl_again() {
    for major in VERSIONS {
        let server = tokio::task::spawn_blocking(move || support::server(major));
        let server = server.await.unwrap();
        server.ensure_roles();
        let database = server.create_database("acl");
        let (client, connection) = tokio_postgres::connect(&database.conninfo(), NoTls)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        client
            .batch_execute("CREATE SCHEMA acl; GRANT USAGE, CREATE ON SCHEMA acl TO PUBLIC")
            .await
            .unwrap();
        let (mut changed, mut by_others) = (0, 0);
        for seed in 0..120 {
            let mut random = StdRng::seed_from_u64(seed);
            let kind = KINDS.choose(&mut random).unwrap();
            kind.create(&client).await;
            for _ in 0..random.random_range(2..14) {
                let statement = kind.random_statement(&mut random);
                if client.batch_execute(&statement).await.is_err() {
                    client.batch_execute("RESET ROLE").await.unwrap();
                }
            }
            let (Some(acl), default) = kind.acl(&client).await else {
                continue;
            };
            changed += 1;
            by_others += usize::from(acl.contains("/fixture_reader"));
            let target = PrivilegeTargetSql {
                object_type: kind.object_type,
                name: BStr::new(kind.name),
                column: kind.column.map(BStr::new),
            };
            let sql = statements(
                &target,
                BStr::new(&acl),
                BStr::new(&default),
                BStr::new(OWNER),
            )
            .unwrap()
            .to_string();
            kind.create(&client).await;
            client
                .batch_execute(&sql)
                .await
                .unwrap_or_else(|error| panic!("seed {seed}: {error:?}\n{acl}\n{sql}"));
            let (again, _) = kind.acl(&client).await;
            assert_eq!(again.unwrap_or(default), acl, "seed {seed}:\n{sql}");
        }
        // the seeds reach what is hard
        assert!(changed > 90, "only {changed} ACLs were changed");
        assert!(by_others > 5, "only {by_others} ACLs had other grantors");
        drop(client);
        connection.await.unwrap().unwrap();
        drop(database);
    }
}
