//! One WGSL module under construction: its parameter block, its buffers and its entry point.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{Code as ErrorCode, DType, Error};

use super::library;
use super::names::Names;
use super::recurrence::Looped;
use super::text::Text;
use crate::catalogue;
use crate::{Code, Cost, Dispatch, DispatchBuffer, Kernel, Loop, Recurrence, Target, Watch, Which};

/// Number of the scratch buffer for unfinished matrix products; reductions count theirs from 0.
const PRODUCT: usize = 9;

/// What every part of the emitter is told.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) target: &'a Target,
    pub(crate) number: u32,
    /// What stores look for.
    pub(crate) watch: Option<Watch>,
    /// Words of a scratch buffer of f32 that stands after the kernel's own bindings.
    pub(crate) scratch: Option<usize>,
}

impl Context<'_> {
    /// The buffer and element type of a binding.
    pub(crate) fn binding(&self, binding: usize) -> (Which, DType) {
        match self.kernel.bindings.get(binding) {
            Some(found) => (Which::Kernel(binding), found.dtype),
            None => (Which::Scratch { number: PRODUCT, words: self.scratch.unwrap_or(0) }, DType::F32),
        }
    }
    /// Number of bindings.
    pub(crate) fn bindings(&self) -> usize {
        self.kernel.bindings.len() + usize::from(self.scratch.is_some())
    }
    /// Scratch storage, if the adapter binds that much.
    pub(crate) fn scratch(&self, number: usize, words: usize) -> Result<Which, Error> {
        let bytes = u64::try_from(words).unwrap_or(u64::MAX).saturating_mul(4);
        if bytes > self.target.max_binding {
            return Err(self.limit(format!(
                "partial results need {bytes} bytes, the adapter binds {}",
                self.target.max_binding
            )));
        }
        Ok(Which::Scratch { number, words })
    }
    /// A limit of the adapter that this kernel exceeds.
    pub(crate) fn limit(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Limit, self.kernel.name.clone(), message).at(self.kernel.location)
    }
    /// A kernel that no planner should have built.
    pub(crate) fn internal(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Internal, self.kernel.name.clone(), message).at(self.kernel.location)
    }
    /// More loop turns than the adapter counts.
    pub(crate) fn loop_budget(&self, turns: usize) -> Error {
        let message = format!(
            "one invocation would need {turns} loop turns, the adapter grants {}",
            self.target.loop_budget
        );
        Error::new(ErrorCode::LoopBudget, self.kernel.name.clone(), message)
            .at(self.kernel.location)
            .hint("split the reduced axis, or run this on the CPU device")
    }
    /// Turns of the loops of elements that an invocation may take, where an adapter counts them: half, if the kernel's own loops are
    /// content with the other half.
    pub(crate) fn loop_turns(&self) -> Option<u32> {
        (self.target.loop_budget != u32::MAX).then_some(self.target.loop_budget / 2)
    }
    /// Turns of the kernel's own loops that an invocation may take.
    pub(crate) fn own_turns(&self, nest: &Loop) -> usize {
        let runs = nest.code.iter().any(|i| matches!(i.code, Code::While(..)));
        let turns = self.loop_turns().filter(|_| runs).unwrap_or(self.target.loop_budget);
        usize::try_from(turns).unwrap_or(usize::MAX)
    }
    /// Invocations per workgroup: the largest power of two up to `wanted` that the adapter grants.
    pub(crate) fn invocations(&self, wanted: u32) -> u32 {
        let granted = wanted.min(self.target.max_invocations).max(1);
        if granted.is_power_of_two() { granted } else { granted.next_power_of_two() / 2 }
    }
}

struct Declared {
    which: Which,
    name: String,
    element: String,
    writable: bool,
}

/// See the module documentation.
pub(crate) struct Module<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) names: Names,
    /// Structs, functions and workgroup variables.
    pub(crate) items: Text,
    /// What depends only on the group: coordinates and addresses.
    pub(crate) prologue: Text,
    /// The rest of the entry point.
    pub(crate) body: Text,
    words: Vec<u32>,
    lets: Text,
    parameters: HashMap<String, String>,
    types: HashMap<String, &'static str>,
    buffers: Vec<Declared>,
    butterfly: bool,
    chain: usize,
    /// Loops that have a function.
    pub(crate) recurrences: Vec<(Arc<Recurrence>, Looped)>,
    /// How many have been begun.
    pub(crate) runs: usize,
    /// Whether the turns of loops are counted.
    pub(crate) counts_turns: bool,
}

