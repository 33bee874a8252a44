//! Identifiers for generated text, from labels of the graph.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::library;

/// Identifiers in use within one module.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: HashSet<String>,
    /// The number to try next, of words that were asked for before.
    next: HashMap<String, usize>,
}

impl Names {
    /// An unused identifier that reads like `hint`.
    pub(crate) fn fresh(&mut self, hint: &str) -> String {
        let base = identifier(hint);
        let (mut name, word) = (base.clone(), base.len());
        let next = self.next.entry(base).or_insert(1);
        while self.used.contains(&name) {
            *next += 1;
            name.truncate(word);
            name += &next.to_string();
        }
        self.used.insert(name.clone());
        name
    }
}

/// Letters, digits and underscores of a label. Numbers at the end are dropped, so that `w1` and `w2` share a pipeline, and
/// no underscore stands beside a digit: names such as `x_0` and `kept0_rest` belong to generated text.
fn identifier(hint: &str) -> String {
    let mut name = String::new();
    let mut gap = false;
    for c in hint.chars() {
        if !c.is_ascii_alphanumeric() {
            gap = !name.is_empty();
            continue;
        }
        if gap && !c.is_ascii_digit() && !name.ends_with(|c: char| c.is_ascii_digit()) {
            name.push('_');
        }
        gap = false;
        name.push(c.to_ascii_lowercase());
    }
    name.truncate(40);
    let kept = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_').len();
    name.truncate(kept);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, 'v');
    }
    if name.is_empty() {
        name.push('v');
    }
    if is_taken(&name) {
        name.push_str("_v");
    }
    name
}

/// Whether a name means something else: to WGSL, to the library, or in the frame of generated kernels.
fn is_taken(name: &str) -> bool {
    RESERVED.contains(name) || library::declares(name)
}

// Keywords and reserved words of WGSL in lower case, its predeclared types and functions, and the fixed names of our
// own frame.
static RESERVED: LazyLock<HashSet<&str>> = LazyLock::new(|| WORDS.split_whitespace().collect());

const WORDS: &str = "
    alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if let
    loop override requires return struct switch true var while
    abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class co_await
    co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval constexpr
    constinit crate debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export extends extern
    external fallthrough filter final finally friend from fxgroup get goto groupshared highp impl implements import
    inline instanceof interface layout lowp macro macro_rules match mediump meta mod module move mut mutable namespace
    new nil noexcept noinline nointerpolation non_coherent noncoherent noperspective null nullptr of operator package
    packoffset partition pass patch pixelfragment precise precision premerge priv protected pub public readonly ref
    regardless register reinterpret_cast require resource restrict self set shared sizeof smooth snorm static
    static_assert static_cast std subroutine super target template this thread_local throw trait try type typedef
    typeid typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with
    writeonly yield
    array atomic bool f16 f32 f64 i32 i64 u32 u64 mat2x2 mat2x3 mat2x4 mat3x2 mat3x3 mat3x4 mat4x2 mat4x3 mat4x4 ptr
    sampler texture vec vec2 vec3 vec4 vec2f vec3f vec4f vec2i vec3i vec4i vec2u vec3u vec4u function private storage
    uniform workgroup read write read_write
    abs acos acosh all any asin asinh atan atanh atan2 bitcast ceil clamp cos cosh countleadingzeros countonebits cross
    degrees determinant distance dot exp exp2 extractbits faceforward floor fma fract frexp insertbits inversesqrt ldexp
    length log log2 max min mix modf normalize pack pow quantizetof16 radians reflect refract reversebits round saturate
    select sign sin sinh smoothstep sqrt step tan tanh transpose trunc unpack
    block status watch_value watch_four note_watched watched main workgroup subgroup width lane t group k a b span item first end chunks chunk_index kept_index
    lane_index in_range combined position place report kernel winner top peak center below equal row column tile batch
    run sum before product finish s tx ty to p q l r turn next left right term four start at brings_lhs tile_row
    tile_column block_of_four fetch_lhs fetch_rhs lhs_slot rhs_slot lhs_tile rhs_tile lhs_term rhs_term
";
