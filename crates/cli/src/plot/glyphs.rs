//! Numbers as pixels: bitmaps have no fonts.

use plotters::coord::Shift;
use plotters::prelude::*;

/// Pixels per dot.
const SCALE: i32 = 2;

/// Five rows of three dots, the first row in the highest bits.
fn dots(character: char) -> u16 {
    match character {
        '0' => 0b111_101_101_101_111,
        '1' => 0b010_110_010_010_111,
        '2' => 0b111_001_111_100_111,
        '3' => 0b111_001_111_001_111,
        '4' => 0b101_101_111_001_001,
        '5' => 0b111_100_111_001_111,
        '6' => 0b111_100_111_101_111,
        '7' => 0b111_001_010_010_010,
        '8' => 0b111_101_111_101_111,
        '9' => 0b111_101_111_001_111,
        '-' => 0b000_000_111_000_000,
        '.' => 0b000_000_000_000_010,
        'e' => 0b000_111_101_110_111,
        _ => 0,
    }
}

/// In pixels.
pub(super) fn width(text: &str) -> i32 {
    4 * SCALE * i32::try_from(text.chars().count()).unwrap_or(0)
}

/// Writes a number with its upper left corner here.
pub(super) fn write<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    (left, top): (i32, i32),
    text: &str,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let mut left = left;
    for character in text.chars() {
        let dots = dots(character);
        for dot in 0..15 {
            if dots >> (14 - dot) & 1 == 1 {
                let corner = (left + SCALE * (dot % 3), top + SCALE * (dot / 3));
                let far = (corner.0 + SCALE - 1, corner.1 + SCALE - 1);
                area.draw(&Rectangle::new([corner, far], BLACK.filled()))?;
            }
        }
        left += 4 * SCALE;
    }
    Ok(())
}
