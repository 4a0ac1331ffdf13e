//! Tables that fit a width: the first column shrinks, and the columns that matter least leave.

use super::line::{ScreenLine, Tone, columns, padded};

/// Between two columns.
const GAP: usize = 2;
/// The first column stays as wide as this.
const FIRST_MIN: usize = 16;
/// The last column, of words, needs no more than this; longer texts take what is left of the line.
const LAST_MAX: usize = 10;

/// One column.
#[derive(Clone, Debug)]
pub(super) struct GridColumn {
    pub(super) head: String,
    /// Numbers stand on the right.
    pub(super) is_right: bool,
    /// Columns of a lower rank leave first. The first column stays whatever its rank.
    pub(super) rank: u8,
}

impl GridColumn {
    pub(super) fn words(head: impl Into<String>, rank: u8) -> Self {
        Self { head: head.into(), is_right: false, rank }
    }

    pub(super) fn numbers(head: &str, rank: u8) -> Self {
        Self { head: head.to_owned(), is_right: true, rank }
    }
}

/// One row: how it is toned, and a text for each column.
pub(super) type GridRow = (Tone, Vec<String>);

/// The head and the rows in lines of this width at most.
pub(super) fn grid(heads: &[GridColumn], rows: &[GridRow], width: usize) -> Vec<ScreenLine> {
    let ends_in_words = |index: usize| index > 0 && index + 1 == heads.len() && !heads[index].is_right;
    let natural = |index: usize| {
        let cells = rows.iter().map(|(_, cells)| cells.get(index).map_or(0, |cell| columns(cell)));
        let most = cells.chain([columns(&heads[index].head)]).max().unwrap_or(0);
        if ends_in_words(index) { most.min(LAST_MAX) } else { most }
    };
    let mut kept: Vec<(usize, usize)> = (0..heads.len()).map(|index| (index, natural(index))).collect();
    loop {
        let total = kept.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP);
        let over = total.saturating_sub(width);
        let Some((_, first)) = kept.first_mut() else { return Vec::new() };
        let slack = first.saturating_sub(FIRST_MIN);
        if over <= slack {
            *first -= over;
            break;
        }
        let least = kept.iter().enumerate().skip(1).min_by_key(|(_, (index, _))| heads[*index].rank);
        let Some(least) = least.map(|(place, _)| place) else {
            kept[0].1 = width;
            break;
        };
        kept.remove(least);
    }
    let line = |tone: Tone, text: &dyn Fn(usize) -> String| {
        let cells = kept.iter().map(|(index, width)| {
            let text = text(*index);
            if ends_in_words(*index) { text } else { padded(&text, *width, heads[*index].is_right) }
        });
        let joined = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        ScreenLine::of(tone, joined.trim_end()).fitted(width)
    };
    let head = line(Tone::Head, &|index| heads[index].head.clone());
    let rows =
        rows.iter().map(|(tone, cells)| line(*tone, &|index| cells.get(index).cloned().unwrap_or_default()));
    std::iter::once(head).chain(rows).collect()
}

/// How many of `total` lines each section gets that could fill `wants`: two for its head and a row, or none; then in turns, so
/// that a long one takes what the others leave.
pub(super) fn shares<const N: usize>(total: usize, wants: [usize; N]) -> [usize; N] {
    let mut left = total;
    let mut shares = wants.map(|want| {
        let begin = if want.min(2) <= left { want.min(2) } else { 0 };
        left -= begin;
        begin
    });
    loop {
        let before = left;
        for (share, want) in shares.iter_mut().zip(wants) {
            if left > 0 && *share > 0 && *share < want {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            return shares;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(width: usize) -> Vec<String> {
        let heads =
            [GridColumn::words("MODEL", 0), GridColumn::words("STATE", 9), GridColumn::numbers("HITS", 1)];
        let row = |name: &str| (Tone::Plain, vec![name.to_owned(), "ready".to_owned(), "7".to_owned()]);
        let rows = [row("a-model-with-a-long-name"), row("茶炊")];
        grid(&heads, &rows, width).iter().map(ScreenLine::text).collect()
    }

    #[test]
    fn columns_line_up_and_leave_by_rank() {
        assert_eq!(
            texts(80),
            [
                "MODEL                     STATE  HITS",
                "a-model-with-a-long-name  ready     7",
                "茶炊                      ready     7",
            ]
        );
        assert_eq!(texts(30)[1], "a-model-with-a-l…  ready     7", "the name shrinks first");
        assert_eq!(
            texts(25),
            ["MODEL               STATE", "a-model-with-a-lo…  ready", "茶炊                ready"]
        );
        assert_eq!(texts(8), ["MODEL", "a-model…", "茶炊"]);
        assert!(texts(0).iter().all(String::is_empty));
    }

    #[test]
    fn a_long_text_at_the_end_drives_no_column_away() {
        let heads =
            [GridColumn::words("MODEL", 0), GridColumn::numbers("HITS", 1), GridColumn::words("UNTIL", 9)];
        let cells = ["m", "7", "the worker was killed by SIGKILL"].map(str::to_owned).to_vec();
        let lines: Vec<String> =
            grid(&heads, &[(Tone::Plain, cells)], 24).iter().map(ScreenLine::text).collect();
        assert_eq!(lines, ["MODEL  HITS  UNTIL", "m         7  the worker…"]);
    }

    #[test]
    fn sections_share_lines_in_turns() {
        assert_eq!(shares(10, [3, 20, 5]), [3, 4, 3]);
        assert_eq!(shares(100, [3, 20, 5]), [3, 20, 5]);
        assert_eq!(shares(3, [3, 3, 3]), [3, 0, 0]);
        assert_eq!(shares(0, [1]), [0]);
    }
}
