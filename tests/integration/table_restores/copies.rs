//! Copies under other names: what is called like them, and what refers to them.

use super::{assert_same_tables, case_of};
use crate::support::{VERSIONS, server};

/// Types, relations, statistics, functions and collations have names of their own.
#[test]
fn names_of_different_sorts_may_be_equal() {
    for major in VERSIONS {
        let case = case_of(
            server(major).create_database("tables"),
            "CREATE SCHEMA shop;
             CREATE TYPE shop.by_day AS ENUM ('a', 'b');
             CREATE DOMAIN shop.codes AS int;
             CREATE COLLATION shop.t (provider = libc, locale = 'C');
             CREATE FUNCTION shop.act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
             CREATE TABLE shop.t (
                 id serial PRIMARY KEY, d shop.by_day DEFAULT 'a', i int, \"INDEX\" shop.by_day,
                 n shop.codes, x text COLLATE shop.t
             );
             CREATE SEQUENCE shop.numbers OWNED BY shop.t.i;
             ALTER TABLE shop.t ALTER i SET DEFAULT nextval('shop.numbers');
             CREATE INDEX by_day ON shop.t (d, (i::shop.codes));
             CREATE INDEX codes ON shop.t (n);
             CREATE INDEX act ON shop.t (x);
             CREATE STATISTICS shop.t ON d, i FROM shop.t;
             CREATE STATISTICS shop.by_day ON n, i FROM shop.t;
             CREATE TRIGGER act BEFORE INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.act();
             COMMENT ON INDEX shop.by_day IS 'an index';
             COMMENT ON STATISTICS shop.by_day IS 'statistics';
             INSERT INTO shop.t (x) SELECT 'x' FROM generate_series(1, 9)",
        );
        let target = case.copy();
        case.restore_ok(&target, &["-t", "t", "--into-schema", "old"]);
        let expected = case.copy();
        expected.sql(
            "CREATE SCHEMA old; ALTER TABLE shop.t SET SCHEMA old;
             ALTER STATISTICS shop.t SET SCHEMA old; ALTER STATISTICS shop.by_day SET SCHEMA old",
        );
        assert_same_tables(&expected, &target, "old.*");
        // where the types come along, indexes keep their names as well
        let target = case.empty();
        let told = case.restore_ok(&target, &["-t", "t", "--as", "u"]);
        assert!(!told.contains("its own name is taken"), "{told}");
        assert_eq!(
            target.query_text(
                "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
                 WHERE relnamespace = 'shop'::regnamespace AND relkind = 'i'"
            ),
            "act by_day codes t_pkey"
        );
        // a type that comes along has the name
        let refused = case.restore(&case.empty(), &["-t", "t", "--as", "by_day"]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("shop.by_day is there already"),
            "{}",
            refused.stderr
        );
    }
}

/// A table that is needed may refer to the one that gets another name.
#[test]
fn keys_of_other_tables_are_left_out() {
    let case = case_of(
        server(18).create_database("tables"),
        "CREATE SCHEMA shop;
         CREATE TABLE shop.orders (id int PRIMARY KEY, member int);
         CREATE TABLE shop.members (id int PRIMARY KEY, latest int REFERENCES shop.orders,
                                    first int REFERENCES shop.members);
         ALTER TABLE shop.orders ADD FOREIGN KEY (member) REFERENCES shop.members;
         CREATE POLICY mine ON shop.orders
             USING (EXISTS (SELECT FROM shop.members m WHERE m.id = orders.member));
         INSERT INTO shop.orders VALUES (1), (2);
         INSERT INTO shop.members VALUES (1, 2)",
    );
    for flags in [["--as", "copy"], ["--into-schema", "old"]] {
        let target = case.empty();
        let flags = [&["-t", "orders"][..], &flags[..]].concat();
        let told = case.restore_ok(&target, &flags);
        assert!(
            told.contains(
                "left out: FK CONSTRAINT shop.members members_latest_fkey: \
                 it would refer to the copy; TABLE shop.members stays as it is"
            ),
            "{told}"
        );
        assert_eq!(
            target.query_text(
                "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE contype = 'f'"
            ),
            "members_first_fkey orders_member_fkey"
        );
    }
}

/// A name that is made up must not be that of anything that still waits for its own.
#[test]
fn a_derived_name_gives_way_to_one_that_stays() {
    let case = case_of(
        server(18).create_database("tables"),
        "CREATE SCHEMA shop;
         CREATE TABLE shop.orders (id int PRIMARY KEY, day date);
         CREATE INDEX zcopy_pkey ON shop.orders (day);",
    );
    let target = case.copy();
    target.sql("DROP INDEX shop.zcopy_pkey");
    case.restore_ok(&target, &["-t", "orders", "--as", "zcopy"]);
    assert_eq!(
        target.query_text(
            "SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indisprimary DESC)
             FROM pg_index WHERE indrelid = 'shop.zcopy'::regclass"
        ),
        "shop.zcopy_pkey1 shop.zcopy_pkey"
    );
}
