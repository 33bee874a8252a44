//! Writes `docs/losses.md` and its pictures: every loss of `losses::ALL` with the words of its documentation, its curve and its
//! derivative, as the reference computes them.
//!
//! ```sh
//! cargo run --example losses_page
//! ```
//!
//! A test compares the files with what this program would write.

use std::fmt::Write as _;
use std::path::Path;

use cotangent::losses::{ALL, Loss};
use cotangent::prelude::*;

/// The files of losses: a section and a picture each. Their first lines are the titles.
pub const SOURCES: [(&str, &str); 9] = [
    ("regression", include_str!("../src/losses/regression.rs")),
    ("margins", include_str!("../src/losses/margins.rs")),
    ("classes", include_str!("../src/losses/classes.rs")),
    ("vocabulary", include_str!("../src/losses/vocabulary.rs")),
    ("binary", include_str!("../src/losses/binary.rs")),
    ("likelihoods", include_str!("../src/losses/likelihoods.rs")),
    ("embeddings", include_str!("../src/losses/embeddings.rs")),
    ("overlap", include_str!("../src/losses/overlap.rs")),
    ("sequences", include_str!("../src/losses/sequences.rs")),
];

const INTRODUCTION: &str = "\
# Losses

Every loss of `cotangent::losses`, in the words of its documentation. Below, `d = prediction − target`; at kinks the derivative is the
mean of both sides. Shapes that would broadcast against each other are `E_BROADCAST`, hyper-parameters outside their domain
`E_HYPERPARAMETER`. `losses::weighted` takes weights of samples, `losses::masked` leaves samples out, whatever they hold, and
`losses::custom` gives a formula of one's own the same checks.

