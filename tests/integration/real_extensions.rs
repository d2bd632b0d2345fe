//! Extensions that people use. What PostgreSQL itself ships is in every image; the others run where an
//! image with Debian's packages of them is on this machine or is asked for (CONTRIBUTING.md).

use crate::errors::Folder;
use crate::forgotten::check_database;
use crate::support::{
    self, Server, TestDatabase, extensions_image, normalise_dump, row_counts_and_hashes, server,
};

#[test]
fn those_that_postgresql_ships() {
    for (from, to) in support::pairs() {
        server(from).ensure_roles();
        server(to).ensure_roles();
        let source = server(from).create_database("contrib");
        source.sql(
            r#"CREATE SCHEMA "hstore's"; CREATE SCHEMA moved;
             CREATE EXTENSION hstore WITH SCHEMA "hstore's";
             CREATE EXTENSION citext;
             CREATE EXTENSION ltree;
             CREATE EXTENSION pg_trgm;
             CREATE EXTENSION "uuid-ossp";
             CREATE EXTENSION earthdistance CASCADE;
             CREATE EXTENSION btree_gist;
             CREATE EXTENSION rdump_settings;

             CREATE TABLE thing (
                 id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
                 name citext UNIQUE CHECK (name <> 'NOBODY'),
                 path ltree, paths ltree[], pattern lquery,
                 attributes "hstore's".hstore DEFAULT 'a=>1',
                 place earth, box cube, during tsrange, room int,
                 EXCLUDE USING gist (room WITH =, during WITH &&));
             INSERT INTO thing (name, path, paths, pattern, attributes, place, box, during, room)
                 SELECT 'Name ' || i, ('top.a' || i % 7 || '.b' || i)::ltree,
                        ARRAY['x.y', ('z.' || i)::ltree], '*.a1.*', "hstore's".hstore('key', i::text) ,
                        ll_to_earth(i % 90, i % 180), cube(ARRAY[i, i], ARRAY[i + 1, i + 2]),
                        tsrange('2020-01-01'::timestamp + i * interval '1 hour', '2020-01-01'::timestamp + (i + 1) * interval '1 hour'), 1
                 FROM generate_series(1, 300) i;
             CREATE INDEX ON thing USING gist (path gist_ltree_ops (siglen = 100));
             CREATE INDEX ON thing USING gist (paths);
             CREATE INDEX ON thing USING btree (path DESC);
             CREATE INDEX ON thing USING gin (attributes "hstore's".gin_hstore_ops);
             CREATE INDEX ON thing USING gist (attributes "hstore's".gist_hstore_ops (siglen = 32));
             CREATE INDEX ON thing USING gin (name gin_trgm_ops, (path::text) gin_trgm_ops);
             CREATE INDEX ON thing USING gist ((name::text) gist_trgm_ops (siglen = 64)) WHERE room > 0;
             CREATE INDEX ON thing USING gist (place, box);
             CREATE INDEX ON thing (attributes "hstore's".btree_hstore_ops);
             CREATE VIEW alike AS SELECT a.name, b.name AS other FROM thing a JOIN thing b ON a.name % b.name AND a.path <@ b.path;
             CREATE MATERIALIZED VIEW keys AS SELECT ("hstore's".each(attributes)).* FROM thing WHERE room < 0;
             CREATE FUNCTION of_extension(citext) RETURNS "hstore's".hstore LANGUAGE sql IMMUTABLE
                 RETURN "hstore's".hstore('name', $1::text);
             ALTER FUNCTION of_extension DEPENDS ON EXTENSION citext;
             CREATE DOMAIN word AS citext CHECK (VALUE ~ '^\w+$');
             CREATE TYPE with_members AS (word word, path ltree);
             CREATE AGGREGATE longest(citext) (sfunc = citext_larger, stype = citext);
             CREATE OPERATOR === (LEFTARG = citext, RIGHTARG = citext, FUNCTION = citext_eq, COMMUTATOR = ===);
             CREATE CAST (with_members AS citext) WITH INOUT;
             CREATE STATISTICS of_members ON path, name FROM thing;

             -- what is changed of members
             ALTER EXTENSION pg_trgm SET SCHEMA moved;
             COMMENT ON EXTENSION ltree IS 'paths';
             COMMENT ON FUNCTION nlevel(ltree) IS 'of a member';
             COMMENT ON TABLE rdump_settings.setting IS 'of a member';
             GRANT EXECUTE ON FUNCTION uuid_generate_v4() TO fixture_reader WITH GRANT OPTION;
             REVOKE EXECUTE ON FUNCTION uuid_generate_v1mc() FROM PUBLIC;
             GRANT USAGE ON TYPE ltree TO fixture_reader;
             REVOKE ALL ON FUNCTION rdump_settings.setting_value(text) FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION rdump_settings.setting_value(text) TO PUBLIC;
             GRANT USAGE ON SEQUENCE rdump_settings.rule_id_seq TO fixture_reader;
             GRANT UPDATE (value) ON rdump_settings.setting TO fixture_reader;
             SECURITY LABEL FOR rdump ON TABLE rdump_settings.setting IS 'secret';
             SECURITY LABEL FOR rdump ON COLUMN rdump_settings.setting.value IS 'secret';
             SECURITY LABEL FOR rdump ON TABLE rdump_settings.catalogue IS 'classified';
             SECURITY LABEL FOR rdump ON FUNCTION citext_eq(citext, citext) IS 'unclassified';
             ALTER TABLE rdump_settings.setting ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON rdump_settings.setting TO fixture_reader USING (name = current_user);
             CREATE POLICY also_not_configuration ON rdump_settings.catalogue USING (true);
             CREATE INDEX of_the_user ON rdump_settings.rule (pattern);
             ALTER TABLE rdump_settings.rule ADD CONSTRAINT of_the_user_too CHECK (pattern <> '');
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER of_the_user BEFORE INSERT ON rdump_settings.rule FOR EACH ROW EXECUTE FUNCTION touch();
             CREATE STATISTICS rdump_settings.of_configuration ON setting, pattern FROM rdump_settings.rule;
             CREATE TABLE refers (setting text REFERENCES rdump_settings.setting);
             CREATE TABLE heir (more int) INHERITS (rdump_settings.catalogue);
             CREATE TABLE member_of_extension (a int);
             INSERT INTO rdump_settings.setting VALUES ('colour', 'red'), ('size', NULL);
             INSERT INTO rdump_settings.rule (setting, pattern) VALUES ('colour', '^c'), (NULL, '^d');
             INSERT INTO refers VALUES ('colour');
             INSERT INTO heir VALUES ('code', 1);"#,
        );
        check_database(&source, server(to));
    }
}

