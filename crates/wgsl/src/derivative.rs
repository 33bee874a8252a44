//! The derivative of a function, as WGSL that can be read.
//!
//! The pullback is made by reverse mode on the graph of one element, and its nodes are taken through the same folding and merging as a
//! function that is lowered. What it calls beside the builtins is in the prelude.

mod looped;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use cotangent_autograd::{Gradient, State, check::unchecked, vjp};
use cotangent_tensor::{
    At, Code, DType, Elementwise as E, Error, Integer, Op, Scalar, Shape, Tensor, expand, topological,
};
use naga::{Handle, Type, TypeInner};

use looped::Met;

use crate::diagnose::Problem;
use crate::function::Function;
use crate::layout;
use crate::lower::{Made, Scalars, Value};
use crate::text::{Text, name_or};

/// Longest expression that stands inside another one.
const INLINE: usize = 48;

/// The pullback of a function: `fn f_vjp`, with the parameters of `f` and the cotangent of its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivative {
    text: String,
}

impl Derivative {
    /// The text. Beside the function it is a rule for it; the structures of the function it leaves to the text that has them.
    pub fn wgsl(&self) -> &str {
        &self.text
    }
}
impl fmt::Display for Derivative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A scalar of a parameter, as the text names it.
struct Given {
    name: String,
    placeholder: Tensor,
}

pub(crate) fn derivative(function: &Function, at: At) -> Result<Derivative, Error> {
    let text = function.text();
    let module = &text.module;
    let declared = &module.functions[function.handle()];
    let framed = |problem: Problem| problem.in_text(&text.source).at(at);
    let result = declared.result.as_ref().map(|result| result.ty);
    let result = result.ok_or_else(|| Error::new(Code::WgslResult, function.name(), "it returns nothing"))?;
    // the scalars of the parameters, and of the cotangent
    let mut given = Vec::new();
    let mut parameters: Vec<(String, Handle<Type>)> = Vec::new();
    let mut floats: Vec<Tensor> = Vec::new();
    for (position, argument) in declared.arguments.iter().enumerate() {
        let name = name_or(&argument.name, "_").to_string();
        let scalars = scalars_named(text, &name, argument.ty).map_err(framed)?;
        let of_floats = scalars.iter().map(|g| &g.placeholder).filter(|input| input.dtype().is_float());
        floats.extend(of_floats.filter(|_| function.wants(position)).cloned());
        given.extend(scalars);
        parameters.push((name, argument.ty));
    }
    let upstream_name = free_name("upstream", &parameters);
    let upstream = scalars_named(text, &upstream_name, result).map_err(framed)?;
    let inputs: Vec<Tensor> = given.iter().map(|g| g.placeholder.clone()).collect();
    let outputs = function.on_numbers(&inputs, at)?;
    let seeds: Vec<(&Tensor, &Tensor)> =
        outputs.iter().zip(&upstream).map(|(output, seed)| (output, &seed.placeholder)).collect();
    // printing a rule is not using it
    let gradients: Vec<Tensor> = unchecked(|| vjp(&seeds, &floats))?.iter().map(printable).collect();

    let mut printer = Printer::beside(text, &parameters, at);
    printer.taken.insert(upstream_name.clone());
    let results = printer
        .rebuild(&gradients, given.iter().chain(&upstream).map(|g| (g.name.as_str(), &g.placeholder)))?;
    let (lines, results) = printer.lines(&results)?;
    // a name that means something else in the text
    let owned =
        |name: &&String| text.declares(name) || parameters.iter().any(|parameter| parameter.0 == **name);
    if let Some(name) = printer.called.iter().find(owned) {
        let message = format!("the derivative calls `{name}`, which is a name of the text itself");
        return Err(Error::new(Code::Wgsl, function.name(), message).at(at).hint("give it another name"));
    }
    if floats.is_empty() {
        return Err(Error::new(
            Code::WgslResult,
            function.name(),
            "no parameter is a float: there is no derivative",
        )
        .at(at));
    }
    Ok(Derivative { text: printed(text, function, &parameters, &upstream_name, result, &lines, &results)? })
}

/// A gradient as it is printed. What becomes an integer counts in steps: the lint `LN1` says so where nothing else is left of a parameter.
fn printable(gradient: &Gradient) -> Tensor {
    match gradient.state() {
        State::NotDifferentiable { op } if op == "cast" => Tensor::full([], 0.0),
        _ => gradient.or_zero(),
    }
}

