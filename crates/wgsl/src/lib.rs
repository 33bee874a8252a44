//! Losses written in WGSL: parsed, made into tensor expressions, and differentiated with them.
//!
//! A [`Module`] is WGSL text that has been admitted, parsed and validated. A [`Function`] of it, called on tensors, is an
//! expression of the graph: it fuses with its neighbors, has derivatives of every order in both modes, and runs on every device, with the
//! functions and the accuracy of the operation table.
//!
//! ```
//! use cotangent_autograd::grad;
//! use cotangent_tensor::{Evaluate, Reference, Tensor};
//! use cotangent_wgsl::Module;
//!
//! let text = "fn hinge(p: f32, y: f32, margin: f32) -> f32 { return max(0.0, margin - y * p); }";
//! let hinge = Module::parse("losses.wgsl", text)?.function("hinge")?;
//! let (p, y) = (Tensor::new([0.5, -2.0, 3.0]), Tensor::new([1.0, 1.0, -1.0]));
//! let loss = hinge.call(&[&p, &y, &Tensor::new(1.0)]).sum(..);
//! let gradient = grad(&loss, &p)?.or_error()?;
//! let values = Reference::new().evaluate(&[&loss, &gradient])?;
//! assert_eq!(values[0].scalar()?, 7.5);
//! assert_eq!(values[1].to_f64(), [-1.0, -1.0, 1.0]);
//!
//! let error = Module::parse("losses.wgsl", "fn loss(p: f32) -> f32 { return q; }").unwrap_err();
//! assert!(error.to_string().contains("`q`"));
//! # Ok::<(), cotangent_tensor::Error>(())
//! ```
//!
//! Admission comes first: size, nesting, operator chains and `else if` chains are limited by a scanner that does not
//! recurse, because parsers do and hostile text could exhaust the stack. Parsing and validation then run on a thread with
//! a large stack of its own. Errors carry the user's line numbers and a frame of the user's text.
//!
//! A [`Kernel`] is a whole compute entry point, called on tensors, with a gradient rule that its author gives.
//!
//! The [`Interpreter`] runs text as it stands, functions and whole kernels: the witness of what is lowered from text and of what is emitted
//! as text, and the one that sees races and indices that adapters hide.
//!
//! What it is not: it compiles nothing and touches no device; emitted kernels pass through it in tests only. It has no derivative of its own: rows
//! of the operation table are all it knows.
//!
//! Invariants: no text, however hostile, aborts, hangs or panics; nothing here knows wgpu; nothing is dropped from a
//! gradient without `detach` or a rule that says so.
#![forbid(unsafe_code)]

mod admission;
mod call;
mod check;
mod derivative;
mod diagnose;
mod function;
mod interpret;
mod kernel;
mod layout;
mod lint;
mod lower;
mod prelude;
mod retell;
mod text;

use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::Error;

pub use check::FunctionCheck;
pub use derivative::Derivative;
pub use function::{Function, Parameter};
pub use interpret::{Binding, Interpreter, Nonfinite, Run};
pub use kernel::Kernel;
pub use lint::Lint;
use lower::Options;
pub use lower::Tie;
use text::{Kind, Text};

/// Admitted, parsed and validated WGSL.
#[derive(Clone, Debug)]
pub struct Module {
    text: Arc<Text>,
    options: Options,
}

