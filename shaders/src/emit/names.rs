//! Identifiers for generated text, from labels of the graph.

use std::collections::HashSet;

use cotangent_tensor::DType;

use super::library;
use crate::Code;

/// Identifiers in use within one module.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: HashSet<String>,
}

impl Names {
    /// An unused identifier that reads like `hint`.
    pub(crate) fn fresh(&mut self, hint: &str) -> String {
        let base = identifier(hint);
        let mut name = base.clone();
        let mut number = 2;
        while !self.used.insert(name.clone()) {
            name = format!("{base}{number}");
            number += 1;
        }
        name
    }
}

/// Letters, digits and underscores of a label. Numbers at the end are dropped, so that `w1` and `w2` share a pipeline.
fn identifier(hint: &str) -> String {
    let mut name = String::new();
    for c in hint.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    name.truncate(40);
    let kept = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_').len();
    name.truncate(kept);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "v_");
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
    RESERVED.split_whitespace().any(|word| word == name) || library::declares(name)
}

// Keywords and reserved words of WGSL in lower case, its predeclared types and functions, and the fixed names of our
// own frame.
const RESERVED: &str = "
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
    block buffer status main merge partial slot item items index place position group groups lane lanes grid first row
    col column chunk chunks chunk_index kept_index lane_index rest report t i j k n at item end total in_range span count
    finish product column_ tile batch columns rows winner top peak center below equal subgroup width kernel a b element
";

/// A name for a value without a label.
pub(crate) fn default_name(code: &Code) -> &str {
    match code {
        Code::Constant(_) => "constant",
        Code::Accumulator => "product",
        Code::Load { .. } | Code::LoadIndexed { .. } => "load",
        Code::Coordinate(_) => "coordinate",
        Code::InRange { .. } => "inside",
        Code::RandomBits { .. } => "bits",
        Code::Elementwise(row, _) => row.name(),
        Code::Integer(row, ..) => row.name(),
        Code::Cast(_) => "cast",
        Code::Reduce(kind, _) => kind.name(),
        Code::ArgReduce { maximum: true, .. } => "argmax",
        Code::ArgReduce { maximum: false, .. } => "argmin",
        Code::LogSumExpMax(_) => "peak",
        Code::LogSumExpRest(_) => "others",
        Code::Softmax { .. } => "softmax",
        Code::SoftmaxResidual { .. } => "residual",
        Code::Pick { .. } => "picked",
    }
}

/// Common finite constants. Everything else travels in the parameter block: its value is no part of the structure.
pub(crate) fn literal(dtype: DType, bits: u32) -> Option<&'static str> {
    Some(match (dtype, bits) {
        (DType::F32 | DType::F16, 0) => "0.0",
        (DType::F32 | DType::F16, 0x3f80_0000) => "1.0",
        (DType::F32 | DType::F16, 0xbf80_0000) => "(-1.0)",
        (DType::F32 | DType::F16, 0x3f00_0000) => "0.5",
        (DType::F32 | DType::F16, 0x4000_0000) => "2.0",
        (DType::I32, 0) => "0i",
        (DType::I32, 1) => "1i",
        (DType::U32, 0) => "0u",
        (DType::U32, 1) => "1u",
        (DType::Bool, 0) => "false",
        (DType::Bool, _) => "true",
        (DType::F32 | DType::F16 | DType::I32 | DType::U32, _) => return None,
    })
}