/// A name that no parameter has.
fn free_name(wanted: &str, parameters: &[(String, Handle<Type>)]) -> String {
    let mut name = wanted.to_string();
    while parameters.iter().any(|parameter| parameter.0 == name) {
        name.push('_');
    }
    name
}

/// The scalars of a value, by what leads to them: `v.x`, `z[1]`, `o.delta`.
fn scalars_named(text: &Text, name: &str, ty: Handle<Type>) -> Result<Vec<Given>, Problem> {
    let named = layout::named(&text.module, name, ty)?;
    let given = |(name, dtype): (String, DType)| {
        let placeholder = Tensor::placeholder(&name, Shape::SCALAR, dtype);
        Given { name, placeholder }
    };
    Ok(named.into_iter().map(given).collect())
}

/// Builds nodes again, folded and merged, and prints them.
struct Printer {
    scalars: Scalars,
    names: HashMap<Value, String>,
    /// What the names of values begin with.
    prefix: String,
    /// How many values have names of their own.
    named: usize,
    /// Functions that were called.
    called: BTreeSet<String>,
    at: At,
    /// Names that mean something else.
    taken: BTreeSet<String>,
    /// Loops, and which of them a node comes of.
    met: Vec<Met>,
    of_loop: HashMap<usize, usize>,
    written: BTreeSet<usize>,
}
impl Printer {
    /// Names that begin as those of no parameter do.
    fn beside(text: &Text, parameters: &[(String, Handle<Type>)], at: At) -> Printer {
        let mut prefix = String::from("t");
        while parameters.iter().any(|parameter| parameter.0.starts_with(&prefix)) {
            prefix.push_str("mp_");
        }
        Printer {
            scalars: Scalars::new(at),
            names: HashMap::new(),
            prefix,
            named: 0,
            called: BTreeSet::new(),
            at,
            taken: text
                .names()
                .chain(parameters.iter().map(|parameter| parameter.0.clone()))
                .chain(E::ALL.iter().map(|row| row.name().to_string()))
                .chain(["select", "inverseSqrt", "f32", "i32", "u32", "bool"].map(str::to_string))
                .collect(),
            met: Vec::new(),
            of_loop: HashMap::new(),
            written: BTreeSet::new(),
        }
    }
    fn rebuild<'g>(
        &mut self,
        results: &[Tensor],
        given: impl Iterator<Item = (&'g str, &'g Tensor)>,
    ) -> Result<Vec<Value>, Error> {
        let mut images: HashMap<*const (), Value> = HashMap::new();
        for (name, placeholder) in given {
            let node = placeholder.node()?;
            let value = self.scalars.given(placeholder.clone(), node.dtype);
            self.names.insert(value, name.to_string());
            images.insert(node.identity(), value);
        }
        let roots = results.iter().map(|result| result.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let roots = expand(roots).roots;
        for node in topological(&roots) {
            if images.contains_key(&node.identity()) {
                continue;
            }
            let operands: Vec<Value> = node.operands.iter().map(|o| images[&o.identity()]).collect();
            let unknown = || {
                let message = format!("`{}` cannot be written in WGSL", node.name());
                Error::new(Code::WgslExpression, "derivative", message)
            };
            let value = match &node.op {
                Op::Constant(Scalar::Float(x)) => Value::float(*x),
                Op::Constant(Scalar::Int(x)) => Value::Int(*x),
                Op::Constant(Scalar::Uint(x)) => Value::Uint(*x),
                Op::Constant(Scalar::Bool(x)) => Value::Bool(*x),
                Op::Elementwise(row) => self.scalars.apply(*row, &operands),
                Op::Integer(row @ (Integer::Shl | Integer::Shr)) => {
                    self.scalars.shift(*row, operands[0], operands[1])
                }
                Op::Integer(row) => {
                    let twin = E::ALL.iter().find(|twin| twin.on_integers() == Some(*row));
                    self.scalars.apply(*twin.ok_or_else(unknown)?, &operands)
                }
                Op::Cast => self.scalars.cast(operands[0], node.dtype),
                Op::While(looped, output) => self.last(looped, operands, *output)?,
                // of one element
                Op::Broadcast | Op::Reshape => operands[0],
                _ => return Err(unknown()),
            };
            images.insert(node.identity(), value);
        }
        Ok(roots.iter().map(|root| images[&root.identity()]).collect())
    }

    /// The `let` lines, and the expressions of the results.
    fn lines(&mut self, results: &[Value]) -> Result<(Vec<String>, Vec<String>), Error> {
        let count = self.scalars.len();
        let mut uses = vec![0usize; count];
        let mut use_of = |value: Value| {
            if let Value::Node(node) = value {
                uses[node] += 1;
            }
        };
        results.iter().for_each(|&value| use_of(value));
        // operands come before their users, so that one pass from the end counts what is needed
        let mut read = BTreeSet::new();
        for node in (0..count).rev() {
            if uses[node] > 0 {
                // those of a loop come after all that it reads
                if let Some(&number) = self.of_loop.get(&node).filter(|number| read.insert(**number)) {
                    for operand in self.read_by_loop(number) {
                        if let Value::Node(operand) = operand {
                            uses[operand] += 1;
                        }
                    }
                }
                for operand in self.scalars.made(node).into_iter().flat_map(Made::operands) {
                    if let Value::Node(operand) = operand {
                        uses[operand] += 1;
                    }
                }
            }
        }
        let mut lines = Vec::new();
        for (node, uses) in uses.into_iter().enumerate() {
            if let (Some(&number), true) = (self.of_loop.get(&node), uses > 0) {
                self.write_loop(number, &mut lines)?;
            }
            if self.names.contains_key(&Value::Node(node)) {
                continue;
            }
            let (Some(made), true) = (self.scalars.made(node), uses > 0) else { continue };
            let text = self.expression(&made)?;
            let text = if uses == 1 && text.len() <= INLINE {
                text
            } else {
                let name = self.fresh();
                let bare =
                    text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).filter(|_| made.is_infix());
                lines.push(format!("let {name} = {};", bare.unwrap_or(&text)));
                name
            };
            self.names.insert(Value::Node(node), text);
        }
        let results = results.iter().map(|&value| self.name(value)).collect::<Result<Vec<_>, _>>()?;
        Ok((lines, results))
    }
    /// A name that nothing has.
    fn fresh(&mut self) -> String {
        self.named += 1;
        format!("{}{}", self.prefix, self.named)
    }
    fn name(&self, value: Value) -> Result<String, Error> {
        if let Some(name) = self.names.get(&value) {
            return Ok(name.clone());
        }
        Ok(match value {
            Value::Int(x) if x < 0 => format!("i32({x})"),
            Value::Int(x) => format!("{x}i"),
            Value::Uint(x) => format!("{x}u"),
            Value::Bool(x) => x.to_string(),
            Value::Float(bits) => {
                #[expect(clippy::cast_possible_truncation, reason = "WGSL computes in f32")]
                let x = f64::from_bits(bits) as f32;
                if !x.is_finite() {
                    let message = format!("the constant {x} cannot be written in WGSL");
                    return Err(Error::new(Code::WgslConstant, "derivative", message));
                }
                if x.is_sign_negative() { format!("({x:?})") } else { format!("{x:?}") }
            }
            Value::Node(node) => format!("{}{node}", self.prefix),
        })
    }
    fn expression(&mut self, made: &Made) -> Result<String, Error> {
        let args = made.operands().map(|value| self.name(value)).collect::<Result<Vec<_>, _>>()?;
        let of_truth = made.operands().any(|value| self.scalars.dtype(value) == DType::Bool);
        Ok(match made {
            Made::Row(row, _) => match (made.infix(), row) {
                (Some("^"), _) if of_truth => format!("({} != {})", args[0], args[1]),
                (Some(sign), _) => format!("({} {sign} {})", args[0], args[1]),
                (None, E::Neg) if args[0].starts_with('-') => format!("-({})", args[0]),
                (None, E::Neg) => format!("-{}", args[0]),
                (None, E::Not) if of_truth => format!("!{}", args[0]),
                (None, E::Not) => format!("~{}", args[0]),
                (None, E::Recip) => format!("(1.0 / {})", args[0]),
                (None, E::Select) => self.call("select", &[&args[2], &args[1], &args[0]]),
                (None, E::Rsqrt) => self.call("inverseSqrt", &[&args[0]]),
                (None, row) => self.call(row.name(), &args.iter().map(String::as_str).collect::<Vec<_>>()),
            },
            Made::Shift(..) => format!("({} {} u32({}))", args[0], made.infix().unwrap_or("<<"), args[1]),
            Made::Cast(_, dtype) => format!("{}({})", wgsl_name(*dtype), args[0]),
        })
    }
    fn call(&mut self, name: &str, args: &[&str]) -> String {
        self.called.insert(name.to_string());
        format!("{name}({})", args.join(", "))
    }
}

