//! Limits on user text, checked before any recursive parser sees it.
//!
//! Parsers recurse over nesting and over chains of operators; a text of a few hundred kilobytes can exhaust the stack of the
//! process. A scanner that does not recurse counts both first.

use cotangent_tensor::{Code, Detail, Error};

/// What is admitted.
pub(crate) struct Limits {
    /// Largest text.
    bytes: usize,
    /// Deepest nesting of brackets of all kinds.
    nesting: usize,
    /// Longest run of operators within one statement.
    chain: usize,
    /// Longest run of `else if`.
    else_if: usize,
    /// Most functions.
    functions: usize,
}

/// Of the text of a user.
pub(crate) const FUNCTIONS: Limits =
    Limits { bytes: 64 << 10, nesting: 32, chain: 256, else_if: 24, functions: 256 };

/// Of kernels.
pub(crate) const KERNELS: Limits =
    Limits { bytes: 1 << 20, nesting: 64, chain: 4096, else_if: 64, functions: 4096 };

fn limit(name: &str, what: &str, line: usize, found: usize, allowed: usize) -> Error {
    Error::new(Code::WgslLimit, name, format!("line {line}: {what}: {found} where {allowed} are allowed"))
        .with("line", Detail::Integer(i64::try_from(line).unwrap_or(i64::MAX)))
        .hint("split the expression or the function")
}

/// Checks the limits; `name` stands for the text in messages.
pub(crate) fn admit(name: &str, text: &str, limits: &Limits) -> Result<(), Error> {
    if text.len() > limits.bytes {
        return Err(limit(name, "bytes of text", 1, text.len(), limits.bytes));
    }
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        return Err(Error::new(Code::Wgsl, name, format!("line {line}: a NUL byte")));
    }
    let (mut line, mut nesting, mut chain, mut functions) = (1, 0usize, 0usize, 0usize);
    // `else if` in a row, for each depth of brackets
    let (mut ladders, mut after_else) = (vec![0usize; limits.nesting + 2], false);
    let mut comment = 0usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word_end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let taken = if comment > 0 || rest.starts_with("/*") {
            if rest.starts_with("/*") {
                comment += 1;
                2
            } else if rest.starts_with("*/") {
                comment -= 1;
                2
            } else {
                c.len_utf8()
            }
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if word_end > 0 {
            let word = &rest[..word_end];
            match word {
                "fn" => functions += 1,
                "if" if after_else => ladders[nesting] += 1,
                "if" => ladders[nesting] = 0,
                _ => {}
            }
            after_else = word == "else";
            word_end
        } else {
            after_else &= c.is_whitespace();
            match c {
                '(' | '[' | '{' => nesting += 1,
                ')' | ']' | '}' => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            match c {
                ';' | '{' | '}' => chain = 0,
                '+' | '-' | '*' | '/' | '%' | '&' | '|' | '^' | '<' | '>' | '!' | '~' | '=' | ',' | '.' => {
                    chain += 1
                }
                _ => {}
            }
            c.len_utf8()
        };
        line += rest[..taken].matches('\n').count();
        for (what, found, allowed) in [
            ("brackets inside each other", nesting, limits.nesting),
            ("operators in one statement", chain, limits.chain),
            ("`else if` in a row", ladders[nesting.min(ladders.len() - 1)], limits.else_if),
            ("functions", functions, limits.functions),
        ] {
            if found > allowed {
                return Err(limit(name, what, line, found, allowed));
            }
        }
        rest = &rest[taken..];
    }
    Ok(())
}
