use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

pub fn entry(id: u32, kind: &str, name: &str, dependencies: &[u32]) -> Entry {
    let (section, contents) = match kind {
        "TABLE" | "TABLE ATTACH" | "DOMAIN" => (Section::PreData, Contents::None),
        "TABLE DATA" => (
            Section::Data,
            Contents::Rows {
                relation: name.into(),
                columns: Vec::new(),
                filter: "".into(),
            },
        ),
        _ => (Section::PostData, Contents::None),
    };
    Entry {
        schema: Some("public".into()),
        name: name.into(),
        relation: (kind == "TABLE ATTACH").then(|| name.into()),
        create: "".into(),
        drop: "".into(),
        drop_if_exists: "".into(),
        dependencies: dependencies.iter().copied().map(EntryId).collect(),
        contents,
        ..Entry::new(EntryId(id), kind, section)
    }
}

/// Takes all that may run now, by entry id, in the order of taking.
fn take_all(schedule: &mut Schedule, entries: &[Entry]) -> Vec<(u32, Step)> {
    std::iter::from_fn(|| schedule.take())
        .map(|step| (entries[step.entry].id.0, step))
        .collect()
}

fn ids(steps: &[(u32, Step)]) -> Vec<u32> {
    steps.iter().map(|(id, _)| *id).collect()
}

/// The step of an entry among those taken.
fn step(steps: &[(u32, Step)], id: u32) -> Step {
    let found = steps.iter().find(|(taken, _)| *taken == id);
    found.expect("it was taken").1
}

#[test]
fn the_largest_goes_first_and_an_index_follows_its_table() {
    let entries = [
        entry(1, "TABLE", "small", &[]),
        entry(2, "TABLE", "large", &[]),
        entry(3, "TABLE DATA", "small", &[1]),
        entry(4, "TABLE DATA", "large", &[2]),
        entry(5, "INDEX", "large_i", &[2]),
        entry(6, "INDEX", "large_j", &[2]),
        entry(7, "INDEX", "small_i", &[1]),
    ];
    let mut schedule = Schedule::new(&entries, |id| if id.0 == 4 { 1000 } else { 10 });
    let first = take_all(&mut schedule, &entries);
    assert_eq!(ids(&first), [4, 3]);
    schedule.done(step(&first, 4));
    // both indexes of one table at once, before the other table is loaded
    let second = take_all(&mut schedule, &entries);
    assert_eq!(ids(&second), [5, 6]);
    schedule.done(step(&first, 3));
    let third = take_all(&mut schedule, &entries);
    assert_eq!(ids(&third), [7]);
    for (_, step) in second.into_iter().chain(third) {
        assert!(!schedule.is_over());
        schedule.done(step);
    }
    assert!(schedule.is_over());
}

#[test]
fn an_index_of_a_partitioned_table_waits_for_the_rows_of_all_partitions() {
    let entries = [
        entry(1, "TABLE", "parent", &[]),
        entry(2, "TABLE", "one", &[]),
        entry(3, "TABLE", "two", &[]),
        entry(4, "TABLE ATTACH", "one", &[1, 2]),
        entry(5, "TABLE ATTACH", "two", &[1, 3]),
        entry(6, "TABLE DATA", "one", &[2]),
        entry(7, "TABLE DATA", "two", &[3]),
        entry(8, "INDEX", "parent_i", &[1]),
        entry(9, "INDEX", "one_i", &[2]),
    ];
    let mut schedule = Schedule::new(&entries, |_| 1);
    let data = take_all(&mut schedule, &entries);
    assert_eq!(ids(&data), [6, 7]);
    schedule.done(step(&data, 6));
    let own = take_all(&mut schedule, &entries);
    assert_eq!(ids(&own), [9]);
    schedule.done(step(&data, 7));
    assert_eq!(ids(&take_all(&mut schedule, &entries)), [8]);
}

#[test]
fn a_foreign_key_runs_alone_on_both_its_tables() {
    let entries = [
        entry(1, "TABLE", "a", &[]),
        entry(2, "TABLE", "b", &[]),
        entry(3, "CONSTRAINT", "a_pkey", &[1]),
        entry(4, "CONSTRAINT", "b_pkey", &[2]),
        entry(5, "FK CONSTRAINT", "b_a", &[1, 2, 3]),
        entry(6, "INDEX", "a_i", &[1]),
        entry(7, "INDEX", "b_i", &[2]),
    ];
    let mut schedule = Schedule::new(&entries, |_| 0);
    // the index of each table would share it, a constraint does not
    let first = take_all(&mut schedule, &entries);
    assert_eq!(ids(&first), [3, 4]);
    schedule.done(step(&first, 3));
    // b is still locked
    let second = take_all(&mut schedule, &entries);
    assert_eq!(ids(&second), [6]);
    schedule.done(step(&first, 4));
    let third = take_all(&mut schedule, &entries);
    assert_eq!(ids(&third), [7]);
    schedule.done(step(&second, 6));
    assert!(take_all(&mut schedule, &entries).is_empty());
    schedule.done(step(&third, 7));
    assert_eq!(ids(&take_all(&mut schedule, &entries)), [5]);
}

#[test]
fn a_constraint_of_a_domain_waits_for_all_rows() {
    let entries = [
        entry(1, "DOMAIN", "d", &[]),
        entry(2, "TABLE", "a", &[]),
        entry(3, "TABLE DATA", "a", &[2]),
        entry(4, "CHECK CONSTRAINT", "d d_check", &[1]),
    ];
    let mut schedule = Schedule::new(&entries, |_| 1);
    let data = take_all(&mut schedule, &entries);
    assert_eq!(ids(&data), [3]);
    schedule.done(step(&data, 3));
    assert_eq!(ids(&take_all(&mut schedule, &entries)), [4]);
}

