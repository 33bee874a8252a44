//! Charts as SVG text: points, curves and stacked areas between two labelled axes.

use std::fmt::Write as _;

/// Sizes in pixels: the picture, and left, top, width and height of the part where marks lie.
const PICTURE: [f64; 2] = [600.0, 360.0];
const PLOT: [f64; 4] = [56.0, 48.0, 528.0, 262.0];
/// Marks on an axis, about.
const TICKS: f64 = 6.0;

/// Colors that are read on white and, where the reader prefers it, on black.
const STYLE: &str = "\
text { font: 12px sans-serif; fill: #57606a }
.title { font-weight: bold; font-size: 14px; fill: #24292f }
.frame { fill: none; stroke: #8c959f; stroke-opacity: 0.5 }
.grid { stroke: #8c959f; stroke-opacity: 0.25; stroke-width: 0.7 }
.point { fill: #0969da; fill-opacity: 0.35 }
.share { fill: #24292f; stroke: #ffffff; stroke-width: 0.8 }
.first, .second, .null { fill: none; stroke-width: 2.2; stroke-linejoin: round }
.first { stroke: #d4730c }
.second { stroke: #8250df; stroke-dasharray: 7 4 }
.null { stroke: #57606a; stroke-width: 1.3; stroke-dasharray: 3 4 }
.name { font-size: 11px; fill: #000000 }
.area0 { fill: #2166ac } .area1 { fill: #5a9bd0 } .area2 { fill: #a6cbe3 } .area3 { fill: #cfcfcf }
.area4 { fill: #f4b69c } .area5 { fill: #dd735c } .area6 { fill: #b2182b }
@media (prefers-color-scheme: dark) {
  text { fill: #9da7b3 }
  .title { fill: #e6edf3 }
  .point { fill: #58a6ff }
  .first { stroke: #f0a050 }
  .second { stroke: #bc8cff }
  .null { stroke: #9da7b3 }
}
";

/// A chart; marks are drawn in the order in which they are added.
pub(crate) struct Chart {
    x: [f64; 2],
    y: [f64; 2],
    marks: String,
    /// On top of all marks.
    texts: String,
    legend: Vec<(&'static str, String)>,
}

impl Chart {
    /// Between these ends of the axes.
    pub(crate) fn new(title: &str, labels: [&str; 2], x: [f64; 2], y: [f64; 2]) -> Chart {
        let mut chart = Chart { x, y, marks: String::new(), texts: String::new(), legend: Vec::new() };
        let [left, top, width, height] = PLOT;
        let (right, bottom) = (left + width, top + height);
        chart.write(format_args!(r#"<text x="{left}" y="20" class="title">{title}</text>"#));
        for tick in ticks(x) {
            let at = chart.place((tick, y[0])).0;
            chart.write(format_args!(r#"<path d="M{at:.1} {top}V{bottom}" class="grid"/>"#));
            let below = bottom + 16.0;
            let text = short(tick);
            chart.write(format_args!(r#"<text x="{at:.1}" y="{below}" text-anchor="middle">{text}</text>"#));
        }
        for tick in ticks(y) {
            let at = chart.place((x[0], tick)).1;
            chart.write(format_args!(r#"<path d="M{left} {at:.1}H{right}" class="grid"/>"#));
            let (beside, text, at) = (left - 6.0, short(tick), at + 4.0);
            chart.write(format_args!(r#"<text x="{beside}" y="{at:.1}" text-anchor="end">{text}</text>"#));
        }
        let [across, down] = labels;
        let (middle, below) = (left + width / 2.0, bottom + 38.0);
        chart.write(format_args!(r#"<text x="{middle}" y="{below}" text-anchor="middle">{across}</text>"#));
        let middle = top + height / 2.0;
        chart.write(format_args!(
            r#"<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{down}</text>"#
        ));
        chart
    }
    /// A disk for each point.
    pub(crate) fn points(&mut self, class: &'static str, legend: &str, radius: f64, points: &[(f64, f64)]) {
        for &point in points {
            let (x, y) = self.place(point);
            self.write(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" class="{class}"/>"#));
        }
        self.legend.push((class, legend.to_owned()));
    }
    /// A line through those points that lie between the ends of the vertical axis.
    pub(crate) fn curve(&mut self, class: &'static str, legend: &str, points: &[(f64, f64)]) {
        let [low, high] = self.y;
        let path = self.path(points.iter().filter(|point| (low..=high).contains(&point.1)));
        self.write(format_args!(r#"<path d="M{path}" class="{class}"/>"#));
        self.legend.push((class, legend.to_owned()));
    }
    /// What lies between two curves, with a text in it.
    pub(crate) fn area(
        &mut self,
        class: &str,
        text: (&str, (f64, f64)),
        lower: &[(f64, f64)],
        upper: &[(f64, f64)],
    ) {
        let path = self.path(lower.iter().chain(upper.iter().rev()));
        self.write(format_args!(r#"<path d="M{path}Z" class="{class}"/>"#));
        let (text, (x, y)) = (text.0, self.place(text.1));
        let _ = writeln!(
            self.texts,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" class="name">{text}</text>"#
        );
    }
    /// The picture.
    pub(crate) fn finish(self) -> String {
        let ([width, height], [left, top, across, down]) = (PICTURE, PLOT);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n<style>\n{STYLE}</style>\n"
        );
        svg.push_str(&self.marks);
        svg.push_str(&self.texts);
        let _ =
            writeln!(svg, r#"<rect x="{left}" y="{top}" width="{across}" height="{down}" class="frame"/>"#);
        let mut at = left;
        for (class, text) in &self.legend {
            let _ = match *class {
                "point" | "share" => {
                    writeln!(svg, r#"<circle cx="{}" cy="34" r="3.5" class="{class}"/>"#, at + 12.0)
                }
                _ => writeln!(svg, r#"<path d="M{at} 34h24" class="{class}"/>"#),
            };
            let _ = writeln!(svg, r#"<text x="{}" y="38">{text}</text>"#, at + 30.0);
            at += 52.0 + 6.2 * text.chars().count() as f64;
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let [left, top, width, height] = PLOT;
        let share = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
        (left + width * share(x, self.x), top + height * (1.0 - share(y, self.y)))
    }
    fn path<'a>(&self, points: impl Iterator<Item = &'a (f64, f64)>) -> String {
        let places: Vec<String> =
            points.map(|&point| self.place(point)).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        places.join("L")
    }
    fn write(&mut self, mark: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.marks, "{mark}");
    }
}

/// Round numbers between the ends of an axis.
fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|number| number as f64 * step).collect()
}

/// As many digits as round numbers have.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').replace('-', "−")
}
