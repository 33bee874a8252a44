//! Limits on user text, checked before any recursive parser sees it.
//!
//! Parsers recurse over nesting and over chains of operators; a text of a few hundred kilobytes can exhaust the stack of the
//! process. A scanner that does not recurse counts both first.

use cotangent_tensor::{Code, Detail, Error};

/// Largest text.
const MAX_BYTES: usize = 64 << 10;
/// Deepest nesting of brackets of all kinds.
const MAX_NESTING: usize = 32;
/// Longest run of operators within one statement.
const MAX_CHAIN: usize = 256;
/// Longest run of `else if`.
const MAX_ELSE_IF: usize = 24;
/// Most functions.
const MAX_FUNCTIONS: usize = 256;

fn limit(name: &str, what: &str, line: usize, found: usize, allowed: usize) -> Error {
    Error::new(Code::WgslLimit, name, format!("line {line}: {what}: {found} where {allowed} are allowed"))
        .with("line", Detail::Integer(i64::try_from(line).unwrap_or(i64::MAX)))
        .hint("split the expression or the function")
}

/// Checks the limits; `name` stands for the text in messages.
pub(crate) fn admit(name: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_BYTES {
        return Err(limit(name, "bytes of text", 1, text.len(), MAX_BYTES));
    }
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        return Err(Error::new(Code::Wgsl, name, format!("line {line}: a NUL byte")));
    }
    let (mut line, mut nesting, mut chain, mut functions) = (1, 0usize, 0usize, 0usize);
    // `else if` in a row, for each depth of brackets
    let (mut ladders, mut after_else) = ([0usize; MAX_NESTING + 2], false);
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
            ("brackets inside each other", nesting, MAX_NESTING),
            ("operators in one statement", chain, MAX_CHAIN),
            ("`else if` in a row", ladders[nesting.min(MAX_NESTING)], MAX_ELSE_IF),
            ("functions", functions, MAX_FUNCTIONS),
        ] {
            if found > allowed {
                return Err(limit(name, what, line, found, allowed));
            }
        }
        rest = &rest[taken..];
    }
    Ok(())
}
