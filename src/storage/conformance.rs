//! What every store promises, a test each. `conformance!` makes these tests for one of them.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::object::{Created, Key, Limits, Object, Storage, Unfinished, list_all};

/// An empty store whose pages of a listing have [`PAGE`] objects, and what it stands on.
pub(super) struct Subject {
    pub storage: Arc<dyn Storage>,
    pub keep: Box<dyn Any>,
}

pub(super) const PAGE: usize = 3;

/// One test for each promise, on a fresh subject that the expression makes. None: there is none here.
macro_rules! conformance {
    ($subject:expr) => {
        $crate::storage::conformance::conformance!($subject;
            an_object_is_there_as_it_was_created
            a_taken_key_is_not_created_again
            of_those_who_create_one_key_at_once_one_does
            putting_replaces
            reading_a_small_object_refuses_a_large_one
            what_is_absent_is_absent
            ranges_are_exact
            listings_come_in_the_order_of_keys
            listings_begin_after_a_key
            prefixes_are_of_keys_and_not_of_folders
            deleting_what_is_absent_succeeds
            awkward_characters_are_kept
            an_object_may_be_empty
            times_are_of_the_present
            an_upload_of_one_part
            an_upload_of_parts_with_an_odd_tail
            parts_come_in_any_order_and_at_once
            an_upload_is_not_seen_before_it_is_complete
            completing_refuses_a_taken_key
            completing_refuses_another_size
            an_aborted_upload_leaves_nothing
            a_dropped_upload_leaves_what_is_listed
            what_is_unfinished_can_be_discarded_twice
            two_uploads_of_one_key_are_two
        );
    };
    ($subject:expr; $($promise:ident)*) => {
        $(#[tokio::test]
        async fn $promise() {
            let subject: Option<$crate::storage::conformance::Subject> = $subject.await;
            let Some(subject) = subject else { return };
            $crate::storage::conformance::$promise(subject.storage.as_ref()).await;
            drop(subject.keep);
        })*
    };
}
pub(super) use conformance;

pub(super) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes in which every place is told apart from its neighbours.
pub(super) fn pattern(length: usize, seed: u8) -> Bytes {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed)
        .collect()
}

async fn create(storage: &dyn Storage, name: &str, bytes: &'static [u8]) {
    let created = storage.create(&key(name), Bytes::from_static(bytes)).await;
    assert_eq!(created.unwrap(), Created::New, "{name}");
}

async fn contents(storage: &dyn Storage, name: &str) -> Option<Bytes> {
    storage.get(&key(name), 1 << 30).await.unwrap()
}

fn names(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}

async fn listed(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let objects = list_all(storage, prefix).await.unwrap();
    names(&objects).into_iter().map(str::to_owned).collect()
}

