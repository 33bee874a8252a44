//! The straight-line code of one element: one `let` per node.

use cotangent_tensor::{DType, Error};

use super::fabric::{Argument, Fabric, Key};
use super::module::{Module, value_type};
use super::text::Text;
use crate::{Affine, Code, Value};

impl<'a> Fabric<'a> {
    /// Writes the values of `order`. Everything it names that it does not compute is added to `arguments`.
    pub(crate) fn statements(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        order: &[Value],
        arguments: &mut Vec<Argument>,
        in_place: bool,
    ) -> Result<(), Error> {
        for &value in order {
            self.statement(
                module,
                text,
                value,
                &mut |argument| {
                    let computed = matches!(argument, Argument::Given(v) if order.contains(&v));
                    if !computed && !arguments.contains(&argument) {
                        arguments.push(argument);
                    }
                },
                in_place,
            )?;
        }
        Ok(())
    }

    fn statement(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        value: Value,
        capture: &mut dyn FnMut(Argument),
        in_place: bool,
    ) -> Result<(), Error> {
        let nest = self.nest;
        let instruction = &nest.code[value];
        let name = self.names[value].clone();
        let ty = value_type(instruction.dtype);
        let index = self.index_names[value].clone();
        let expression = match &instruction.code {
            Code::Constant(_) => return Ok(()),
            Code::Load { binding, guard, .. } => {
                let guard = guard.map(|g| self.operand(module, g, capture, in_place)).transpose()?;
                capture(Argument::Index(value));
                let load = self.memory(*binding).load(module, &index);
                let Some(guard) = guard else {
                    text.line(format!("let {name} = {load};"));
                    return Ok(());
                };
                text.line(format!("var {name}: {ty};"));
                text.line(format!("if ({guard}) {{ {name} = {load}; }}"));
                return Ok(());
            }
            Code::LoadIndexed { binding, index: index_value, stride, size, guard, .. } => {
                let guard = guard.map(|g| self.operand(module, g, capture, in_place)).transpose()?;
                let by = self.operand(module, *index_value, capture, in_place)?;
                let by = unsigned(nest.code[*index_value].dtype, &by);
                let stride =
                    module.size(format!("{value} index stride"), &format!("{name}_per_index"), *stride)?;
                let size = module.size(format!("{value} index size"), &format!("{name}_size"), *size)?;
                for argument in [&stride, &size] {
                    capture(Argument::Name(argument.clone()));
                }
                capture(Argument::Index(value));
                let load = self.memory(*binding).load(module, &format!("({index} + {by} * {stride})"));
                text.line(format!("var {name}: {ty};"));
                if let Some(guard) = &guard {
                    text.open(format!("if ({guard})"));
                }
                text.line(format!("if ({by} < {size}) {{ {name} = {load}; }}"));
                self.report(
                    module,
                    text,
                    &by,
                    Blame { index: *index_value, condition: None },
                    capture,
                    in_place,
                );
                if guard.is_some() {
                    text.close();
                }
                return Ok(());
            }
            Code::Coordinate(_) => {
                capture(Argument::Index(value));
                format!("bitcast<i32>({index})")
            }
            Code::InRange { size, .. } => {
                let size = module.size(format!("{value} size"), &format!("{name}_size"), *size)?;
                capture(Argument::Index(value));
                capture(Argument::Name(size.clone()));
                format!("{index} < {size}")
            }
            Code::RandomBits { key, step, .. } => {
                let words = self.random_key(module, value, *key);
                let step = self.operand(module, *step, capture, in_place)?;
                words.iter().for_each(|word| capture(Argument::Name(word.clone())));
                capture(Argument::Index(value));
                format!("random_word({index}, {step}, vec4<u32>({}))", words.join(", "))
            }
            Code::Elementwise(row, operands) => {
                let mut names = Vec::new();
                for &o in operands {
                    names.push(self.operand(module, o, capture, in_place)?);
                }
                row.wgsl(&names.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Code::Integer(row, dtype, operands) => {
                let mut names = vec![String::new(); 3];
                for (slot, &o) in names.iter_mut().zip(operands) {
                    *slot = self.operand(module, o, capture, in_place)?;
                }
                row.wgsl(*dtype, &names[0], &names[1], &names[2])
            }
            Code::Cast(from) => {
                let x = self.operand(module, *from, capture, in_place)?;
                cast(nest.code[*from].dtype, instruction.dtype, &x)
            }
            Code::Softmax { value: x, max, .. } => {
                let x = self.operand(module, *x, capture, in_place)?;
                let names = self.softmax_names(value, *max)?;
                [&names.center, &names.scale].into_iter().for_each(|n| capture(Argument::Name(n.clone())));
                format!("m_exp_nonpositive({x} - {}) * {}", names.center, names.scale)
            }
            Code::SoftmaxResidual { value: x, max, .. } => {
                let x = self.operand(module, *x, capture, in_place)?;
                let names = self.softmax_names(value, *max)?;
                for used in [&names.center, &names.scale, &names.peak, &names.hit] {
                    capture(Argument::Name(used.clone()));
                }
                capture(Argument::Position);
                let share = module.names.fresh(&format!("{name}_share"));
                let (center, scale) = (&names.center, &names.scale);
                text.line(format!("let {share} = m_exp_nonpositive({x} - {center}) * {scale};"));
                // At the label the difference p - 1 cancels where x is the maximum: -rest / (1 + rest) does not.
                format!(
                    "select({share}, select({share} - 1.0, {}, {x} == {}), position == {})",
                    names.peak, names.center, names.hit
                )
            }
            Code::While(looped, operands) => {
                let mut names = Vec::new();
                for &o in operands {
                    names.push(self.operand(module, o, capture, in_place)?);
                }
                let function = module.recurrence(looped).function;
                text.line(format!("let {name} = {function}({});", names.join(", ")));
                self.report_endless(module, text, value, capture, in_place);
                return Ok(());
            }
            Code::Part(tuple, part) => {
                let Code::While(looped, _) = &nest.code[*tuple].code else {
                    return Err(self.context.internal(format!("{name} is a part of no loop")));
                };
                let field = module.recurrence(looped).fields[*part].clone();
                format!("{}.{field}", self.names[*tuple])
            }
            Code::Parameter(_) => return Err(self.context.internal("a parameter outside of a loop")),
            Code::Accumulator => {
                return Err(self.context.internal("an accumulator outside a matrix product"));
            }
            Code::Reduce(..)
            | Code::ArgReduce { .. }
            | Code::LogSumExpMax(_)
            | Code::LogSumExpRest(_)
            | Code::Pick { .. } => {
                return Err(self.context.internal(format!("{name} is used before it is reduced")));
            }
        };
        text.line(format!("let {name} = {};", without_parentheses(&expression)));
        Ok(())
    }

    /// An operand as text.
    fn operand(
        &mut self,
        module: &mut Module<'a>,
        value: Value,
        capture: &mut dyn FnMut(Argument),
        in_place: bool,
    ) -> Result<String, Error> {
        if let Code::Constant(bits) = self.nest.code[value].code {
            let constant = self.constant(module, value, bits);
            if module.is_parameter(&constant) {
                capture(Argument::Name(constant.clone()));
            }
            return Ok(constant);
        }
        if in_place && self.scope.contains_key(&value) {
            return self.scope_component(module, value, 0);
        }
        capture(Argument::Given(value));
        Ok(self.names[value].clone())
    }

    /// Where the values of an index lie among all indices, as the CPU device counts them: by the load that brought them.
    /// None where they were computed, or run backwards.
    pub(crate) fn origin(&self, mut index: Value) -> Option<Affine> {
        loop {
            match &self.nest.code[index].code {
                Code::Cast(value) => index = *value,
                Code::Load { at, .. } if at.strides.iter().all(|&stride| stride >= 0) => {
                    return Some(Affine { offset: 0, strides: at.strides.clone() });
                }
                _ => return None,
            }
        }
    }
    /// Reports an index outside its range: where a condition holds, or in the other branch of the `if` before.
    fn report(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        index: &str,
        blame: Blame<'_>,
        capture: &mut dyn FnMut(Argument),
        in_place: bool,
    ) {
        let Blame { index: value, condition } = blame;
        let kernel = module.parameter("kernel number", "kernel", reported(self.context.number));
        capture(Argument::Name(kernel.clone()));
        let place = match (self.origin(value), in_place) {
            (Some(at), true) => self.address(module, Key::Origin(value), &at, false, None),
            (Some(_), false) => {
                capture(Argument::Origin(value));
                format!("{}_from", self.index_names[value])
            }
            (None, true) => self.kept_index.clone().unwrap_or_else(|| "0u".to_owned()),
            (None, false) => {
                capture(Argument::Place);
                "place".to_owned()
            }
        };
        let reporter = self.reporter.as_deref().filter(|_| in_place);
        let head = match (condition, reporter) {
            (None, None) => "else".to_owned(),
            (None, Some(reporter)) => format!("else if ({reporter})"),
            (Some(condition), None) => format!("if ({condition})"),
            (Some(condition), Some(reporter)) => format!("if ({condition} && {reporter})"),
        };
        text.line(format!("{head} {{ report({place}, {index}, {kernel}); }}"));
    }

    /// Reports a loop that has not ended: by the number of the value, at the element that ran it.
    fn report_endless(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        value: Value,
        capture: &mut dyn FnMut(Argument),
        in_place: bool,
    ) {
        let kernel = module.parameter("kernel number", "kernel", reported(self.context.number));
        capture(Argument::Name(kernel.clone()));
        let place = if in_place {
            self.kept_index.clone().unwrap_or_else(|| "0u".to_owned())
        } else {
            capture(Argument::Place);
            "place".to_owned()
        };
        let reporter = self.reporter.as_deref().filter(|_| in_place);
        let also = reporter.map_or(String::new(), |reporter| format!(" && {reporter}"));
        // Loops are counted, not values: those are renumbered on the way.
        let is_loop = |v: &Value| matches!(self.nest.code[*v].code, Code::While(..));
        let number = (0..value).filter(is_loop).count();
        let name = &self.names[value];
        text.line(format!("if (!{name}.ended{also}) {{ report({place}, {number}u, {kernel} + 1u); }}"));
    }

    /// The names that a row prepared for its softmax.
    fn softmax_names(&self, value: Value, _max: Value) -> Result<super::fabric::SoftmaxNames, Error> {
        self.softmax.get(&value).cloned().ok_or_else(|| self.context.internal("a softmax without its row"))
    }

    /// Writes what the softmaxes of a row share, before they are swept over.
    pub(crate) fn prepare_softmax(
        &mut self,
        module: &mut Module<'a>,
        softmaxes: &[Value],
    ) -> Result<(), Error> {
        let nest = self.nest;
        for &value in softmaxes {
            if self.softmax.contains_key(&value) {
                continue;
            }
            let (max, rest, label) = match &nest.code[value].code {
                Code::Softmax { max, rest, .. } => (*max, *rest, None),
                Code::SoftmaxResidual { max, rest, label, .. } => (*max, *rest, Some(*label)),
                _ => continue,
            };
            let m = self.scope_component(module, max, 0)?;
            let s = self.scope_component(module, rest, 0)?;
            let hint = self.names[value].clone();
            let mut text = Text::inside(module.body.depth());
            let mut define = |module: &mut Module<'a>, what: &str, expression: String| {
                let name = module.names.fresh(&format!("{hint}_{what}"));
                module.set_type(&name, if what == "hit" { "u32" } else { "f32" });
                text.line(format!("let {name} = {expression};"));
                name
            };
            // A row of -inf has no softmax: centered at 0 its exponentials vanish, and no label is hit.
            let center = define(module, "center", format!("select({m}, 0.0, is_negative_infinity({m}))"));
            let scale = define(module, "scale", format!("1.0 / (1.0 + {s})"));
            let mut names = super::fabric::SoftmaxNames { center, scale, ..Default::default() };
            if let Some(label) = label {
                let index = unsigned(nest.code[label].dtype, &self.scope_component(module, label, 0)?);
                names.peak = define(module, "peak", format!("-{s} / (1.0 + {s})"));
                names.hit =
                    define(module, "hit", format!("select({index}, 0xffffffffu, is_negative_infinity({m}))"));
                let size = module.size("reduced elements", "reduced_size", nest.reduced_elements())?;
                self.check_index(module, &mut text, label, &index, &size);
            }
            module.body.append(&text);
            self.softmax.insert(value, names);
        }
        Ok(())
    }
    /// Reports an index of kept level that is not below `size`.
    pub(crate) fn check_index(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        value: Value,
        index: &str,
        size: &str,
    ) {
        let condition = format!("{index} >= {size}");
        let blame = Blame { index: value, condition: Some(&condition) };
        self.report(module, text, index, blame, &mut |_| {}, true);
    }
    /// The four words of a random key, from the parameter block.
    pub(crate) fn random_key(
        &mut self,
        module: &mut Module<'a>,
        value: Value,
        key: cotangent_tensor::Key,
    ) -> Vec<String> {
        let hint = format!("{}_key", self.names[value]);
        let words = [key.seed, key.seed >> 32, key.stream, key.stream >> 32];
        let low = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
        words
            .iter()
            .enumerate()
            .map(|(i, &w)| module.parameter(format!("{value} key {i}"), &hint, low(w)))
            .collect()
    }
}

/// How a report names a kernel: an even number for an index, the odd one after it for a loop.
fn reported(kernel: u32) -> u32 {
    2 * kernel
}

/// What a report is about.
struct Blame<'c> {
    /// The index, as a value of the loop.
    index: Value,
    /// When to report.
    condition: Option<&'c str>,
}

