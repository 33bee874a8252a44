//! Values of a loop as WGSL: addresses, loads, and the straight-line code of one element.
//!
//! Coordinates are *outer* (fixed for an invocation: the addresses they contribute are computed once) or *inner* (they
//! change in a sweep). Four elements along the `vector` dimension may be handled at a time: then contiguous loads and
//! stores are vec4, and the code of one element, a function over scalars, is called for each component.

use std::collections::HashMap;

use cotangent_tensor::Error;

use super::access::{component_index, offset, simple};
use super::labels::{default_name, hidden_constants, literal};
use super::memory::{self, Layout, Memory};
use super::module::{COMPONENTS, Context, Module, value_type};
use super::nest::{affine, word};
use super::text::Text;
use crate::{Affine, Code, Level, Loop, Value};

/// A value where the code of four (or one) elements meets.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// The same for all components.
    Uniform(String),
    /// A vec4.
    Vector(String),
    /// One expression per component.
    Parts(Vec<String>),
}

impl Slot {
    pub(crate) fn component(&self, component: usize) -> String {
        match self {
            Slot::Uniform(name) => name.clone(),
            Slot::Vector(name) => format!("{name}.{}", COMPONENTS[component]),
            Slot::Parts(parts) => parts[component].clone(),
        }
    }
    /// The value as a vec4 of `ty`.
    pub(crate) fn vector(&self, ty: &str) -> String {
        match self {
            Slot::Uniform(name) => format!("vec4<{ty}>({name})"),
            Slot::Vector(name) => name.clone(),
            Slot::Parts(parts) => format!("vec4<{ty}>({})", parts.join(", ")),
        }
    }
}

/// Where in a sweep the code runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    /// Appended to names.
    pub(crate) suffix: String,
    /// Inner coordinates by dimension; the vector dimension counts groups of four.
    pub(crate) coordinates: Vec<(usize, String)>,
    /// Row-major position of component 0 over the reduced dimensions.
    pub(crate) position: String,
    /// What a report says: row-major position over all dimensions.
    pub(crate) place: String,
}

/// Identity of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Value(Value),
    Store(usize),
    /// The position from which the index of a value was loaded.
    Origin(Value),
}

/// An argument of the function of one element.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Argument {
    /// A value computed outside.
    Given(Value),
    /// The index of a load, coordinate or random word.
    Index(Value),
    /// Where the index of an indexed load lies among all indices.
    Origin(Value),
    /// A name of the entry point that is the same everywhere.
    Name(String),
    Position,
    Place,
}

/// Code for one element, ready to be called.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Loads that need no other element-level value: done outside, four at a time where possible.
    hoisted: Vec<Value>,
    /// What the function computes, in order; empty if there is no function.
    order: Vec<Value>,
    /// Values computed outside that it uses.
    given: Vec<Value>,
    outputs: Vec<Value>,
    function: Option<(String, Vec<Argument>)>,
}

impl Stage {
    /// Values computed by a call or loaded for it.
    pub(crate) fn contains_softmax<'a>(&'a self, nest: &'a Loop) -> impl Iterator<Item = Value> + 'a {
        self.order
            .iter()
            .copied()
            .filter(|&v| matches!(nest.code[v].code, Code::Softmax { .. } | Code::SoftmaxResidual { .. }))
    }
    /// Values at kept level that must exist before.
    pub(crate) fn given(&self) -> &[Value] {
        &self.given
    }
}

/// What a row knows about its softmax before the second sweep.
#[derive(Clone, Debug, Default)]
pub(crate) struct SoftmaxNames {
    pub(crate) center: String,
    pub(crate) scale: String,
    pub(crate) peak: String,
    pub(crate) hit: String,
}