/// The foreign key is as large as the rows that refer, and so comes before the few it refers to
/// unless it waits for them; the largest table keeps the other connection busy.
#[test]
fn keys_wait_for_the_rows_of_configuration_tables() {
    for (from, to) in support::pairs() {
        server(from).ensure_roles();
        server(to).ensure_roles();
        let source = server(from).create_database("configured");
        source.sql(
            "CREATE EXTENSION rdump_settings;
             INSERT INTO rdump_settings.setting VALUES ('colour', 'red');
             CREATE TABLE refers (setting text REFERENCES rdump_settings.setting);
             INSERT INTO refers SELECT 'colour' FROM generate_series(1, 1000);
             CREATE TABLE busy (value text);
             INSERT INTO busy SELECT repeat(md5(i::text), 10) FROM generate_series(1, 100000) i;",
        );
        let folder = Folder::new();
        let file = folder.file("archive.rdump");
        support::rdump_ok(&["snapshot", "-d", &source.conninfo(), "-f", &file]);
        let restored = server(to).create_database_with("configured", "TEMPLATE template0");
        let conninfo = restored.conninfo();
        support::rdump_ok(&["restore", &file, "-d", &conninfo, "--parallel", "2"]);
        support::rdump_ok(&["verify", &file, "--against", &conninfo]);
    }
}

/// Servers whose images have extensions from Debian: the source, and one to restore on.
fn servers(major: u32) -> Option<(&'static Server, &'static Server)> {
    extensions_image(major).then(|| {
        let start = || -> &'static Server {
            Box::leak(Box::new(Server::start_with_extensions(
                major,
                &[
                    "-c",
                    "shared_preload_libraries=pg_cron,pgaudit",
                    "-c",
                    "cron.database_name=cron_home",
                ],
            )))
        };
        (start(), start())
    })
}

