//! Expressions: composites, accesses, operators, conversions.

use cotangent_tensor::{Code, DType, Elementwise as E, Integer};
use naga::{
    Arena, BinaryOperator as B, Expression, Handle, Literal, RelationalFunction, ScalarKind, TypeInner,
    UnaryOperator,
};

use super::statements::Variables;
use super::{Frame, Lowering, MAX_INDEXED, Value};
use crate::diagnose::Problem;
use crate::layout;
use crate::text::name_or;

/// Where a pointer points to: offsets in a variable, each under a condition if it is not known which.
pub(super) type Places = (usize, Vec<(usize, Option<Value>)>);

impl<'a> Lowering<'a> {
    /// An expression that has been computed, or needs no computation.
    pub(super) fn value(
        &mut self,
        frame: &Frame<'a>,
        expression: Handle<Expression>,
    ) -> Result<Vec<Value>, Problem> {
        if let Some(value) = &frame.values[expression.index()] {
            return Ok(value.clone());
        }
        match &frame.function.expressions[expression] {
            Expression::FunctionArgument(argument) => Ok(frame.arguments[*argument as usize].clone()),
            _ => self.constant(&frame.function.expressions, expression),
        }
    }
    /// A constant.
    pub(super) fn constant(
        &mut self,
        arena: &Arena<Expression>,
        expression: Handle<Expression>,
    ) -> Result<Vec<Value>, Problem> {
        let module = &self.text.module;
        let span = arena.get_span(expression);
        Ok(match &arena[expression] {
            Expression::Literal(literal) => vec![match *literal {
                Literal::F32(x) => Value::float(f64::from(x)),
                Literal::I32(x) => Value::Int(x),
                Literal::U32(x) => Value::Uint(x),
                Literal::Bool(x) => Value::Bool(x),
                _ => {
                    let message = "only f32, i32, u32 and bool are supported";
                    return Err(Problem::new(Code::WgslType, message).at(span, "this number"));
                }
            }],
            Expression::ZeroValue(ty) => {
                let kinds =
                    layout::scalars_of(module, *ty).map_err(|problem| problem.at(span, "this value"))?;
                kinds.into_iter().map(Value::zero).collect()
            }
            Expression::Constant(constant) => {
                self.constant(&module.global_expressions, module.constants[*constant].init)?
            }
            Expression::Compose { components, .. } => {
                let mut parts = Vec::new();
                for component in components {
                    parts.extend(self.constant(arena, *component)?);
                }
                parts
            }
            Expression::Splat { size, value } => vec![self.constant(arena, *value)?[0]; *size as usize],
            Expression::Override(constant) => {
                let constant = &module.overrides[*constant];
                let name = name_or(&constant.name, "_");
                match (self.options.constants.get(name), constant.init) {
                    (Some(&given), _) => {
                        let dtype = layout::scalars_of(module, constant.ty)?.first().copied();
                        vec![Value::number(given, dtype.unwrap_or(DType::F32))]
                    }
                    (None, Some(init)) => self.constant(&module.global_expressions, init)?,
                    (None, None) => {
                        let message = format!("the override `{name}` has no value");
                        return Err(Problem::new(Code::WgslConstant, message).at(span, "used here").help(
                            format!(
                                "give it one before you ask for functions: `module.constant(\"{name}\", …)`"
                            ),
                        ));
                    }
                }
            }
            // what is made of overrides
            Expression::Binary { op, left, right } => {
                let (a, b) = (self.constant(arena, *left)?, self.constant(arena, *right)?);
                self.operator(*op, &a, &b)
            }
            Expression::Unary { op, expr } => {
                let row = if *op == UnaryOperator::Negate { E::Neg } else { E::Not };
                self.constant(arena, *expr)?.into_iter().map(|x| self.scalars.apply(row, &[x])).collect()
            }
            _ => {
                let message = "this is not known before the function runs";
                return Err(Problem::new(Code::WgslConstant, message).at(span, "here"));
            }
        })
    }
    pub(super) fn is_pointer(&self, frame: &Frame<'_>, expression: Handle<Expression>) -> bool {
        let inner = self.text.info[frame.handle][expression].ty.inner_with(&self.text.module.types);
        matches!(inner, TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. })
    }

    /// The variable and the offsets in it to which a pointer may point.
    pub(super) fn places(
        &mut self,
        frame: &Frame<'a>,
        pointer: Handle<Expression>,
    ) -> Result<Places, Problem> {
        let span = frame.function.expressions.get_span(pointer);
        match &frame.function.expressions[pointer] {
            Expression::LocalVariable(local) => Ok((local.index(), vec![(0, None)])),
            Expression::AccessIndex { base, index } => {
                let (local, places) = self.places(frame, *base)?;
                let (_, offset) =
                    layout::part(&self.text.module, &self.type_of(frame, *base), *index as usize)?;
                Ok((local, places.into_iter().map(|(at, guard)| (at + offset, guard)).collect()))
            }
            Expression::Access { base, index } => {
                let (local, places) = self.places(frame, *base)?;
                let offsets = self.offsets(frame, *base, *index)?;
                let mut reached = Vec::new();
                for (at, guard) in places {
                    for &(offset, condition) in &offsets {
                        let both = match (guard, condition) {
                            (Some(a), Some(b)) => Some(self.scalars.and(a, b)),
                            (a, b) => a.or(b),
                        };
                        reached.push((at + offset, both));
                    }
                }
                Ok((local, reached))
            }
            Expression::GlobalVariable(variable) => {
                let name = name_or(&self.text.module.global_variables[*variable].name, "_");
                Err(Problem::new(Code::WgslVariable, format!("`{name}` is a variable of the module"))
                    .at(span, "used here"))
            }
            Expression::FunctionArgument(argument) => {
                let nth = frame.pointers.iter().position(|&position| position == *argument as usize);
                let nth = nth
                    .ok_or_else(|| Problem::new(Code::WgslPointer, "this is no pointer").at(span, "here"))?;
                Ok((frame.function.local_variables.len() + nth, vec![(0, None)]))
            }
            _ => Err(Problem::new(Code::WgslPointer, "a pointer to no variable of the function")
                .at(span, "used here")),
        }
    }
    /// The offsets of the parts of a composite that an index may mean, each under the condition that it does.
    fn offsets(
        &mut self,
        frame: &Frame<'a>,
        base: Handle<Expression>,
        index: Handle<Expression>,
    ) -> Result<Vec<(usize, Option<Value>)>, Problem> {
        let module = &self.text.module;
        let ty = &*self.type_of(frame, base);
        let (count, _) = layout::part(module, ty, 0)?;
        let index_value = self.value(frame, index)?[0];
        // an index that is a variable has no place of its own
        let spans = [index, base].map(|expression| frame.function.expressions.get_span(expression));
        let span = spans.into_iter().find(|span| span.is_defined()).unwrap_or_default();
        if let Some(known) = index_value.as_integer() {
            let inside = usize::try_from(known).ok().filter(|&known| known < count);
            let Some(inside) = inside else {
                let message = format!("index {known} is outside of an array of {count}");
                let problem = Problem::new(Code::WgslConstant, message).at(span, "indexed here");
                return Err(problem.help(format!("indices go from 0 to {}", count.saturating_sub(1))));
            };
            return Ok(vec![(layout::part(module, ty, inside)?.1, None)]);
        }
        if count > MAX_INDEXED {
            let message = format!(
                "an array of {count} is indexed by a number that is not known; {MAX_INDEXED} elements can be"
            );
            return Err(Problem::new(Code::WgslLimit, message).at(span, "this index"));
        }
        let dtype = self.scalars.dtype(index_value);
        let mut offsets = Vec::new();
        for part in 0..count {
            #[expect(clippy::cast_possible_wrap, reason = "at most MAX_INDEXED")]
            let number = Value::integer(part as i64, dtype);
            let condition = self.scalars.apply(E::Eq, &[index_value, number]);
            offsets.push((layout::part(module, ty, part)?.1, Some(condition)));
        }
        Ok(offsets)
    }
    /// What stands at one of several places: the one whose condition holds, the first if none does.
    pub(super) fn chosen(
        &mut self,
        from: &[Value],
        places: &[(usize, Option<Value>)],
        length: usize,
    ) -> Vec<Value> {
        let mut places = places.iter();
        let first = places.next().map_or(0, |place| place.0);
        let mut chosen = from[first..first + length].to_vec();
        for &(at, guard) in places {
            for (slot, &other) in chosen.iter_mut().zip(&from[at..]) {
                *slot = guard.map_or(other, |guard| self.scalars.select(guard, other, *slot));
            }
        }
        chosen
    }

    /// Computes an expression. None for pointers, which are resolved where they are used.
    pub(super) fn expression(
        &mut self,
        frame: &Frame<'a>,
        expression: Handle<Expression>,
        now: &Variables,
    ) -> Result<Option<Vec<Value>>, Problem> {
        if self.is_pointer(frame, expression) {
            return Ok(None);
        }
        let module = &self.text.module;
        let span = frame.function.expressions.get_span(expression);
        self.look_at(span);
        let ty = self.type_of(frame, expression);
        let length = layout::scalars(module, &ty).map_err(|problem| problem.at(span, "this value"))?.len();
        Ok(Some(match &frame.function.expressions[expression] {
            Expression::Compose { components, .. } => {
                let mut parts = Vec::new();
                for &component in components {
                    parts.extend(self.value(frame, component)?);
                }
                parts
            }
            Expression::Splat { size, value } => vec![self.value(frame, *value)?[0]; *size as usize],
            Expression::Swizzle { size, vector, pattern } => {
                let vector = self.value(frame, *vector)?;
                pattern[..*size as usize].iter().map(|&component| vector[component as usize]).collect()
            }
            Expression::AccessIndex { base, index } => {
                let from = self.value(frame, *base)?;
                let (_, at) = layout::part(module, &self.type_of(frame, *base), *index as usize)?;
                from[at..at + length].to_vec()
            }
            Expression::Access { base, index } => {
                let from = self.value(frame, *base)?;
                let places = self.offsets(frame, *base, *index)?;
                self.chosen(&from, &places, length)
            }
            Expression::Load { pointer } => {
                let (local, places) = self.places(frame, *pointer)?;
                self.chosen(&now[local], &places, length)
            }
            Expression::Unary { op, expr } => {
                let row = match op {
                    UnaryOperator::Negate => E::Neg,
                    UnaryOperator::LogicalNot | UnaryOperator::BitwiseNot => E::Not,
                };
                self.value(frame, *expr)?.into_iter().map(|x| self.scalars.apply(row, &[x])).collect()
            }
            Expression::Binary { op, left, right } => {
                let (a, b) = (self.value(frame, *left)?, self.value(frame, *right)?);
                let types = (&*self.type_of(frame, *left), &*self.type_of(frame, *right));
                match (op, types) {
                    (
                        B::Multiply,
                        (TypeInner::Matrix { .. }, TypeInner::Vector { .. } | TypeInner::Matrix { .. }),
                    )
                    | (B::Multiply, (TypeInner::Vector { .. }, TypeInner::Matrix { .. })) => {
                        self.product(types, &a, &b)
                    }
                    _ => self.operator(*op, &a, &b),
                }
            }
            Expression::Select { condition, accept, reject } => {
                let condition = self.value(frame, *condition)?;
                let (accept, reject) = (self.value(frame, *accept)?, self.value(frame, *reject)?);
                (0..length)
                    .map(|i| self.scalars.select(condition[i % condition.len()], accept[i], reject[i]))
                    .collect()
            }
            Expression::Relational { fun, argument } => {
                let argument = self.value(frame, *argument)?;
                let (start, row) = match fun {
                    RelationalFunction::All => (Value::TRUE, E::And),
                    RelationalFunction::Any => (Value::FALSE, E::Or),
                    _ => {
                        let message = "this test has no meaning that all devices share";
                        return Err(Problem::new(Code::WgslBuiltin, message).at(span, "here"));
                    }
                };
                vec![argument.into_iter().fold(start, |all, x| self.scalars.apply(row, &[all, x]))]
            }
            Expression::As { expr, kind, convert } => {
                let x = self.value(frame, *expr)?;
                let target = match kind {
                    ScalarKind::Float => DType::F32,
                    ScalarKind::Sint => DType::I32,
                    ScalarKind::Uint => DType::U32,
                    ScalarKind::Bool => DType::Bool,
                    ScalarKind::AbstractInt | ScalarKind::AbstractFloat => {
                        let message = "only f32, i32, u32 and bool are supported";
                        return Err(Problem::new(Code::WgslType, message).at(span, "this conversion"));
                    }
                };
                let reads_bits = convert.is_none()
                    && x.iter().any(|&x| self.scalars.dtype(x).is_float() != target.is_float());
                if reads_bits {
                    let message =
                        "`bitcast` reads the bits of a number as another type: it has no derivative";
                    return Err(Problem::new(Code::WgslBitcast, message).at(span, "here"));
                }
                x.into_iter().map(|x| self.scalars.cast(x, target)).collect()
            }
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let mut arguments = vec![self.value(frame, *arg)?];
                for argument in [arg1, arg2, arg3].into_iter().flatten() {
                    arguments.push(self.value(frame, *argument)?);
                }
                self.builtin(*fun, &self.type_of(frame, *arg), &arguments, span)?
            }
            _ => {
                let message = "this expression has no meaning outside of a shader";
                return Err(Problem::new(Code::WgslExpression, message).at(span, "here"));
            }
        }))
    }

    /// An operator, component by component; one number goes with each.
    pub(super) fn operator(&mut self, op: B, a: &[Value], b: &[Value]) -> Vec<Value> {
        let row = match op {
            B::Add => E::Add,
            B::Subtract => E::Sub,
            B::Multiply => E::Mul,
            B::Divide => E::Div,
            B::Modulo => E::Rem,
            B::Equal => E::Eq,
            B::NotEqual => E::Ne,
            B::Less => E::Lt,
            B::LessEqual => E::Le,
            B::Greater => E::Gt,
            B::GreaterEqual => E::Ge,
            B::And | B::LogicalAnd => E::And,
            B::InclusiveOr | B::LogicalOr => E::Or,
            B::ExclusiveOr => E::Xor,
            B::ShiftLeft | B::ShiftRight => {
                let row = if op == B::ShiftLeft { Integer::Shl } else { Integer::Shr };
                return pairs(a, b).map(|(a, b)| self.scalars.shift(row, a, b)).collect();
            }
        };
        pairs(a, b).map(|(a, b)| self.scalars.apply(row, &[a, b])).collect()
    }
    /// Products with matrices, which lie column by column.
    fn product(&mut self, types: (&TypeInner, &TypeInner), a: &[Value], b: &[Value]) -> Vec<Value> {
        let extents = |ty: &TypeInner, is_left: bool| match ty {
            TypeInner::Matrix { columns, rows, .. } => (*rows as usize, *columns as usize),
            TypeInner::Vector { size, .. } if is_left => (1, *size as usize),
            TypeInner::Vector { size, .. } => (*size as usize, 1),
            _ => (1, 1),
        };
        let ((rows, inner), (_, columns)) = (extents(types.0, true), extents(types.1, false));
        let mut product = Vec::new();
        for column in 0..columns {
            for row in 0..rows {
                let left: Vec<Value> = (0..inner).map(|k| a[k * rows + row]).collect();
                product.push(self.dot(&left, &b[column * inner..(column + 1) * inner]));
            }
        }
        product
    }
    pub(super) fn dot(&mut self, a: &[Value], b: &[Value]) -> Value {
        let mut products = pairs(a, b);
        let Some((a, b)) = products.next() else { return Value::float(0.0) };
        let mut sum = self.scalars.apply(E::Mul, &[a, b]);
        for (a, b) in products {
            let next = self.scalars.apply(E::Mul, &[a, b]);
            sum = self.scalars.apply(E::Add, &[sum, next]);
        }
        sum
    }
}

/// Components side by side; a single number goes with each of the others.
fn pairs<'v>(a: &'v [Value], b: &'v [Value]) -> impl Iterator<Item = (Value, Value)> + 'v {
    (0..a.len().max(b.len())).map(|i| (a[i % a.len()], b[i % b.len()]))
}