fn wgsl_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 => "f32",
        DType::I32 => "i32",
        DType::U32 => "u32",
        DType::Bool => "bool",
    }
}

/// The whole function, and a structure for its result where there are several gradients.
fn printed(
    text: &Text,
    function: &Function,
    parameters: &[(String, Handle<Type>)],
    upstream: &str,
    result: Handle<Type>,
    lines: &[String],
    gradients: &[String],
) -> Result<String, Error> {
    let name = function.name();
    let framed = |problem: Problem| problem.in_text(&text.source);
    let mut gradients = gradients.iter().cloned();
    let mut values: Vec<(String, String, String)> = Vec::new();
    for (position, (parameter, ty)) in parameters.iter().enumerate() {
        if !function.wants(position) {
            continue;
        }
        for (part, ty) in float_parts(text, parameter, *ty).map_err(framed)? {
            let mut part = part;
            while values.iter().any(|value| value.0 == part) {
                part.push('_');
            }
            let value = composed(text, ty, &mut gradients).map_err(framed)?;
            values.push((part, text.type_name(ty), value));
        }
    }
    let mut signature: Vec<String> =
        parameters.iter().map(|(name, ty)| format!("{name}: {}", text.type_name(*ty))).collect();
    signature.push(format!("{upstream}: {}", text.type_name(result)));
    let (declaration, returned, value) = match &values[..] {
        [(_, ty, value)] => (String::new(), ty.clone(), value.clone()),
        several => {
            let fields: Vec<String> = several.iter().map(|(name, ty, _)| format!("{name}: {ty}")).collect();
            let values: Vec<&str> = several.iter().map(|(_, _, value)| value.as_str()).collect();
            let ty = format!("{name}_gradient");
            let value = format!("{ty}({})", values.join(", "));
            (format!("struct {ty} {{ {} }}\n", fields.join(", ")), ty, value)
        }
    };
    let body: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    Ok(format!(
        "{declaration}fn {name}_vjp({}) -> {returned} {{\n{body}  return {value};\n}}\n",
        signature.join(", ")
    ))
}

