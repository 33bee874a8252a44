//! Indented lines.

/// Text under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// Text whose first line stands inside `depth` braces.
    pub(crate) fn inside(depth: usize) -> Text {
        Text { out: String::new(), depth }
    }
    /// Appends a line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.out.push_str("    ");
        }
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }
    /// Appends a line that ends with an opening brace.
    pub(crate) fn open(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        self.line(if line.is_empty() { "{".to_owned() } else { format!("{line} {{") });
        self.depth += 1;
    }
    /// Closes a brace.
    pub(crate) fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }
    /// Closes a brace and opens the next one on the same line.
    pub(crate) fn close_and_open(&mut self, between: &str) {
        self.depth -= 1;
        self.open(format!("}} {between}"));
    }
    /// Appends finished text.
    pub(crate) fn append(&mut self, text: &Text) {
        self.out.push_str(&text.out);
    }
    /// How many braces are open.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.out
    }
}
