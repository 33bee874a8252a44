//! Running reductions: the variables of one invocation, how elements enter them, how partial results merge.
//!
//! Every kind has a neutral partial result, so that invocations without elements take part. Extreme values are compared
//! as integers that have the order of the floats, with NaN on top: −inf, NaN and signed zeros need no special case, and
//! no compiler can assume them away.

use cotangent_tensor::{DType, Error, Reduce};

use super::fabric::{Fabric, Slot};
use super::module::{Module, value_type};
use super::statements::unsigned;
use super::text::Text;
use crate::{Code, Loop, Value};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sum,
    Product,
    /// Largest integer.
    Largest,
    /// Smallest integer.
    Smallest,
    /// Largest key of a float.
    Key {
        maximum: bool,
    },
    /// Key and position.
    Position {
        maximum: bool,
    },
    LogSum,
    /// The bits of the element at a position.
    Picked,
}

/// One reduction of a sweep.
#[derive(Clone, Debug)]
pub(crate) struct Accumulator {
    /// The reduction.
    pub(crate) value: Value,
    /// Its companion, the rest of a log-sum-exp.
    pub(crate) rest: Option<Value>,
    /// The element-level operand.
    pub(crate) operand: Value,
    kind: Kind,
    /// Type of its fields.
    ty: &'static str,
    /// Variables, one per field.
    fields: Vec<String>,
    /// Variable that tracks NaN.
    nan: String,
}

/// Elements that enter an accumulator together.
pub(crate) struct Batch<'a> {
    pub(crate) values: &'a [Slot],
    pub(crate) dtype: DType,
    /// Components of each value.
    pub(crate) width: usize,
    /// Positions of component 0 of each.
    pub(crate) positions: &'a [String],
    /// Whether components follow each other in the reduced dimensions.
    pub(crate) along_reduced: bool,
    /// The picked position.
    pub(crate) hit: Option<&'a str>,
}

/// The reductions that finish in a sweep; `direct` picks are loads, not reductions.
pub(crate) fn accumulators(
    fabric: &Fabric<'_>,
    module: &mut Module<'_>,
    phases: &[usize],
    sweep: usize,
    direct: &[Value],
) -> Vec<Accumulator> {
    let nest = fabric.nest;
    let mut list = Vec::new();
    for (value, instruction) in nest.code.iter().enumerate() {
        if phases[value] != sweep || !instruction.code.is_reduction() || direct.contains(&value) {
            continue;
        }
        let (operand, kind, ty) = match &instruction.code {
            Code::Reduce(reduce, x) => {
                let (kind, ty) = reduce_kind(*reduce, nest.code[*x].dtype);
                (*x, kind, ty)
            }
            Code::ArgReduce { maximum, value: x } => (*x, Kind::Position { maximum: *maximum }, "u32"),
            Code::LogSumExpMax(x) => (*x, Kind::LogSum, "f32"),
            Code::Pick { value: x, .. } => (*x, Kind::Picked, "u32"),
            // Handled together with its maximum.
            _ => continue,
        };
        let rest = nest.code.iter().position(|i| i.code == Code::LogSumExpRest(value));
        let name = fabric.names[value].as_str();
        let fields: &[&str] = match kind {
            Kind::LogSum => &["peak", "rest"],
            Kind::Position { .. } => &["key", "at"],
            Kind::Sum | Kind::Product | Kind::Largest | Kind::Smallest | Kind::Key { .. } | Kind::Picked => {
                &["so_far"]
            }
        };
        let fields = fields.iter().map(|s| module.names.fresh(&format!("{name}_{s}"))).collect();
        let nan =
            if kind == Kind::LogSum { module.names.fresh(&format!("{name}_nan")) } else { String::new() };
        list.push(Accumulator { value, rest, operand, kind, ty, fields, nan });
    }
    list
}

fn reduce_kind(reduce: Reduce, dtype: DType) -> (Kind, &'static str) {
    match (reduce, dtype) {
        (Reduce::Sum, DType::F32 | DType::F16) => (Kind::Sum, "f32"),
        (Reduce::Prod, DType::F32 | DType::F16) => (Kind::Product, "f32"),
        (Reduce::Max, DType::F32 | DType::F16) => (Kind::Key { maximum: true }, "u32"),
        (Reduce::Min, DType::F32 | DType::F16) => (Kind::Key { maximum: false }, "u32"),
        (Reduce::Sum, DType::I32 | DType::U32) => (Kind::Sum, value_type(dtype)),
        (Reduce::Prod, DType::I32 | DType::U32) => (Kind::Product, value_type(dtype)),
        (Reduce::Max, DType::I32 | DType::U32) => (Kind::Largest, value_type(dtype)),
        (Reduce::Min, DType::I32 | DType::U32) => (Kind::Smallest, value_type(dtype)),
        // Truth values: any, all.
        (Reduce::Sum | Reduce::Max, DType::Bool) => (Kind::Largest, "u32"),
        (Reduce::Prod | Reduce::Min, DType::Bool) => (Kind::Smallest, "u32"),
    }
}

