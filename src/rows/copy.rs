//! The statements that read a table's rows, whole or cut by ctid.

use bstr::BString;

use crate::sql;

/// A range of heap blocks: from the first, up to but not with the second; to the end without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub start: u64,
    pub end: Option<u64>,
}

/// Ranges of about equal size; the last is open, since a table may grow behind what was measured.
/// One element that is None: the table as a whole.
pub fn slices(blocks: u64, wanted: u64) -> Vec<Option<Slice>> {
    let count = wanted.min(blocks);
    if count < 2 {
        return vec![None];
    }
    (0..count)
        .map(|index| {
            Some(Slice {
                start: blocks * index / count,
                end: (index + 1 < count).then(|| blocks * (index + 1) / count),
            })
        })
        .collect()
}

/// A whole table is a plain COPY; a part of one is a COPY of a query.
pub fn copy_statement(
    relation: &BString,
    columns: &[BString],
    filter: &BString,
    slice: Option<Slice>,
) -> BString {
    let columns = sql::join(columns.iter().map(sql::identifier), ", ");
    let condition = match slice {
        None if filter.is_empty() => {
            let list = if columns.is_empty() {
                BString::default()
            } else {
                sql!(" ({})", columns)
            };
            return sql!("COPY {}{} TO STDOUT", relation, list);
        }
        None => filter.clone(),
        Some(Slice { start, end }) => {
            let mut condition = format!("WHERE ctid >= '({start},0)'::tid");
            if let Some(end) = end {
                condition.push_str(&format!(" AND ctid < '({end},0)'::tid"));
            }
            condition.into()
        }
    };
    sql!(
        "COPY (SELECT {} FROM ONLY {} {}) TO STDOUT",
        columns,
        relation,
        condition
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_all_blocks_once_and_stay_open_at_the_end() {
        for (blocks, wanted) in [(10, 3), (1_000_003, 7), (5, 5), (3, 10)] {
            let slices: Vec<Slice> = slices(blocks, wanted).into_iter().flatten().collect();
            assert_eq!(slices[0].start, 0);
            for pair in slices.windows(2) {
                assert_eq!(pair[0].end, Some(pair[1].start));
                assert!(pair[0].start < pair[1].start);
            }
            assert_eq!(slices.last().map(|slice| slice.end), Some(None));
        }
        assert_eq!(slices(1_000, 1), [None]);
        assert_eq!(slices(0, 9), [None]);
    }

    #[test]
    fn statements() {
        let relation = BString::from("public.t");
        let columns = [BString::from("id"), BString::from("Name")];
        let none = BString::default();
        assert_eq!(
            copy_statement(&relation, &columns, &none, None),
            "COPY public.t (id, \"Name\") TO STDOUT"
        );
        assert_eq!(
            copy_statement(&relation, &[], &none, None),
            "COPY public.t TO STDOUT"
        );
        assert_eq!(
            copy_statement(
                &relation,
                &columns,
                &none,
                Some(Slice {
                    start: 8,
                    end: Some(16)
                })
            ),
            "COPY (SELECT id, \"Name\" FROM ONLY public.t WHERE ctid >= '(8,0)'::tid AND ctid < '(16,0)'::tid) TO STDOUT"
        );
        assert_eq!(
            copy_statement(&relation, &columns, &"WHERE id > 1".into(), None),
            "COPY (SELECT id, \"Name\" FROM ONLY public.t WHERE id > 1) TO STDOUT"
        );
    }
}
