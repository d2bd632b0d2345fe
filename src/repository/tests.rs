//! Runs, sweeps and removals on a store in memory that fails where it is told to.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::*;
use crate::error::Error;
use crate::storage::{Memory, Moment, Operation, ReadAt, Span};

const BYTES: &[u8] = b"an archive, as far as a repository knows";

fn label() -> Label {
    Label::new(b"shop").unwrap()
}

fn described(size: usize) -> Described {
    Described {
        archive_id: "ab".repeat(16),
        content: Content::Database,
        scope: String::new(),
        snapshot: "2026-01-06T02:00:00Z".parse().unwrap(),
        server_version: "18.6".to_owned(),
        size: size as u64,
        raw_size: 4000,
        rows: 10,
        tables: 2,
        entries: 5,
        root_hash: "11".repeat(32),
        encrypted: false,
        tags: Default::default(),
    }
}

async fn repository(memory: &Memory) -> Repository {
    let storage = Arc::new(memory.clone());
    Repository::init(storage, EncryptionPolicy::None)
        .await
        .unwrap()
}

async fn begin(repository: &Repository) -> Result<Arc<Targets>> {
    let target = Target::begin(repository.clone(), &label(), RunId::random()).await?;
    Ok(Arc::new(Targets::new(vec![target])))
}

/// As the archive writer's thread does it.
async fn upload(targets: &Arc<Targets>) -> Result<()> {
    let targets = Arc::clone(targets);
    tokio::task::spawn_blocking(move || {
        let mut fan = targets.open()?;
        fan.write_all(BYTES).map_err(crate::storage::write_error)?;
        fan.finish(|stored| {
            let mut bytes = vec![0; BYTES.len()];
            stored.read_exact_at(0, &mut bytes)?;
            match stored.size()? == BYTES.len() as u64 && bytes == BYTES {
                true => Ok(()),
                false => Err(Error::new("it is another")),
            }
        })
    })
    .await
    .unwrap()
}

async fn store(repository: &Repository) -> Result<Manifest> {
    let targets = begin(repository).await?;
    if let Err(error) = upload(&targets).await {
        targets.give_up().await;
        return Err(error);
    }
    let mut arrived = targets.commit(&described(BYTES.len())).await;
    arrived.remove(0).outcome
}

/// Reads all archives that are shown.
async fn assert_sound(repository: &Repository) -> usize {
    let catalogue = repository.catalogue(None).await.unwrap();
    assert!(catalogue.problems.is_empty());
    for archive in &catalogue.archives {
        let stored = repository.read(&archive.manifest).unwrap();
        let mut bytes = vec![0; BYTES.len()];
        stored.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, BYTES);
    }
    catalogue.archives.len()
}

fn at_once() -> SweepOptions {
    SweepOptions {
        least_age: Duration::ZERO,
        watch: Duration::ZERO,
        dry_run: false,
    }
}

#[tokio::test]
async fn what_was_stored_is_listed_and_read() {
    let memory = Memory::new();
    let repository = repository(&memory).await;
    assert_eq!(assert_sound(&repository).await, 0);
    let first = store(&repository).await.unwrap();
    let second = store(&repository).await.unwrap();
    assert_eq!((first.name.order(), second.name.order()), (1, 2));
    assert_eq!(assert_sound(&repository).await, 2);
    let catalogue = repository.catalogue(Some(&label())).await.unwrap();
    assert_eq!(catalogue.archives[1].manifest, second);
    assert_eq!(
        catalogue.find(&Selector::Latest).unwrap().name(),
        &second.name
    );
    let by_id = Selector::Named(first.name.id().to_owned());
    assert_eq!(catalogue.find(&by_id).unwrap().name(), &first.name);
    let other = Label::new(b"shop2").unwrap();
    let none = repository.catalogue(Some(&other)).await.unwrap();
    assert!(none.archives.is_empty());
    // nothing is left beside them
    let swept = repository.sweep(at_once()).await.unwrap();
    assert!(
        swept.leftovers.is_empty() && swept.alive.is_empty(),
        "{swept:?}"
    );
    let again = Repository::open(Arc::new(memory)).await.unwrap();
    assert_eq!(again.marker(), repository.marker());
}

#[tokio::test]
async fn a_place_without_a_marker_is_no_repository() {
    let memory = Memory::new();
    let error = Repository::open(Arc::new(memory.clone()))
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 10, "{error}");
    repository(&memory).await;
    let again = Repository::init(Arc::new(memory), EncryptionPolicy::None).await;
    assert!(again.unwrap_err().to_string().contains("already"));
}

