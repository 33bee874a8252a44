//! Errors of naga in the words of the text.

use cotangent_tensor::{Code, Error, edit_distance};
use naga::common::ForDebugWithTypes as _;
use naga::common::wgsl::TypeContext as _;
use naga::front::wgsl::ParseError;
use naga::valid::{CallError, ExpressionError, FunctionError, ValidationError};
use naga::{Expression, Handle, Module, Span, WithSpan};

use crate::diagnose::{Problem, Source};
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
    let wrong = Error::new(Code::Wgsl, &source.name, text);
    let Some(unknown) = error.message().strip_prefix("no definition in scope for identifier: `") else {
        return wrong;
    };
    let unknown = unknown.trim_end_matches('`');
    if let Some((_, known)) = ALIASES.iter().find(|(alias, _)| *alias == unknown) {
        return wrong.hint(format!("write {known}"));
    }
    let close = |name: &&str| is_near(name, unknown);
    match prelude::names().find(close) {
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
    match retold(module, error) {
        Some(problem) => problem.in_text(source),
        None => {
            let text = error.emit_to_string_with_path(&source.text, &source.name);
            Error::new(Code::Wgsl, &source.name, text.strip_prefix("error: ").unwrap_or(&text).trim_end())
        }
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
fn signature(module: &Module, function: Handle<naga::Function>) -> (&str, String) {
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
