//! WGSL for a kernel.
//!
//! [`lower`] turns a [`Kernel`] into dispatches. The text of a shader depends on the *structure* of the kernel: its code, the
//! rank after merging dimensions, which strides are 0 or 1, whether four elements lie side by side, and a few classes
//! of size. Extents, strides, offsets and constants travel in the parameter block, so that one pipeline serves all sizes.
//!
//! Four strategies cover every loop:
//!
//! | strategy | for | an invocation | partial results |
//! |---|---|---|---|
//! | [`flat`] | maps, long reductions to few values | handles a few groups of four, straight-line | per workgroup, merged by further dispatches |
//! | [`group`] | rows, short reductions to few values | strides through the reduced dimensions, in sweeps | merged in the workgroup |
//! | [`lane`] | columns, short rows | owns kept elements, walks the reduced dimensions | none, or per chunk of rows |
//! | [`matmul`] | matrix products | owns a tile of the product | over chunks of terms where those are many |
//!
//! All of them share [`fabric`] (addresses, loads, the code of one element) and [`accumulate`] (running reductions).
//! Every order of combination is fixed by the structure, the extents and the target: results are the same from run to run.

mod access;
mod accumulate;
mod cost;
mod direct;
mod fabric;
mod flat;
mod group;
mod labels;
mod lane;
mod library;
mod loops;
mod matmul;
mod memory;
mod module;
mod names;
mod nest;
mod recurrence;
mod scan;
mod statements;
mod sweep;
mod text;
mod tile;
mod user;

use cotangent_tensor::Error;

pub use cost::cost;

use crate::{Body, Dispatch, Kernel, Target, Watch};
use module::Context;

/// The dispatches that execute a kernel on a target, in order. `number` is what the status words call the kernel; they
/// also name the first kernel that writes a value which is watched for.
///
/// Errors: `E_LIMIT` where the kernel needs more buffers or memory than the target has, `E_LOOP_BUDGET` where one
/// invocation would need more loop turns.
pub fn lower(
    kernel: &Kernel,
    target: &Target,
    number: u32,
    watch: Option<Watch>,
) -> Result<Vec<Dispatch>, Error> {
    let context = Context { kernel, target, number, watch, scratch: None };
    match &kernel.body {
        Body::Loop(nest) => loops::lower(context, nest),
        Body::Matmul(matmul) => matmul::lower(context, matmul),
        Body::Scan(scan) => scan::lower(context, scan),
        Body::User(user) => user::lower(context, user),
    }
}
