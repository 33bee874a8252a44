//! Errors of naga in the words of the text.

use cotangent_tensor::{Code, Error, edit_distance};
use naga::common::ForDebugWithTypes as _;
use naga::common::wgsl::TypeContext as _;
use naga::front::wgsl::ParseError;
use naga::valid::{
    CallError, EntryPointError, ExpressionError, FunctionError, GlobalVariableError, TypeError,
    ValidationError, WidthError,
};
use naga::{Expression, Function, GlobalVariable, Handle, Module, Span, WithSpan};

use crate::diagnose::{Problem, Source};
use crate::kernel::MAX_INVOCATIONS;
use crate::prelude;
use crate::text::name_or;

/// Names of other languages and libraries, and what they are called here.
const ALIASES: &[(&str, &str)] = &[
    ("isNan", "is_nan(x)"),
    ("isnan", "is_nan(x)"),
    ("isInf", "abs(x) > 3.4028234e38"),
    ("ln", "log(x)"),
    ("log10", "log(x) * 0.4342944819"),
    ("rsqrt", "inverseSqrt(x)"),
    ("atan2f", "atan2(y, x)"),
    ("fabs", "abs(x)"),
    ("fmod", "x % y"),
    ("lerp", "mix(a, b, t)"),
    ("logistic", "sigmoid(x)"),
    ("where", "select(if_false, if_true, condition)"),
    ("gammaln", "lgamma(x)"),
    ("float", "f32"),
    ("int", "i32"),
];

/// naga's message and frame, with a hint where a name is unknown that has another one here.
pub(crate) fn parse_error(error: &ParseError, source: &Source) -> Error {
    if let Some(problem) = retold_parse(error) {
        return problem.in_text(source);
    }
    let text = error.emit_to_string_with_path(&source.text, &source.name);
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    if error.message().contains("enable extension") || error.message().contains("enable-extension") {
        return Error::new(Code::Feature, &source.name, text).hint(PLAIN);
    }
    let wrong = Error::new(Code::Wgsl, &source.name, text);
    let Some(unknown) = error.message().strip_prefix("no definition in scope for identifier: `") else {
        return wrong;
    };
    let unknown = unknown.trim_end_matches('`');
    if let Some((_, known)) = ALIASES.iter().find(|(alias, _)| *alias == unknown) {
        return wrong.hint(format!("write {known}"));
    }
    let close = prelude::names().filter(|name| is_near(name, unknown));
    match close.min_by_key(|name| edit_distance(name, unknown)) {
        Some(name) => wrong.hint(format!("`{name}` is a function of the prelude")),
        None => wrong,
    }
}

/// Wrong arguments of builtins without lists of all the types there are; f16, which is not supported.
fn retold_parse(error: &ParseError) -> Option<Problem> {
    let message = error.message();
    let allowed: Vec<&str> = error.notes().filter_map(|note| note.strip_prefix("allowed type: ")).collect();
    let takes = |ty: &str| allowed.contains(&ty);
    let (code, message, help) = if message.starts_with("wrong type passed as argument") {
        let vectors = allowed.iter().all(|ty| ty.starts_with("vec"));
        let matrices = allowed.iter().all(|ty| ty.starts_with("mat"));
        let help = match (vectors, matrices, takes("f32"), takes("i32")) {
            _ if allowed.is_empty() => return None,
            (true, ..) => "it takes vectors",
            (_, true, ..) => "it takes matrices",
            (_, _, true, false) => {
                "it takes f32 and vectors of f32; WGSL converts nothing by itself: write f32(…)"
            }
            (_, _, false, true) => {
                "it takes i32, u32 and vectors of them; WGSL converts nothing by itself: write i32(…)"
            }
            (_, _, true, true) => "it takes f32, i32, u32 and vectors of them",
            _ => "it takes another type",
        };
        (Code::Wgsl, message.to_string(), help)
    } else if message.starts_with("inconsistent type passed as argument") {
        let help = match allowed[..] {
            ["f32"] => "all arguments are of one type; WGSL converts nothing by itself: write f32(…)",
            ["i32"] => "all arguments are of one type; WGSL converts nothing by itself: write i32(…)",
            _ => "all arguments are of one type, numbers go with numbers and vectors with vectors",
        };
        (Code::Wgsl, message.to_string(), help)
    } else if message.contains("`f16`") {
        (Code::WgslType, "f16 is not supported in functions".to_string(), FLOATS)
    } else if message.starts_with("automatic conversions cannot convert elements of") {
        let help = match message.contains("to `i32`") {
            true => "WGSL converts nothing by itself: write i32(…)",
            false => "WGSL converts nothing by itself: write f32(…)",
        };
        (Code::Wgsl, message.to_string(), help)
    } else {
        return None;
    };
    let problem = Problem::new(code, message).help(help);
    let is_f16 = code == Code::WgslType;
    let label = |label: &str| if is_f16 { "this type".to_string() } else { label.to_string() };
    Some(error.labels().fold(problem, |problem, (span, text)| match text {
        "" => problem.at(span, "this call"),
        text => problem.at(span, label(text)),
    }))
}