/// Functions that look at what is stored.
const WATCHES: [&str; 2] = ["watch_value", "watch_four"];

/// Positions of the words that differ between the dispatches of one folded grid.
const FIRST_GROUP: usize = 1;
const GRID_X: usize = 2;
const GROUPS: usize = 3;

impl<'a> Module<'a> {
    pub(crate) fn new(context: Context<'a>) -> Module<'a> {
        Module {
            context,
            names: Names::default(),
            items: Text::default(),
            prologue: Text::inside(1),
            body: Text::inside(1),
            // The word that `watch_value` reads is the first of the second vector.
            words: [0; 4].into_iter().chain(context.watch.map(|_| context.number)).collect(),
            lets: Text::inside(1),
            parameters: HashMap::new(),
            types: HashMap::new(),
            buffers: Vec::new(),
            butterfly: false,
            chain: 0,
            recurrences: Vec::new(),
            runs: 0,
            counts_turns: false,
        }
    }
    /// The name of a word of the parameter block, read at the top of the entry point. One word per key.
    pub(crate) fn parameter(&mut self, key: impl Into<String>, hint: &str, value: u32) -> String {
        self.typed_parameter(key, hint, value, "u32")
    }
    /// A parameter read as another 32-bit type.
    pub(crate) fn typed_parameter(
        &mut self,
        key: impl Into<String>,
        hint: &str,
        value: u32,
        ty: &'static str,
    ) -> String {
        let key = key.into();
        if let Some(name) = self.parameters.get(&key) {
            return name.clone();
        }
        let name = self.names.fresh(hint);
        let index = self.words.len();
        self.words.push(value);
        let word = format!("block[{}].{}", index / 4, COMPONENTS[index % 4]);
        self.lets.line(match ty {
            "u32" => format!("let {name} = {word};"),
            "bool" => format!("let {name} = {word} != 0u;"),
            _ => format!("let {name} = bitcast<{ty}>({word});"),
        });
        self.parameters.insert(key, name.clone());
        self.types.insert(name.clone(), ty);
        name
    }
    /// The name of a word that stands for a number of elements or a position.
    pub(crate) fn size(&mut self, key: impl Into<String>, hint: &str, value: usize) -> Result<String, Error> {
        let word = u32::try_from(value)
            .map_err(|_| self.context.limit(format!("{value} elements do not fit a 32-bit index")))?;
        Ok(self.parameter(key, hint, word))
    }
    /// A size under a name of our own frame.
    pub(crate) fn fixed_parameter(&mut self, name: &'static str, value: usize) -> Result<String, Error> {
        let word =
            u32::try_from(value).map_err(|_| self.context.limit(format!("{value} does not fit 32 bits")))?;
        if !self.parameters.contains_key(name) {
            let index = self.words.len();
            self.words.push(word);
            self.lets.line(format!("let {name} = block[{}].{};", index / 4, COMPONENTS[index % 4]));
            self.parameters.insert(name.to_owned(), name.to_owned());
        }
        Ok(name.to_owned())
    }
    /// Whether a text is the name of a parameter.
    pub(crate) fn is_parameter(&self, text: &str) -> bool {
        self.types.contains_key(text)
    }
    /// Notes the type of a name of the entry point, so that functions can take it as an argument.
    pub(crate) fn set_type(&mut self, name: &str, ty: &'static str) {
        self.types.insert(name.to_owned(), ty);
    }
    /// The names of the entry point that a text uses, with their types, in order of name.
    pub(crate) fn mentioned(&self, text: &str) -> Vec<(String, &'static str)> {
        let mut found: Vec<_> = self.types.iter().filter(|(name, _)| library::mentions(text, name)).collect();
        found.sort();
        found.into_iter().map(|(name, ty)| (name.clone(), *ty)).collect()
    }
    /// The type of a parameter.
    pub(crate) fn type_of(&self, name: &str) -> &'static str {
        self.types.get(name).copied().unwrap_or("u32")
    }
    /// The name of a buffer, declared on first use.
    pub(crate) fn buffer(&mut self, which: Which, element: &str, writes: bool) -> String {
        if let Some(found) = self.buffers.iter_mut().find(|b| b.which == which) {
            found.writable |= writes;
            return found.name.clone();
        }
        let name = match which {
            Which::Kernel(binding) => format!("b{binding}_"),
            Which::Scratch { number, .. } => format!("scratch{number}_"),
            Which::Status => "status".to_owned(),
        };
        self.buffers.push(Declared {
            which,
            name: name.clone(),
            element: element.to_owned(),
            writable: writes,
        });
        name
    }
    /// The numbering of invocations follows subgroups, so that a shuffle meets neighbors.
    pub(crate) fn use_butterfly(&mut self) {
        self.butterfly = true;
    }
    /// Notes a chain of additions; the longest one counts. See [`Dispatch::chain`].
    pub(crate) fn note_chain(&mut self, additions: usize) {
        self.chain = self.chain.max(additions);
    }