/// Whether every accumulator of a loop works on four independent elements at once.
pub(crate) fn componentwise(nest: &Loop) -> bool {
    nest.code.iter().all(|instruction| match &instruction.code {
        Code::ArgReduce { .. } | Code::LogSumExpMax(_) | Code::LogSumExpRest(_) | Code::Pick { .. } => false,
        Code::Softmax { .. } | Code::SoftmaxResidual { .. } => false,
        Code::Constant(_) | Code::Accumulator | Code::Load { .. } | Code::LoadIndexed { .. } => true,
        Code::Coordinate(_) | Code::InRange { .. } | Code::RandomBits { .. } => true,
        Code::Elementwise(..) | Code::Integer(..) | Code::Cast(_) | Code::Reduce(..) => true,
        Code::While(..) | Code::Part(..) | Code::Parameter(_) => true,
    })
}

/// Roundings of a term of a sum that takes part in `additions` on its way through an invocation and through the tree of
/// its workgroup. Sums of exponentials are rescaled at each addition, by an exponential of its own error.
pub(crate) fn roundings(nest: &Loop, additions: usize) -> usize {
    let rescaled = nest.code.iter().any(|i| matches!(i.code, Code::LogSumExpMax(_)));
    if rescaled { 8 * additions } else { additions }
}

/// Additions of a batch of elements, or of fours, before they enter a variable, and of the components of that at the end.
pub(crate) const BATCH: usize = 6;