/// Whatever operation fails, before or after it took effect: the run ends with an error or with an
/// archive that is whole, and a sweep leaves nothing of what failed.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_may_fail() {
    let operations = {
        let memory = Memory::new();
        let repository = repository(&memory).await;
        let before = memory.operations().len();
        store(&repository).await.unwrap();
        memory.operations().len() - before
    };
    assert!(operations >= 8, "{operations}");
    let (mut failed, mut stored) = (0, 0);
    for n in 1..=operations {
        for moment in [Moment::Before, Moment::After] {
            for span in [Span::Once, Span::FromThenOn] {
                let memory = Memory::new();
                let repository = repository(&memory).await;
                memory.fail_at(n - 1, moment, span);
                let outcome = store(&repository).await;
                memory.no_faults();
                let archives = assert_sound(&repository).await;
                match &outcome {
                    Ok(_) => assert_eq!(archives, 1, "{n} {moment:?}"),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
                if outcome.is_ok() {
                    stored += 1;
                } else {
                    failed += 1;
                }
                repository.sweep(at_once()).await.unwrap();
                let unfinished = repository.storage().unfinished("").await.unwrap();
                assert!(unfinished.is_empty(), "{n} {moment:?}");
                let left = memory.contents();
                let volumes = left
                    .keys()
                    .filter(|key| key.as_str().starts_with("archives/"));
                assert_eq!(volumes.count(), archives, "{n} {moment:?}");
                assert!(!left.keys().any(|key| key.as_str().starts_with("writers/")));
                assert_eq!(assert_sound(&repository).await, archives);
            }
        }
    }
    // some operations come after the archive exists
    assert!(failed > operations && stored > 0, "{failed} {stored}");
}

#[tokio::test]
async fn a_sweep_and_a_commit_of_one_name_exclude_each_other() {
    let memory = Memory::new();
    let repository = repository(&memory).await;
    // the sweep comes first
    let targets = begin(&repository).await.unwrap();
    upload(&targets).await.unwrap();
    let swept = repository.sweep(at_once()).await.unwrap();
    assert_eq!(swept.leftovers.len(), 1);
    let arrived = targets.commit(&described(BYTES.len())).await;
    let error = arrived[0].outcome.as_ref().unwrap_err().to_string();
    assert!(error.contains("was swept"), "{error}");
    assert_eq!(assert_sound(&repository).await, 0);
    // the commit comes first
    let targets = begin(&repository).await.unwrap();
    upload(&targets).await.unwrap();
    let arrived = targets.commit(&described(BYTES.len())).await;
    assert!(arrived[0].outcome.is_ok());
    let swept = repository.sweep(at_once()).await.unwrap();
    assert!(swept.leftovers.is_empty());
    assert_eq!(assert_sound(&repository).await, 1);
}

#[tokio::test]
async fn a_run_that_lives_is_left_alone() {
    let memory = Memory::new();
    let repository = repository(&memory).await;
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    memory.set_clock(Some(start));
    let targets = begin(&repository).await.unwrap();
    upload(&targets).await.unwrap();
    let alive = |swept: Swept| (swept.leftovers.len(), swept.alive.len());
    // younger than an hour
    memory.set_clock(Some(start + Duration::from_secs(3_599)));
    let soon = SweepOptions {
        watch: Duration::ZERO,
        ..SweepOptions::default()
    };
    assert_eq!(alive(repository.sweep(soon).await.unwrap()), (0, 1));
    // thirty hours old, with a heartbeat of a minute ago
    memory.set_clock(Some(start + Duration::from_secs(108_000)));
    let heartbeat = memory
        .contents()
        .into_iter()
        .find(|(key, _)| key.as_str().starts_with("writers/"));
    let (key, bytes) = heartbeat.unwrap();
    repository.storage().put(&key, bytes.clone()).await.unwrap();
    assert_eq!(alive(repository.sweep(soon).await.unwrap()), (0, 1));
    // the store's clock has jumped: the count goes up while the sweep watches
    memory.set_clock(Some(start + Duration::from_secs(10_000_000)));
    let own = RunId::random().heartbeat().unwrap();
    let found = repository.leftovers(&own).await.unwrap();
    let beats = repository.heartbeats(&found).await.unwrap();
    assert_eq!(beats.len(), 1);
    let none = repository.alive_since(beats.clone()).await.unwrap();
    assert!(none.is_empty());
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let next = text.replace("\"count\":0", "\"count\":1");
    assert_ne!(next, text);
    repository.storage().put(&key, next.into()).await.unwrap();
    memory.set_clock(Some(start + Duration::from_secs(20_000_000)));
    assert_eq!(repository.alive_since(beats).await.unwrap().len(), 1);
    // it has stopped
    let swept = repository.sweep(soon).await.unwrap();
    assert_eq!(alive(swept), (1, 0));
    assert!(!memory.contents().contains_key(&key));
}

#[tokio::test]
async fn a_dry_sweep_removes_nothing() {
    let memory = Memory::new();
    let repository = repository(&memory).await;
    let targets = begin(&repository).await.unwrap();
    upload(&targets).await.unwrap();
    let before = memory.contents();
    let options = SweepOptions {
        dry_run: true,
        ..at_once()
    };
    let swept = repository.sweep(options).await.unwrap();
    assert_eq!(swept.leftovers.len(), 1);
    assert_eq!(swept.leftovers[0].1.size(), BYTES.len() as u64);
    assert_eq!(memory.contents(), before);
}

