//! Errors of naga in the words of the text.

use cotangent_tensor::{Code, Error, edit_distance};
use naga::common::ForDebugWithTypes as _;
use naga::front::wgsl::ParseError;
use naga::valid::{
    EntryPointError, ExpressionError, FunctionError, GlobalVariableError, TypeError, ValidationError,
    WidthError,
};
use naga::{Expression, Function, GlobalVariable, Handle, Module, Span, WithSpan};

use crate::diagnose::{Problem, Source};
use crate::kernel::MAX_INVOCATIONS;
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
    let close = |name: &&str| is_near(name, unknown);
    match prelude::names().find(close) {
        Some(name) => wrong.hint(format!("`{name}` is a function of the prelude")),
        None => wrong,
    }
}

/// The frequent errors of the validator retold; the others as they are.
pub(crate) fn validation_error(module: &Module, error: &WithSpan<ValidationError>, source: &Source) -> Error {
    match retold(module, error.as_inner()).or_else(|| resource(module, error)) {
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