    /// The dispatches for `groups` workgroups of `invocations`: several where they do not fit one grid.
    pub(crate) fn finish(
        self,
        header: &str,
        invocations: u32,
        groups: usize,
        cost: Cost,
    ) -> Result<Vec<Dispatch>, Error> {
        let arguments = if self.butterfly {
            "@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) width: u32, @builtin(subgroup_invocation_id) lane: u32"
        } else {
            "@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32"
        };
        let number = if self.butterfly { "    let t = subgroup * width + lane;\n" } else { "" };
        let write = |parts: &Parts| {
            let Parts { declarations, entry, body, library } = parts;
            let gap = if library.is_empty() { "" } else { "\n" };
            format!(
                "{declarations}\n@compute @workgroup_size({invocations})\nfn main({arguments}) {{\n{number}{entry}{body}}}\n{gap}{library}"
            )
        };
        self.assemble(header, groups, cost, &write)
    }
    /// The dispatches of a WGSL file whose holes `declarations`, `prologue` and `epilogue` are filled by this module, the
    /// others by `fillings`.
    pub(crate) fn finish_file(
        self,
        file: &str,
        fillings: &[(&str, &str)],
        header: &str,
        groups: usize,
        cost: Cost,
    ) -> Result<Vec<Dispatch>, Error> {
        let write = |parts: &Parts| {
            let declarations = format!("{}\n{}", parts.declarations, parts.library);
            let own = [
                ("declarations", declarations.as_str()),
                ("prologue", parts.entry.as_str()),
                ("epilogue", parts.body.as_str()),
            ];
            catalogue::fill(file, &[own.as_slice(), fillings].concat())
        };
        self.assemble(header, groups, cost, &write)
    }
    fn assemble(
        mut self,
        header: &str,
        groups: usize,
        cost: Cost,
        write: &dyn Fn(&Parts) -> String,
    ) -> Result<Vec<Dispatch>, Error> {
        let context = self.context;
        let grid = self.grid(groups)?;
        let code = [self.items.as_str(), self.prologue.as_str(), self.body.as_str()].concat();
        if self.context.watch.is_some() && WATCHES.iter().any(|name| library::mentions(&code, name)) {
            // Once per invocation: an atomic in every store would cost more than the kernel.
            self.body.line("note_watched();");
        }
        let library = self.library(&code);
        while !self.words.len().is_multiple_of(4) {
            self.words.push(0);
        }
        let mut declarations = String::new();
        for line in header.lines() {
            declarations.push_str(&format!("// {line}\n"));
        }
        let vectors = self.words.len() / 4;
        declarations
            .push_str(&format!("@group(0) @binding(0) var<uniform> block: array<vec4<u32>, {vectors}>;\n"));
        for (index, buffer) in self.buffers.iter().enumerate() {
            let Declared { name, element, .. } = buffer;
            let access = if buffer.writable { "read_write" } else { "read" };
            let length = if buffer.which == Which::Status { ", 5" } else { "" };
            declarations.push_str(&format!(
                "@group(0) @binding({}) var<storage, {access}> {name}: array<{element}{length}>;\n",
                index + 1
            ));
        }
        declarations.push_str(self.items.as_str());
        let entry = format!(
            "    let group = block[0].y + workgroup.y * block[0].z + workgroup.x;
    if (group >= block[0].w) {{ return; }}
{}{}",
            self.lets.as_str(),
            self.prologue.as_str()
        );
        let body = self.body.as_str().to_owned();
        let wgsl: Arc<str> = write(&Parts { declarations, entry, body, library }).into();

        let count = u32::try_from(self.buffers.len()).unwrap_or(u32::MAX);
        if count > context.target.max_storage_buffers {
            return Err(context.limit(format!(
                "the kernel binds {count} storage buffers, the adapter grants {}",
                context.target.max_storage_buffers
            )));
        }
        let buffers: Vec<_> =
            self.buffers.iter().map(|b| DispatchBuffer { which: b.which, writable: b.writable }).collect();
        let share = 1.0 / grid.len().max(1) as f64;
        let dispatches = grid.into_iter().enumerate().map(|(number, part)| {
            let mut parameters = self.words.clone();
            parameters[FIRST_GROUP] = part.first;
            parameters[GRID_X] = part.x;
            parameters[GROUPS] = part.end;
            Dispatch {
                label: context.kernel.name.clone(),
                wgsl: wgsl.clone(),
                entry: None,
                parameters,
                buffers: buffers.clone(),
                workgroups: [part.x, part.y, 1],
                cost: Cost { bytes: cost.bytes * share, flops: cost.flops * share },
                chain: if number == 0 { self.chain } else { 0 },
            }
        });
        Ok(dispatches.collect())
    }
    /// The functions that some code calls: our own two, and those of the library.
    fn library(&mut self, code: &str) -> String {
        let mut text = String::new();
        if self.counts_turns {
            text.push_str("// Turns that the loops of elements have taken.\nvar<private> turned: u32;\n");
        }
        if library::mentions(code, "report") {
            let status = self.buffer(Which::Status, "atomic<u32>", true);
            text.push_str(&format!(
                "// Counts an index outside its range. The first position of the first kernel stays.
fn report(place: u32, index: u32, kernel: u32) {{
    atomicAdd(&{status}[0], 1u);
    if (atomicMax(&{status}[3], ~kernel) > ~kernel) {{ return; }}
    if (atomicMax(&{status}[1], ~place) < ~place) {{ atomicStore(&{status}[2], index); }}
}}
"
            ));
        }
        if let Some(watch) = self.context.watch
            && WATCHES.iter().any(|name| library::mentions(code, name))
        {
            let status = self.buffer(Which::Status, "atomic<u32>", true);
            let seen = match watch {
                Watch::NotFinite => ">= 0x7f800000u",
                Watch::Nan => "> 0x7f800000u",
                Watch::Infinite => "== 0x7f800000u",
            };
            let seen_by_four = seen.replace("0x7f800000u", "vec4<u32>(0x7f800000u)");
            text.push_str(&format!(
                "// Whether this invocation has written a watched value. By bits: a compiler may assume that there is no NaN.
var<private> watched: bool;
fn watch_value(value: f32) {{
    watched = watched || (bitcast<u32>(value) & 0x7fffffffu) {seen};
}}
fn watch_four(value: vec4<f32>) {{
    watched = watched || any((bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) {seen_by_four});
}}
fn note_watched() {{
    if (watched) {{ atomicMax(&{status}[4], ~block[1].x); }}
}}
"
            ));
        }
        let needed = library::needed_by(code);
        if library::mentions(&needed, "opaque_zero") {
            text.push_str("// Zero, in a way that no compiler can see.\n");
            text.push_str("fn opaque_zero() -> u32 { return block[0].x; }\n");
        }
        text + &needed
    }

