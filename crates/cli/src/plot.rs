//! Scatter plots side by side, as SVG or PNG.

mod glyphs;

use std::ops::Range;
use std::path::Path;

use cotangent::{Code, Error, io};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Points beyond this number are thinned out evenly: a plot shows no more.
const POINTS: usize = 20_000;
/// Of one panel.
const SIZE: (u32, u32) = (620, 520);

/// One panel.
pub(crate) struct Scatter {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// A horizontal line at zero (residuals) or the diagonal (predictions).
    pub(crate) diagonal: bool,
}

fn size(panels: &[Scatter]) -> (u32, u32) {
    (SIZE.0 * u32::try_from(panels.len()).unwrap_or(1), SIZE.1)
}

/// Whether a plot can be drawn and written there; checked before anything is computed.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    match ending(path).as_str() {
        "svg" | "png" => io::check_writable(path),
        _ => Err(failed(path, "a plot is a .svg or a .png file")),
    }
}

fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn failed(path: &Path, message: impl std::fmt::Display) -> Error {
    Error::new(Code::File, path.display().to_string(), message.to_string())
}

/// Draws in memory, then writes the file as a whole.
pub(crate) fn draw(path: &Path, panels: &[Scatter]) -> Result<(), Error> {
    let bytes = if ending(path) == "svg" { svg(panels) } else { bitmap(panels) };
    io::write_atomically(path, &bytes.map_err(|message| failed(path, message))?)
}

fn svg(panels: &[Scatter]) -> Result<Vec<u8>, String> {
    let mut text = String::new();
    draw_all(&SVGBackend::with_string(&mut text, size(panels)).into_drawing_area(), panels, true)?;
    Ok(text.into_bytes())
}

fn bitmap(panels: &[Scatter]) -> Result<Vec<u8>, String> {
    let (width, height) = size(panels);
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    draw_all(&area, panels, false)?;
    drop(area);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = || -> Result<(), png::EncodingError> {
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()
    };
    written().map_err(|cause| cause.to_string())?;
    Ok(bytes)
}

fn draw_all<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panels: &[Scatter],
    labels: bool,
) -> Result<(), String> {
    area.fill(&WHITE).map_err(|cause| format!("cannot be drawn: {cause}"))?;
    let parts = area.split_evenly((1, panels.len()));
    parts.iter().zip(panels).try_for_each(|(part, panel)| draw_on(part, panel, labels))?;
    area.present().map_err(|cause| format!("cannot be drawn: {cause}"))
}

/// `labels` need fonts: SVG leaves them to the reader, bitmaps get text made of pixels.
fn draw_on<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    scatter: &Scatter,
    labels: bool,
) -> Result<(), String> {
    let text = |cause: DrawingAreaErrorKind<B::ErrorType>| format!("cannot be drawn: {cause}");
    let finite: Vec<(f64, f64)> =
        scatter.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let every = finite.len().div_ceil(POINTS).max(1);
    let (mut x, mut y) = (range(finite.iter().map(|p| p.0)), range(finite.iter().map(|p| p.1)));
    if scatter.diagonal {
        let both = x.start.min(y.start)..x.end.max(y.end);
        (x, y) = (both.clone(), both);
    }
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).x_label_area_size(40).y_label_area_size(70);
    if labels {
        builder.caption(&scatter.title, ("sans-serif", 20));
    } else {
        builder.margin_top(56).margin_right(40);
    }
    let mut chart = builder.build_cartesian_2d(x.clone(), y.clone()).map_err(text)?;
    if labels {
        chart.configure_mesh().x_desc(scatter.x).y_desc(scatter.y.as_str()).draw().map_err(text)?;
    } else {
        for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let at = |range: &Range<f64>| range.start + share * (range.end - range.start);
            // Within this panel.
            let corner = area.get_base_pixel();
            let place = |point: (f64, f64)| {
                let pixel = chart.backend_coord(&point);
                (pixel.0 - corner.0, pixel.1 - corner.1)
            };
            let (below, left) = (place((at(&x), y.start)), place((x.start, at(&y))));
            let (x_label, y_label) = (short(at(&x)), short(at(&y)));
            glyphs::write(area, (below.0 - glyphs::width(&x_label, 1) / 2, below.1 + 8), &x_label, 1)
                .map_err(text)?;
            glyphs::write(area, (left.0 - glyphs::width(&y_label, 1) - 6, left.1 - 4), &y_label, 1)
                .map_err(text)?;
        }
        let (width, height) = (i32::try_from(SIZE.0).unwrap_or(0), i32::try_from(SIZE.1).unwrap_or(0));
        let middle = |label: &str, scale| (width - glyphs::width(label, scale)) / 2;
        glyphs::write(area, (middle(&scatter.title, 2), 12), &scatter.title, 2).map_err(text)?;
        glyphs::write(area, (middle(scatter.x, 1), height - 20), scatter.x, 1).map_err(text)?;
        glyphs::write(area, (12, 38), &scatter.y, 1).map_err(text)?;
        let frame = [(x.start, y.end), (x.start, y.start), (x.end, y.start)];
        chart.draw_series(std::iter::once(PathElement::new(frame, BLACK))).map_err(text)?;
    }
    let points = finite.iter().step_by(every).map(|&point| Circle::new(point, 2, BLUE.mix(0.5).filled()));
    chart.draw_series(points).map_err(text)?;
    let line = if scatter.diagonal {
        vec![(x.start, x.start), (x.end, x.end)]
    } else {
        vec![(x.start, 0.0), (x.end, 0.0)]
    };
    chart.draw_series(std::iter::once(PathElement::new(line, RED))).map_err(text).map(|_| ())
}

/// Three digits.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = if size >= 100.0 {
        0
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// A little more than the values take; never empty.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let margin = if low < high { 0.04 * (high - low) } else { low.abs().max(1.0) };
    low - margin..high + margin
}