const POSTGIS: &str = "
    CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology; CREATE EXTENSION postgis_raster;
    CREATE EXTENSION fuzzystrmatch;
    INSERT INTO spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text)
        VALUES (990001, 'our own', 1, 'LOCAL_CS[\"ours\"]', '+proj=longlat +datum=WGS84 +no_defs');
    CREATE TABLE place (id serial PRIMARY KEY, name text, at geometry(Point, 4326), area geometry(MultiPolygonZ, 990001),
                        world geography(LineString), extent box2d, picture raster,
                        extent_of geometry GENERATED ALWAYS AS (ST_Envelope(at)) STORED);
    INSERT INTO place (name, at, area, world, extent, picture)
        SELECT 'place ' || i, ST_SetSRID(ST_MakePoint(i % 180, i % 90), 4326),
               ST_Multi(ST_Force3D(ST_Buffer(ST_SetSRID(ST_MakePoint(i, i), 990001), 1))),
               ST_MakeLine(ST_MakePoint(i % 90, 1), ST_MakePoint(1, i % 90))::geography,
               'BOX(0 0,1 1)', ST_AddBand(ST_MakeEmptyRaster(4, 4, i, i, 1), '8BUI'::text, i % 255, 0)
        FROM generate_series(1, 500) i;
    CREATE INDEX ON place USING gist (at);
    CREATE INDEX ON place USING spgist (at);
    CREATE INDEX ON place USING gist (area gist_geometry_ops_nd);
    CREATE INDEX ON place USING brin (at brin_geometry_inclusion_ops_2d);
    CREATE INDEX ON place USING gist (world);
    CREATE INDEX ON place USING gist (ST_ConvexHull(picture));
    ALTER TABLE place ADD CHECK (ST_IsValid(at)), ADD EXCLUDE USING gist (extent_of WITH &&) WHERE (id < 0);
    SELECT AddRasterConstraints('place'::name, 'picture'::name) \\g /dev/null
    CREATE VIEW near AS SELECT a.id, b.name FROM place a JOIN place b ON ST_DWithin(a.at, b.at, 1);
    CREATE MATERIALIZED VIEW covered AS SELECT ST_Union(at) AS at FROM place;
    CREATE INDEX ON covered USING gist (at);
    GRANT SELECT ON geometry_columns, spatial_ref_sys TO fixture_reader;
    REVOKE SELECT ON geography_columns FROM PUBLIC;
    REVOKE EXECUTE ON FUNCTION postgis_full_version() FROM PUBLIC;
    SELECT topology.CreateTopology('town', 4326) \\g /dev/null
    CREATE TABLE street (id int PRIMARY KEY, name text);
    SELECT topology.AddTopoGeometryColumn('town', 'public', 'street', 'line', 'LINE') \\g /dev/null
    INSERT INTO street SELECT i, 'street ' || i,
        topology.toTopoGeom(ST_GeomFromText(format('LINESTRING(%s 0, %s 1)', i, i), 4326), 'town', 1) FROM generate_series(1, 20) i;
    GRANT USAGE ON SCHEMA topology TO fixture_reader;";

const VECTORS: &str = "
    CREATE SCHEMA vectors; CREATE EXTENSION vector WITH SCHEMA vectors;
    SET search_path = public, vectors;
    CREATE TABLE item (id int PRIMARY KEY, v vector(3) NOT NULL, h halfvec(3), s sparsevec(5), b bit(3), free vector,
                       list vector(3)[]);
    INSERT INTO item SELECT i, ARRAY[i, i % 7, 1.0 / i]::vector, ARRAY[i, 1, 2]::halfvec, ('{1:1,3:' || i || '}/5')::sparsevec,
                            (i % 8)::bit(3), ARRAY[i]::vector, ARRAY[ARRAY[i, 1, 2]::vector]
        FROM generate_series(1, 300) i;
    CREATE INDEX ON item USING hnsw (v vector_l2_ops) WITH (m = 8, ef_construction = 32);
    CREATE INDEX ON item USING hnsw (h halfvec_cosine_ops);
    CREATE INDEX ON item USING hnsw (s sparsevec_l2_ops);
    CREATE INDEX ON item USING hnsw (b bit_hamming_ops);
    CREATE INDEX ON item USING ivfflat (v vector_cosine_ops) WITH (lists = 5);
    CREATE INDEX ON item USING hnsw ((v::halfvec(3)) halfvec_l1_ops) WHERE id > 10;
    CREATE INDEX ON item (v);
    CREATE VIEW nearest AS SELECT id FROM item ORDER BY v <-> '[1,2,3]' LIMIT 5;
    CREATE AGGREGATE total(vector) (sfunc = vector_add, stype = vector);
    CREATE FUNCTION distance(vector, vector) RETURNS float8 LANGUAGE sql IMMUTABLE RETURN $1 <=> $2;";

