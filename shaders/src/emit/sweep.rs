//! One pass over the reduced dimensions: which reductions and stores belong to it, and the text of one batch of elements.

use cotangent_tensor::Error;

use super::accumulate::{Accumulator, Batch, accumulators, position_of};
use super::fabric::{Fabric, Key, Site, Stage};
use super::module::{Module, value_type};
use super::nest::per_element;
use super::statements::unsigned;
use super::text::Text;
use crate::{Code, Level, Loop, Schedule, Value};

/// What happens when.
#[derive(Clone, Debug)]
pub(crate) struct Phases {
    pub(crate) of: Vec<usize>,
    pub(crate) sweeps: usize,
    /// The sweep of each element-level store; none at kept level.
    store_sweep: Vec<Option<usize>>,
    /// Picks that are a load of their own.
    pub(crate) direct: Vec<Value>,
}

impl Phases {
    pub(crate) fn new(nest: &Loop) -> Phases {
        let of = nest.phases();
        let sweeps = nest.sweeps().max(usize::from(nest.schedule == Schedule::Map));
        let element = |v: Value| nest.code[v].level == Level::Element;
        let mut store_sweep: Vec<Option<usize>> =
            nest.stores.iter().map(|s| per_element(nest, s).then(|| of[s.value])).collect();
        // In place: not before the last sweep that loads from the buffer.
        let mut loads = vec![Vec::new(); sweeps];
        for (sweep, list) in loads.iter_mut().enumerate() {
            let reductions =
                (0..nest.code.len()).filter(|&v| nest.code[v].code.is_reduction() && of[v] == sweep);
            let stored = nest
                .stores
                .iter()
                .filter(|s| per_element(nest, s))
                .map(|s| s.value)
                .filter(|&v| of[v] == sweep);
            let mut needed = vec![false; nest.code.len()];
            reductions.chain(stored).for_each(|v| needed[v] = true);
            for v in (0..nest.code.len()).rev().filter(|&v| element(v) || nest.code[v].code.is_reduction()) {
                if needed[v] && (element(v) || of[v] == sweep) {
                    nest.code[v].code.operands().into_iter().for_each(|o| needed[o] = true);
                    if let Code::Load { binding, .. } | Code::LoadIndexed { binding, .. } = &nest.code[v].code
                    {
                        list.push(*binding);
                    }
                }
            }
        }
        for (sweep, store) in store_sweep.iter_mut().zip(&nest.stores) {
            if let Some(sweep) = sweep {
                let last = (*sweep..sweeps).rev().find(|&s| loads[s].contains(&store.binding));
                *sweep = last.unwrap_or(*sweep);
            }
        }
        let direct = (0..nest.code.len()).filter(|&v| {
            let Code::Pick { value, .. } = &nest.code[v].code else { return false };
            let Code::Load { binding, guard: None, .. } = &nest.code[*value].code else { return false };
            let mut writes = nest.stores.iter().zip(&store_sweep).filter(|(s, _)| s.binding == *binding);
            nest.reduced.len() <= 1 && writes.all(|(_, sweep)| of[v] == 0 && sweep.is_some_and(|s| s > 0))
        });
        Phases { sweeps, direct: direct.collect(), store_sweep, of }
    }
    /// Whether element-level values are stored.
    pub(crate) fn stores_elements(&self) -> bool {
        self.store_sweep.iter().any(Option::is_some)
    }
}

/// A sweep, ready to be written.
pub(crate) struct Sweep {
    pub(crate) stage: Stage,
    pub(crate) accumulators: Vec<Accumulator>,
    hits: Vec<Option<String>>,
    stores: Vec<usize>,
}

