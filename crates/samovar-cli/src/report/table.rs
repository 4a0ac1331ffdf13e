//! Tables without lines: a bold head, two spaces between columns, the same text in a pipe.

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

/// On which side a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table with these columns.
    pub(crate) fn new(head: &[(&'static str, Align)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one text a column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|text| super::harmless(&text).into_owned()).collect();
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// Its text, with a bold head where that is shown.
    pub(crate) fn render(self, is_coloured: bool) -> String {
        let mut table = Table::new();
        // Never wrapped to the terminal's width: a path cut in two cannot be copied.
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if is_coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if self.head.iter().any(|(name, _)| !name.is_empty()) {
            table.set_header(self.head.iter().map(|(name, _)| {
                let cell = Cell::new(name);
                if is_coloured { cell.add_attribute(Attribute::Bold) } else { cell }
            }));
        }
        for row in self.rows {
            table.add_row(row);
        }
        for (index, (_, align)) in self.head.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                if *align == Align::Right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_names_has_no_head() {
        let mut table = Columns::new(&[("", Align::Left), ("", Align::Left)]);
        table.row(["a".to_owned(), "b".to_owned()]);
        assert_eq!(table.render(false), "a  b");
    }

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let mut table = Columns::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(["a".to_owned(), "10".to_owned()]);
        table.row(["longer".to_owned(), "7".to_owned()]);
        assert_eq!(table.render(false), "NAME    SIZE\na         10\nlonger     7");
    }
}