/// An integer as u32: negative ones become large.
pub(crate) fn unsigned(dtype: DType, name: &str) -> String {
    match dtype {
        DType::I32 => format!("bitcast<u32>({name})"),
        DType::U32 | DType::Bool | DType::F32 | DType::F16 => name.to_owned(),
    }
}

/// Conversion between element types: floats saturate to integers, NaN becomes 0; anything but zero is true.
pub(crate) fn cast(from: DType, to: DType, x: &str) -> String {
    match (from, to) {
        (DType::F32 | DType::F16, DType::F32) => x.to_owned(),
        (DType::F32, DType::F16) => format!("half_value(half_bits({x}))"),
        (DType::F32 | DType::F16, DType::I32) => format!("f32_to_i32({x})"),
        (DType::F32 | DType::F16, DType::U32) => format!("f32_to_u32({x})"),
        // NaN is not zero; `!=` of floats is not to be trusted with it.
        (DType::F32 | DType::F16, DType::Bool) => format!("((bitcast<u32>({x}) << 1u) != 0u)"),
        (DType::I32, DType::F32) => format!("i32_to_f32({x})"),
        (DType::U32, DType::F32) => format!("u32_to_f32({x})"),
        (DType::I32, DType::F16) => format!("half_value(half_bits(i32_to_f32({x})))"),
        (DType::U32, DType::F16) => format!("half_value(half_bits(u32_to_f32({x})))"),
        (DType::I32, DType::U32) => format!("bitcast<u32>({x})"),
        (DType::U32, DType::I32) => format!("bitcast<i32>({x})"),
        (DType::I32, DType::Bool) => format!("({x} != 0i)"),
        (DType::U32, DType::Bool) => format!("({x} != 0u)"),
        (DType::Bool, DType::F32 | DType::F16) => format!("select(0.0, 1.0, {x})"),
        (DType::Bool, DType::I32) => format!("select(0i, 1i, {x})"),
        (DType::Bool, DType::U32) => format!("select(0u, 1u, {x})"),
        (DType::F16, DType::F16)
        | (DType::I32, DType::I32)
        | (DType::U32, DType::U32)
        | (DType::Bool, DType::Bool) => x.to_owned(),
    }
}

/// Table rows come in parentheses, which a `let` does not need.
pub(crate) fn without_parentheses(expression: &str) -> &str {
    let inner = expression.strip_prefix('(').and_then(|e| e.strip_suffix(')'));
    let balanced = |inner: &&str| {
        let mut depth = 0i32;
        inner.chars().all(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth >= 0
        })
    };
    inner.filter(balanced).unwrap_or(expression)
}