/// Computes what a sweep needs from kept level, and the function of its elements.
pub(crate) fn prepare<'a>(
    fabric: &mut Fabric<'a>,
    module: &mut Module<'a>,
    phases: &Phases,
    sweep: usize,
) -> Result<Sweep, Error> {
    direct_picks(fabric, module, phases, sweep)?;
    let nest = fabric.nest;
    let accumulators = accumulators(fabric, module, &phases.of, sweep, &phases.direct);
    let stores: Vec<usize> =
        (0..nest.stores.len()).filter(|&s| phases.store_sweep[s] == Some(sweep)).collect();
    let mut outputs: Vec<Value> = accumulators.iter().map(|a| a.operand).collect();
    outputs.extend(stores.iter().map(|&s| nest.stores[s].value));
    outputs.sort_unstable();
    outputs.dedup();
    let mut stage = fabric.plan(&outputs, true);
    fabric.compute_kept(module, stage.given())?;
    let softmaxes: Vec<Value> = stage.contains_softmax(nest).collect();
    fabric.prepare_softmax(module, &softmaxes)?;
    fabric.define(module, "element", &mut stage)?;
    let mut hits = Vec::new();
    for accumulator in &accumulators {
        let index = accumulator.picked_index(fabric);
        hits.push(match index {
            Some(index) => {
                fabric.compute_kept(module, &[index])?;
                let position = position_of(fabric, module, index)?;
                let size = module.size("reduced elements", "reduced_size", nest.reduced_elements())?;
                let mut text = Text::inside(module.body.depth());
                fabric.check_index(module, &mut text, index, &position, &size);
                module.body.append(&text);
                Some(position)
            }
            None => None,
        });
    }
    Ok(Sweep { stage, accumulators, hits, stores })
}

/// Picks from a plain load are one load of their own, before anything is overwritten.
fn direct_picks<'a>(
    fabric: &mut Fabric<'a>,
    module: &mut Module<'a>,
    phases: &Phases,
    sweep: usize,
) -> Result<(), Error> {
    let nest = fabric.nest;
    for &value in phases.direct.iter().filter(|&&v| phases.of[v] == sweep) {
        if fabric.scope.contains_key(&value) {
            continue;
        }
        let Code::Pick { value: from, index } = &nest.code[value].code else { continue };
        let Code::Load { binding, at, .. } = &nest.code[*from].code else { continue };
        fabric.compute_kept(module, &[*index])?;
        let name = fabric.names[value].clone();
        let index_value = *index;
        let index = unsigned(nest.code[index_value].dtype, &fabric.scope_component(module, index_value, 0)?);
        let base = fabric.address(module, Key::Value(value), at, false, None);
        let stride = at.strides.last().copied().filter(|_| !nest.reduced.is_empty()).unwrap_or(0);
        let at = match stride {
            0 => base,
            1 => format!("{base} + {index}"),
            _ => {
                let step = module.parameter(
                    format!("{value} pick stride"),
                    &format!("{name}_step"),
                    super::nest::word(stride),
                );
                format!("{base} + {index} * {step}")
            }
        };
        let size = module.size("reduced elements", "reduced_size", nest.reduced_elements())?;
        let load = fabric.memory(*binding).load(module, &format!("({at})"));
        let mut text = Text::inside(module.body.depth());
        text.line(format!("var {name}: {};", value_type(nest.code[value].dtype)));
        text.line(format!("if ({index} < {size}) {{ {name} = {load}; }}"));
        fabric.check_index(module, &mut text, index_value, &index, &size);
        module.body.append(&text);
        fabric.scope.insert(value, super::fabric::Slot::Uniform(name));
    }
    Ok(())
}

