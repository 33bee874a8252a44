//! Text as pixels: bitmaps have no fonts.

use font8x8::legacy::BASIC_LEGACY;
use plotters::coord::Shift;
use plotters::prelude::*;

/// Pixels of a character along each side, per unit of scale.
const SIDE: i32 = 8;

/// In pixels.
pub(super) fn width(text: &str, scale: i32) -> i32 {
    SIDE * scale * i32::try_from(text.chars().count()).unwrap_or(0)
}

/// Writes text with its upper left corner here; what is not ASCII becomes a question mark.
pub(super) fn write<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    (left, top): (i32, i32),
    text: &str,
    scale: i32,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let mut left = left;
    for character in text.replace('−', "-").chars() {
        let rows = BASIC_LEGACY.get(character as usize).unwrap_or(&BASIC_LEGACY['?' as usize]);
        for (row, dots) in (0..SIDE).zip(rows) {
            for column in (0..SIDE).filter(|column| dots >> column & 1 == 1) {
                let corner = (left + scale * column, top + scale * row);
                // The far corner is not painted.
                let far = (corner.0 + scale, corner.1 + scale);
                area.draw(&Rectangle::new([corner, far], BLACK.filled()))?;
            }
        }
        left += SIDE * scale;
    }
    Ok(())
}
