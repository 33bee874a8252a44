//! Errors of naga in the words of the text.

use cotangent_tensor::{Code, Error, edit_distance};
use naga::common::ForDebugWithTypes as _;
use naga::front::wgsl::ParseError;
use naga::valid::{ExpressionError, FunctionError, ValidationError};
use naga::{Expression, Handle, Module, WithSpan};

use crate::diagnose::{Problem, Source};
use crate::prelude;

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

/// The frequent errors of the validator retold; the others as they are.
pub(crate) fn validation_error(module: &Module, error: &WithSpan<ValidationError>, source: &Source) -> Error {
    match retold(module, error.as_inner()) {
        Some(problem) => problem.in_text(source),
        None => {
            let text = error.emit_to_string_with_path(&source.text, &source.name);
            Error::new(Code::Wgsl, &source.name, text.strip_prefix("error: ").unwrap_or(&text).trim_end())
        }
    }
}

fn retold(module: &Module, error: &ValidationError) -> Option<Problem> {
    let ValidationError::Function { handle, name, source } = error else { return None };
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