impl Sweep {
    /// Whether nothing happens in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.accumulators.is_empty() && self.stores.is_empty()
    }
    /// The variables of its reductions.
    pub(crate) fn declare(&self, text: &mut Text, width: usize) {
        self.accumulators.iter().for_each(|a| a.declare(text, width));
    }
    /// One batch: all loads first, then the code, stores and reductions. Stores happen where `active` holds.
    pub(crate) fn batch<'a>(
        &self,
        fabric: &mut Fabric<'a>,
        module: &mut Module<'a>,
        text: &mut Text,
        sites: &[Site],
        active: Option<&str>,
    ) -> Result<(), Error> {
        let nest = fabric.nest;
        let mut loaded = Vec::new();
        for site in sites {
            loaded.push(fabric.load(module, text, &self.stage, Some(site))?);
        }
        let mut results = Vec::new();
        for (site, local) in sites.iter().zip(loaded) {
            let outputs = fabric.call(module, text, &self.stage, local, Some(site))?;
            if let (Some(active), false) = (active, self.stores.is_empty()) {
                text.open(format!("if ({active})"));
            }
            for &store in &self.stores {
                fabric.store(module, text, store, &outputs[&nest.stores[store].value], Some(site), None);
            }
            if active.is_some() && !self.stores.is_empty() {
                text.close();
            }
            results.push(outputs);
        }
        let along_reduced = fabric.vector.is_some_and(|v| v >= nest.kept.len());
        let positions: Vec<String> = sites.iter().map(|s| s.position.clone()).collect();
        for (accumulator, hit) in self.accumulators.iter().zip(&self.hits) {
            let values: Vec<_> = results.iter().map(|r| r[&accumulator.operand].clone()).collect();
            let dtype = nest.code[accumulator.operand].dtype;
            let values = values.as_slice();
            let width = fabric.width();
            let entering =
                Batch { values, dtype, width, positions: &positions, along_reduced, hit: hit.as_deref() };
            accumulator.absorb(text, &entering);
        }
        Ok(())
    }
}

/// How the partial results of a workgroup become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Combine {
    /// One subgroup of this size: shuffles only.
    Subgroup(u32),
    /// Shuffles within subgroups of at least `lanes`, then one invocation merges the rest.
    Butterfly { lanes: u32, invocations: u32 },
    /// A tree in workgroup memory.
    Tree(u32),
}

impl Combine {
    /// For a workgroup of `invocations`, a power of two.
    pub(crate) fn choose(module: &Module<'_>, invocations: u32) -> Combine {
        match module.context.target.subgroups {
            Some((least, most)) if least == most && most == invocations => Combine::Subgroup(invocations),
            Some((least, most)) if least > 1 && most <= invocations => {
                Combine::Butterfly { lanes: least, invocations }
            }
            Some(_) | None => Combine::Tree(invocations),
        }
    }
    /// Bytes of workgroup memory for a partial result of `words`.
    pub(crate) fn memory(self, words: usize) -> usize {
        let slots = match self {
            Combine::Subgroup(_) => 0,
            Combine::Butterfly { lanes, invocations } => invocations / lanes,
            Combine::Tree(invocations) => invocations,
        };
        4 * words * usize::try_from(slots).unwrap_or(usize::MAX)
    }
    /// Merges the variable `value` of all invocations, in the order of the bits of `t`: the same bits for every variant
    /// and subgroup size. Afterwards it is complete in the first invocation, or in all with `everywhere`.
    pub(crate) fn write(
        self,
        module: &mut Module<'_>,
        partial: &super::accumulate::Partial,
        value: &str,
        everywhere: bool,
    ) {
        let merge = &partial.merge;
        let shuffle = |text: &mut Text, distance: u32| {
            let fields =
                partial.fields.iter().map(|(f, _)| format!("subgroupShuffleXor({value}.{f}, {distance}u)"));
            let fields = fields.collect::<Vec<_>>().join(", ");
            text.line(format!("{value} = {merge}({value}, {}({fields}));", partial.name));
        };
        let powers = |below: u32| (0..31).map(|bit| 1u32 << bit).take_while(move |&p| p < below);
        let mut text = Text::inside(module.body.depth());
        match self {
            Combine::Subgroup(lanes) => {
                module.use_butterfly();
                powers(lanes).for_each(|distance| shuffle(&mut text, distance));
            }
            Combine::Butterfly { lanes, invocations } => {
                module.use_butterfly();
                powers(lanes).for_each(|distance| shuffle(&mut text, distance));
                let slots = invocations / lanes;
                let slot = module.names.fresh("slots");
                module.items.line("");
                module.items.line(format!("var<workgroup> {slot}: array<{}, {slots}>;", partial.name));
                text.line(format!("if (t % {lanes}u == 0u) {{ {slot}[t / {lanes}u] = {value}; }}"));
                text.line("workgroupBarrier();");
                text.open("if (t == 0u)");
                text.open(format!("for (var span = 1u; span < {slots}u; span *= 2u)"));
                text.open(format!("for (var k = 0u; k + span < {slots}u; k += 2u * span)"));
                text.line(format!("{slot}[k] = {merge}({slot}[k], {slot}[k + span]);"));
                text.close();
                text.close();
                text.close();
                if everywhere {
                    text.line("workgroupBarrier();");
                }
                text.line(format!("{value} = {slot}[0];"));
            }
            Combine::Tree(1) => {}
            Combine::Tree(invocations) => {
                let slot = module.names.fresh("slots");
                module.items.line("");
                module.items.line(format!("var<workgroup> {slot}: array<{}, {invocations}>;", partial.name));
                text.line(format!("{slot}[t] = {value};"));
                text.line("workgroupBarrier();");
                text.open(format!("for (var span = 1u; span < {invocations}u; span *= 2u)"));
                text.line(format!(
                    "if (t % (2u * span) == 0u) {{ {slot}[t] = {merge}({slot}[t], {slot}[t + span]); }}"
                ));
                text.line("workgroupBarrier();");
                text.close();
                text.line(format!("{value} = {slot}[0];"));
            }
        }
        module.body.append(&text);
    }
}

