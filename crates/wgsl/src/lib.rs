//! User WGSL: text that arrives from outside, made into something Cotangent can work with.
//!
//! A [`Module`] is WGSL text that has been admitted, parsed and validated. Admission comes first: size, nesting, operator
//! chains and `else if` chains are limited by a scanner that does not recurse, because parsers do and hostile text
//! could exhaust the stack. Parsing and validation then run on a thread with a large stack of its own. Errors carry the
//! user's line numbers and a frame of the user's text.
//!
//! What it is not: it compiles nothing and touches no device; emitted kernels never pass through it. Differentiating
//! user functions builds on this crate.
//!
//! ```
//! let module = cotangent_wgsl::Module::parse("loss.wgsl", "fn loss(p: f32, y: f32) -> f32 { return (p - y) * (p - y); }")?;
//! let loss = &module.functions()[0];
//! assert_eq!(loss.to_string(), "loss(p: f32, y: f32) -> f32");
//!
//! let error = cotangent_wgsl::Module::parse("loss.wgsl", "fn loss(p: f32) -> f32 { return q; }").unwrap_err();
//! assert!(error.to_string().contains("q"));
//! # Ok::<(), cotangent_tensor::Error>(())
//! ```
//!
//! Invariants: no text, however hostile, aborts, hangs or panics; nothing here knows wgpu.
#![forbid(unsafe_code)]

mod admission;

use std::fmt;

use naga::common::wgsl::TypeContext as _;

use cotangent_tensor::{Code, Error};

/// Stack of the thread that parses: naga recurses over expressions.
const STACK: usize = 64 << 20;

/// Admitted, parsed and validated WGSL.
#[derive(Clone, Debug)]
pub struct Module {
    name: String,
    functions: Vec<Function>,
}

/// The signature of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Names and WGSL types of the parameters.
    pub parameters: Vec<(String, String)>,
    /// WGSL type of the result, if it has one.
    pub result: Option<String>,
}

impl Module {
    /// Reads WGSL. `name` stands for the text in messages.
    ///
    /// Errors: `E_LIMIT` for text that is too large or too deeply nested; `E_WGSL` with a frame of the text for anything
    /// that is not valid WGSL.
    pub fn parse(name: &str, text: &str) -> Result<Module, Error> {
        admission::admit(name, text)?;
        let (name, text) = (name.to_string(), text.strip_prefix('\u{feff}').unwrap_or(text).to_string());
        let worker = std::thread::Builder::new().stack_size(STACK).spawn(move || parse(name, &text));
        let worker =
            worker.map_err(|e| Error::new(Code::Internal, "wgsl", format!("no thread to parse on: {e}")))?;
        worker.join().unwrap_or_else(|_| {
            Err(Error::new(Code::Internal, "wgsl", "the parser panicked; please report the text"))
        })
    }
    /// The name given to [`Module::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The functions, in order of the text.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }
    /// The function of a name. Error: `E_WGSL`, listing the names there are.
    pub fn function(&self, name: &str) -> Result<&Function, Error> {
        self.functions.iter().find(|f| f.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.functions.iter().map(|f| f.name.as_str()).collect();
            Error::new(
                Code::Wgsl,
                &self.name,
                format!("no function `{name}`; there are: {}", names.join(", ")),
            )
        })
    }
}

fn parse(name: String, text: &str) -> Result<Module, Error> {
    let wrong = |frame: String| Error::new(Code::Wgsl, &name, frame.trim_end().to_string());
    let module =
        naga::front::wgsl::parse_str(text).map_err(|e| wrong(e.emit_to_string_with_path(text, &name)))?;
    let flags = naga::valid::ValidationFlags::all();
    let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty());
    validator.validate(&module).map_err(|e| wrong(e.emit_to_string_with_path(text, &name)))?;
    let context = module.to_ctx();
    let type_name = |ty| context.type_to_string(ty);
    let functions = module
        .functions
        .iter()
        .map(|(_, f)| Function {
            name: f.name.clone().unwrap_or_default(),
            parameters: f
                .arguments
                .iter()
                .map(|a| (a.name.clone().unwrap_or_default(), type_name(a.ty)))
                .collect(),
            result: f.result.as_ref().map(|r| type_name(r.ty)),
        })
        .collect();
    Ok(Module { name, functions })
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters: Vec<String> =
            self.parameters.iter().map(|(name, ty)| format!("{name}: {ty}")).collect();
        write!(f, "{}({})", self.name, parameters.join(", "))?;
        self.result.as_ref().map_or(Ok(()), |ty| write!(f, " -> {ty}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> (Code, String) {
        let error = Module::parse("user.wgsl", text).expect_err("the text is not valid");
        (error.code(), error.to_string())
    }

    #[test]
    fn hostile_text_is_refused_before_a_parser_sees_it() {
        let cases = [
            (format!("fn f(a: f32) -> f32 {{ return {}a; }}", "a + ".repeat(100_000)), Code::Limit),
            (format!("fn f(a: f32) -> f32 {{ return {}a; }}", "a + ".repeat(1_000)), Code::Limit),
            (
                format!("fn f(a: f32) -> f32 {{ return {}a{}; }}", "(".repeat(5_000), ")".repeat(5_000)),
                Code::Limit,
            ),
            (format!("fn f() {{ if true {{}} {} }}", "else if true {} ".repeat(40)), Code::Limit),
            ("fn f() {}\n".repeat(300), Code::Limit),
            (" ".repeat(70_000), Code::Limit),
            ("fn f() {}\n\0".to_string(), Code::Wgsl),
            ("fn f() { f(); }".to_string(), Code::Wgsl),
            ("fn f( {".to_string(), Code::Wgsl),
        ];
        for (text, expected) in &cases {
            assert_eq!(code(text).0, *expected, "{}", &text[..text.len().min(60)]);
        }
        assert_eq!(cases.len(), 9, "every case was tried");
    }

    #[test]
    fn messages_show_the_users_line() {
        let (code, text) = code("fn loss(p: f32) -> f32 {\n  return p + oops;\n}\n");
        assert_eq!(code, Code::Wgsl);
        assert!(text.contains("user.wgsl:2") && text.contains("oops"), "{text}");
    }

    #[test]
    fn comments_and_line_ends_do_not_count() {
        let text = format!(
            "// {}\r\n/* {} */ fn f(a: f32) -> f32 {{ return a; }}",
            "(".repeat(100),
            "+".repeat(1000)
        );
        let module = Module::parse("user.wgsl", &text).expect("valid");
        assert_eq!(module.function("f").expect("it is there").to_string(), "f(a: f32) -> f32");
        assert!(module.function("g").expect_err("not there").to_string().contains("there are: f"));
    }
}
