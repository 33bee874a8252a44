//! From a loop to a [`Program`]: when each value is computed, and in which row it lies.

mod chains;
mod emit;
mod pairs;
mod products;

use std::collections::HashMap;

use cotangent_shaders::{Access as Use, Affine, Binding, Code, Loop, Store};
use cotangent_tensor::DType;

pub(super) use pairs::Pair;

use chains::Same;

use super::geometry::{Access, Pattern, Tiling, range, signed};
use super::program::{
    Action, Cell, Check, Destination, From, Lanes, OPERANDS, Op, Program, Region, Row, Run, Segment, Stream,
};
use super::recurrence::Rounds;
use super::reduction::Kind;
use super::values::{Node, Values, What};

/// Elements from which on a result is larger than a cache: whoever reads it would not find its beginning there. Tests
/// reach it with less.
const LARGE: usize = if cfg!(test) { 1 << 10 } else { 1 << 23 };

/// Operations up to which stores take the time.
const FEW: usize = 2;

/// How a loop is to be executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Lanes run over the kept dimensions; else over the reduced ones.
    pub(super) vertical: bool,
    /// Element-level values stay in registers from one sweep to the next; else they are computed again.
    pub(super) retain: bool,
    /// Sweeps are cut into tasks: kept-level results are stored at the very end.
    pub(super) split: bool,
    /// Lanes of a block.
    pub(super) lanes: usize,
}

/// Compiles a loop whose dimensions are merged and whose accumulators are loads.
pub(super) fn compile(body: &Loop, bindings: &[Binding], form: Form) -> Result<Program, String> {
    let values = Values::new(body, bindings);
    let lane_extents = if form.vertical { &body.kept } else { &body.reduced };
    let in_pieces = does_little_but_write(body, bindings, &values);
    let tiling = if in_pieces { Tiling::of_rows } else { Tiling::new };
    let program = Program {
        kept: body.kept.clone(),
        reduced: body.reduced.clone(),
        vertical: form.vertical,
        tiling: tiling(lane_extents, form.lanes),
        in_pieces,
        products: None,
        prologue: Segment::default(),
        between: Vec::new(),
        sweeps: Vec::new(),
        registers: Vec::new(),
        runs: Vec::new(),
        chains: Vec::new(),
        reductions: Vec::new(),
        accesses: Vec::new(),
        destinations: Vec::new(),
        regions: Vec::new(),
    };
    let count = values.nodes.len();
    let mut compiler = Compiler {
        body,
        bindings,
        form,
        homes: vec![Home::default(); count],
        uses: vec![Uses::default(); count],
        reduction: vec![None; count],
        run: vec![None; count],
        values,
        program,
        sweeps: 0,
        temporaries: 0,
        pool: Vec::new(),
        same: HashMap::new(),
    };
    compiler.regions()?;
    compiler.schedule()?;
    for segment in 0..2 * compiler.sweeps + 2 {
        compiler.emit(segment)?;
    }
    compiler.prune();
    compiler.program.products = compiler.products();
    Ok(compiler.program)
}

/// Whether a loop writes much more than it computes.
fn does_little_but_write(body: &Loop, bindings: &[Binding], values: &Values) -> bool {
    let computed = |node: &&Node| !matches!(node.what, What::Load { .. } | What::Constant(_));
    let writes = |store: &Store| bindings[store.binding].access == Use::Write;
    body.reduced.is_empty()
        && body.kept_elements() >= LARGE
        && body.stores.iter().all(writes)
        && values.nodes.iter().filter(computed).count() <= FEW
}

/// The rows in which a value lies.
#[derive(Clone, Copy, Debug)]
struct Home {
    wide: Row,
    narrow: Row,
}
impl Default for Home {
    fn default() -> Home {
        Home { wide: Row::None, narrow: Row::None }
    }
}

/// Who uses a value. Segments are numbered: 0 is the prologue, `1 + 2i` the code before sweep `i`, `2 + 2i` sweep `i`.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    /// A bit per sweep.
    sweeps: u64,
    first: usize,
    last: usize,
    any: bool,
    wide: bool,
    narrow: bool,
}

/// The rows of an operation with one operand.
fn only(row: Row) -> Vec<Row> {
    let mut rows = vec![Row::None; OPERANDS];
    rows[0] = row;
    rows
}