    /// Cuts a number of workgroups into two-dimensional grids within the limits.
    fn grid(&self, groups: usize) -> Result<Vec<GridPart>, Error> {
        let context = self.context;
        let max = usize::try_from(context.target.max_workgroups.max(1)).unwrap_or(usize::MAX);
        let end = u32::try_from(groups)
            .ok()
            .filter(|&g| g < u32::MAX / 2)
            .ok_or_else(|| context.limit(format!("{groups} workgroups do not fit a 32-bit index")))?;
        let capacity = max.saturating_mul(max);
        let mut parts = Vec::new();
        let mut first = 0;
        while first < groups {
            let count = (groups - first).min(capacity);
            let y = count.div_ceil(max);
            let x = count.div_ceil(y);
            let word = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
            parts.push(GridPart {
                first: word(first),
                x: word(x),
                y: word(y),
                end: end.min(word(first + count)),
            });
            first += count;
        }
        Ok(parts)
    }
}

/// The pieces of a shader.
struct Parts {
    declarations: String,
    /// Parameters and prologue.
    entry: String,
    body: String,
    library: String,
}

struct GridPart {
    first: u32,
    x: u32,
    y: u32,
    end: u32,
}

/// Component names in order.
pub(crate) const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// The WGSL type of a value. F16 exists in buffers only.
pub(crate) fn value_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 => "f32",
        DType::I32 => "i32",
        DType::U32 => "u32",
        DType::Bool => "bool",
    }
}