/// See the module documentation.
pub(crate) struct Fabric<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) nest: &'a Loop,
    /// The dimension handled four at a time.
    pub(crate) vector: Option<usize>,
    pub(crate) names: Vec<String>,
    /// Values available to everything that follows in the entry point.
    pub(crate) scope: HashMap<Value, Slot>,
    /// Outer coordinates by dimension; the vector dimension counts groups of four.
    pub(crate) outer: Vec<(usize, String)>,
    pub(crate) softmax: HashMap<Value, SoftmaxNames>,
    /// Condition under which kept-level code reports.
    pub(crate) reporter: Option<String>,
    /// Name of the row-major position over the kept dimensions.
    pub(crate) kept_index: Option<String>,
    pub(crate) index_names: Vec<String>,
    /// Constants that only meet constants: as literals they would be folded, which WGSL forbids for some.
    hidden: Vec<bool>,
    layouts: Vec<Layout>,
    bases: HashMap<Key, String>,
}

impl<'a> Fabric<'a> {
    pub(crate) fn new(module: &mut Module<'a>, nest: &'a Loop, vector: Option<usize>) -> Fabric<'a> {
        let context = module.context;
        let layouts = memory::layouts(nest, &context, vector);
        let names = nest.code.iter().map(|i| {
            let default = default_name(&i.code);
            module.names.fresh(i.label.as_deref().filter(|l| !l.is_empty()).unwrap_or(default))
        });
        let names: Vec<String> = names.collect();
        let index_names = names.iter().map(|n| module.names.fresh(&format!("{n}_at"))).collect();
        Fabric {
            context,
            nest,
            vector,
            names,
            scope: HashMap::new(),
            outer: Vec::new(),
            softmax: HashMap::new(),
            reporter: None,
            kept_index: None,
            index_names,
            hidden: hidden_constants(nest),
            layouts,
            bases: HashMap::new(),
        }
    }
    /// Elements handled at a time.
    pub(crate) fn width(&self) -> usize {
        if self.vector.is_some() { 4 } else { 1 }
    }
    pub(crate) fn memory(&self, binding: usize) -> Memory {
        let (which, dtype) = self.context.binding(binding);
        Memory { which, dtype, layout: self.layouts[binding] }
    }
    /// Declares a buffer by single elements, because something else needs it so.
    pub(crate) fn force_single(&mut self, binding: usize) {
        self.layouts[binding] = Layout::Single;
    }
    pub(crate) fn stride_along_vector(&self, at: &Affine) -> i64 {
        self.vector.map_or(0, |v| at.strides[v])
    }

    // ---------------------------------------------------------------------------------------------------- addresses

    /// `offset + Σ stride · coordinate`, in elements or in groups of four.
    pub(crate) fn address(
        &mut self,
        module: &mut Module<'a>,
        key: Key,
        at: &Affine,
        four: bool,
        site: Option<&Site>,
    ) -> String {
        let hint = match key {
            Key::Value(v) => self.names[v].clone(),
            Key::Origin(v) => format!("{}_from", self.names[v]),
            Key::Store(s) => format!("{}_out", self.names[self.nest.stores[s].value]),
        };
        let base = match self.bases.get(&key) {
            Some(base) => base.clone(),
            None => {
                let unit = if four { 4 } else { 1 };
                let offset = module.parameter(
                    format!("{key:?} offset"),
                    &format!("{hint}_offset"),
                    word(at.offset / unit),
                );
                let outer = self.outer.clone();
                let terms = self.terms(module, key, &hint, at, four, &outer);
                let base = if terms.is_empty() {
                    offset
                } else {
                    let name = module.names.fresh(&format!("{hint}_base"));
                    module.prologue.line(format!("let {name} = {offset} + {};", terms.join(" + ")));
                    module.set_type(&name, "u32");
                    name
                };
                self.bases.insert(key, base.clone());
                base
            }
        };
        let Some(site) = site else { return base };
        let terms = self.terms(module, key, &hint, at, four, &site.coordinates);
        if terms.is_empty() { base } else { format!("{base} + {}", terms.join(" + ")) }
    }
    fn terms(
        &self,
        module: &mut Module<'a>,
        key: Key,
        hint: &str,
        at: &Affine,
        four: bool,
        coordinates: &[(usize, String)],
    ) -> Vec<String> {
        let last_kept = self.nest.kept.len().wrapping_sub(1);
        let last = at.strides.len().wrapping_sub(1);
        let mut terms = Vec::new();
        for (dim, coordinate) in coordinates {
            let stride = at.strides[*dim];
            let along_vector = self.vector == Some(*dim);
            if stride == 0 {
                continue;
            }
            let unit_stride = stride == 1 && (*dim == last || *dim == last_kept);
            if (four && along_vector) || (unit_stride && !four && !along_vector) {
                terms.push(coordinate.clone());
                continue;
            }
            let factor = match (four, along_vector) {
                (true, _) => stride / 4,
                (false, true) => stride * 4,
                (false, false) => stride,
            };
            let name =
                module.parameter(format!("{key:?} stride {dim}"), &format!("{hint}_stride"), word(factor));
            terms.push(format!("{coordinate} * {name}"));
        }
        terms
    }

    // ------------------------------------------------------------------------------------------------------- scope

    /// A value of the entry point, for one component.
    pub(crate) fn scope_component(
        &mut self,
        module: &mut Module<'a>,
        value: Value,
        component: usize,
    ) -> Result<String, Error> {
        if let Code::Constant(bits) = self.nest.code[value].code {
            return Ok(self.constant(module, value, bits));
        }
        match self.scope.get(&value) {
            Some(slot) => Ok(slot.component(component)),
            None => Err(self.context.internal(format!("{} is used before it is known", self.names[value]))),
        }
    }
    /// A literal, or a word of the parameter block.
    pub(crate) fn constant(&self, module: &mut Module<'a>, value: Value, bits: u32) -> String {
        let dtype = self.nest.code[value].dtype;
        literal(dtype, bits).filter(|_| !self.hidden[value]).map_or_else(
            || {
                module.typed_parameter(
                    format!("{value} constant"),
                    &format!("{}_value", self.names[value]),
                    bits,
                    value_type(dtype),
                )
            },
            str::to_owned,
        )
    }
    /// Puts kept-level values into scope: written in place, or by a function called for each component.
    pub(crate) fn compute_kept(&mut self, module: &mut Module<'a>, values: &[Value]) -> Result<(), Error> {
        let constant = |v: Value| matches!(self.nest.code[v].code, Code::Constant(_));
        let mut missing: Vec<Value> =
            values.iter().copied().filter(|&v| !constant(v) && !self.scope.contains_key(&v)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let mut stage = self.plan(&missing, false);
        let mut text = Text::inside(module.body.depth());
        if self.vector.is_some_and(|v| v < self.nest.kept.len()) {
            self.define(module, "prepare", &mut stage)?;
            let local = self.load(module, &mut text, &stage, None)?;
            let results = self.call(module, &mut text, &stage, local, None)?;
            module.body.append(&text);
            self.scope.extend(results);
            return Ok(());
        }
        for &value in &stage.hoisted {
            let slot = self.hoist(module, &mut text, value, None)?;
            if let Slot::Uniform(name) = &slot {
                module.set_type(name, value_type(self.nest.code[value].dtype));
            }
            self.scope.insert(value, slot);
        }
        for &value in &stage.order {
            if let Some(at) = affine(&self.nest.code[value].code) {
                let address = self.address(module, Key::Value(value), at, false, None);
                let name = &self.index_names[value];
                text.line(format!("let {name} = {address};"));
            }
        }
        self.statements(module, &mut text, &stage.order, &mut Vec::new(), true)?;
        // What a loop returns has no type that a parameter could have; its parts are here.
        let is_tuple = |value: &Value| matches!(self.nest.code[*value].code, Code::While(..));
        for &value in stage.order.iter().filter(|value| !is_tuple(value)) {
            module.set_type(&self.names[value], value_type(self.nest.code[value].dtype));
            self.scope.insert(value, Slot::Uniform(self.names[value].clone()));
        }
        module.body.append(&text);
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------------- stages

    /// What it takes to compute `outputs`. At element level, values of kept level are given; at kept level, those in scope.
    pub(crate) fn plan(&self, outputs: &[Value], element_level: bool) -> Stage {
        let code = &self.nest.code;
        let mut needed = vec![false; code.len()];
        outputs.iter().for_each(|&v| needed[v] = true);
        let given = |v: Value| {
            let kept = element_level && code[v].level == Level::Kept;
            kept || self.scope.contains_key(&v)
        };
        let mut stage = Stage {
            hoisted: vec![],
            order: vec![],
            given: vec![],
            outputs: outputs.to_vec(),
            function: None,
        };
        for value in (0..code.len()).rev() {
            if !needed[value] {
                continue;
            }
            let outside = |v: &Value| given(*v) || matches!(code[*v].code, Code::Constant(_));
            match &code[value].code {
                Code::Constant(_) => continue,
                // The product of a matrix multiplication comes from its caller.
                Code::Accumulator => stage.given.push(value),
                _ if given(value) => stage.given.push(value),
                Code::Load { guard: None, .. } => stage.hoisted.push(value),
                Code::RandomBits { step, .. } if outside(step) => {
                    needed[*step] = true;
                    stage.hoisted.push(value);
                }
                other => {
                    other.operands().into_iter().for_each(|o| needed[o] = true);
                    stage.order.push(value);
                }
            }
        }
        [&mut stage.hoisted, &mut stage.order, &mut stage.given].into_iter().for_each(|list| list.reverse());
        stage
    }
    /// Writes the function of a stage, unless there is nothing to compute.
    pub(crate) fn define(
        &mut self,
        module: &mut Module<'a>,
        hint: &str,
        stage: &mut Stage,
    ) -> Result<(), Error> {
        if stage.order.is_empty() {
            return Ok(());
        }
        let nest = self.nest;
        let mut body = Text::inside(1);
        let mut arguments = Vec::new();
        self.statements(module, &mut body, &stage.order, &mut arguments, false)?;
        let name = module.names.fresh(hint);
        let outputs: Vec<Value> = stage.outputs.iter().copied().filter(|v| stage.order.contains(v)).collect();
        let ty = |v: Value| value_type(nest.code[v].dtype);
        let result = if let [one] = outputs[..] {
            body.line(format!("return {};", self.names[one]));
            ty(one).to_owned()
        } else {
            let mut upper = name.clone();
            upper[..1].make_ascii_uppercase();
            let fields: Vec<_> = outputs.iter().map(|&v| format!("{}: {}", self.names[v], ty(v))).collect();
            module.items.line("");
            module.items.line(format!("struct {upper} {{ {} }}", fields.join(", ")));
            let values: Vec<_> = outputs.iter().map(|&v| self.names[v].clone()).collect();
            body.line(format!("return {upper}({});", values.join(", ")));
            upper
        };
        let signature = arguments.iter().map(|argument| match argument {
            Argument::Given(v) => format!("{}: {}", self.names[*v], ty(*v)),
            Argument::Index(v) => format!("{}: u32", self.index_names[*v]),
            Argument::Origin(v) => format!("{}_from: u32", self.index_names[*v]),
            Argument::Name(name) => format!("{name}: {}", module.type_of(name)),
            Argument::Position => "position: u32".to_owned(),
            Argument::Place => "place: u32".to_owned(),
        });
        let signature = signature.collect::<Vec<_>>().join(", ");
        module.items.line("");
        module.items.open(format!("fn {name}({signature}) -> {result}"));
        module.items.append(&body);
        module.items.close();
        stage.function = Some((name, arguments));
        Ok(())
    }
    /// The hoisted loads of a stage at a site.
    pub(crate) fn load(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        stage: &Stage,
        site: Option<&Site>,
    ) -> Result<HashMap<Value, Slot>, Error> {
        let mut local = HashMap::new();
        for &value in &stage.hoisted {
            let slot = self.hoist(module, text, value, site)?;
            local.insert(value, slot);
        }
        Ok(local)
    }
    /// Calls the function of a stage for each component. Returns the outputs.
    pub(crate) fn call(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        stage: &Stage,
        mut local: HashMap<Value, Slot>,
        site: Option<&Site>,
    ) -> Result<HashMap<Value, Slot>, Error> {
        let nest = self.nest;
        let computed: Vec<Value> =
            stage.outputs.iter().copied().filter(|v| stage.order.contains(v)).collect();
        if let Some((function, arguments)) = &stage.function {
            let suffix = site.map_or("", |s| s.suffix.as_str());
            let mut starts = HashMap::new();
            for argument in arguments {
                let (key, value, at) = match argument {
                    Argument::Index(value) => {
                        let Some(at) = affine(&nest.code[*value].code) else { continue };
                        (Key::Value(*value), value, at.clone())
                    }
                    Argument::Origin(value) => {
                        let Some(at) = self.origin(*value) else { continue };
                        (Key::Origin(*value), value, at)
                    }
                    Argument::Given(_) | Argument::Name(_) | Argument::Position | Argument::Place => continue,
                };
                let address = self.address(module, key, &at, false, site);
                let start = simple(module, text, &address, &format!("{}{suffix}", self.names[*value]));
                let step = self.step(module, key, &at);
                starts.insert(key, (start, step));
            }
            let mut calls = Vec::new();
            for (c, component) in COMPONENTS.iter().enumerate().take(self.width()) {
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(match argument {
                        Argument::Given(v) => match local.get(v) {
                            Some(slot) => slot.component(c),
                            None => self.scope_component(module, *v, c)?,
                        },
                        Argument::Index(v) => {
                            let (start, step) = &starts[&Key::Value(*v)];
                            component_index(start, c, step.as_deref())
                        }
                        Argument::Origin(v) => {
                            let (start, step) = &starts[&Key::Origin(*v)];
                            component_index(start, c, step.as_deref())
                        }
                        Argument::Name(name) => name.clone(),
                        Argument::Position => {
                            site.map_or("0u".to_owned(), |s| offset(&s.position, self.along_reduced(c)))
                        }
                        Argument::Place => match site {
                            Some(site) => offset(&site.place, c),
                            None => offset(self.kept_index.as_deref().unwrap_or("0u"), c),
                        },
                    });
                }
                let call = module.names.fresh(&format!("{function}_{component}"));
                text.line(format!("let {call} = {function}({});", values.join(", ")));
                calls.push(call);
            }
            for &value in &computed {
                let parts: Vec<_> = match computed.len() {
                    1 => calls.clone(),
                    _ => calls.iter().map(|call| format!("{call}.{}", self.names[value])).collect(),
                };
                local.insert(value, Slot::Parts(parts));
            }
        }
        for &output in &stage.outputs {
            if let (false, Code::Constant(bits)) = (local.contains_key(&output), &nest.code[output].code) {
                let text = self.constant(module, output, *bits);
                local.insert(output, Slot::Uniform(text));
            } else if let (false, Some(slot)) = (local.contains_key(&output), self.scope.get(&output)) {
                local.insert(output, slot.clone());
            }
        }
        Ok(local)
    }
    /// The distance in the reduced dimensions of component `c` from component 0.
    fn along_reduced(&self, c: usize) -> usize {
        if self.vector.is_some_and(|v| v >= self.nest.kept.len()) { c } else { 0 }
    }
    /// How much code one element is.
    pub(crate) fn weight(&self, module: &Module<'a>, stage: &Stage) -> usize {
        let Some((name, _)) = &stage.function else { return 1 };
        let text = module.items.as_str();
        let start = text.find(&format!("fn {name}(")).unwrap_or(0);
        stage.order.len() + super::library::weight(&text[start..])
    }
}