#[test]
fn rows_that_need_others_begin_after_them() {
    let entries = [
        entry(1, "TABLE", "a", &[]),
        entry(2, "TABLE", "b", &[]),
        entry(3, "TABLE DATA", "a", &[1]),
        entry(4, "TABLE DATA", "b", &[2, 3]),
    ];
    let mut schedule = Schedule::new(&entries, |_| 1);
    let ready = schedule.take_ready_data(&entries);
    assert_eq!(ready.iter().map(|step| step.entry).collect::<Vec<_>>(), [2]);
    assert!(schedule.take_ready_data(&entries).is_empty());
    schedule.done(ready[0]);
    let ready = schedule.take_ready_data(&entries);
    assert_eq!(ready.iter().map(|step| step.entry).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_circle_is_told() {
    let entries = [
        entry(1, "TABLE", "a", &[]),
        entry(2, "INDEX", "a_i", &[1]),
        entry(3, "RULE", "r", &[1, 4]),
        entry(4, "RULE", "s", &[1, 3]),
    ];
    let mut schedule = Schedule::new(&entries, |_| 0);
    let first = take_all(&mut schedule, &entries);
    assert_eq!(ids(&first), [2]);
    assert!(!schedule.is_stuck());
    schedule.done(first[0].1);
    assert!(schedule.is_stuck());
    assert_eq!(schedule.unreached(), [2, 3]);
}

/// Tables with rows, and entries after the data that depend on earlier ones at will.
fn archives() -> impl Strategy<Value = Vec<Entry>> {
    let kinds = prop::sample::select(vec!["INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER"]);
    let after = (
        kinds,
        prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    );
    (1..6u32, prop::collection::vec(after, 0..12)).prop_map(|(tables, after)| {
        let mut entries = Vec::new();
        for table in 1..=tables {
            entries.push(entry(table, "TABLE", &format!("t{table}"), &[]));
        }
        for table in 1..=tables {
            entries.push(entry(
                tables + table,
                "TABLE DATA",
                &format!("t{table}"),
                &[table],
            ));
        }
        for (kind, dependencies) in after {
            // tables or what came after the data, not the rows themselves
            let mut dependencies: Vec<u32> = dependencies
                .iter()
                .map(|index| entries[index.index(entries.len())].id.0)
                .filter(|id| !(tables + 1..=2 * tables).contains(id))
                .collect();
            dependencies.sort_unstable();
            dependencies.dedup();
            let id = entries.len() as u32 + 1;
            entries.push(entry(id, kind, &format!("e{id}"), &dependencies));
        }
        entries
    })
}

proptest! {
    /// Whatever the order in which steps end: all run once, none before what it depends on, and
    /// never two at once that would lock each other out.
    #[test]
    fn all_run_once_in_order_and_apart(
        entries in archives(),
        endings in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let mut schedule = Schedule::new(&entries, |id| u64::from(id.0) * 7 % 5);
        let mut running: Vec<(u32, Step)> = Vec::new();
        let mut over: Vec<u32> = Vec::new();
        let by_id: HashMap<u32, &Entry> = entries.iter().map(|entry| (entry.id.0, entry)).collect();
        let mut endings = endings.iter().cycle();
        loop {
            for (id, step) in take_all(&mut schedule, &entries) {
                prop_assert!(!over.contains(&id) && !ids(&running).contains(&id));
                for dependency in &by_id[&id].dependencies {
                    let other = by_id[&dependency.0];
                    prop_assert!(other.section == Section::PreData || over.contains(&dependency.0));
                    let rows = entries.iter().find(|entry| is_data(entry) && entry.dependencies == [*dependency]);
                    if let Some(rows) = rows.filter(|_| !is_data(by_id[&id])) {
                        prop_assert!(over.contains(&rows.id.0), "{id} before the rows of {}", dependency.0);
                    }
                }
                for (other, _) in &running {
                    let both = [by_id[&id], by_id[other]];
                    let direct = |entry: &Entry| entry.dependencies.iter().map(|id| id.0).collect::<HashSet<_>>();
                    let shared = direct(both[0]).intersection(&direct(both[1])).any(|id| by_id[id].kind == "TABLE");
                    let builds = both.iter().all(|entry| entry.kind == "INDEX");
                    let loads = both.iter().any(|entry| is_data(entry));
                    prop_assert!(!shared || builds || loads, "{id} and {other} at once");
                }
                running.push((id, step));
            }
            if running.is_empty() {
                break;
            }
            let position = endings.next().map_or(0, |index| index.index(running.len()));
            let (id, step) = running.swap_remove(position);
            schedule.done(step);
            over.push(id);
        }
        prop_assert!(schedule.is_over() && !schedule.is_stuck());
        let steps = entries.iter().filter(|entry| entry.section != Section::PreData).count();
        prop_assert_eq!(over.len(), steps);
    }
}

/// Without the tables, what locks which is not known: attachments that meet would leave the index
/// of their parent invalid.
#[test]
fn what_belongs_to_unknown_tables_runs_alone() {
    let mut entries = [
        entry(1, "INDEX ATTACH", "a_pkey", &[]),
        entry(2, "INDEX ATTACH", "b_pkey", &[]),
        entry(3, "TABLE DATA", "c", &[]),
    ];
    for entry in &mut entries {
        entry.relation = Some(entry.name.clone());
    }
    let mut schedule = Schedule::new(&entries, |_| 1);
    let data = schedule.take().expect("rows");
    assert_eq!(data.entry, 2);
    assert_eq!(schedule.take(), None, "before the rows");
    schedule.done(data);
    let first = schedule.take().expect("an attachment");
    assert_eq!(schedule.take(), None, "beside the other");
    schedule.done(first);
    assert!(schedule.take().is_some());
}
