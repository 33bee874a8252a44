//! Two pointers of a call that lead to one variable, through one of which it is written: browsers refuse it, and nobody says what it computes.

use std::collections::HashSet;

use cotangent_tensor::Code;
use naga::valid::GlobalUse;
use naga::{Function, FunctionArgument, Statement, TypeInner};

use super::walk::{Root, root, statements};
use crate::diagnose::Problem;
use crate::text::{Text, name_or};

/// Refuses calls with pointers to one variable of which one is written through.
pub(super) fn check(text: &Text) -> Result<(), Problem> {
    // a function comes after those it calls
    let mut written: Vec<HashSet<u32>> = Vec::new();
    for (_, function) in text.module.functions.iter() {
        written.push(through_arguments(function, &written));
    }
    let entries = text.module.entry_points.iter().map(|entry| &entry.function);
    for function in text.module.functions.iter().map(|(_, function)| function).chain(entries) {
        check_calls(text, function, &written)?;
    }
    Ok(())
}

/// The parameters through which a function writes.
fn through_arguments(function: &Function, written: &[HashSet<u32>]) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut note = |pointer| {
        if let Some(Root::Argument(number)) = root(function, pointer) {
            found.insert(number);
        }
    };
    for (statement, _) in statements(function) {
        match statement {
            Statement::Store { pointer, .. } | Statement::Atomic { pointer, .. } => note(*pointer),
            Statement::Call { function: callee, arguments, .. } => {
                let through = |number: &usize| written[callee.index()].contains(&(*number as u32));
                (0..arguments.len()).filter(through).for_each(|number| note(arguments[number]));
            }
            _ => {}
        }
    }
    found
}

fn check_calls(text: &Text, function: &Function, written: &[HashSet<u32>]) -> Result<(), Problem> {
    for (statement, span) in statements(function) {
        let Statement::Call { function: callee, arguments, .. } = statement else { continue };
        let is_written = |number: usize| written[callee.index()].contains(&(number as u32));
        let parameters = &text.module.functions[*callee].arguments;
        let is_pointer = |parameter: &FunctionArgument| {
            let ty = &text.module.types[parameter.ty].inner;
            matches!(ty, TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. })
        };
        let into = |(&argument, parameter)| root(function, argument).filter(|_| is_pointer(parameter));
        let roots: Vec<Option<Root>> = arguments.iter().zip(parameters).map(into).collect();
        for (first, root) in roots.iter().enumerate() {
            let Some(root) = root else { continue };
            let twice = (0..first).find(|&other| roots[other] == Some(*root));
            if let Some(other) = twice.filter(|&other| is_written(first) || is_written(other)) {
                let (a, b) = (name_or(&parameters[other].name, "_"), name_or(&parameters[first].name, "_"));
                let message = format!(
                    "`{}` gets two pointers to `{}`, as `{a}` and as `{b}`, and writes through one of them",
                    text.name_of(*callee),
                    named(text, function, *root)
                );
                return Err(Problem::new(Code::WgslAlias, message).at(span, "in this call"));
            }
            if let Root::Global(variable) = root {
                let used = text.info[*callee][*variable];
                if used.contains(GlobalUse::WRITE) || is_written(first) && used.contains(GlobalUse::READ) {
                    let message = format!(
                        "`{}` gets a pointer to `{}`, which it uses by its name as well",
                        text.name_of(*callee),
                        named(text, function, *root)
                    );
                    return Err(Problem::new(Code::WgslAlias, message).at(span, "in this call"));
                }
            }
        }
    }
    Ok(())
}

fn named<'t>(text: &'t Text, function: &'t Function, root: Root) -> &'t str {
    match root {
        Root::Global(variable) => name_or(&text.module.global_variables[variable].name, "_"),
        Root::Local(variable) => name_or(&function.local_variables[variable].name, "_"),
        Root::Argument(number) => name_or(&function.arguments[number as usize].name, "_"),
    }
}
