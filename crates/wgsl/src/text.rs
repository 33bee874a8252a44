//! A text that has been admitted, parsed and validated, with what lowering asks of it.

use cotangent_tensor::{Code, DType, Error};
use naga::common::wgsl::TypeContext as _;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Block, Expression, Function, Handle, Module, Span, Statement, Type, TypeInner};

use crate::diagnose::{Problem, Source};
use crate::{admission, layout, prelude, retell};

/// Stack of the thread that parses: naga recurses over expressions.
const STACK: usize = 64 << 20;

/// What the name of a rule ends in.
const RULE: &str = "_vjp";

/// What a text is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Functions of a user, who may call the prelude.
    Functions,
    /// Whole kernels, often emitted.
    Kernels,
}

#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) source: Source,
    /// Bytes that are the user's; the prelude follows.
    own: usize,
    pub(crate) module: Module,
    pub(crate) info: ModuleInfo,
}

impl Text {
    pub(crate) fn parse(name: &str, text: &str, kind: Kind) -> Result<Text, Error> {
        let limits = match kind {
            Kind::Functions => &admission::FUNCTIONS,
            Kind::Kernels => &admission::KERNELS,
        };
        admission::admit(name, text, limits)?;
        let own = text.strip_prefix('\u{feff}').unwrap_or(text);
        let prelude = match kind {
            Kind::Functions => prelude::wanted_by(own),
            Kind::Kernels => String::new(),
        };
        let source = Source { name: name.to_string(), text: own.to_string() + &prelude };
        let own = own.len();
        let worker = std::thread::Builder::new().stack_size(STACK).spawn(move || parse(source, own));
        let worker =
            worker.map_err(|e| Error::new(Code::Internal, "wgsl", format!("no thread to parse on: {e}")))?;
        worker.join().unwrap_or_else(|_| {
            Err(Error::new(Code::Internal, "wgsl", "the parser panicked; please report the text"))
        })
    }
    pub(crate) fn name_of(&self, function: Handle<Function>) -> &str {
        self.module.functions[function].name.as_deref().unwrap_or("unnamed")
    }
    /// Whether a function is one of the prelude.
    pub(crate) fn is_prelude(&self, function: Handle<Function>) -> bool {
        self.is_in_prelude(self.module.functions.get_span(function))
    }
    /// Whether a place is one of the prelude.
    pub(crate) fn is_in_prelude(&self, span: Span) -> bool {
        span.to_range().is_some_and(|range| range.start >= self.own)
    }
    /// The functions of the user's text.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Handle<Function>> {
        self.module.functions.iter().map(|(handle, _)| handle).filter(|&handle| !self.is_prelude(handle))
    }
    pub(crate) fn find(&self, name: &str) -> Option<Handle<Function>> {
        self.functions().find(|&handle| self.name_of(handle) == name)
    }
    /// An error that lists the functions there are.
    pub(crate) fn no_function(&self, name: &str) -> Error {
        let names: Vec<&str> = self.functions().map(|handle| self.name_of(handle)).collect();
        let module = &self.module;
        let message = match names.is_empty() {
            true if !module.entry_points.is_empty() => {
                format!(
                    "no function `{name}`; the text has entry points: read it with `parse_kernels`, and call `kernel`"
                )
            }
            true => format!("no function `{name}`; the text declares none"),
            false => format!("no function `{name}`; there are: {}", names.join(", ")),
        };
        let error = Error::new(Code::Wgsl, &*self.source.name, message);
        let near = names.iter().find(|known| retell::is_near(known, name));
        match near {
            Some(near) => error.hint(format!("`{near}` is meant?")),
            None => error,
        }
    }
    /// Whether the user's text gives this name to a function, a type or a value of the module.
    pub(crate) fn declares(&self, name: &str) -> bool {
        let is = |other: &Option<String>| other.as_deref() == Some(name);
        let module = &self.module;
        self.find(name).is_some()
            || module.types.iter().any(|(_, ty)| is(&ty.name))
            || module.constants.iter().any(|(_, constant)| is(&constant.name))
            || module.overrides.iter().any(|(_, constant)| is(&constant.name))
            || module.global_variables.iter().any(|(_, variable)| is(&variable.name))
    }
    /// The names of all that the module declares, and of the prelude.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> + '_ {
        let module = &self.module;
        let functions = module.functions.iter().map(|(_, function)| &function.name);
        let types = module.types.iter().map(|(_, ty)| &ty.name);
        let constants = module.constants.iter().map(|(_, constant)| &constant.name);
        let overrides = module.overrides.iter().map(|(_, constant)| &constant.name);
        let variables = module.global_variables.iter().map(|(_, variable)| &variable.name);
        functions.chain(types).chain(constants).chain(overrides).chain(variables).flatten().cloned()
    }
    /// Whether a function, or one that it calls, has a loop.
    pub(crate) fn has_loops(&self, function: Handle<Function>) -> bool {
        let mut pending: Vec<&Block> = vec![&self.module.functions[function].body];
        let mut seen = vec![function];
        while let Some(block) = pending.pop() {
            for statement in block {
                match statement {
                    Statement::Loop { .. } => return true,
                    Statement::Block(block) => pending.push(block),
                    Statement::If { accept, reject, .. } => pending.extend([accept, reject]),
                    Statement::Switch { cases, .. } => pending.extend(cases.iter().map(|case| &case.body)),
                    Statement::Call { function, .. } if !seen.contains(function) => {
                        seen.push(*function);
                        pending.push(&self.module.functions[*function].body);
                    }
                    _ => {}
                }
            }
        }
        false
    }
    /// The function of a name, in the prelude too.
    pub(crate) fn find_any(&self, name: &str) -> Option<Handle<Function>> {
        self.module.functions.iter().map(|(handle, _)| handle).find(|&handle| self.name_of(handle) == name)
    }
    /// The function `f_vjp` that stands beside a function `f`.
    pub(crate) fn rule_of(&self, function: Handle<Function>) -> Option<Handle<Function>> {
        self.find(&(self.name_of(function).to_string() + RULE))
    }
    /// A function that fits as the rule of another, that nobody calls, and whose name is nearly that of a rule: it would be passed over in silence.
    fn stray_rule(&self) -> Option<Problem> {
        let sorted = |word: &str| {
            let mut letters: Vec<char> = word.to_lowercase().chars().collect();
            letters.sort_unstable();
            letters
        };
        let is_called = |function| {
            let calls =
                |f: &Function| f.expressions.iter().any(|(_, e)| *e == Expression::CallResult(function));
            self.module.functions.iter().any(|(_, f)| calls(f))
        };
        let without_rule = |f: &Handle<Function>| self.rule_of(*f).is_none();
        self.functions().find_map(|stray| {
            let name = self.name_of(stray);
            let (stem, ending) = name.rsplit_once('_')?;
            let meant = match self.find(stem) {
                Some(_) if ending == &RULE[1..] => None,
                Some(function) => (sorted(ending) == sorted(&RULE[1..])).then_some(function),
                None if ending == &RULE[1..] && stem.len() > 2 => {
                    self.functions().filter(without_rule).find(|&f| retell::is_near(self.name_of(f), stem))
                }
                None => None,
            };
            let meant = meant.filter(|f| *f != stray && without_rule(f) && !is_called(stray))?;
            self.check_rule(meant, stray).ok()?;
            let function = self.name_of(meant);
            let message = format!("`{name}` fits as the rule of `{function}`, and is not named as one");
            let help = format!("name it `{function}{RULE}`, or, if it is no rule, unlike a rule");
            let span = self.module.functions.get_span(stray);
            Some(Problem::new(Code::WgslRule, message).at(span, "nobody calls this").help(help))
        })
    }
    /// Whether an override of a name can have a value.
    pub(crate) fn check_override(&self, name: &str, value: f64) -> Result<(), Error> {
        let named = |known: &naga::Override| name_or(&known.name, "_").to_string();
        let known: Vec<&naga::Override> = self.module.overrides.iter().map(|(_, known)| known).collect();
        let Some(found) = known.iter().find(|known| named(known) == name) else {
            let names: Vec<String> = known.iter().map(|known| named(known)).collect();
            let message = match names.is_empty() {
                true => format!("no override `{name}`; the text declares none"),
                false => format!("no override `{name}`; there are: {}", names.join(", ")),
            };
            return Err(Error::new(Code::Wgsl, &*self.source.name, message)
                .hint("`override name: f32 = 1.0;` declares one; a `const` cannot be changed"));
        };
        let dtype =
            layout::scalars_of(&self.module, found.ty).map_err(|problem| problem.in_text(&self.source))?;
        let whole = |low: f64, high: f64| value.fract() == 0.0 && (low..=high).contains(&value);
        #[expect(clippy::cast_possible_truncation, reason = "whether it fits is the question")]
        let fits = dtype.iter().all(|dtype| match dtype {
            DType::F32 | DType::F16 => (value as f32).is_finite(),
            DType::I32 => whole(f64::from(i32::MIN), f64::from(i32::MAX)),
            DType::U32 => whole(0.0, f64::from(u32::MAX)),
            DType::Bool => whole(0.0, 1.0),
        });
        if fits {
            return Ok(());
        }
        let message = format!("the override `{name}` is {}, and {value:?} is none", self.type_name(found.ty));
        Err(Error::new(Code::WgslConstant, &*self.source.name, message).hint("give it a value of its type"))
    }
    /// The positions of the parameters that are pointers.
    pub(crate) fn pointers_of(&self, function: Handle<Function>) -> Vec<usize> {
        let arguments = self.module.functions[function].arguments.iter().enumerate();
        let is_pointer = |ty: Handle<Type>| {
            matches!(self.module.types[ty].inner, TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. })
        };
        arguments.filter(|(_, argument)| is_pointer(argument.ty)).map(|(position, _)| position).collect()
    }
    pub(crate) fn type_name(&self, ty: Handle<Type>) -> String {
        self.module.to_ctx().type_to_string(ty)
    }
    /// The parameters of a function, `name: type` each.
    pub(crate) fn parameters_of(&self, function: Handle<Function>) -> Vec<String> {
        let arguments = self.module.functions[function].arguments.iter();
        let named =
            |a: &naga::FunctionArgument| format!("{}: {}", name_or(&a.name, "_"), self.type_name(a.ty));
        arguments.map(named).collect()
    }
    /// The scalars of the parameters of a function, by what leads to them.
    pub(crate) fn scalar_names(&self, function: Handle<Function>) -> Vec<String> {
        let arguments = self.module.functions[function].arguments.iter();
        let named = |a: &naga::FunctionArgument| layout::named(&self.module, name_or(&a.name, "_"), a.ty);
        arguments.flat_map(|a| named(a).unwrap_or_default()).map(|(name, _)| name).collect()
    }
    /// The result of a function as it is written.
    pub(crate) fn result_of(&self, function: Handle<Function>) -> Option<String> {
        self.module.functions[function].result.as_ref().map(|result| self.type_name(result.ty))
    }
    /// The element types of the result of a function that has a rule, if the rule fits it: the parameters of the function, then the
    /// cotangent of its result; as many numbers as the function has parameters with a derivative.
    pub(crate) fn check_rule(
        &self,
        function: Handle<Function>,
        rule: Handle<Function>,
    ) -> Result<Vec<DType>, Problem> {
        let (f, r) = (&self.module.functions[function], &self.module.functions[rule]);
        let wrong = |what: String| {
            let floats: Vec<String> =
                f.arguments.iter().filter(|a| self.has_floats(a.ty)).map(|a| self.type_name(a.ty)).collect();
            let mut parameters = self.parameters_of(function);
            parameters.push(format!("upstream: {}", self.result_of(function).unwrap_or_default()));
            let result = match &floats[..] {
                [one] => one.clone(),
                several => format!("a structure of {}", several.join(", ")),
            };
            let name = self.name_of(rule);
            Problem::new(
                Code::WgslRule,
                format!("`{name}` does not fit `{}`: {what}", self.name_of(function)),
            )
            .at(self.module.functions.get_span(rule), "this rule")
            .help(format!("its signature is fn {name}({}) -> {result}", parameters.join(", ")))
        };
        let types = |f: &Function| f.arguments.iter().map(|a| a.ty).collect::<Vec<_>>();
        let mut expected = types(f);
        let result = f.result.as_ref().ok_or_else(|| wrong("the function returns nothing".into()))?.ty;
        expected.push(result);
        let given = types(r);
        if given.len() != expected.len() {
            return Err(wrong(format!("it has {} parameters, not {}", given.len(), expected.len())));
        }
        if let Some(position) = (0..given.len()).find(|&i| given[i] != expected[i]) {
            let (got, wanted) = (self.type_name(given[position]), self.type_name(expected[position]));
            return Err(wrong(format!("parameter {position} is {got}, not {wanted}")));
        }
        let results = layout::scalars_of(&self.module, result)?;
        if results.iter().any(|dtype| !dtype.is_float()) {
            return Err(wrong("its result is no float".into()));
        }
        let floats = |ty: Handle<Type>| -> Result<usize, Problem> {
            Ok(layout::scalars_of(&self.module, ty)?.iter().filter(|dtype| dtype.is_float()).count())
        };
        let wanted = types(f).into_iter().map(floats).sum::<Result<usize, Problem>>()?;
        let returned =
            r.result.as_ref().map(|result| layout::scalars_of(&self.module, result.ty)).transpose()?;
        let returned = returned.unwrap_or_default();
        if returned.len() != wanted || returned.iter().any(|dtype| !dtype.is_float()) {
            let got = self.result_of(rule).unwrap_or_else(|| "nothing".into());
            return Err(wrong(format!("it returns {got}, and {wanted} gradients are needed")));
        }
        Ok(results)
    }
    fn has_floats(&self, ty: Handle<Type>) -> bool {
        layout::scalars_of(&self.module, ty).is_ok_and(|scalars| scalars.iter().any(|dtype| dtype.is_float()))
    }
}

/// A name, or what stands for one that is missing.
pub(crate) fn name_or<'a>(name: &'a Option<String>, missing: &'a str) -> &'a str {
    name.as_deref().unwrap_or(missing)
}

fn parse(source: Source, own: usize) -> Result<Text, Error> {
    let parsed = naga::front::wgsl::parse_str(&source.text);
    let module = parsed.map_err(|error| retell::parse_error(&error, &source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32);
    let info =
        validator.validate(&module).map_err(|error| retell::validation_error(&module, &error, &source))?;
    let text = Text { source, own, module, info };
    match text.stray_rule() {
        Some(problem) => Err(problem.in_text(&text.source)),
        None => Ok(text),
    }
}