/// A parameter of floats; of one that holds other numbers too, the parts that hold floats only, with names of their own.
fn float_parts(text: &Text, name: &str, ty: Handle<Type>) -> Result<Vec<(String, Handle<Type>)>, Problem> {
    let module = &text.module;
    let kinds = layout::scalars_of(module, ty)?;
    let floats = kinds.iter().filter(|dtype| dtype.is_float()).count();
    if floats == kinds.len() {
        return Ok(vec![(name.to_string(), ty)]);
    }
    let mut parts = Vec::new();
    match &module.types[ty].inner {
        TypeInner::Struct { members, .. } if floats > 0 => {
            for member in members {
                let name = format!("{name}_{}", name_or(&member.name, "_"));
                parts.extend(float_parts(text, &name, member.ty)?);
            }
        }
        TypeInner::Array { base, .. } if floats > 0 => {
            for i in 0..kinds.len() / layout::scalars_of(module, *base)?.len().max(1) {
                parts.extend(float_parts(text, &format!("{name}_{i}"), *base)?);
            }
        }
        _ => {}
    }
    Ok(parts)
}

/// A value of a type, from the expressions of its scalars.
fn composed(
    text: &Text,
    ty: Handle<Type>,
    from: &mut dyn Iterator<Item = String>,
) -> Result<String, Problem> {
    let module = &text.module;
    let mut parts = Vec::new();
    match &module.types[ty].inner {
        TypeInner::Array { base, .. } => {
            let each = layout::scalars_of(module, *base)?.len().max(1);
            for _ in 0..layout::scalars_of(module, ty)?.len() / each {
                parts.push(composed(text, *base, from)?);
            }
        }
        TypeInner::Struct { members, .. } => {
            for member in members {
                parts.push(composed(text, member.ty, from)?);
            }
        }
        TypeInner::Scalar(_) => return Ok(from.next().unwrap_or_default()),
        _ => {
            parts.extend(from.take(layout::scalars_of(module, ty)?.len()));
        }
    }
    Ok(format!("{}({})", text.type_name(ty), parts.join(", ")))
}