/// The frequent errors of the validator retold; the others as they are.
pub(crate) fn validation_error(module: &Module, error: &WithSpan<ValidationError>, source: &Source) -> Error {
    // kernels may need features, functions cannot have them
    let retold = match module.entry_points.is_empty() {
        true => retold(module, error).or_else(|| resource(module, error)),
        false => resource(module, error).or_else(|| retold(module, error)),
    };
    match retold {
        Some(problem) => problem.in_text(source),
        None => {
            let text = error.emit_to_string_with_path(&source.text, &source.name);
            Error::new(Code::Wgsl, &source.name, text.strip_prefix("error: ").unwrap_or(&text).trim_end())
        }
    }
}

/// What to do about an extension.
const PLAIN: &str = "write it with what WGSL has without extensions: f32, i32, u32, atomics of integers";

/// Bindings, limits and features.
fn resource(module: &Module, error: &WithSpan<ValidationError>) -> Option<Problem> {
    let spans = || error.spans().next().map(|(span, _)| *span).unwrap_or_default();
    let feature = |what: String| Problem::new(Code::Feature, what).at(spans(), "this one").help(PLAIN);
    Some(match error.as_inner() {
        ValidationError::GlobalVariable { handle, name, source: GlobalVariableError::InvalidBinding } => {
            Problem::new(
                Code::WgslBinding,
                format!("`{name}` has no @group and @binding, or has them where none belong"),
            )
            .at(module.global_variables.get_span(*handle), "this variable")
            .help("storage buffers have `@group(…) @binding(…)`, other variables have none")
        }
        ValidationError::Type {
            source: TypeError::WidthError(WidthError::MissingCapability { name, .. }),
            ..
        } => feature(format!("the type {name} is an extension")),
        ValidationError::Type { source: TypeError::MissingCapability(_), .. } => {
            feature("atomics of floats and of 64 bits are extensions".into())
        }
        ValidationError::EntryPoint { name, source, .. } => {
            let entry = module.entry_points.iter().find(|entry| entry.name == *name)?;
            match source {
                EntryPointError::BindingCollision(handle) => collision(module, name, *handle)?,
                EntryPointError::OutOfRangeWorkgroupSize => {
                    let [x, y, z] = entry.workgroup_size;
                    let message = format!("`{name}` has workgroups of {x} × {y} × {z} invocations");
                    let most = MAX_INVOCATIONS;
                    Problem::new(Code::Limit, message)
                        .help(format!("1 to {most} in all; 256 run on every adapter"))
                }
                EntryPointError::UnsupportedCapability(_) => feature(format!("`{name}` uses an extension")),
                EntryPointError::Function(inner) => in_function(module, &entry.function, inner, spans())?,
                _ => return None,
            }
        }
        ValidationError::Function { handle, source, .. } => {
            in_function(module, &module.functions[*handle], source, spans())?
        }
        _ => return None,
    })
}

