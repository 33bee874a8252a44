//! The values of expressions.

use cotangent_tensor::{Code, DType, Detail, Elementwise};
use naga::common::wgsl::TryToWgsl as _;
use naga::{BinaryOperator as B, Expression, Handle, MathFunction as M, RelationalFunction, Span, TypeInner};

use super::builtins;
use super::machine::{Machine, Thread, unsupported};
use super::operators;
use super::program::{Routine, SHARED, Slot};
use super::shape::{Cell, Shapes, float, place, pointer, word};
use super::vectors;
use super::witness::Origin;
use crate::diagnose::Problem;
use crate::prelude::Meaning;

/// The numbers of cells.
fn floats(cells: &[Cell]) -> Vec<f64> {
    cells.iter().map(|&cell| float(cell)).collect()
}

fn words(cells: &[Cell]) -> Vec<u32> {
    cells.iter().map(|&cell| word(cell)).collect()
}

impl<'r> Machine<'r> {
    /// Computes an expression into its registers.
    pub(super) fn evaluate(
        &mut self,
        thread: &mut Thread<'r>,
        handle: Handle<Expression>,
    ) -> Result<(), Problem> {
        let Some(routine) = thread.routine() else { return Ok(()) };
        let expressions = &routine.function.expressions;
        let span = expressions.get_span(handle);
        let out = thread.slot(handle);
        self.burn(out.len, || thread.busy())?;
        match &expressions[handle] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::ZeroValue(_)
            | Expression::FunctionArgument(_)
            | Expression::GlobalVariable(_)
            | Expression::LocalVariable(_) => {}
            Expression::Compose { components, .. } => {
                let mut at = out.at;
                for &component in components {
                    let from = thread.slot(component);
                    thread.registers.copy_within(from.at..from.at + from.len, at);
                    at += from.len;
                }
            }
            Expression::Splat { value, .. } => {
                let value = thread.cell(*value);
                thread.registers[out.at..out.at + out.len].fill(value);
            }
            Expression::Swizzle { vector, pattern, .. } => {
                let from = thread.slot(*vector).at;
                for (i, component) in pattern.iter().take(out.len).enumerate() {
                    thread.registers[out.at + i] = thread.registers[from + *component as usize];
                }
            }
            Expression::Access { base, index } => {
                let (index, dtype) = (thread.cell(*index), thread.slot(*index).dtype);
                let index = match dtype {
                    Some(DType::I32) => i64::from(word(index).cast_signed()),
                    _ => i64::from(word(index)),
                };
                self.part(thread, *base, index, out, span)?;
            }
            Expression::AccessIndex { base, index } => {
                self.part(thread, *base, i64::from(*index), out, span)?;
            }
            Expression::Load { pointer } => self.load(thread, *pointer, handle, span)?,
            Expression::ArrayLength(array) => {
                let (memory, _) = place(thread.cell(*array));
                let length = memory.checked_sub(SHARED).map_or(0, |memory| self.variables[memory].tail);
                thread.registers[out.at] = length as Cell;
            }
            Expression::Unary { op, expr } => {
                let from = thread.slot(*expr);
                for i in 0..out.len {
                    let value = from
                        .dtype
                        .and_then(|dtype| operators::unary(*op, dtype, thread.registers[from.at + i]));
                    thread.registers[out.at + i] =
                        value.ok_or_else(|| unsupported("this operator").at(span, "here"))?;
                }
            }
            Expression::Binary { op, left, right } => {
                let (x, y) = (thread.slot(*left), thread.slot(*right));
                self.binary(thread, *op, x, y, out, span)?;
            }
            Expression::Select { condition, accept, reject } => {
                let (condition, accept, reject) =
                    (thread.slot(*condition), thread.slot(*accept), thread.slot(*reject));
                for i in 0..out.len {
                    // one truth value may choose between vectors
                    let chosen = thread.registers[condition.at + i.min(condition.len - 1)] != 0;
                    self.witness.trace.note(chosen.into());
                    let from = if chosen { accept.at } else { reject.at };
                    thread.registers[out.at + i] = thread.registers[from + i];
                }
            }
            Expression::Relational { fun, argument } => {
                let from = thread.slot(*argument);
                let cells = &thread.registers[from.at..from.at + from.len];
                match fun {
                    RelationalFunction::All => {
                        thread.registers[out.at] = cells.iter().all(|&cell| cell != 0).into();
                    }
                    RelationalFunction::Any => {
                        thread.registers[out.at] = cells.iter().any(|&cell| cell != 0).into();
                    }
                    RelationalFunction::IsNan | RelationalFunction::IsInf => {
                        return Err(unsupported("this test").at(span, "here"));
                    }
                }
            }
            Expression::As { expr, convert, .. } => {
                let from = thread.slot(*expr);
                let (Some(source), Some(target)) = (from.dtype, out.dtype) else {
                    return Err(unsupported("this conversion").at(span, "here"));
                };
                for i in 0..out.len {
                    let x = thread.registers[from.at + i];
                    thread.registers[out.at + i] = match convert {
                        Some(_) => {
                            let trace = &mut self.witness.trace;
                            operators::convert(x, source, target, self.precision, trace)
                        }
                        None => operators::bitcast(x, source, target),
                    };
                }
                // a float made of bits is as it was meant to be
                return Ok(());
            }
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let arguments = [Some(*arg), *arg1, *arg2, *arg3];
                self.math(thread, *fun, arguments.map(|argument| argument.map(|a| thread.slot(a))), out)
                    .ok_or_else(|| {
                        unsupported(format!("`{}`", fun.to_wgsl_for_diagnostics())).at(span, "here")
                    })?;
            }
            other => return Err(unsupported(expression_name(other)).at(span, "here")),
        }
        if out.dtype == Some(DType::F32) && self.witness.origin.is_none() {
            self.witness_expression(thread, routine, handle, span);
        }
        Ok(())
    }

    /// Part `index` of a value, or of what a pointer points to.
    fn part(
        &mut self,
        thread: &mut Thread<'r>,
        base: Handle<Expression>,
        index: i64,
        out: Slot<'r>,
        span: Span,
    ) -> Result<(), Problem> {
        let shapes = &self.program.shapes;
        let from = thread.slot(base);
        let pointee = shapes.pointee(from.ty);
        let ty = pointee.as_deref().unwrap_or(from.ty);
        let (memory, first) = if pointee.is_some() { place(thread.cell(base)) } else { (0, 0) };
        let position = usize::try_from(index).ok();
        let Some((length, before)) = shapes.part(ty, position.unwrap_or(0)) else {
            return Err(unsupported("parts of a value of this type").at(span, "here"));
        };
        let length = length
            .unwrap_or_else(|| memory.checked_sub(SHARED).map_or(0, |memory| self.variables[memory].tail));
        if position.is_none_or(|position| position >= length) {
            let what = match memory.checked_sub(SHARED).filter(|_| pointee.is_some()) {
                // what lies at the end of a variable has no cell of its own if it is empty
                Some(memory) => {
                    let variable = &self.variables[memory];
                    let path = variable.path(shapes, first);
                    format!("`{}`", of_whole(&path, shapes, ty))
                }
                None => "what it indexes".into(),
            };
            let who = self.name(thread);
            let message = format!("{who}: index {index} is outside of {what}, whose length is {length}");
            return Err(Problem::new(Code::WgslBounds, message)
                .with("index", Detail::Integer(index))
                .with("length", Detail::Integer(i64::try_from(length).unwrap_or(i64::MAX)))
                .at(span, format!("index {index}, length {length}")));
        }
        if pointee.is_some() {
            thread.registers[out.at] = pointer(memory, first + before);
        } else {
            thread.registers.copy_within(from.at + before..from.at + before + out.len, out.at);
        }
        Ok(())
    }

    fn binary(
        &mut self,
        thread: &mut Thread<'r>,
        operator: B,
        x: Slot<'r>,
        y: Slot<'r>,
        out: Slot<'r>,
        span: Span,
    ) -> Result<(), Problem> {
        let Some(dtype) = x.dtype.filter(|_| y.dtype.is_some()) else {
            return Err(unsupported("this operator").at(span, "here"));
        };
        let is_matrix = |slot: Slot<'_>| matches!(slot.ty, TypeInner::Matrix { .. });
        if operator == B::Multiply && (is_matrix(x) || is_matrix(y)) {
            let left = floats(&thread.registers[x.at..x.at + x.len]);
            let right = floats(&thread.registers[y.at..y.at + y.len]);
            if let Some(product) = vectors::product((x.ty, &left), (y.ty, &right), self.precision) {
                for (i, number) in product.into_iter().enumerate() {
                    thread.registers[out.at + i] = number.to_bits();
                }
                return Ok(());
            }
        }
        let (x_step, y_step) = (usize::from(x.len > 1), usize::from(y.len > 1));
        for i in 0..out.len {
            let pair = (thread.registers[x.at + i * x_step], thread.registers[y.at + i * y_step]);
            let value = operators::binary(operator, dtype, pair, self.precision, &mut self.witness.trace);
            thread.registers[out.at + i] =
                value.ok_or_else(|| unsupported("this operator").at(span, "here"))?;
        }
        Ok(())
    }

    /// A builtin function; none if it is unknown.
    fn math(
        &mut self,
        thread: &mut Thread<'r>,
        function: M,
        arguments: [Option<Slot<'r>>; 4],
        out: Slot<'r>,
    ) -> Option<()> {
        let first = arguments[0]?;
        let dtype = first.dtype?;
        // component by component; a single number stands beside vectors in `mix`, `extractBits` and `insertBits`
        let cell = |registers: &[Cell], argument: Option<Slot<'r>>, i: usize| {
            argument.map_or(0, |slot| registers[slot.at + if slot.len == 1 { 0 } else { i }])
        };
        let is_even = first.len == out.len && out.dtype == first.dtype;
        if is_even && !matches!(first.ty, TypeInner::Matrix { .. }) {
            let mut is_known = true;
            for i in 0..out.len {
                let a = arguments.map(|argument| cell(&thread.registers, argument, i));
                let value = match dtype {
                    DType::F32 | DType::F16 => {
                        let a = [float(a[0]), float(a[1]), float(a[2])];
                        let value = self.float(function, a);
                        value.map(|value| self.precision.round(value).to_bits())
                    }
                    DType::I32 | DType::U32 => {
                        builtins::integer(function, dtype == DType::I32, a.map(word)).map(Cell::from)
                    }
                    DType::Bool => None,
                };
                match value {
                    Some(value) => thread.registers[out.at + i] = value,
                    None => is_known = false,
                }
            }
            if is_known {
                return Some(());
            }
        }
        let cells = |argument: Option<Slot<'r>>| {
            argument.map_or(&[][..], |slot| &thread.registers[slot.at..slot.at + slot.len])
        };
        let value = self.composite(function, dtype, first, arguments.map(cells))?;
        thread.registers[out.at..out.at + out.len].copy_from_slice(value.get(..out.len)?);
        Some(())
    }
    fn float(&mut self, function: M, a: [f64; 3]) -> Option<f64> {
        if function == M::Fma && self.precision == super::Precision::F32 {
            // rounded once, not to f64 first
            let [x, y, z] = a.map(|x| x as f32);
            return Some(x.mul_add(y, z).into());
        }
        builtins::float(function, a, &mut self.witness.trace)
    }
    /// A builtin function of whole vectors, or whose result has another type than its arguments.
    fn composite(
        &mut self,
        function: M,
        dtype: DType,
        first: Slot<'r>,
        a: [&[Cell]; 4],
    ) -> Option<Vec<Cell>> {
        let precision = self.precision;
        let trace = &mut self.witness.trace;
        let rounded = |numbers: Vec<f64>| -> Vec<Cell> {
            numbers.into_iter().map(|x| precision.round(x).to_bits()).collect()
        };
        if !dtype.is_float() {
            if function == M::Dot {
                let products = a[0].iter().zip(a[1]).map(|(&x, &y)| word(x).wrapping_mul(word(y)));
                return Some(vec![products.fold(0, u32::wrapping_add).into()]);
            }
            if let Some(word) = builtins::pack_integers(function, &words(a[0])) {
                return Some(vec![word.into()]);
            }
            let packed = word(*a[0].first()?);
            if let Some(words) = builtins::unpack_integers(function, packed) {
                return Some(words.map(Cell::from).to_vec());
            }
            if let M::Dot4I8Packed | M::Dot4U8Packed = function {
                let word = builtins::integer(function, false, [packed, word(*a[1].first()?), 0, 0])?;
                return Some(vec![word.into()]);
            }
            return builtins::unpack(function, packed).map(rounded);
        }
        let numbers = floats(a[0]);
        if let Some(word) = builtins::pack(function, &numbers) {
            trace.note(word.into());
            return Some(vec![word.into()]);
        }
        if function == M::Frexp {
            let (fractions, exponents) = vectors::frexp_all(&numbers, trace);
            let exponents = exponents.into_iter().map(Cell::from);
            return Some(rounded(fractions).into_iter().chain(exponents).collect());
        }
        if function == M::Ldexp {
            return Some(rounded(vectors::ldexp_all(&numbers, &words(a[1]))));
        }
        if let Some(result) = vectors::matrix(function, first.ty, &numbers) {
            return Some(rounded(result));
        }
        let (second, third) = (floats(a[1]), floats(a[2]));
        vectors::vector(function, [&numbers, &second, &third], precision, trace).map(rounded)
    }

    /// A function of the prelude.
    pub(super) fn prelude(
        &mut self,
        thread: &mut Thread<'r>,
        meaning: Meaning,
        routine: &'r Routine<'r>,
        arguments: &[Handle<Expression>],
        result: Option<Handle<Expression>>,
        span: Span,
    ) -> Result<(), Problem> {
        let given: Vec<Cell> = arguments.iter().map(|&argument| thread.cell(argument)).collect();
        let Some(result) = result else { return Ok(()) };
        let out = thread.slot(result);
        let numbers = floats(&given);
        let value = match meaning {
            Meaning::Detach | Meaning::Text => given.first().copied().unwrap_or(0),
            Meaning::Row(row) => {
                if row == Elementwise::Relu {
                    self.witness.trace.compare(numbers.first().copied().unwrap_or(0.0), 0.0);
                }
                let value = row.eval(&numbers);
                if out.dtype == Some(DType::Bool) {
                    (value != 0.0).into()
                } else {
                    self.precision.round(value).to_bits()
                }
            }
        };
        thread.registers[out.at] = value;
        let is_origin = out.dtype == Some(DType::F32) && !float(value).is_finite();
        if is_origin && numbers.iter().all(|x| x.is_finite()) {
            let (operation, calls) = (routine.name.to_string(), thread.calls().collect());
            let (inputs, results, who) = (numbers, vec![float(value)], thread.who);
            self.witness.begin(Origin { operation, inputs, results, span, calls, who });
        }
        Ok(())
    }

    /// Notes an operation on finite numbers whose result is not finite.
    fn witness_expression(
        &mut self,
        thread: &Thread<'r>,
        routine: &'r Routine<'r>,
        handle: Handle<Expression>,
        span: Span,
    ) {
        if thread.value(handle).iter().all(|&cell| float(cell).is_finite()) {
            return;
        }
        let (operation, operands) = match &routine.function.expressions[handle] {
            Expression::Unary { expr, .. } => ("-".to_string(), vec![*expr]),
            Expression::Binary { op, left, right } => {
                (naga::back::binary_operation_str(*op).to_string(), vec![*left, *right])
            }
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let rest = [*arg1, *arg2, *arg3].into_iter().flatten();
                (fun.to_wgsl_for_diagnostics(), [*arg].into_iter().chain(rest).collect())
            }
            // what only moves numbers makes none
            _ => return,
        };
        let mut inputs = Vec::new();
        for operand in operands {
            let numbers: Vec<f64> = match thread.slot(operand).dtype {
                Some(DType::F32 | DType::F16) => floats(thread.value(operand)),
                Some(DType::I32) => {
                    thread.value(operand).iter().map(|&x| word(x).cast_signed().into()).collect()
                }
                _ => thread.value(operand).iter().map(|&x| word(x).into()).collect(),
            };
            inputs.extend(numbers);
        }
        if inputs.iter().all(|x| x.is_finite()) {
            let (results, calls) = (floats(thread.value(handle)), thread.calls().collect());
            self.witness.begin(Origin { operation, inputs, results, span, calls, who: thread.who });
        }
    }
}

/// The name of a part without the names of its own parts: an array of `y[2].x` is called by the path up to it.
fn of_whole(path: &str, shapes: &Shapes<'_>, ty: &TypeInner) -> String {
    let own = shapes.path(ty, 0);
    path.strip_suffix(&own).unwrap_or(path).to_string()
}

fn expression_name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Override(_) => "`override`",
        Expression::ImageSample { .. } | Expression::ImageLoad { .. } | Expression::ImageQuery { .. } => {
            "textures"
        }
        Expression::Derivative { .. } => "derivatives by pixels",
        Expression::SubgroupBallotResult | Expression::SubgroupOperationResult { .. } => "subgroups",
        _ => "this expression",
    }
}