Pictures show a loss (solid) and its derivative (dashed) where the first number of its first operand moves and everything else stays as in
the sample of `losses::ALL`. `cargo run --example losses_page` writes this page and its pictures; a test compares them.
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (path, text) in files()? {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// Paths from the root of the repository, and texts.
pub fn files() -> Result<Vec<(String, String)>, Error> {
    let (mut page, mut files) = (INTRODUCTION.to_owned(), Vec::new());
    for (name, source) in SOURCES {
        let losses: Vec<(&Loss, Vec<String>)> =
            ALL.iter().filter_map(|loss| Some((loss, documentation(source, loss.name)?))).collect();
        let title =
            source.lines().next().unwrap_or_default().trim_start_matches("//! ").trim_end_matches('.');
        let _ = write!(page, "\n## {title}\n\n![{title}: curves and derivatives](img/losses-{name}.svg)\n");
        for (loss, paragraphs) in &losses {
            let _ = write!(page, "\n### {}\n\n{}\n", loss.name, paragraphs.join("\n\n"));
        }
        let panels = losses.iter().map(|(loss, _)| Panel::new(loss)).collect::<Result<Vec<_>, _>>()?;
        files.push((format!("docs/img/losses-{name}.svg"), picture(&panels)));
    }
    files.push(("docs/losses.md".to_owned(), page));
    Ok(files)
}

/// Beginnings of sentences that say one thing each.
const ITEMS: [&str; 5] = ["Shapes:", "Derivative", "Domain:", "Error:", "Source:"];

/// The documentation of a public function or type, without examples: paragraphs, of which those with items are lists.
fn documentation(source: &str, name: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = source.lines().collect();
    let starts = [format!("pub fn {name}("), format!("pub struct {name} ")];
    let item = lines.iter().position(|line| starts.iter().any(|start| line.starts_with(start)))?;
    let above =
        lines[..item].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let mut text: Vec<&str> = above.filter_map(|line| line.strip_prefix("///")).map(str::trim).collect();
    text.reverse();
    let text: Vec<&str> = text.into_iter().take_while(|line| !line.starts_with("```")).collect();
    let paragraphs = text.split(|line| line.is_empty()).filter(|lines| !lines.is_empty());
    Some(paragraphs.map(|lines| listed(&linked(&lines.join(" ")))).collect())
}

/// Links between functions as links between sections.
fn linked(text: &str) -> String {
    let mut text = text.to_owned();
    for Loss { name, .. } in ALL {
        let (plain, section) = (format!("[`{name}`]"), format!("[`{name}`](#{})", name.to_lowercase()));
        text = text.replace(&format!("{plain}(super::{name})"), &plain).replace(&plain, &section);
    }
    text
}

/// A paragraph with one line for each item.
fn listed(paragraph: &str) -> String {
    let mut starts: Vec<usize> = ITEMS
        .iter()
        .flat_map(|item| paragraph.match_indices(item).map(|(at, _)| at))
        .filter(|&at| at == 0 || paragraph[..at].ends_with(". "))
        .collect();
    starts.sort_unstable();
    if starts.first() != Some(&0) {
        return paragraph.to_owned();
    }
    let ends = starts[1..].iter().copied().chain([paragraph.len()]);
    let lines = starts.iter().zip(ends).map(|(&start, end)| format!("- {}", paragraph[start..end].trim()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Points of a curve.
const POINTS: usize = 161;
/// Sizes in pixels: a panel with its margins, and the part of it where curves lie.
const PANEL: [f64; 2] = [240.0, 190.0];
const PLOT: [f64; 4] = [44.0, 28.0, 188.0, 132.0];
const COLUMNS: usize = 3;
const LEGEND: f64 = 26.0;

/// A loss on a line.
struct Panel {
    name: &'static str,
    x: [f64; 2],
    y: [f64; 2],
    loss: Vec<(f64, f64)>,
    derivative: Vec<(f64, f64)>,
}

impl Panel {
    fn new(loss: &Loss) -> Result<Panel, Error> {
        let [low, high] = loss.span;
        let places: Vec<f64> =
            (0..POINTS).map(|i| low + (high - low) * i as f64 / (POINTS - 1) as f64).collect();
        let mut tensors = Vec::new();
        for &place in &places {
            let mut operands = (loss.sample)();
            let mut first = operands[0].to_f64();
            first[0] = place;
            operands[0] = Array::new(first, operands[0].shape())?;
            let operands: Vec<Tensor> = operands.into_iter().map(Tensor::new).collect();
            let value = (loss.function)(&operands).reshape([-1]).slice(0, 0, 1, 1).squeeze(0);
            let slope = grad(&value, &operands[0])?.or_zero().reshape([-1]).slice(0, 0, 1, 1).squeeze(0);
            tensors.extend([value, slope]);
        }
        let values = Reference::new().evaluate(&tensors.iter().collect::<Vec<_>>())?;
        let numbers = values.iter().map(Array::scalar).collect::<Result<Vec<_>, _>>()?;
        let curve = |of: usize| -> Vec<(f64, f64)> {
            let values = numbers.iter().skip(of).step_by(2);
            places.iter().copied().zip(values.copied()).filter(|(_, y)| y.is_finite()).collect()
        };
        let (curve, derivative) = (curve(0), curve(1));
        let all = curve.iter().chain(&derivative).map(|(_, y)| *y);
        let (low_y, high_y) = all.fold((0.0f64, 0.0f64), |(low, high), y| (low.min(y), high.max(y)));
        let high_y = if high_y > low_y { high_y } else { low_y + 1.0 };
        Ok(Panel { name: loss.name, x: [low, high], y: [low_y, high_y], loss: curve, derivative })
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let [left, top, width, height] = PLOT;
        let share = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
        (left + width * share(x, self.x), top + height * (1.0 - share(y, self.y)))
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (i, &point) in points.iter().enumerate() {
            let (x, y) = self.place(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        }
        path
    }

    /// The panel with its upper left corner there.
    fn draw(&self, svg: &mut String, [across, down]: [f64; 2]) {
        let [left, top, width, height] = PLOT;
        let (bottom, right) = (top + height, left + width);
        let zero_y = self.place((self.x[0], 0.0)).1;
        let zero_x = self.place((0.0, 0.0)).0;
        let _ = writeln!(svg, r#"<g transform="translate({across} {down})">"#);
        let _ = writeln!(svg, r#"<text x="{left}" y="{}" class="name">{}</text>"#, top - 8.0, self.name);
        let _ =
            writeln!(svg, r#"<rect x="{left}" y="{top}" width="{width}" height="{height}" class="frame"/>"#);
        let _ = writeln!(svg, r#"<path d="M{left} {zero_y:.1}H{right}" class="axis"/>"#);
        if self.x[0] < 0.0 && self.x[1] > 0.0 {
            let _ = writeln!(svg, r#"<path d="M{zero_x:.1} {top}V{bottom}" class="axis"/>"#);
        }
        let labels = [
            (left, bottom + 14.0, "start", self.x[0]),
            (right, bottom + 14.0, "end", self.x[1]),
            (left - 4.0, bottom, "end", self.y[0]),
            (left - 4.0, top + 8.0, "end", self.y[1]),
        ];
        for (x, y, anchor, value) in labels {
            let _ = writeln!(svg, r#"<text x="{x}" y="{y}" text-anchor="{anchor}">{}</text>"#, short(value));
        }
        let _ = writeln!(svg, r#"<path d="{}" class="derivative"/>"#, self.path(&self.derivative));
        let _ = writeln!(svg, "<path d=\"{}\" class=\"loss\"/>\n</g>", self.path(&self.loss));
    }
}

/// Two digits are enough for the ends of an axis.
fn short(value: f64) -> String {
    let digits = if value.abs() >= 10.0 || value == 0.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.replace('-', "−")
}

/// Colors that are read on white and, where the reader prefers it, on black.
const STYLE: &str = "\
text { font: 11px sans-serif; fill: #57606a }
.name { font-weight: bold; fill: #24292f }
.frame { fill: none; stroke: #8c959f; stroke-opacity: 0.5 }
.axis { stroke: #8c959f; stroke-width: 0.7 }
.loss, .derivative { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.loss { stroke: #0969da }
.derivative { stroke: #d4730c; stroke-dasharray: 5 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #9da7b3 }
  .name { fill: #e6edf3 }
  .loss { stroke: #58a6ff }
  .derivative { stroke: #f0a050 }
}
";

fn picture(panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, COLUMNS);
    let (width, height) =
        (PANEL[0] * columns as f64, LEGEND + PANEL[1] * panels.len().div_ceil(columns) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n<style>\n{STYLE}</style>\n"
    );
    for (x, class, text) in [(44.0, "loss", "loss"), (124.0, "derivative", "derivative")] {
        let _ = writeln!(
            svg,
            r#"<path d="M{x} 14h22" class="{class}"/><text x="{}" y="18">{text}</text>"#,
            x + 28.0
        );
    }
    for (i, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, [PANEL[0] * (i % columns) as f64, LEGEND + PANEL[1] * (i / columns) as f64]);
    }
    svg.push_str("</svg>\n");
    svg
}