fn collision(module: &Module, entry: &str, handle: Handle<GlobalVariable>) -> Option<Problem> {
    let variable = &module.global_variables[handle];
    let at = variable.binding?;
    let place = |v: &GlobalVariable| v.binding.map(|at| (at.group, at.binding));
    let same = |(other, v): &(Handle<GlobalVariable>, &GlobalVariable)| {
        *other != handle && place(v) == Some((at.group, at.binding))
    };
    let (other, first) = module.global_variables.iter().find(same)?;
    let name = |v: &GlobalVariable| v.name.clone().unwrap_or_default();
    let message = format!(
        "`{entry}` uses `{}` and `{}`, both @group({}) @binding({})",
        name(first),
        name(variable),
        at.group,
        at.binding
    );
    let problem = Problem::new(Code::WgslBinding, message)
        .help("give each buffer of an entry point a number of its own");
    let span = |handle| module.global_variables.get_span(handle);
    Some(problem.at(span(other), "one").at(span(handle), "the other"))
}

fn in_function(module: &Module, function: &Function, error: &FunctionError, place: Span) -> Option<Problem> {
    let span = |handle: Handle<Expression>| function.expressions.get_span(handle);
    match error {
        FunctionError::InvalidStorePointer(pointer) => {
            let mut root = *pointer;
            let variable = loop {
                root = match function.expressions[root] {
                    Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => base,
                    Expression::GlobalVariable(variable) => break variable,
                    _ => return None,
                };
            };
            let name = module.global_variables[variable].name.clone().unwrap_or_default();
            let declared = module.global_variables.get_span(variable);
            let problem =
                Problem::new(Code::WgslBinding, format!("`{name}` is declared read-only and written"));
            Some(
                problem
                    .at(span(*pointer), "written here")
                    .at(declared, "declared here")
                    .help("declare it `var<storage, read_write>`"),
            )
        }
        FunctionError::Expression { source: ExpressionError::MissingCapabilities(_), .. }
        | FunctionError::MissingCapability(_) => Some(
            Problem::new(Code::Feature, "this operation is an extension").at(place, "this one").help(PLAIN),
        ),
        _ => None,
    }
}