/// Levels of the tree over so many partial results.
pub(crate) fn log2(count: usize) -> usize {
    usize::try_from(count.max(1).next_power_of_two().trailing_zeros()).unwrap_or(0)
}

/// Puts the results of complete reductions into scope.
pub(crate) fn publish<'a>(
    fabric: &mut Fabric<'a>,
    module: &mut Module<'a>,
    accumulators: &[Accumulator],
    partial: &str,
    width: usize,
) {
    for accumulator in accumulators {
        for (value, expression) in accumulator.results(fabric.nest, partial, width) {
            let name = fabric.names[value].clone();
            module.body.line(format!("let {name} = {expression};"));
            let slot = if width == 4 {
                super::fabric::Slot::Vector(name)
            } else {
                super::fabric::Slot::Uniform(name)
            };
            fabric.scope.insert(value, slot);
        }
    }
    // A picked position outside gives 0: no element was at it.
}

/// Computes and writes what is stored at kept level; only where `active` holds.
pub(crate) fn store_kept<'a>(
    fabric: &mut Fabric<'a>,
    module: &mut Module<'a>,
    active: Option<&str>,
) -> Result<(), Error> {
    let nest = fabric.nest;
    let stores: Vec<usize> =
        (0..nest.stores.len()).filter(|&s| !per_element(nest, &nest.stores[s])).collect();
    if stores.is_empty() {
        return Ok(());
    }
    let values: Vec<Value> = stores.iter().map(|&s| nest.stores[s].value).collect();
    if let Some(active) = active {
        module.body.open(format!("if ({active})"));
    }
    fabric.compute_kept(module, &values)?;
    let mut text = Text::inside(module.body.depth());
    for &store in &stores {
        let value = nest.stores[store].value;
        let slot = match nest.code[value].code {
            Code::Constant(bits) => super::fabric::Slot::Uniform(fabric.constant(module, value, bits)),
            _ => fabric.scope[&value].clone(),
        };
        fabric.store(module, &mut text, store, &slot, None, None);
    }
    module.body.append(&text);
    if active.is_some() {
        module.body.close();
    }
    Ok(())
}
