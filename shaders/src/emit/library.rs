//! Functions of the WGSL files, copied into a kernel on demand together with the functions they call.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use crate::catalogue;

/// One declaration at column 0 of a library file.
struct Item {
    text: String,
    /// Lines of text, the measure of how much code a call adds.
    lines: usize,
    /// Whether it contains a loop.
    loops: bool,
    /// Positions of the items it names.
    callees: Vec<usize>,
}

struct Library {
    items: Vec<Item>,
    by_name: HashMap<String, usize>,
}

// Immutable and derived from constants: the same in every process.
static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    Library::parse(&[catalogue::MATH, catalogue::TRIGONOMETRIC, catalogue::RANDOM, catalogue::SUPPORT])
});

/// The words of a text that could be identifiers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

impl Library {
    fn parse(sources: &[&str]) -> Library {
        let mut items: Vec<Item> = Vec::new();
        let mut by_name = HashMap::new();
        for source in sources {
            // Holes hold defaults that make the file valid as it stands; kernels bring their own.
            let mut in_hole = false;
            let mut open: Option<(String, i64)> = None;
            for line in source.lines() {
                if let Some(tag) = line.strip_prefix("//! ") {
                    in_hole = tag.starts_with("hole");
                    continue;
                }
                if in_hole {
                    continue;
                }
                let code = without_comment(line);
                if open.is_none() {
                    let starts = ["fn ", "const ", "struct ", "alias "].iter().any(|s| code.starts_with(s));
                    if !starts {
                        continue;
                    }
                    open = Some((String::new(), 0));
                }
                let Some((text, depth)) = &mut open else { continue };
                text.push_str(line);
                text.push('\n');
                *depth += code
                    .chars()
                    .map(|c| i64::from("{(".contains(c)) - i64::from("})".contains(c)))
                    .sum::<i64>();
                let ends = code.trim_end().ends_with(['}', ';']);
                let Some((text, _)) = open.take_if(|(_, depth)| *depth == 0 && ends) else { continue };
                let name = words(&text).nth(1).unwrap_or_default().to_owned();
                by_name.entry(name).or_insert(items.len());
                let lines = text.lines().count();
                let loops = words(&text).any(|w| matches!(w, "for" | "while" | "loop"));
                items.push(Item { text, lines, loops, callees: Vec::new() });
            }
        }
        let mut library = Library { items, by_name };
        for index in 0..library.items.len() {
            let code: String = library.items[index].text.lines().map(without_comment).collect();
            let found: BTreeSet<usize> =
                words(&code).filter_map(|w| library.by_name.get(w).copied()).collect();
            library.items[index].callees = found.into_iter().filter(|&i| i != index).collect();
        }
        library
    }
    fn closure(&self, text: &str) -> BTreeSet<usize> {
        let mut pending: Vec<usize> = words(text).filter_map(|w| self.by_name.get(w).copied()).collect();
        let mut found = BTreeSet::new();
        while let Some(index) = pending.pop() {
            if found.insert(index) {
                pending.extend(&self.items[index].callees);
            }
        }
        found
    }
}

/// The declarations that a text needs, in the order of the files.
pub(crate) fn needed_by(text: &str) -> String {
    let found = LIBRARY.closure(text);
    found.into_iter().map(|i| LIBRARY.items[i].text.as_str()).collect::<Vec<_>>().join("")
}

/// Roughly how much code a text becomes when all calls are inlined: lines of the library it reaches.
pub(crate) fn weight(text: &str) -> usize {
    LIBRARY.closure(text).into_iter().map(|i| LIBRARY.items[i].lines).sum()
}

/// Whether a text reaches a loop of the library.
pub(crate) fn has_loop(text: &str) -> bool {
    LIBRARY.closure(text).into_iter().any(|i| LIBRARY.items[i].loops)
}

/// Whether the library declares this name.
pub(crate) fn declares(name: &str) -> bool {
    LIBRARY.by_name.contains_key(name)
}

/// Whether a text uses an identifier.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    words(text).any(|w| w == name)
}