impl Accumulator {
    fn is_componentwise(&self) -> bool {
        match self.kind {
            Kind::Sum | Kind::Product | Kind::Largest | Kind::Smallest | Kind::Key { .. } | Kind::Picked => {
                true
            }
            Kind::Position { .. } | Kind::LogSum => false,
        }
    }
    fn variable_type(&self, width: usize) -> String {
        if width == 4 && self.is_componentwise() { format!("vec4<{}>", self.ty) } else { self.ty.to_owned() }
    }
    /// Fields of a partial result: name and type.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.fields.iter().map(|f| (f.as_str(), self.ty))
    }
    /// The neutral value of each field.
    pub(crate) fn neutral(&self) -> Vec<&'static str> {
        match (self.kind, self.ty) {
            (Kind::Sum, "f32") => vec!["0.0"],
            (Kind::Product, "f32") => vec!["1.0"],
            (Kind::Sum, "i32") => vec!["0i"],
            (Kind::Product, "i32") => vec!["1i"],
            (Kind::Sum, _) | (Kind::Picked, _) | (Kind::Key { .. }, _) => vec!["0u"],
            (Kind::Product, _) => vec!["1u"],
            (Kind::Largest, "i32") => vec!["i32(-2147483648)"],
            (Kind::Largest, _) => vec!["0u"],
            (Kind::Smallest, "i32") => vec!["2147483647i"],
            (Kind::Smallest, _) => vec!["0xffffffffu"],
            (Kind::Position { .. }, _) => vec!["0u", "0xffffffffu"],
            (Kind::LogSum, _) => vec!["negative_infinity()", "0.0"],
        }
    }
    /// The variables of an invocation, before it has seen an element.
    pub(crate) fn declare(&self, text: &mut Text, width: usize) {
        let ty = self.variable_type(width);
        for (field, neutral) in self.fields.iter().zip(self.neutral()) {
            let neutral =
                if ty.starts_with("vec4") { format!("{ty}({neutral})") } else { neutral.to_owned() };
            text.line(format!("var {field}: {ty} = {neutral};"));
        }
        if self.kind == Kind::LogSum {
            let ty = if width == 4 { "vec4<u32>" } else { "u32" };
            text.line(format!("var {}: {ty};", self.nan));
        }
    }

    /// Lets a batch of elements (or of fours) enter.
    pub(crate) fn absorb(&self, text: &mut Text, entering: &Batch<'_>) {
        let Batch { values: batch, dtype, width, positions, along_reduced, hit } = *entering;
        let field = &self.fields[0];
        let ty = self.variable_type(width);
        let position = |b: usize, c: usize| {
            if c == 0 || !along_reduced { positions[b].clone() } else { format!("{} + {c}u", positions[b]) }
        };
        let convert = |b: usize, c: usize| {
            let x = batch[b].component(c);
            match (self.kind, dtype) {
                (Kind::Key { maximum: true }, _) => format!("order_key({x})"),
                (Kind::Key { maximum: false }, _) => format!("order_key_down({x})"),
                (Kind::Picked, DType::Bool) => {
                    format!("select(0u, 1u, {x} && {} == {})", position(b, c), hit.unwrap_or("0u"))
                }
                (Kind::Picked, _) => {
                    format!("select(0u, bitcast<u32>({x}), {} == {})", position(b, c), hit.unwrap_or("0u"))
                }
                (_, DType::Bool) => format!("select(0u, 1u, {x})"),
                (_, _) => x,
            }
        };
        let plain = matches!(self.kind, Kind::Sum | Kind::Product | Kind::Largest | Kind::Smallest)
            && dtype != DType::Bool;
        let value = |b: usize| match width {
            1 => convert(b, 0),
            _ if plain => batch[b].vector(self.ty),
            _ => format!("{ty}({})", (0..4).map(|c| convert(b, c)).collect::<Vec<_>>().join(", ")),
        };
        match self.kind {
            Kind::Position { maximum } => {
                for (b, slot) in batch.iter().enumerate() {
                    for c in 0..width {
                        let key = position_key(maximum, dtype, &slot.component(c));
                        let candidate = format!("vec2<u32>({key}, {})", position(b, c));
                        let [key, at] = [&self.fields[0], &self.fields[1]];
                        text.open("");
                        text.line(format!("let winner = better(vec2<u32>({key}, {at}), {candidate});"));
                        text.line(format!("{key} = winner.x;"));
                        text.line(format!("{at} = winner.y;"));
                        text.close();
                    }
                }
            }
            Kind::LogSum => self.absorb_log_sum(text, batch, width),
            Kind::Sum => text
                .line(format!("{field} += {};", tree(&(0..batch.len()).map(value).collect::<Vec<_>>(), "+"))),
            Kind::Product => {
                text.line(format!(
                    "{field} *= {};",
                    tree(&(0..batch.len()).map(value).collect::<Vec<_>>(), "*")
                ));
            }
            Kind::Picked => {
                text.line(format!(
                    "{field} |= {};",
                    tree(&(0..batch.len()).map(value).collect::<Vec<_>>(), "|")
                ));
            }
            Kind::Largest | Kind::Key { .. } => {
                (0..batch.len()).for_each(|b| text.line(format!("{field} = max({field}, {});", value(b))));
            }
            Kind::Smallest => {
                (0..batch.len()).for_each(|b| text.line(format!("{field} = min({field}, {});", value(b))))
            }
        }
    }

    /// One rescaling per batch. Elements equal to the new maximum are counted, the others enter as exponentials.
    fn absorb_log_sum(&self, text: &mut Text, batch: &[Slot], width: usize) {
        let [m, s] = [&self.fields[0], &self.fields[1]];
        let nan = &self.nan;
        let values: Vec<String> = batch
            .iter()
            .map(|slot| if width == 4 { slot.vector("f32") } else { slot.component(0) })
            .collect();
        let (mask, cast) =
            if width == 4 { ("vec4<u32>(0x7fffffffu)", "vec4<u32>") } else { ("0x7fffffffu", "u32") };
        text.open("");
        let mut names = Vec::new();
        for (index, value) in values.iter().enumerate() {
            text.line(format!("let v{index} = {value};"));
            text.line(format!("{nan} = max({nan}, bitcast<{cast}>(v{index}) & {mask});"));
            names.push(format!("v{index}"));
        }
        let pairwise = |names: &[String], f: &str| {
            names.iter().cloned().reduce(|a, b| format!("{f}({a}, {b})")).unwrap_or_default()
        };
        text.line(format!("let top = {};", pairwise(&names, "max")));
        let top = if width == 4 { "max(max(top.x, top.y), max(top.z, top.w))" } else { "top" };
        text.line(format!("let peak = max({m}, {top});"));
        text.line("let center = select(peak, 0.0, is_negative_infinity(peak));");
        let (below, equals) = if width == 4 {
            let each = |f: &str| names.iter().map(|n| format!("{f}({n}, center)")).collect::<Vec<_>>();
            (tree(&each("below_maximum4"), "+"), tree(&each("equals_maximum4"), "+"))
        } else {
            let below: Vec<_> = names.iter().map(|n| format!("below_maximum({n}, center)")).collect();
            let equals: Vec<_> = names.iter().map(|n| format!("select(0.0, 1.0, {n} == center)")).collect();
            (tree(&below, "+"), tree(&equals, "+"))
        };
        text.line(format!("let below = {below};"));
        text.line(format!("let equal = {equals};"));
        let sum =
            |n: &str| if width == 4 { format!("(({n}.x + {n}.y) + ({n}.z + {n}.w))") } else { n.to_owned() };
        // If the maximum is new, one of its equals is the maximum itself.
        text.line(format!(
            "{s} = rescale({m}, {s}, peak) + ({} - select(0.0, 1.0, peak != {m})) + {};",
            sum("equal"),
            sum("below")
        ));
        text.line(format!("{m} = peak;"));
        text.close();
    }

    /// The fields of the partial result of an invocation, once its variables have seen everything.
    pub(crate) fn collapse(&self, width: usize) -> Vec<String> {
        let field = &self.fields[0];
        let fold = |open: &str, middle: &str, outer: &str| {
            let pair = |a: &str, b: &str| format!("{open}{field}.{a}{middle}{field}.{b})");
            format!("{outer}({}{middle}{})", pair("x", "y"), pair("z", "w"))
        };
        match self.kind {
            Kind::LogSum => {
                let nan = &self.nan;
                let bits = if width == 4 {
                    format!("max(max({nan}.x, {nan}.y), max({nan}.z, {nan}.w))")
                } else {
                    nan.clone()
                };
                let [m, s] = [&self.fields[0], &self.fields[1]];
                vec![format!("select({m}, quiet_nan(), {bits} > 0x7f800000u)"), s.clone()]
            }
            Kind::Position { .. } => self.fields.clone(),
            _ if width == 1 => vec![field.clone()],
            Kind::Sum => vec![fold("(", " + ", "")],
            Kind::Product => vec![fold("(", " * ", "")],
            Kind::Picked => vec![fold("(", " | ", "")],
            Kind::Largest | Kind::Key { .. } => vec![fold("max(", ", ", "max")],
            Kind::Smallest => vec![fold("min(", ", ", "min")],
        }
    }
    /// The fields of the merger of `a` and `b`.
    fn merge(&self, text: &mut Text) -> Vec<String> {
        let field = &self.fields[0];
        let both = |operator: &str| vec![format!("a.{field} {operator} b.{field}")];
        match self.kind {
            Kind::Sum => both("+"),
            Kind::Product => both("*"),
            Kind::Picked => both("|"),
            Kind::Largest | Kind::Key { .. } => vec![format!("max(a.{field}, b.{field})")],
            Kind::Smallest => vec![format!("min(a.{field}, b.{field})")],
            Kind::LogSum | Kind::Position { .. } => {
                let (ty, function) =
                    if self.kind == Kind::LogSum { ("f32", "merge_log_sum") } else { ("u32", "better") };
                let [first, second] = [&self.fields[0], &self.fields[1]];
                let pair = |of: &str| format!("vec2<{ty}>({of}.{first}, {of}.{second})");
                text.line(format!("let {first}_pair = {function}({}, {});", pair("a"), pair("b")));
                vec![format!("{first}_pair.x"), format!("{first}_pair.y")]
            }
        }
    }
    /// The reduced value(s), given the fields of the complete result: `(value, expression)`.
    pub(crate) fn results(&self, nest: &Loop, partial: &str, width: usize) -> Vec<(Value, String)> {
        let field = format!("{partial}.{}", self.fields[0]);
        let operand = nest.code[self.operand].dtype;
        let each = |function: &dyn Fn(&str) -> String, ty: &str| {
            if width == 1 {
                return function(&field);
            }
            let parts: Vec<_> =
                super::module::COMPONENTS.iter().map(|c| function(&format!("{field}.{c}"))).collect();
            format!("vec4<{ty}>({})", parts.join(", "))
        };
        let one = |expression: String| vec![(self.value, expression)];
        match self.kind {
            Kind::Largest | Kind::Smallest if operand == DType::Bool => {
                one(if width == 1 { format!("{field} != 0u") } else { format!("{field} != vec4<u32>()") })
            }
            Kind::Sum | Kind::Product | Kind::Largest | Kind::Smallest => one(field),
            Kind::Key { maximum: true } => one(each(&|x| format!("from_order_key({x})"), "f32")),
            Kind::Key { maximum: false } => one(each(&|x| format!("from_order_key_down({x})"), "f32")),
            Kind::Position { .. } => one(format!("bitcast<i32>({partial}.{})", self.fields[1])),
            Kind::Picked if operand == DType::Bool => one(format!("{field} != 0u")),
            Kind::Picked => one(format!("bitcast<{}>({field})", value_type(operand))),
            Kind::LogSum => {
                let pair = format!("finish_log_sum(vec2<f32>({field}, {partial}.{}))", self.fields[1]);
                let mut results = one(format!("{pair}.x"));
                results.extend(self.rest.map(|rest| (rest, format!("{pair}.y"))));
                results
            }
        }
    }
    /// The picked position as u32, and whether there is one.
    pub(crate) fn picked_index(&self, fabric: &mut Fabric<'_>) -> Option<Value> {
        match &fabric.nest.code[self.value].code {
            Code::Pick { index, .. } => Some(*index),
            _ => None,
        }
    }
}