/// Nothing at all is left.
async fn assert_empty(storage: &dyn Storage) {
    assert_eq!(listed(storage, "").await, Vec::<String>::new());
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

/// The parts of what is to be uploaded.
fn cut(bytes: &Bytes, limits: Limits) -> Vec<(u32, Bytes)> {
    let starts = (0..bytes.len()).step_by(limits.part_size);
    let parts = starts.map(|at| bytes.slice(at..bytes.len().min(at + limits.part_size)));
    (0..).zip(parts).collect()
}

/// An upload of this, still to be completed.
async fn uploaded(storage: &dyn Storage, name: &str, bytes: &Bytes) -> Box<dyn super::Upload> {
    let upload = storage.begin(&key(name)).await.unwrap();
    for (number, part) in cut(bytes, storage.limits()) {
        upload.part(number, part).await.unwrap();
    }
    upload
}

pub(super) async fn an_object_is_there_as_it_was_created(storage: &dyn Storage) {
    create(storage, "folder/deep/object", b"contents").await;
    assert_eq!(
        contents(storage, "folder/deep/object").await.unwrap(),
        "contents"
    );
    let object = storage.head(&key("folder/deep/object")).await.unwrap();
    assert_eq!(object.map(|object| object.size), Some(8));
    assert_eq!(listed(storage, "").await, ["folder/deep/object"]);
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn a_taken_key_is_not_created_again(storage: &dyn Storage) {
    create(storage, "a", b"first").await;
    let again = storage.create(&key("a"), "other".into()).await.unwrap();
    assert_eq!(again, Created::Exists);
    assert_eq!(contents(storage, "a").await.unwrap(), "first");
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn of_those_who_create_one_key_at_once_one_does(storage: &dyn Storage) {
    for round in 0..5 {
        let name = key(&format!("race/{round}"));
        let create = |text: &'static str| storage.create(&name, text.into());
        let (a, b, c) = tokio::join!(create("one"), create("two"), create("three"));
        let outcomes = [("one", a), ("two", b), ("three", c)];
        let new: Vec<&str> = outcomes
            .into_iter()
            .filter(|(_, outcome)| *outcome.as_ref().unwrap() == Created::New)
            .map(|(text, _)| text)
            .collect();
        let there = contents(storage, name.as_str()).await.unwrap();
        assert_eq!(new, [std::str::from_utf8(&there).unwrap()]);
    }
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn putting_replaces(storage: &dyn Storage) {
    for text in ["first", "the second", ""] {
        storage.put(&key("a/b"), text.into()).await.unwrap();
        assert_eq!(contents(storage, "a/b").await.unwrap(), text);
    }
    assert_eq!(listed(storage, "").await, ["a/b"]);
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn reading_a_small_object_refuses_a_large_one(storage: &dyn Storage) {
    create(storage, "a", b"12345").await;
    assert_eq!(
        storage.get(&key("a"), 5).await.unwrap().unwrap(),
        Bytes::from("12345")
    );
    let error = storage.get(&key("a"), 4).await.unwrap_err().to_string();
    assert!(
        error.contains("has 5 bytes, more than the 4 it may have"),
        "{error}"
    );
}

pub(super) async fn what_is_absent_is_absent(storage: &dyn Storage) {
    create(storage, "folder/object", b"x").await;
    for name in ["absent", "absent/too", "folder", "folder/absent"] {
        assert_eq!(storage.get(&key(name), 10).await.unwrap(), None, "{name}");
        assert_eq!(storage.head(&key(name)).await.unwrap(), None, "{name}");
        let error = storage.read(&key(name), 0..1).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

pub(super) async fn ranges_are_exact(storage: &dyn Storage) {
    create(storage, "a", b"0123456789").await;
    for (range, expected) in [
        (0..10, "0123456789"),
        (0..1, "0"),
        (3..7, "3456"),
        (9..10, "9"),
    ] {
        let read = storage.read(&key("a"), range.clone()).await.unwrap();
        assert_eq!(read, expected, "{range:?}");
    }
    assert_eq!(storage.read(&key("a"), 4..4).await.unwrap(), "");
    for range in [0..11, 9..11, 10..11, 20..30, u64::MAX - 1..u64::MAX] {
        let error = storage.read(&key("a"), range.clone()).await.unwrap_err();
        assert!(error.to_string().contains("10 bytes"), "{range:?}: {error}");
    }
}

/// More than two pages; '-' and '.' come before '/', letters after it.
const SORTED: [&str; 9] = [
    "A", "a+b", "a-b", "a.b", "a/0", "a/b/c", "a/b-c/d", "a0", "ab/c",
];

async fn fill(storage: &dyn Storage) -> Vec<&'static str> {
    let mut sorted = SORTED.to_vec();
    sorted.sort_unstable();
    for name in SORTED.iter().rev() {
        create(storage, name, b"x").await;
    }
    sorted
}

pub(super) async fn listings_come_in_the_order_of_keys(storage: &dyn Storage) {
    assert_eq!(
        storage.list("", None).await.unwrap(),
        super::Page {
            objects: Vec::new(),
            is_last: true
        }
    );
    let sorted = fill(storage).await;
    assert_eq!(listed(storage, "").await, sorted);
    let first = storage.list("", None).await.unwrap();
    assert_eq!(names(&first.objects), sorted[..PAGE]);
    assert!(!first.is_last);
    let second = storage.list("", Some(&first.objects[PAGE - 1].key)).await;
    let second = second.unwrap();
    assert_eq!(names(&second.objects), sorted[PAGE..2 * PAGE]);
    assert!(!second.is_last);
}

pub(super) async fn listings_begin_after_a_key(storage: &dyn Storage) {
    let sorted = fill(storage).await;
    let others = ["0", "a", "a/b", "a/b/c/d", "a/z", "ab", "z"];
    for after in sorted.iter().copied().chain(others) {
        for prefix in ["", "a/"] {
            let mut found: Vec<String> = Vec::new();
            loop {
                let last = key(found.last().map_or(after, String::as_str));
                let page = storage.list(prefix, Some(&last)).await.unwrap();
                found.extend(names(&page.objects).into_iter().map(str::to_owned));
                if page.is_last {
                    break;
                }
            }
            let expected: Vec<&str> = sorted
                .iter()
                .copied()
                .filter(|name| *name > after && name.starts_with(prefix))
                .collect();
            assert_eq!(found, expected, "{prefix:?} after {after}");
        }
    }
}

pub(super) async fn prefixes_are_of_keys_and_not_of_folders(storage: &dyn Storage) {
    let sorted = fill(storage).await;
    for prefix in ["a", "a/", "a/b", "a/b/", "a/b-", "A", "x", "a/b/c", "ab"] {
        let expected: Vec<&str> = sorted
            .iter()
            .copied()
            .filter(|name| name.starts_with(prefix))
            .collect();
        assert_eq!(listed(storage, prefix).await, expected, "{prefix}");
    }
}

pub(super) async fn deleting_what_is_absent_succeeds(storage: &dyn Storage) {
    create(storage, "a/b", b"x").await;
    create(storage, "a/c", b"y").await;
    storage.delete(&key("a/b")).await.unwrap();
    assert_eq!(listed(storage, "").await, ["a/c"]);
    for name in ["a/b", "a", "x/y"] {
        storage.delete(&key(name)).await.unwrap();
    }
    assert_eq!(listed(storage, "").await, ["a/c"]);
    create(storage, "a/b", b"anew").await;
    assert_eq!(contents(storage, "a/b").await.unwrap(), "anew");
}

pub(super) async fn awkward_characters_are_kept(storage: &dyn Storage) {
    let mut sorted = [
        "a%2Fb",
        "a+b",
        "a=b",
        "a@b",
        "a%",
        "+",
        "=",
        "@",
        "%%",
        "x/%20+=@_-.~".trim_end_matches('~'),
    ];
    for name in sorted {
        create(storage, name, b"x").await;
        assert!(contents(storage, name).await.is_some(), "{name}");
        assert!(storage.head(&key(name)).await.unwrap().is_some(), "{name}");
        assert_eq!(storage.read(&key(name), 0..1).await.unwrap(), "x", "{name}");
    }
    sorted.sort_unstable();
    assert_eq!(listed(storage, "").await, sorted);
    let upload = uploaded(storage, "u/%+=@", &"y".into()).await;
    upload.complete(1).await.unwrap();
    assert_eq!(listed(storage, "u/%+").await, ["u/%+=@"]);
    for name in sorted.into_iter().chain(["u/%+=@"]) {
        storage.delete(&key(name)).await.unwrap();
    }
    assert_empty(storage).await;
}

pub(super) async fn an_object_may_be_empty(storage: &dyn Storage) {
    create(storage, "a", b"").await;
    assert_eq!(contents(storage, "a").await.unwrap(), "");
    assert_eq!(storage.head(&key("a")).await.unwrap().unwrap().size, 0);
    assert_eq!(storage.read(&key("a"), 0..0).await.unwrap(), "");
    assert!(storage.read(&key("a"), 0..1).await.is_err());
}

pub(super) async fn times_are_of_the_present(storage: &dyn Storage) {
    create(storage, "a", b"x").await;
    std::mem::forget(storage.begin(&key("b")).await.unwrap());
    let object = storage.head(&key("a")).await.unwrap().unwrap();
    assert_eq!(list_all(storage, "").await.unwrap()[0].size, object.size);
    // the store's clock is that of this machine; it may count in seconds
    let begun = storage.unfinished("").await.unwrap()[0].begun;
    for time in [object.modified, begun] {
        let apart = match SystemTime::now().duration_since(time) {
            Ok(apart) => apart,
            Err(error) => error.duration(),
        };
        assert!(apart < Duration::from_secs(600), "{apart:?}");
    }
}

pub(super) async fn an_upload_of_one_part(storage: &dyn Storage) {
    let upload = uploaded(storage, "a/b", &"short".into()).await;
    upload.complete(5).await.unwrap();
    assert_eq!(contents(storage, "a/b").await.unwrap(), "short");
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn an_upload_of_parts_with_an_odd_tail(storage: &dyn Storage) {
    let part = storage.limits().part_size;
    for (name, length) in [("odd", 2 * part + 7), ("even", 2 * part)] {
        let bytes = pattern(length, 1);
        let upload = uploaded(storage, name, &bytes).await;
        upload.complete(length as u64).await.unwrap();
        assert_eq!(contents(storage, name).await.unwrap(), bytes);
        let border = part as u64 - 3..part as u64 + 3;
        assert_eq!(
            storage.read(&key(name), border).await.unwrap(),
            bytes.slice(part - 3..part + 3)
        );
    }
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn parts_come_in_any_order_and_at_once(storage: &dyn Storage) {
    let bytes = pattern(4 * storage.limits().part_size + 11, 2);
    let parts = cut(&bytes, storage.limits());
    let upload = storage.begin(&key("backwards")).await.unwrap();
    for (number, part) in parts.iter().rev() {
        upload.part(*number, part.clone()).await.unwrap();
    }
    upload.complete(bytes.len() as u64).await.unwrap();
    assert_eq!(contents(storage, "backwards").await.unwrap(), bytes);

    let upload = storage.begin(&key("at-once")).await.unwrap();
    let part = |at: usize| upload.part(parts[at].0, parts[at].1.clone());
    let (a, b, c, d, e) = tokio::join!(part(4), part(1), part(0), part(3), part(2));
    for result in [a, b, c, d, e] {
        result.unwrap();
    }
    upload.complete(bytes.len() as u64).await.unwrap();
    assert_eq!(contents(storage, "at-once").await.unwrap(), bytes);
}

pub(super) async fn an_upload_is_not_seen_before_it_is_complete(storage: &dyn Storage) {
    let upload = uploaded(storage, "a/b", &"whole".into()).await;
    assert_eq!(listed(storage, "").await, Vec::<String>::new());
    assert_eq!(contents(storage, "a/b").await, None);
    assert_eq!(storage.head(&key("a/b")).await.unwrap(), None);
    for (prefix, found) in [("", 1), ("a/", 1), ("a/b", 1), ("b", 0), ("a/b/", 0)] {
        let unfinished = storage.unfinished(prefix).await.unwrap();
        assert_eq!(unfinished.len(), found, "{prefix}");
        assert!(unfinished.iter().all(|one| one.key == key("a/b")));
    }
    upload.complete(5).await.unwrap();
    assert_eq!(listed(storage, "").await, ["a/b"]);
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}

pub(super) async fn completing_refuses_a_taken_key(storage: &dyn Storage) {
    let upload = uploaded(storage, "a", &"mine".into()).await;
    create(storage, "a", b"another's").await;
    let error = upload.complete(4).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(contents(storage, "a").await.unwrap(), "another's");
    // of the same length too
    let upload = uploaded(storage, "b", &"mine".into()).await;
    create(storage, "b", b"your").await;
    assert!(upload.complete(4).await.is_err());
    assert_eq!(contents(storage, "b").await.unwrap(), "your");
}

pub(super) async fn completing_refuses_another_size(storage: &dyn Storage) {
    let upload = uploaded(storage, "a", &"12345".into()).await;
    assert!(upload.complete(6).await.is_err());
    assert_eq!(storage.head(&key("a")).await.unwrap(), None);
    // a part that never came
    let part = storage.limits().part_size;
    let upload = storage.begin(&key("b")).await.unwrap();
    upload.part(1, pattern(part, 0)).await.unwrap();
    assert!(upload.complete(2 * part as u64).await.is_err());
    assert_eq!(storage.head(&key("b")).await.unwrap(), None);
    // no part at all
    let upload = storage.begin(&key("c")).await.unwrap();
    assert!(upload.complete(1).await.is_err());
    assert_eq!(listed(storage, "").await, Vec::<String>::new());
}

pub(super) async fn an_aborted_upload_leaves_nothing(storage: &dyn Storage) {
    let upload = storage.begin(&key("a/b")).await.unwrap();
    upload.abort().await.unwrap();
    let upload = uploaded(storage, "a/b", &"begun".into()).await;
    upload.abort().await.unwrap();
    assert_empty(storage).await;
}

async fn discard_all(storage: &dyn Storage) -> Vec<Unfinished> {
    let unfinished = storage.unfinished("").await.unwrap();
    for one in &unfinished {
        storage.discard(one).await.unwrap();
    }
    unfinished
}

pub(super) async fn a_dropped_upload_leaves_what_is_listed(storage: &dyn Storage) {
    drop(uploaded(storage, "a", &"begun".into()).await);
    assert_eq!(listed(storage, "").await, Vec::<String>::new());
    discard_all(storage).await;
    assert_empty(storage).await;
}

pub(super) async fn what_is_unfinished_can_be_discarded_twice(storage: &dyn Storage) {
    create(storage, "a/kept", b"x").await;
    // as if the process had ended
    std::mem::forget(uploaded(storage, "a/b", &"begun".into()).await);
    std::mem::forget(storage.begin(&key("a/c")).await.unwrap());
    let discarded = discard_all(storage).await;
    let keys: BTreeSet<&str> = discarded.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["a/b", "a/c"].into());
    assert_eq!(storage.unfinished("").await.unwrap(), []);
    for one in &discarded {
        storage.discard(one).await.unwrap();
    }
    assert_eq!(listed(storage, "").await, ["a/kept"]);
}

pub(super) async fn two_uploads_of_one_key_are_two(storage: &dyn Storage) {
    let one = uploaded(storage, "a", &"one".into()).await;
    let two = uploaded(storage, "a", &"two".into()).await;
    let unfinished = storage.unfinished("a").await.unwrap();
    assert_eq!(unfinished.len(), 2);
    assert_ne!(unfinished[0].upload, unfinished[1].upload);
    one.abort().await.unwrap();
    two.complete(3).await.unwrap();
    assert_eq!(contents(storage, "a").await.unwrap(), "two");
    assert_eq!(storage.unfinished("").await.unwrap(), []);
}
