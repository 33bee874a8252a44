//! The WGSL files of this crate, one line each.

/// Accurate f32 functions.
pub(crate) const MATH: &str = include_str!("../wgsl/math.wgsl");
/// Sine and its kin.
pub(crate) const TRIGONOMETRIC: &str = include_str!("../wgsl/trigonometric.wgsl");
/// Random words by counter.
pub(crate) const RANDOM: &str = include_str!("../wgsl/random.wgsl");
/// What generated kernels need besides.
pub(crate) const SUPPORT: &str = include_str!("../wgsl/support.wgsl");
/// Matrix product by tiles of 128 × 128.
pub(crate) const MATMUL_TILE_128: &str = include_str!("../wgsl/matmul_tile_128.wgsl");
/// Matrix product by tiles of 32 × 32.
pub(crate) const MATMUL_TILE_32: &str = include_str!("../wgsl/matmul_tile_32.wgsl");

/// Replaces the text between `//! hole <name>` and `//! end` for every name in `fillings`; keeps the default elsewhere.
pub(crate) fn fill(source: &str, fillings: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(source.len());
    let mut replaced = false;
    for line in source.lines() {
        if let Some(tag) = line.strip_prefix("//! ") {
            let filling =
                tag.strip_prefix("hole ").and_then(|name| fillings.iter().find(|(n, _)| *n == name));
            replaced = filling.is_some();
            if let Some((_, text)) = filling {
                out.push_str(text.trim_end());
                out.push('\n');
            }
        } else if !replaced {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