struct Compiler<'a> {
    body: &'a Loop,
    bindings: &'a [Binding],
    form: Form,
    values: Values,
    program: Program,
    homes: Vec<Home>,
    uses: Vec<Uses>,
    /// Which reduction of the program a value is.
    reduction: Vec<Option<usize>>,
    /// Which run of a loop.
    run: Vec<Option<usize>>,
    sweeps: usize,
    temporaries: usize,
    /// Registers for temporaries.
    pool: Vec<usize>,
    /// Registers whose lanes are all the same.
    same: HashMap<Row, Same>,
}

impl Compiler<'_> {
    fn node(&self, v: usize) -> &Node {
        &self.values.nodes[v]
    }
    /// Whether it is computed once for all lanes of a block.
    fn is_narrow(&self, v: usize) -> bool {
        let node = self.node(v);
        node.uniform || (!self.form.vertical && !node.element)
    }
    /// A load that every block repeats, so that it is done once.
    fn is_still(&self, v: usize) -> bool {
        let node = self.node(v);
        let What::Load { binding, at } = &node.what else { return false };
        let lane_level = self.form.vertical || node.element;
        if !lane_level || node.uniform || !node.operands.is_empty() || self.in_place(v, true) {
            return false;
        }
        let (of_kept, of_reduced) = at.strides.split_at(self.body.kept.len());
        let (lanes, walked) = if self.form.vertical { (of_kept, of_reduced) } else { (of_reduced, of_kept) };
        let read = self.bindings[*binding].access == Use::Read;
        read && walked.iter().all(|&s| s == 0) && self.program.tiling.is_still(lanes)
    }
    fn pattern(&self, at: &Affine, wide: bool) -> Pattern {
        let (of_kept, of_reduced) = at.strides.split_at(self.body.kept.len());
        match (wide, self.form.vertical) {
            (false, _) => Pattern::Step(0),
            (true, true) => self.program.tiling.pattern(of_kept),
            (true, false) => self.program.tiling.pattern(of_reduced),
        }
    }
    /// Whether operations can read what a value loads where it is.
    fn in_place(&self, v: usize, wide: bool) -> bool {
        let Node { what: What::Load { binding, at }, operands, .. } = self.node(v) else { return false };
        let binding = &self.bindings[*binding];
        let plain = binding.access == Use::Read && Cell::of(binding.dtype) == Cell::Word;
        plain
            && operands.is_empty()
            && (!wide
                || match self.pattern(at, true) {
                    Pattern::Step(1) => true,
                    Pattern::Step(0) => self.one_lane_will_do(v),
                    Pattern::Step(_) | Pattern::Table(..) => false,
                })
    }
    /// Whether all that use a value take one lane for a row of equal ones, as operations in pieces do.
    fn one_lane_will_do(&self, v: usize) -> bool {
        let stored = self.body.stores.iter().any(|store| self.values.image[store.value] == v);
        let mut users = self.values.nodes.iter().filter(|node| node.operands.contains(&v));
        let in_pieces = self.program.in_pieces && !stored;
        in_pieces && users.all(|node| matches!(node.what, What::Elementwise(_)))
    }
    fn access(&mut self, binding: usize, at: &Affine, wide: bool) -> usize {
        let pattern = self.pattern(at, wide);
        self.program.accesses.push(Access { binding, at: at.clone(), pattern });
        self.program.accesses.len() - 1
    }
    /// The segment in which a value is computed (element-level values: for the first time), as late as its users allow.
    fn available(&self, v: usize) -> usize {
        let node = self.node(v);
        if node.uniform || self.is_still(v) {
            0
        } else if node.element {
            2 + 2 * self.uses[v].sweeps.trailing_zeros() as usize
        } else {
            let earliest = self.earliest(v);
            // code for a sweep stands in the segment before
            earliest.max(self.uses[v].first.saturating_sub(1) | 1)
        }
    }
    /// Whether an element-level value stays from one sweep to the next. What a run of a loop gives stays with its parts.
    fn retains(&self, v: usize) -> bool {
        self.form.retain && !matches!(self.node(v).what, What::Run(_))
    }
    /// The first segment in which a kept-level value can be computed.
    fn earliest(&self, v: usize) -> usize {
        let node = self.node(v);
        1 + 2 * (node.phase + usize::from(matches!(node.what, What::Reduction(_))))
    }

    /// Stores, and the parts of buffers they cover.
    fn regions(&mut self) -> Result<(), String> {
        let extents: Vec<usize> = self.body.kept.iter().chain(&self.body.reduced).copied().collect();
        for (store, s) in self.body.stores.iter().enumerate() {
            let element = self.node(self.values.image[s.value]).element;
            let dims = if element { extents.len() } else { self.body.kept.len() };
            let (low, high) = range(&s.at, &extents[..dims]);
            let low = usize::try_from(low).map_err(|_| format!("store {store} starts at {low}"))?;
            let elements = low..usize::try_from(high + 1).unwrap_or(low);
            let cell = Cell::of(self.bindings[s.binding].dtype);
            let access = self.access(s.binding, &s.at, self.form.vertical || element);
            let meets = |r: &Region| {
                r.binding == s.binding && r.elements.start < elements.end && elements.start < r.elements.end
            };
            let region = match self.program.regions.iter().position(meets) {
                Some(region) => {
                    let r = &mut self.program.regions[region];
                    let (start, end) =
                        (r.elements.start.min(elements.start), r.elements.end.max(elements.end));
                    r.elements = start..end;
                    r.stores.push(store);
                    region
                }
                None => {
                    self.program.regions.push(Region {
                        binding: s.binding,
                        stores: vec![store],
                        elements,
                        cell,
                    });
                    self.program.regions.len() - 1
                }
            };
            self.program.destinations.push(Destination { access, region, cell, element, past_caches: false });
        }
        for store in 0..self.program.destinations.len() {
            self.program.destinations[store].past_caches = self.goes_past_caches(store);
        }
        // a store that bridges two earlier regions
        let regions = &self.program.regions;
        let overlaps = |a: &Region, b: &Region| {
            a.binding == b.binding && a.elements.start < b.elements.end && b.elements.start < a.elements.end
        };
        if regions.iter().enumerate().any(|(i, a)| regions[..i].iter().any(|b| overlaps(a, b))) {
            return Err("stores overlap".into());
        }
        Ok(())
    }

    /// Whether a store goes past the caches: what it writes would not stay there, and was not brought there to be read.
    fn goes_past_caches(&self, store: usize) -> bool {
        let to = &self.program.destinations[store];
        let region = &self.program.regions[to.region];
        self.bindings[region.binding].access == Use::Write
            && region.elements.len() >= LARGE
            && region.stores.len() == 1
            && to.cell == Cell::Word
            && matches!(self.program.accesses[to.access].pattern, Pattern::Step(1))
    }

    /// When each value is computed and used.
    fn schedule(&mut self) -> Result<(), String> {
        let body = self.body;
        let values = &self.values;
        let image = values.image.clone();
        let mut live = vec![false; values.nodes.len()];
        for store in &body.stores {
            live[image[store.value]] = true;
        }
        for v in (0..live.len()).rev() {
            if live[v] {
                values.nodes[v].operands.iter().for_each(|&o| live[o] = true);
            }
        }
        for (v, node) in values.nodes.iter().enumerate().filter(|(v, _)| live[*v]) {
            if let What::Run(of) = &node.what {
                self.run[v] = Some(self.program.runs.len());
                self.program.runs.push(Run {
                    rounds: Rounds::new(of),
                    of: of.clone(),
                    element: node.element,
                });
            }
            if let What::Reduction(kind) = node.what {
                self.reduction[v] = Some(self.program.reductions.len());
                self.program.reductions.push((kind, node.phase));
                self.sweeps = self.sweeps.max(node.phase + 1);
            }
        }
        let stored = body.stores.iter().map(|store| &values.nodes[image[store.value]]);
        let of_elements = stored.filter(|node| node.element).map(|node| node.phase + 1).max();
        self.sweeps = self.sweeps.max(of_elements.unwrap_or(0));
        if self.sweeps > 64 {
            return Err("more than 64 sweeps".into());
        }
        for store in 0..body.stores.len() {
            let v = image[body.stores[store].value];
            let segment = self.store_segment(store);
            let wide = self.form.vertical || self.node(v).element;
            self.mark(v, segment, wide);
        }
        for v in (0..live.len()).rev().filter(|&v| live[v]) {
            self.mark_operands(v);
        }
        self.program.between = (0..=self.sweeps).map(|_| Segment::default()).collect();
        self.program.sweeps = (0..self.sweeps).map(|_| Segment::default()).collect();
        Ok(())
    }
    fn store_segment(&self, store: usize) -> usize {
        let s = &self.body.stores[store];
        let v = self.values.image[s.value];
        let node = self.node(v);
        // every load of an element must have happened before it is overwritten
        let in_place = self.bindings[s.binding].access == Use::ReadWrite;
        if !node.element {
            if in_place || self.form.split { 1 + 2 * self.sweeps } else { self.earliest(v) }
        } else if in_place {
            2 * self.sweeps
        } else {
            2 + 2 * node.phase
        }
    }
    fn mark(&mut self, v: usize, segment: usize, wide: bool) {
        let uses = &mut self.uses[v];
        uses.first = if uses.any { uses.first.min(segment) } else { segment };
        uses.any = true;
        uses.last = uses.last.max(segment);
        uses.wide |= wide;
        uses.narrow |= !wide;
        if segment >= 2 && segment.is_multiple_of(2) {
            uses.sweeps |= 1 << (segment / 2 - 1);
        }
    }
    /// Whether operand number `o` of a value is a whole row; else one lane will do where there is only one.
    fn wants_row(&self, v: usize, o: usize) -> bool {
        let what = &self.node(v).what;
        let one_will_do = matches!(what, What::Random { .. })
            || (!self.form.vertical
                && (matches!(what, What::Exponential | What::Softmax | What::Reduction(Kind::Pick))
                    && o == 1
                    || matches!(what, What::SoftmaxResidual) && (o == 1 || o >= 3)
                    || matches!(what, What::Reduction(Kind::Rest)) && o == 2));
        !(one_will_do && self.is_narrow(self.node(v).operands[o]))
    }
    fn mark_operands(&mut self, v: usize) {
        let operands = self.node(v).operands.clone();
        let narrow = self.is_narrow(v);
        if let Some(reduction) = self.reduction[v] {
            let (kind, sweep) = self.program.reductions[reduction];
            for (o, &operand) in operands.iter().enumerate() {
                let wide = self.wants_row(v, o);
                self.mark(operand, 2 + 2 * sweep, wide);
            }
            if kind == Kind::Rest {
                self.mark(operands[2], 3 + 2 * sweep, self.form.vertical);
            }
            if kind == Kind::Pick {
                self.mark(operands[1], self.check_segment(operands[1]), self.form.vertical);
            }
            return;
        }
        if matches!(self.node(v).what, What::SoftmaxResidual) {
            self.mark(operands[4], self.check_segment(operands[4]), self.form.vertical);
        }
        let segments: Vec<usize> = if self.node(v).element && !self.node(v).uniform {
            let sweeps = self.uses[v].sweeps;
            let first = sweeps & sweeps.wrapping_neg();
            let computed = if self.retains(v) { first } else { sweeps };
            (0..self.sweeps).filter(|s| computed >> s & 1 == 1).map(|s| 2 + 2 * s).collect()
        } else {
            vec![self.available(v)]
        };
        for (o, &operand) in operands.iter().enumerate() {
            let wide = !narrow && self.wants_row(v, o);
            segments.iter().for_each(|&segment| self.mark(operand, segment, wide));
        }
    }
    /// Where labels are checked.
    fn check_segment(&self, label: usize) -> usize {
        self.available(label).max(1)
    }
}

/// Checks that every unguarded load lies inside its buffer.
pub(super) fn check_loads(body: &Loop, elements: &[usize]) -> Result<(), String> {
    let extents: Vec<usize> = body.kept.iter().chain(&body.reduced).copied().collect();
    let inside = |binding: usize, at: &Affine| {
        let (low, high) = range(at, &extents);
        extents.contains(&0) || (low >= 0 && elements.get(binding).is_some_and(|&n| high < signed(n)))
    };
    for instruction in &body.code {
        if let Code::Load { binding, at, guard: None } = &instruction.code
            && !inside(*binding, at)
        {
            return Err(format!("a load reaches beyond binding {binding}: {at:?} over {extents:?}"));
        }
    }
    for store in &body.stores {
        if !inside(store.binding, &store.at) {
            return Err(format!("a store reaches beyond binding {}: {:?}", store.binding, store.at));
        }
    }
    Ok(())
}