impl Module {
    /// Reads WGSL. `name` stands for the text in messages.
    ///
    /// The text may call, without declaring them, `detach`, `is_nan`, `relu`, `log1p`, `expm1`, `recip_expm1`, `log1mexp`,
    /// `sigmoid`, `log_sigmoid`, `softplus`, `erf`, `erfc`, `log_ndtr`, `inverse_mills`, `i0e`, `i1e`, `lgamma`, `digamma`, `trigamma`, `xlogy`, `xlog1py`, `logaddexp(a, b)` and
    /// `huber(residual, delta)`; a function that it declares under such a name is its own.
    ///
    /// Errors: `E_WGSL_LIMIT` for text that is too large or too deeply nested; `E_WGSL` with a frame of the text for
    /// anything that is not valid WGSL.
    pub fn parse(name: &str, text: &str) -> Result<Module, Error> {
        Ok(Module::of(Arc::new(Text::parse(name, text, Kind::Functions)?)))
    }
    /// Reads WGSL with entry points, for [`Module::kernel`] and the [`Interpreter`]. There is no prelude, and the text may be as large as emitted kernels are: 1 MiB, brackets
    /// 64 deep, 4096 operators in a statement, 64 `else if` in a row, 4096 functions.
    ///
    /// Errors as those of [`Module::parse`].
    pub fn parse_kernels(name: &str, text: &str) -> Result<Module, Error> {
        Ok(Module::of(Arc::new(Text::parse(name, text, Kind::Kernels)?)))
    }
    pub(crate) fn of(text: Arc<Text>) -> Module {
        Module { text, options: Options::default() }
    }
    /// Lets loops run of which nothing shows that they end, such as searches that stop when they are near enough. No loop whose rounds
    /// are counted when it runs then takes more rounds than this: an element that would go on is an error of the run, `AD044`. Without it
    /// such a loop must count towards a limit that stays, and takes up to 65 535 rounds.
    ///
    /// ```
    /// # use cotangent_wgsl::Module;
    /// use cotangent_tensor::{Evaluate, Reference, Tensor};
    /// let text = "fn root(a: f32) -> f32 {
    ///     var x = a;
    ///     while (abs(x * x - a) > 1e-3 * a) { x = 0.5 * (x + a / x); }
    ///     return x;
    /// }";
    /// let refused = Module::parse("root.wgsl", text)?.function("root").unwrap_err();
    /// assert_eq!(refused.code().as_str(), "E_WGSL_LOOP");
    /// let root = Module::parse("root.wgsl", text)?.unbounded(100).function("root")?;
    /// let y = root.call(&[&Tensor::new([9.0])]);
    /// assert!((Reference::new().evaluate(&[&y])?[0].to_f64()[0] - 3.0).abs() < 1e-3);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    pub fn unbounded(mut self, rounds: u32) -> Module {
        self.options.rounds = Some(rounds);
        self
    }
    /// Writes loops out whose rounds are known if there are up to so many of them, 256 without this; other loops stay loops. What is written
    /// out is faster where it is short, and its reverse mode costs the same for one parameter and for many; with 0 the text of kernels
    /// stays small.
    pub fn unroll(mut self, rounds: usize) -> Module {
        self.options.unrolled = rounds;
        self
    }
    /// Gives an `override` constant its value, for all functions asked for from then on. Constants that are given none have the one in the text.
    /// Truth values are 0 and 1.
    ///
    /// ```
    /// # use cotangent_tensor::{Evaluate, Reference, Tensor};
    /// # use cotangent_wgsl::Module;
    /// let text = "override rounds: i32 = 2; fn power(x: f32) -> f32 { var y = 1.0; for (var i = 0; i < rounds; i++) { y *= x; } return y; }";
    /// let cube = Module::parse("power.wgsl", text)?.constant("rounds", 3.0)?.function("power")?;
    /// assert_eq!(Reference::new().evaluate(&[&cube.call(&[&Tensor::new(2.0)])])?[0].scalar()?, 8.0);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    ///
    /// Errors: `E_WGSL` if there is no such override, listing those there are; `AD013` for a value that its type does not have.
    pub fn constant(mut self, name: &str, value: f64) -> Result<Module, Error> {
        self.text.check_override(name, value)?;
        self.options.constants.insert(name.to_string(), value);
        Ok(self)
    }
    /// The name given to [`Module::parse`].
    pub fn name(&self) -> &str {
        &self.text.source.name
    }
    /// The compute entry point of a name, as an operation on tensors. What is wrong with it is said now.
    ///
    /// Errors, with a frame of the text: `E_WGSL_BINDING` if there is none, or for a buffer that is none of a [`Kernel`];
    /// `AD012` for a buffer of another type; `E_LIMIT` for workgroups or workgroup memory that no adapter grants;
    /// `E_WGSL_UNIFORMITY` for a barrier that only some invocations of a workgroup may reach; `E_WGSL_ALIAS` for pointers to one
    /// variable; `E_WGSL_UNSUPPORTED` for `override`.
    pub fn kernel(&self, name: &str) -> Result<Kernel, Error> {
        Kernel::new(&self.text, name)
    }
    /// The functions, in order of the text.
    pub fn functions(&self) -> Vec<Function> {
        let function = |handle| Function::new(&self.text, handle, self.options.clone());
        self.text.functions().map(function).collect()
    }
    /// The function of a name, which can be computed and differentiated: what cannot says so now.
    ///
    /// Errors: `E_WGSL` if there is none, listing the names there are; the codes `AD001` to `AD041` for what has no meaning
    /// or no derivative, with a frame of the text.
    #[track_caller]
    pub fn function(&self, name: &str) -> Result<Function, Error> {
        let Some(handle) = self.text.find(name) else { return Err(self.text.no_function(name)) };
        let function = Function::new(&self.text, handle, self.options.clone());
        function.check(Location::caller())?;
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use cotangent_tensor::Code;

    use super::*;

    fn code(text: &str) -> (Code, String) {
        let error = Module::parse("user.wgsl", text).expect_err("the text is not valid");
        (error.code(), error.to_string())
    }

    #[test]
    fn hostile_text_is_refused_before_a_parser_sees_it() {
        let cases = [
            (format!("fn f(a: f32) -> f32 {{ return {}a; }}", "a + ".repeat(100_000)), Code::WgslLimit),
            (format!("fn f(a: f32) -> f32 {{ return {}a; }}", "a + ".repeat(1_000)), Code::WgslLimit),
            (
                format!("fn f(a: f32) -> f32 {{ return {}a{}; }}", "(".repeat(5_000), ")".repeat(5_000)),
                Code::WgslLimit,
            ),
            (format!("fn f() {{ if true {{}} {} }}", "else if true {} ".repeat(40)), Code::WgslLimit),
            ("fn f() {}\n".repeat(300), Code::WgslLimit),
            (" ".repeat(70_000), Code::WgslLimit),
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
        let module = Module::parse("user.wgsl", "fn hinge(a: f32) -> f32 { return a; }").expect("valid");
        assert!(module.function("hnige").expect_err("not there").to_string().contains("`hinge` is meant?"));
    }
}