/// A name for the position of an index at kept level, as u32.
pub(crate) fn position_of<'a>(
    fabric: &mut Fabric<'a>,
    module: &mut Module<'a>,
    index: Value,
) -> Result<String, Error> {
    let name = fabric.scope_component(module, index, 0)?;
    Ok(unsigned(fabric.nest.code[index].dtype, &name))
}

fn position_key(maximum: bool, dtype: DType, x: &str) -> String {
    match (dtype, maximum) {
        (DType::F32 | DType::F16, true) => format!("position_key({x})"),
        (DType::F32 | DType::F16, false) => format!("position_key_down({x})"),
        (DType::I32, true) => format!("bitcast<u32>({x}) ^ 0x80000000u"),
        (DType::I32, false) => format!("bitcast<u32>({x}) ^ 0x7fffffffu"),
        (DType::U32, true) => x.to_owned(),
        (DType::U32, false) => format!("~({x})"),
        (DType::Bool, true) => format!("select(0u, 1u, {x})"),
        (DType::Bool, false) => format!("select(1u, 0u, {x})"),
    }
}

/// A balanced tree of an associative operator.
fn tree(terms: &[String], operator: &str) -> String {
    match terms {
        [] => String::new(),
        [one] => one.clone(),
        _ => {
            let (left, right) = terms.split_at(terms.len().div_ceil(2));
            format!("({} {operator} {})", tree(left, operator), tree(right, operator))
        }
    }
}

