use super::*;
use crate::report::Place;

fn account(outcome: Ended) -> Account {
    let mut account = Account::begun("snapshot", "r1");
    account.label = Some("shop \"x\"\\".to_owned());
    account.outcome = outcome;
    account.rows = Some(3);
    account.archive_bytes = Some(1_234_567_890_123);
    account.repositories = vec![Place::new("/srv/a"), Place::new("/srv/b")];
    account
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn value(text: &str, beginning: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(beginning))?;
    line.rsplit(' ').next()?.parse().ok()
}

const SHOP: &str = "{label=\"shop \\\"x\\\"\\\\\"";

#[test]
fn a_run_that_is_done_is_its_own_last_success() {
    let mut account = account(Ended::Done);
    account.finished = at("2026-01-06T02:30:00.25Z");
    let kept = Kept {
        archives: 7,
        newest: Some(at("2026-01-06T02:00:00Z")),
    };
    let text = text(&account, &[Some(kept), None], None, "").expect("metrics");
    let finished = Some(1_767_666_600.25);
    for name in [LAST_SUCCESS, "rdump_snapshot_last_run_timestamp_seconds"] {
        assert_eq!(value(&text, &format!("{name}{SHOP}")), finished, "{text}");
    }
    for (name, expected) in [
        ("rdump_snapshot_last_run_success", Some(1.0)),
        ("rdump_snapshot_archive_bytes", Some(1_234_567_890_123.0)),
        ("rdump_snapshot_rows", Some(3.0)),
        ("rdump_snapshot_tables", None),
        ("rdump_repository_archives", Some(7.0)),
        ("rdump_repository_up", Some(1.0)),
    ] {
        assert_eq!(
            value(&text, &format!("{name}{SHOP}")),
            expected,
            "{name}: {text}"
        );
    }
    // nothing is said of what is not known
    assert!(!text.contains("rdump_snapshot_tables"), "{text}");
    let listed = text
        .lines()
        .filter(|line| line.starts_with("rdump_repository_archives{"));
    assert_eq!(listed.count(), 1);
}

#[test]
fn a_run_that_fails_keeps_what_the_file_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = MetricsFile::new(folder.path().join("shop.prom"));
    let mut done = account(Ended::Done);
    done.finished = at("2026-01-06T02:30:00.123456Z");
    let newest = Some(at("2026-01-06T02:00:00Z"));
    let kept = |archives| Some(Kept { archives, newest });
    file.write(&done, &[kept(1), kept(2)], None)
        .expect("written");
    let mode = std::fs::metadata(file.path())
        .expect("a file")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o644);
    let label = done.label.clone();
    assert_eq!(file.last_success(label.as_deref()), Some(done.finished));
    assert_eq!(file.last_success(Some("other")), None);
    for outcome in [Ended::Failed, Ended::Partial] {
        let mut failed = account(outcome);
        failed.finished = at("2026-01-07T02:30:00Z");
        failed.repositories[1].error = Some("gone".to_owned());
        file.write(&failed, &[kept(3), None], None)
            .expect("written");
        assert_eq!(file.last_success(label.as_deref()), Some(done.finished));
        let text = file.read().expect("a file");
        assert_eq!(value(&text, "rdump_snapshot_last_run_success"), Some(0.0));
        for (name, of_a, of_b) in [
            ("up", Some(1.0), Some(0.0)),
            ("archives", Some(3.0), None),
            (
                "newest_archive_timestamp_seconds",
                Some(1_767_664_800.0),
                Some(1_767_664_800.0),
            ),
        ] {
            let of = |place: &str| {
                let beginning = format!("rdump_repository_{name}{SHOP},repository=\"{place}\"}}");
                value(&text, &beginning)
            };
            assert_eq!((of("/srv/a"), of("/srv/b")), (of_a, of_b), "{name}: {text}");
        }
    }
    // what the caller knows counts more than the file
    let known = at("2026-01-06T12:00:00Z");
    file.write(&account(Ended::Failed), &[], Some(known))
        .expect("written");
    assert_eq!(file.last_success(label.as_deref()), Some(known));
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1
    );
}

#[test]
fn a_file_of_something_else_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.prom");
    for garbage in [&b"\xff\xfe"[..], b"rdump_snapshot_last_success{", b""] {
        std::fs::write(&path, garbage).expect("written");
        let file = MetricsFile::new(&path);
        assert_eq!(file.last_success(None), None);
        file.write(&account(Ended::Failed), &[], None)
            .expect("written");
        let text = file.read().expect("a file");
        assert!(!text.contains(LAST_SUCCESS), "{text}");
        assert!(text.contains("rdump_build_info"), "{text}");
    }
    let nowhere = MetricsFile::new(folder.path().join("no/shop.prom"));
    assert!(nowhere.write(&account(Ended::Done), &[], None).is_err());
}

/// Each metric that can be written is explained.
#[test]
fn the_documentation_lists_every_metric() {
    let mut all = account(Ended::Done);
    (all.tables, all.raw_bytes) = (Some(1), Some(1));
    let kept = Kept {
        archives: 1,
        newest: Some(all.finished),
    };
    let text = text(&all, &[Some(kept); 2], None, "").expect("metrics");
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"))
        .collect();
    assert_eq!(names.len(), 13, "{names:?}");
    let documented = include_str!("../../../docs/metrics.md");
    for name in names {
        assert!(documented.contains(&format!("| `{name}` |")), "{name}");
    }
}
