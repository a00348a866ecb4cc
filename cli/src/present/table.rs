//! Aligned columns.

/// Which side of its column a cell keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a header.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    nothing: &'static str,
}

impl Table {
    /// An empty table; `nothing` is said instead when it stays so.
    pub fn new(columns: &[(&'static str, Align)], nothing: &'static str) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), nothing }
    }

    /// Adds a row; text from outside is cleaned.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// The text, each line ended; the header in bold if wanted.
    pub fn render(&self, bold: bool) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.nothing);
        }
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (title, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
                cells.chain([width(title)]).max().unwrap_or(0)
            })
            .collect();
        let header: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let header = self.line(&header, &widths);
        let mut out = if bold { format!("\u{1b}[1m{header}\u{1b}[0m\n") } else { format!("{header}\n") };
        for row in &self.rows {
            out.push_str(&self.line(row, &widths));
            out.push('\n');
        }
        out
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut out = String::new();
        for ((cell, column), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let padding = " ".repeat(column.saturating_sub(width(cell)));
            match align {
                Align::Left => out.extend([cell, padding.as_str()]),
                Align::Right => out.extend([padding.as_str(), cell]),
            }
            out.push_str("  ");
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// Names with their values, one a line.
#[derive(Debug, Default)]
pub struct Facts(Vec<(&'static str, String)>);

impl Facts {
    /// Adds one.
    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, clean(&value.into())));
    }
    /// The text, the values in one column.
    pub fn render(&self) -> String {
        let column = self.0.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        self.0.iter().map(|(name, value)| format!("{name:column$}  {value}\n")).collect()
    }
}

/// How many columns a text takes: our own words and ids are ASCII, a sparkline's bars take one each.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text that moves no cursor: control characters and those that turn the writing direction become `?`.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("WHY", Align::Left)], "none");
        table.row(["a".to_owned(), "1".to_owned(), "x".to_owned()]);
        table.row(["longer".to_owned(), "12345".to_owned(), String::new()]);
        table.row(["é▁▂".to_owned(), "7".to_owned(), "y z".to_owned()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let expected = "\
NAME     SIZE  WHY
a           1  x
longer  12345
é▁▂         7  y z
";
        assert_eq!(table().render(false), expected);
    }

    #[test]
    fn only_the_header_is_bold_and_only_if_wanted() {
        let bold = table().render(true);
        assert!(bold.starts_with("\u{1b}[1mNAME     SIZE  WHY\u{1b}[0m\n"));
        assert_eq!(bold.matches('\u{1b}').count(), 2);
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&[("A", Align::Left)], "no hosts").render(false), "no hosts\n");
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2J\nb\u{202e}c"), "a?[2J?b?c");
    }

    #[test]
    fn facts_stand_in_one_column() {
        let mut facts = Facts::default();
        facts.add("id", "1");
        facts.add("longer", "2\n3");
        assert_eq!(facts.render(), "id      1\nlonger  2?3\n");
    }
}