/// The struct of a partial result over several accumulators, and the function that merges two.
#[derive(Clone, Debug)]
pub(crate) struct Partial {
    pub(crate) name: String,
    pub(crate) merge: String,
    /// Fields in order: name and full type.
    pub(crate) fields: Vec<(String, String)>,
    /// Words per component.
    pub(crate) words: usize,
    pub(crate) neutral: String,
}

/// Declares struct and merger. `width` 4: four independent partial results side by side.
pub(crate) fn declare_partial(
    module: &mut Module<'_>,
    accumulators: &[Accumulator],
    width: usize,
) -> Partial {
    let name = module.names.fresh("partials");
    let mut struct_name = name.clone();
    struct_name[..1].make_ascii_uppercase();
    let merge = module.names.fresh("merge");
    let ty = |t: &str| if width == 4 { format!("vec4<{t}>") } else { t.to_owned() };
    let fields: Vec<_> =
        accumulators.iter().flat_map(Accumulator::fields).map(|(f, t)| (f.to_owned(), ty(t))).collect();
    let neutral = accumulators.iter().flat_map(Accumulator::neutral);
    let neutral: Vec<_> = neutral
        .zip(&fields)
        .map(|(n, (_, t))| if width == 4 { format!("{t}({n})") } else { n.to_owned() })
        .collect();
    let mut text = Text::inside(1);
    let merged: Vec<_> = accumulators.iter().flat_map(|a| a.merge(&mut text)).collect();
    text.line(format!("return {struct_name}({});", merged.join(", ")));
    let list: Vec<_> = fields.iter().map(|(f, t)| format!("{f}: {t}")).collect();
    module.items.line("");
    module.items.line(format!("struct {struct_name} {{ {} }}", list.join(", ")));
    module.items.line("");
    module.items.open(format!("fn {merge}(a: {struct_name}, b: {struct_name}) -> {struct_name}"));
    module.items.append(&text);
    module.items.close();
    let words = fields.len();
    Partial {
        neutral: format!("{struct_name}({})", neutral.join(", ")),
        name: struct_name,
        merge,
        fields,
        words,
    }
}
