//! Constraints that stand in the catalogs and hold nothing.

use super::Archive;
use crate::support::{VERSIONS, server};

const SCHEMA: &str = "
    CREATE TABLE customer (id int PRIMARY KEY);
    CREATE TABLE orders (id int, customer int REFERENCES customer);
    CREATE TABLE slot (i int CONSTRAINT free UNIQUE DEFERRABLE);
    CREATE TABLE part (id int, customer int REFERENCES customer) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER own BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION f()";

const ORDERS: &str = "CONSTRAINT orders_customer_fkey of public.orders: not enforced: its own triggers are \
                      disabled (DISABLE TRIGGER ALL) on public.";
const PART: &str = "CONSTRAINT part_customer_fkey of public.part: not enforced: its own triggers are \
                    disabled (DISABLE TRIGGER ALL) on public.";

#[test]
fn disabled_ones_are_named() {
    for major in VERSIONS {
        let source = server(major).create_database("proof_disabled");
        source.sql(SCHEMA);
        let archive = Archive::of(&source);
        let copy = archive.restore(server(major), "proof_disabled_copy");
        archive.assert_findings(&copy, "restoring", &[]);
        let orders = |table: &str| format!("{ORDERS}{table}");
        let part = |table: &str| format!("{PART}{table}");
        let own = "TRIGGER public.orders own: different (- archive, + database):\n".to_owned();
        let free = "CONSTRAINT free of public.slot: not enforced: ".to_owned();
        for (table, expected) in [
            // the side that refers, with a trigger of the user's
            ("orders", vec![own, orders("orders")]),
            // the side that is referred to, by two
            ("customer", vec![orders("customer"), part("customer")]),
            ("slot", vec![free]),
            ("part_2", vec![part("part_2")]),
            // a partition's with its parent's
            ("part", vec![part("part, public.part_1, public.part_2")]),
        ] {
            copy.sql(&format!("ALTER TABLE {table} DISABLE TRIGGER ALL"));
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            archive.assert_findings(&copy, &format!("disabling those of {table}"), &expected);
            copy.sql(&format!("ALTER TABLE {table} ENABLE TRIGGER ALL"));
        }
        archive.assert_findings(&copy, "enabling all", &[]);
    }
}
