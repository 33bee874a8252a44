//! Loads and stores of a site: four elements at once where they lie side by side.

use cotangent_tensor::Error;

use super::fabric::{Fabric, Key, Site, Slot};
use super::memory::{Memory, is_aligned};
use super::module::{Module, value_type};
use super::nest::{affine, word};
use super::text::Text;
use crate::{Affine, Code, Store, Value};

impl<'a> Fabric<'a> {
    /// The four (or one) elements of a load, or random words, at a site.
    pub(crate) fn hoist(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        value: Value,
        site: Option<&Site>,
    ) -> Result<Slot, Error> {
        let instruction = &self.nest.code[value];
        let suffix = site.map_or("", |s| s.suffix.as_str());
        let name = format!("{}{suffix}", self.names[value]);
        let key = Key::Value(value);
        let Some(at) = affine(&instruction.code) else {
            return Err(self.context.internal("only loads and random words can be hoisted"));
        };
        let stride = self.stride_along_vector(at);
        let four = self.vector.is_some_and(|v| is_aligned(at, v));
        let address = self.address(module, key, at, four, site);
        let source = match &instruction.code {
            Code::Load { binding, .. } => Source::Memory(self.memory(*binding)),
            Code::RandomBits { key: random, step, .. } => {
                let parts = self.random_key(module, value, *random);
                let step = self.scope_component(module, *step, 0)?;
                Source::Random { step, key: format!("vec4<u32>({})", parts.join(", ")) }
            }
            _ => return Err(self.context.internal("only loads and random words can be hoisted")),
        };
        let (line, slot) = if four {
            let once = match &source {
                Source::Memory(memory) => memory.is_one_access(),
                Source::Random { .. } => true,
            };
            let index = if once { address } else { simple(module, text, &address, &name) };
            (source.four(module, &index), Slot::Vector(name.clone()))
        } else if self.vector.is_none() || (stride == 0 && matches!(source, Source::Memory(_))) {
            let index = if is_name(&address) { address } else { format!("({address})") };
            (source.one(module, &index), Slot::Uniform(name.clone()))
        } else {
            let index = simple(module, text, &address, &name);
            let step = self.step(module, key, at);
            let parts = (0..4).map(|c| source.one(module, &component_index(&index, c, step.as_deref())));
            let parts = parts.collect::<Vec<_>>().join(", ");
            (format!("vec4<{}>({parts})", value_type(instruction.dtype)), Slot::Vector(name.clone()))
        };
        text.line(format!("let {name} = {line};"));
        Ok(slot)
    }
    /// The distance of two components, if there is one.
    pub(crate) fn step(&self, module: &mut Module<'a>, key: Key, at: &Affine) -> Option<String> {
        let stride = self.stride_along_vector(at);
        let hint = match key {
            Key::Value(v) | Key::Origin(v) => &self.names[v],
            Key::Store(s) => &self.names[self.nest.stores[s].value],
        };
        (stride != 0)
            .then(|| module.parameter(format!("{key:?} step"), &format!("{hint}_step"), word(stride)))
    }
    /// Writes the value of a store at a site; `component` for one of the four only.
    pub(crate) fn store(
        &mut self,
        module: &mut Module<'a>,
        text: &mut Text,
        store: usize,
        slot: &Slot,
        site: Option<&Site>,
        component: Option<usize>,
    ) {
        let nest = self.nest;
        let Store { binding, at, value } = &nest.stores[store];
        let memory = self.memory(*binding);
        let key = Key::Store(store);
        let suffix = site.map_or("", |s| s.suffix.as_str());
        let name = format!("{}_out{suffix}", self.names[*value]);
        let four = self.vector.is_some_and(|v| is_aligned(at, v));
        let ty = value_type(nest.code[*value].dtype);
        let address = self.address(module, key, at, four, site);
        if self.vector.is_none() || (self.stride_along_vector(at) == 0 && component.is_none()) {
            let index = if is_name(&address) { address } else { format!("({address})") };
            memory.store(module, text, &index, &slot.component(0));
        } else if let Some(c) = component {
            let step = self.step(module, key, at);
            let base = if four { format!("4u * ({address})") } else { address };
            memory.store(module, text, &component_index(&base, c, step.as_deref()), &slot.component(c));
        } else if four {
            let once = memory.is_one_access();
            let index = if once { address } else { simple(module, text, &address, &name) };
            memory.store_four(module, text, &index, &slot.vector(ty));
        } else {
            let index = simple(module, text, &address, &name);
            let step = self.step(module, key, at);
            for c in 0..4 {
                memory.store(module, text, &component_index(&index, c, step.as_deref()), &slot.component(c));
            }
        }
    }
}

/// Where the elements of a hoisted value come from.
enum Source {
    Memory(Memory),
    Random { step: String, key: String },
}

impl Source {
    fn one(&self, module: &mut Module<'_>, index: &str) -> String {
        match self {
            Source::Memory(memory) => memory.load(module, index),
            Source::Random { step, key } => format!("random_word({index}, {step}, {key})"),
        }
    }
    fn four(&self, module: &mut Module<'_>, index: &str) -> String {
        match self {
            Source::Memory(memory) => memory.load_four(module, index),
            Source::Random { step, key } => format!("random_block({index}, {step}, {key})"),
        }
    }
}

pub(crate) fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// An address as a name, with a `let` if it is an expression.
pub(crate) fn simple(module: &mut Module<'_>, text: &mut Text, address: &str, hint: &str) -> String {
    if is_name(address) {
        return address.to_owned();
    }
    let name = module.names.fresh(&format!("{hint}_i"));
    text.line(format!("let {name} = {address};"));
    name
}

pub(crate) fn offset(start: &str, by: usize) -> String {
    if by == 0 { start.to_owned() } else { format!("{start} + {by}u") }
}

/// The index of a component, ready to stand in an index expression.
pub(crate) fn component_index(start: &str, component: usize, step: Option<&str>) -> String {
    match (component, step) {
        (0, _) | (_, None) if is_name(start) => start.to_owned(),
        (0, _) | (_, None) => format!("({start})"),
        (1, Some(step)) => format!("({start} + {step})"),
        (c, Some(step)) => format!("({start} + {c}u * {step})"),
    }
}