fn retold(module: &Module, error: &WithSpan<ValidationError>) -> Option<Problem> {
    let is_half = |ty: Handle<naga::Type>| {
        let scalar = module.types[ty].inner.scalar();
        scalar.is_some_and(|scalar| scalar.kind == naga::ScalarKind::Float && scalar.width == 2)
    };
    if let ValidationError::Type { handle, .. } = error.as_inner()
        && is_half(*handle)
    {
        // where it is used is not known; where it is declared may not be, either
        let mut users = module.functions.iter().filter(|(_, f)| f.arguments.iter().any(|a| is_half(a.ty)));
        let span =
            users.next().map_or(module.types.get_span(*handle), |(user, _)| module.functions.get_span(user));
        let problem = Problem::new(Code::WgslType, "f16 is not supported in functions").help(FLOATS);
        return Some(problem.at(span, "here"));
    }
    let ValidationError::Function { handle, name, source } = error.as_inner() else { return None };
    let calls =
        || error.spans().find(|(_, label)| label.contains("call")).map_or(Span::default(), |found| found.0);
    let function = &module.functions[*handle];
    let span = |handle: Handle<Expression>| function.expressions.get_span(handle);
    let named = |handle: Handle<Expression>| {
        function.named_expressions.get(&handle).map_or("this", |name| name.as_str())
    };
    let wrong = |message: String| Problem::new(Code::Wgsl, message);
    Some(match source {
        FunctionError::Expression {
            handle: at,
            source: ExpressionError::InvalidBinaryOperandTypes { op, lhs_expr, lhs_type, rhs_expr, rhs_type },
        } => {
            let sign = naga::back::binary_operation_str(*op);
            let left = format!("{:?}", lhs_type.for_debug(&module.types));
            let right = format!("{:?}", rhs_type.for_debug(&module.types));
            wrong(format!("in `{name}`: `{sign}` cannot combine {left} and {right}"))
                .at(span(*at), format!("this `{sign}`"))
                .at(span(*lhs_expr), format!("{} is {left}", named(*lhs_expr)))
                .at(span(*rhs_expr), format!("{} is {right}", named(*rhs_expr)))
                .help("WGSL converts nothing by itself: write f32(x) or i32(x)")
        }
        FunctionError::InvalidIfType(condition) => wrong(format!("in `{name}`: a condition is no bool"))
            .at(first_defined([span(*condition), module.functions.get_span(*handle)]), "a condition here")
            .help("compare it, as in `x > 0.0`: WGSL converts nothing by itself"),
        FunctionError::Expression { handle: at, source: ExpressionError::InvalidCastArgument }
            if matches!(function.expressions[*at], Expression::As { convert: Some(2), .. }) =>
        {
            Problem::new(Code::WgslType, "f16 is not supported in functions")
                .at(span(*at), "this conversion")
                .help(FLOATS)
        }
        FunctionError::Expression { handle: at, source: ExpressionError::SelectConditionNotABool { .. } } => {
            wrong(format!("in `{name}`: the condition of `select` is no bool"))
                .at(span(*at), "this `select`")
                .help("it comes last: select(if_false, if_true, x > 0.0)")
        }
        FunctionError::Expression { handle: at, source: ExpressionError::InvalidIndexType(_) } => {
            wrong(format!("in `{name}`: an index is no i32 and no u32"))
                .at(span(*at), "indexed here")
                .help("WGSL converts nothing by itself: write i32(…), through which no gradient flows")
        }
        FunctionError::InvalidCall {
            function: called,
            error: CallError::ArgumentCount { required, seen },
        } => {
            let (called, signature) = signature(module, *called);
            wrong(format!("in `{name}`: `{called}` needs {required} arguments and gets {seen}"))
                .at(calls(), "this call")
                .help(format!("its signature is {signature}"))
        }
        FunctionError::InvalidCall {
            function: called,
            error: CallError::ArgumentType { index, required, seen_expression },
        } => {
            let (called_name, _) = signature(module, *called);
            let wanted = module.to_ctx().type_to_string(*required);
            let parameter = &module.functions[*called].arguments[*index].name;
            wrong(format!(
                "in `{name}`: `{}` of `{called_name}` is {wanted}, and something else is given",
                name_or(parameter, "_")
            ))
            .at(first_defined([span(*seen_expression), calls()]), "this argument")
            .at(calls(), "this call")
            .help(format!("WGSL converts nothing by itself: write {wanted}(…)"))
        }
        FunctionError::InvalidReturnType { expression: None, expected_ty: Some(_) } => {
            Problem::new(Code::WgslReturn, format!("`{name}` does not return a value on every path"))
                .at(module.functions.get_span(*handle), "this function")
        }
        FunctionError::InvalidReturnType { expression: Some(value), expected_ty: Some(expected) } => {
            wrong(format!("`{name}` returns the wrong type"))
                .at(span(*value), format!("{:?} is expected", expected.for_debug(&module.types)))
        }
        _ => return None,
    })
}

/// What stands for f16.
const FLOATS: &str = "declare it f32: tensors of F16 are converted when they are loaded";

fn first_defined(spans: [Span; 2]) -> Span {
    spans.into_iter().find(|span| span.is_defined()).unwrap_or_default()
}
/// The name of a function, and how it is declared.
fn signature(module: &Module, function: Handle<Function>) -> (&str, String) {
    let function = &module.functions[function];
    let name = name_or(&function.name, "_");
    let parameter = |a: &naga::FunctionArgument| {
        format!("{}: {}", name_or(&a.name, "_"), module.to_ctx().type_to_string(a.ty))
    };
    let parameters: Vec<String> = function.arguments.iter().map(parameter).collect();
    (name, format!("{name}({})", parameters.join(", ")))
}

/// Whether one name may be a slip of the pen for the other.
pub(crate) fn is_near(a: &str, b: &str) -> bool {
    edit_distance(a, b) <= 2
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn slips_of_the_pen_are_near() {
        for (a, b) in
            [("hinge", "hnige"), ("sigmoid", "sigmiod"), ("log1p", "logp"), ("", "ab"), ("relu", "relu")]
        {
            assert!(is_near(a, b) && is_near(b, a), "{a} {b}");
        }
        for (a, b) in [("hinge", "huber"), ("", "abc"), ("été", "relu")] {
            assert!(!is_near(a, b) && !is_near(b, a), "{a} {b}");
        }
    }
}