#[tokio::test]
async fn marks_are_seen_in_listings() {
    let memory = Memory::new();
    let repository = repository(&memory).await;
    store(&repository).await.unwrap();
    let find = async || {
        let catalogue = repository.catalogue(None).await.unwrap();
        catalogue.archives[0].clone()
    };
    let details = serde_json::json!({});
    for mark in [
        Mark::Verified { good: true },
        Mark::Pin,
        Mark::Tag("release".to_owned(), "1.2".to_owned()),
    ] {
        repository
            .mark(&find().await, &mark, &details)
            .await
            .unwrap();
    }
    let archive = find().await;
    assert!(archive.marks.pinned && archive.marks.verified.is_some_and(|c| c.good));
    assert_eq!(archive.tags()["release"], "1.2");
    assert!(!archive.is_bad());
    let bad = Mark::Tested { good: false };
    repository.mark(&archive, &bad, &details).await.unwrap();
    assert!(find().await.is_bad());
    let catalogue = repository.catalogue(None).await.unwrap();
    let error = catalogue.find(&Selector::Latest).unwrap_err();
    assert_eq!(error.to_string(), "every archive is marked as bad");
}

#[tokio::test]
async fn a_removal_that_breaks_off_leaves_no_half_archive() {
    let operations = {
        let memory = Memory::new();
        let repository = repository(&memory).await;
        store(&repository).await.unwrap();
        let catalogue = repository.catalogue(None).await.unwrap();
        let before = memory.operations().len();
        repository.remove(&catalogue.archives[0]).await.unwrap();
        memory.operations().len() - before
    };
    for n in 1..=operations {
        for moment in [Moment::Before, Moment::After] {
            let memory = Memory::new();
            let repository = repository(&memory).await;
            store(&repository).await.unwrap();
            let kept = store(&repository).await.unwrap();
            let catalogue = repository.catalogue(None).await.unwrap();
            memory.fail_at(n - 1, moment, Span::FromThenOn);
            repository.remove(&catalogue.archives[0]).await.unwrap_err();
            memory.no_faults();
            let left = assert_sound(&repository).await;
            assert!(left == 1 || (n == 1 && moment == Moment::Before));
            repository.sweep(at_once()).await.unwrap();
            let contents = memory.contents();
            let volumes = contents
                .keys()
                .filter(|key| key.as_str().starts_with("archives/"));
            assert_eq!(volumes.count(), left);
            let catalogue = repository.catalogue(None).await.unwrap();
            assert_eq!(catalogue.archives.last().unwrap().name(), &kept.name);
        }
    }
}

/// The archive is chosen by the snapshots' times, and the newest by the order of runs.
#[test]
fn points_in_time() {
    let archive = |order, time: &str| Archive {
        manifest: super::manifest::tests::manifest("shop", order, time),
        marks: Marks::default(),
    };
    let mut catalogue = Catalogue {
        archives: vec![
            archive(1, "2026-01-05T02:00:00Z"),
            archive(2, "2026-01-07T02:00:00Z"),
            // the server's clock was set back
            archive(3, "2026-01-06T02:00:00Z"),
        ],
        ..Catalogue::default()
    };
    let at = |catalogue: &Catalogue, time: &str| {
        let selector = Selector::At(time.parse::<Timestamp>().unwrap());
        catalogue.find(&selector).map(|found| found.name().order())
    };
    assert_eq!(at(&catalogue, "2026-01-05T02:00:00Z").unwrap(), 1);
    assert_eq!(at(&catalogue, "2026-01-06T01:59:59Z").unwrap(), 1);
    assert_eq!(at(&catalogue, "2026-01-06T02:00:00Z").unwrap(), 3);
    assert_eq!(at(&catalogue, "2027-01-01T00:00:00Z").unwrap(), 2);
    let error = at(&catalogue, "2026-01-05T01:59:59Z").unwrap_err();
    assert_eq!(
        error.hint_text(),
        Some("the oldest archive is of 2026-01-05T02:00:00Z")
    );
    let latest = |catalogue: &Catalogue| catalogue.find(&Selector::Latest).unwrap().name().order();
    assert_eq!(latest(&catalogue), 3);
    catalogue.archives[2].marks.verified = Some(Checked {
        good: false,
        time: Timestamp::UNIX_EPOCH,
    });
    assert_eq!(latest(&catalogue), 2);
    let mut other = archive(1, "2026-01-05T02:00:00Z");
    other.manifest = super::manifest::tests::manifest("blog", 1, "2026-01-05T02:00:00Z");
    catalogue.archives.insert(0, other);
    let error = catalogue.find(&Selector::Latest).unwrap_err();
    assert!(
        error.to_string().ends_with("several sources: blog, shop"),
        "{error}"
    );
}

#[tokio::test]
async fn a_credential_that_may_not_delete() {
    let memory = Memory::new();
    let repository = repository(&memory).await;
    memory.deny(Operation::Delete);
    let manifest = store(&repository).await.unwrap();
    let catalogue = repository.catalogue(None).await.unwrap();
    let error = repository.remove(&catalogue.archives[0]).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Denied, "{error}");
    assert_eq!(catalogue.archives[0].name(), &manifest.name);
}