const PARTMAN: &str = "
    CREATE SCHEMA partman; CREATE EXTENSION pg_partman WITH SCHEMA partman;
    CREATE TABLE event (id bigint GENERATED BY DEFAULT AS IDENTITY, at timestamptz NOT NULL DEFAULT now(), what text)
        PARTITION BY RANGE (at);
    CREATE INDEX ON event (at);
    DO $$ BEGIN
        IF (SELECT extversion LIKE '4.%' FROM pg_extension WHERE extname = 'pg_partman') THEN
            PERFORM partman.create_parent('public.event', 'at', 'native', 'monthly', p_premake := 2);
        ELSE
            PERFORM partman.create_parent(p_parent_table := 'public.event', p_control := 'at', p_interval := '1 month', p_premake := 2);
        END IF;
    END $$;
    INSERT INTO event (at, what) SELECT now() + i * interval '1 day', 'event ' || i FROM generate_series(-40, 40) i;
    UPDATE partman.part_config SET retention = '3 months', retention_keep_table = false;
    GRANT SELECT ON partman.part_config TO fixture_reader;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA partman TO fixture_reader;
    CREATE VIEW configured AS SELECT parent_table, retention FROM partman.part_config;";

const AUDIT: &str = "
    CREATE EXTENSION pgaudit;
    CREATE TABLE audited (id int);
    INSERT INTO audited VALUES (1);
    CREATE FUNCTION quiet() RETURNS int LANGUAGE sql SET pgaudit.log = 'none' AS 'SELECT 1';
    ALTER EVENT TRIGGER pgaudit_ddl_command_end DISABLE;";

fn debian(major: u32) {
    let Some((source_server, target_server)) = servers(major) else {
        return;
    };
    for server in [source_server, target_server] {
        server.ensure_roles();
    }
    for (extension, sql) in [
        ("postgis", POSTGIS),
        ("vector", VECTORS),
        ("pg_partman", PARTMAN),
        ("pgaudit", AUDIT),
    ] {
        let source = source_server.create_database(extension);
        let known = source.query_text(&format!(
            "SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'"
        ));
        if known == "0" {
            eprintln!("no {extension} for PostgreSQL {major}");
            continue;
        }
        source.sql(sql);
        check_database(&source, target_server);
    }
    scheduled_jobs(source_server, target_server);
}

/// pg_cron lives in one database of a server, whose name must be the same after a restore.
fn scheduled_jobs(source: &'static Server, target: &'static Server) {
    let home = |server: &'static Server| -> TestDatabase {
        let name = "cron_home".to_owned();
        let maintenance = server.create_database("maintenance");
        maintenance.sql(
            "DROP DATABASE IF EXISTS cron_home WITH (FORCE);
             CREATE DATABASE cron_home TEMPLATE template0;",
        );
        TestDatabase { name, server }
    };
    let original = home(source);
    original.sql(
        "CREATE ROLE job_owner LOGIN;
         CREATE EXTENSION pg_cron;
         SELECT cron.schedule('nightly', '0 3 1 1 *', 'VACUUM') \\g /dev/null
         SELECT cron.schedule('0 4 1 1 *', $$SELECT 'it''s'$$) \\g /dev/null
         SELECT cron.schedule('gone', '0 5 1 1 *', 'SELECT 1') \\g /dev/null
         SELECT cron.unschedule('gone') \\g /dev/null
         SELECT cron.schedule_in_database('elsewhere', '0 6 1 1 *', 'SELECT 2', 'postgres', 'job_owner', false) \\g /dev/null
         INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status)
             VALUES (1, nextval('cron.runid_seq'), 'cron_home', 'postgres', 'VACUUM', 'succeeded');
         GRANT USAGE ON SCHEMA cron TO fixture_reader;
         GRANT SELECT ON cron.job_run_details TO fixture_reader;
         CREATE VIEW jobs AS SELECT jobid, jobname FROM cron.job;",
    );
    let dump = normalise_dump(&source.pg_dump(&["--schema-only"], &original));
    let folder = Folder::new();
    let file = folder.file("cron.rdump");
    support::rdump_ok(&["snapshot", "-d", &original.conninfo(), "-f", &file]);

    target.copy_roles(source);
    // what pg_dump and psql bring back
    let restored = home(target);
    restored.sql(&source.pg_dump(&[], &original));
    let judged = row_counts_and_hashes(&restored);
    assert_eq!(judged.len(), 4, "{judged:?}");
    drop(restored);

    let restored = home(target);
    let conninfo = restored.conninfo();
    support::rdump_ok(&["restore", &file, "-d", &conninfo, "--parallel", "2"]);
    assert_eq!(judged, row_counts_and_hashes(&restored));
    let actual = normalise_dump(&target.pg_dump(&["--schema-only"], &restored));
    assert!(dump == actual, "{}", support::difference(&dump, &actual));
    support::rdump_ok(&["verify", &file, "--against", &conninfo]);
    // the next job gets a number of its own
    restored.sql("SELECT cron.schedule('new', '0 7 1 1 *', 'SELECT 3')");
}

#[test]
fn those_of_debian_on_15() {
    debian(15);
}

#[test]
fn those_of_debian_on_18() {
    debian(18);
}
