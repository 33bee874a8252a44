//! Executes loops: chooses the form, cuts the work into tasks of a fixed size, and combines what the tasks found.
//!
//! Tasks depend on the kernel alone, never on the number of threads, and their results combine in task order: the same
//! bits on every machine and with any number of threads.

mod paired;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use cotangent_shaders::{Affine, Binding, Code, Instruction, Loop, Schedule};
use pulp::Arch;

#[cfg(test)]
use super::chain::Chain;
use super::compile::{Form, check_loads, compile};
use super::execute::{Fault, Machine};
use super::geometry::{is_nested, merge, signed, unravel};
use super::memory::Target;
use super::products::{Along, Products};
use super::program::{Action, Cell, From, Program};
use super::reduction::State;
use super::wide::{fold, widen};
use crate::raw::settle;

pub(super) use paired::{Bound, Pair};

/// Elements of a task, at most.
const TASK: usize = 1 << 16;
/// Elements times operations of a task, about.
const TASK_WORK: usize = 1 << 19;
/// Elements times operations below which waking another thread costs more than it brings.
const SERIAL_WORK: usize = 1 << 16;
/// Elements of a value that may stay in a register between sweeps.
const RETAINED: usize = 16_384;
/// Longest rows of which many are handled side by side, one per lane.
const SHORT_ROW: usize = 32;
/// Lanes of a block. Many registers leave the first cache then, which costs less than more operations to interpret.
const LANES: usize = 1024;
/// Most operations of a loop that waits for memory more than it computes, and the lanes of its blocks.
const LIGHT: usize = 12;
const LIGHT_LANES: usize = 512;
/// Lanes of a block of a row: kernels of rows have few operations between two passes over it.
const ROW_LANES: usize = 2048;
/// Columns below which tasks cut the rows.
const FEW_COLUMNS: usize = 8192;
/// Columns from which on sums of products take one row after the other.
const WIDE_ENOUGH: usize = 16;
/// Elements of a matrix that are multiplied by a vector before code runs on the products: they stay in the second cache.
const MATRIX_BLOCK: usize = 1 << 16;
/// Fewest rows that are multiplied by a vector side by side.
const FEWEST_ROWS: usize = 16;
/// Tasks of inner products of rows that are longer than such blocks; with fewer, the rows are cut.
const ENOUGH_TASKS: usize = 16;
/// Most tasks that hold partial results for every column.
const MOST_PARTIALS: usize = 64;

/// A loop, ready to run.
#[derive(Debug)]
pub(super) struct Loops {
    program: Program,
    /// Tasks cut the sweeps; else the kept elements.
    split: bool,
    tasks: usize,
    /// Units or steps per task.
    per_task: usize,
    serial: bool,
    machines: Mutex<Vec<Machine>>,
    /// Finds the results of the reductions with several rows side by side.
    wide: Option<Box<Loops>>,
}

impl Loops {
    /// Compiles a loop. `elements` are the lengths of the bound buffers.
    pub(super) fn new(body: &Loop, bindings: &[Binding], elements: &[usize]) -> Result<Loops, String> {
        let mut body = body.clone();
        merge(&mut body);
        check_loads(&body, elements)?;
        let (kept, reduced) = (body.kept_elements(), body.reduced_elements());
        let computed = |i: &&Instruction| !matches!(i.code, Code::Load { .. } | Code::Constant(_));
        let is_light = body.code.iter().filter(computed).count() <= LIGHT;
        let form = |vertical, split| {
            let short = vertical && reduced > 1 && reduced <= SHORT_ROW;
            let lanes = match body.schedule {
                _ if short => (RETAINED / reduced).clamp(16, 512),
                Schedule::Row if !vertical => ROW_LANES,
                Schedule::Total if is_light => LIGHT_LANES,
                _ => LANES,
            };
            let held = if vertical { reduced.saturating_mul(lanes) } else { reduced };
            Form { vertical, split, retain: !split && held <= RETAINED, lanes }
        };
        let (whole, split) = match body.schedule {
            _ if body.reduced.is_empty() => (form(true, false), None),
            Schedule::Map | Schedule::Column => (form(true, false), Some(form(true, true))),
            Schedule::Row if reduced <= SHORT_ROW && kept >= 16 => (form(true, false), None),
            Schedule::Row | Schedule::Total => (form(false, false), Some(form(false, true))),
        };
        let few = match body.schedule {
            Schedule::Map | Schedule::Column => kept < FEW_COLUMNS,
            Schedule::Row | Schedule::Total => kept < 16,
        };
        let long = kept.saturating_mul(reduced) >= 2 * TASK && reduced >= 2;
        let build = |form| Loops::of_form(&body, bindings, form);
        if body.schedule == Schedule::Row && kept >= FEWEST_ROWS && reduced > SHORT_ROW {
            let lanes = (MATRIX_BLOCK / reduced).clamp(FEWEST_ROWS, LANES);
            let beside = build(Form { vertical: true, split: false, retain: false, lanes })?;
            let is_cut = reduced <= MATRIX_BLOCK / FEWEST_ROWS || beside.tasks >= ENOUGH_TASKS;
            if beside.adds(Along::Rows) && (is_cut || !long) {
                return Ok(beside);
            }
        }
        let by_rows = |form| {
            let fits = |loops: Loops| loops.adds(Along::Columns) && kept >= WIDE_ENOUGH;
            build(form).map(fits)
        };
        if let (Some(form), Some(side_by_side)) = (split, widen(&body))
            && !by_rows(form)?
        {
            let wide = Loops::of_form(&side_by_side, bindings, form)?;
            if wide.program.sweeps.len() == 1 {
                return Ok(Loops { wide: Some(Box::new(wide)), ..build(form)? });
            }
        }
        let whole = || build(whole);
        let Some(cut) = split.filter(|_| long) else { return whole() };
        let cut = || build(cut);
        // Few results are found in parts first. Many are not, unless what is stored per element would meet between tasks.
        let first = if few { cut()? } else { whole()? };
        if first.tasks > 1 {
            return Ok(first);
        }
        let second = if few { whole()? } else { cut()? };
        Ok(if few || second.tasks > 1 { second } else { first })
    }
    /// Whether its sweep does nothing but add up products that lie so.
    fn adds(&self, along: Along) -> bool {
        matches!(&self.program.products, Some(products) if products.along == along)
    }
    /// Whether several threads may take part.
    pub(super) fn is_parallel(&self) -> bool {
        let own = !self.serial && self.tasks > 1;
        own || self.wide.as_ref().is_some_and(|wide| wide.is_parallel())
    }
    /// How the products lie that its sweep adds up, if it does nothing else.
    #[cfg(test)]
    pub(super) fn along(&self) -> Option<Along> {
        self.program.products.as_ref().map(|products| products.along)
    }
    /// How many of the operations on elements are these, which are outside of chains.
    #[cfg(test)]
    pub(super) fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        let segments =
            if self.program.sweeps.is_empty() { &self.program.between } else { &self.program.sweeps };
        segments.iter().flat_map(|segment| &segment.ops).filter(|op| which(&op.action)).count()
    }
    /// The chains of its operations.
    #[cfg(test)]
    pub(super) fn chains(&self) -> &[Chain] {
        &self.program.chains
    }
    /// In how many tasks it runs.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }
    fn of_form(body: &Loop, bindings: &[Binding], form: Form) -> Result<Loops, String> {
        let program = compile(body, bindings, form)?;
        let sweeps = program.sweeps.iter();
        let kept_ops: usize = program.between.iter().map(|segment| segment.ops.len()).sum();
        let element_ops: usize = sweeps.map(|segment| segment.ops.len()).sum();
        let (kept, reduced) = (program.kept_elements(), program.reduced_elements());
        let ops = if program.sweeps.is_empty() { kept_ops } else { element_ops };
        let size = (TASK_WORK / ops.max(1)).clamp(TASK / 16, TASK);
        let (all, each) = if form.split {
            let per_step = if form.vertical { kept } else { program.tiling.lanes };
            (program.steps(), per_step)
        } else {
            (program.units(), program.unit_lanes() * if program.sweeps.is_empty() { 1 } else { reduced })
        };
        let mut per_task = (size / each.max(1)).max(1);
        if form.split && form.vertical {
            per_task = per_task.max(all.div_ceil(MOST_PARTIALS));
        }
        let work = kept.saturating_mul(reduced.max(1)).saturating_mul(ops)
            + program.units().saturating_mul(kept_ops).saturating_mul(16);
        let mut loops = Loops {
            tasks: all.div_ceil(per_task).max(1),
            per_task,
            split: form.split,
            serial: work < SERIAL_WORK,
            machines: Mutex::new(Vec::new()),
            wide: None,
            program,
        };
        if !loops.can_be_cut() {
            (loops.tasks, loops.per_task) = (1, all.max(1));
        }
        Ok(loops)
    }

    /// Extents and strides of the dimensions that tasks cut, and how far the other ones reach below and above.
    fn cut_of(&self, store: usize) -> (&[usize], &[i64], i64, i64) {
        let Program { kept, reduced, accesses, destinations, .. } = &self.program;
        let to = &destinations[store];
        let (of_kept, of_reduced) = accesses[to.access].at.strides.split_at(kept.len());
        let reach = |strides: &[i64], extents: &[usize]| {
            let reaches = || strides.iter().zip(extents).map(|(s, &e)| s * signed(e.saturating_sub(1)));
            (reaches().map(|r| r.min(0)).sum::<i64>(), reaches().map(|r| r.max(0)).sum::<i64>())
        };
        if self.split {
            let (low, high) = if self.program.vertical { reach(of_kept, kept) } else { (0, 0) };
            (reduced, of_reduced, low, high)
        } else {
            let (low, high) = if to.element { reach(of_reduced, reduced) } else { (0, 0) };
            (kept, of_kept, low, high)
        }
    }
    /// Position along the cut dimensions at which a task starts.
    fn task_first(&self, task: usize) -> usize {
        let at = task * self.per_task;
        if self.split { self.program.step_first(at) } else { self.program.unit_first(at) }
    }
    /// Lowest and highest element of a store at a position along the cut dimensions; `unit` is the kept element of a
    /// horizontal split.
    fn reach(&self, store: usize, position: usize, unit: usize) -> (i64, i64) {
        let (extents, strides, low, high) = self.cut_of(store);
        let Affine { offset, strides: all } =
            &self.program.accesses[self.program.destinations[store].access].at;
        let mut coordinate = [0; 16];
        let along = |extents: &[usize], strides: &[i64], position: usize, coordinate: &mut [usize]| -> i64 {
            unravel(position, extents, &mut coordinate[..extents.len()]);
            strides.iter().zip(coordinate).map(|(s, c)| s * signed(*c)).sum()
        };
        let mut at = offset + along(extents, strides, position, &mut coordinate);
        if self.split && !self.program.vertical {
            at += along(&self.program.kept, &all[..self.program.kept.len()], unit, &mut coordinate);
        }
        (at + low, at + high)
    }
    /// Whether the elements that tasks store follow each other, so that buffers can be cut between tasks.
    fn can_be_cut(&self) -> bool {
        let program = &self.program;
        if program.kept.len().max(program.reduced.len()) > 16 {
            return false;
        }
        if self.split {
            // what a worker executes must not need elements that only the last segment may touch
            let early = program.between.iter().take(program.sweeps.len()).chain(&program.sweeps);
            let touches = |action: &Action| matches!(action, Action::Load { source: From::Store(store), .. } if !program.destinations[*store].element);
            if early.flat_map(|segment| &segment.ops).any(|op| touches(&op.action)) {
                return false;
            }
        }
        program.regions.iter().all(|region| {
            let cut = |&&store: &&usize| !self.split || program.destinations[store].element;
            let stores: Vec<usize> = region.stores.iter().filter(cut).copied().collect();
            if stores.len() < region.stores.len() {
                return stores.is_empty();
            }
            let nested = stores.iter().all(|&store| {
                let (extents, strides, low, high) = self.cut_of(store);
                is_nested(strides, extents, high - low + 1)
            });
            let units = if self.split && !program.vertical { program.kept_elements() } else { 1 };
            nested
                && (stores.len() == 1
                    || (units == 1
                        && (1..self.tasks).all(|task| {
                            let first = self.task_first(task);
                            let before = stores.iter().map(|&s| self.reach(s, first - 1, 0).1).max();
                            before < stores.iter().map(|&s| self.reach(s, first, 0).0).min()
                        })))
        })
    }

    /// Runs the loop. `inputs` are the words of the bindings, `written` those of the bindings that are written, in the
    /// order of `regions`' bindings.
    pub(super) fn run(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
    ) -> Result<(), Fault> {
        let mut targets = self.targets(written);
        let fault = if self.split {
            self.run_split(arch, inputs, &mut targets)
        } else {
            let tasks = Tasks { loops: self, unit: 0, next: 0, targets, partials: &mut [], width: 0 };
            self.spread(arch, inputs, tasks, &|machine: &mut Machine, task: Task<'_>| {
                self.run_units(arch, machine, task, inputs);
            })
        };
        fault.map_or(Ok(()), Err)
    }
    fn run_units(&self, arch: Arch, machine: &mut Machine, mut task: Task<'_>, inputs: &[&[u32]]) {
        let program = &self.program;
        let (outputs, first) = (&mut task.targets[..], task.index * self.per_task);
        for unit in first..(first + self.per_task).min(program.units()) {
            self.run_unit(arch, machine, unit, inputs, outputs);
        }
    }
    fn run_unit(
        &self,
        arch: Arch,
        machine: &mut Machine,
        unit: usize,
        inputs: &[&[u32]],
        outputs: &mut [Target<'_>],
    ) {
        let program = &self.program;
        machine.enter_unit(program, unit);
        machine.run(arch, program, &program.between[0], inputs, outputs);
        for sweep in 0..program.sweeps.len() {
            machine.start(program, sweep);
            self.sweep(arch, machine, sweep, 0..program.steps(), inputs, outputs);
            machine.finish(arch, program, sweep);
            machine.leave_steps(program);
            machine.run(arch, program, &program.between[sweep + 1], inputs, outputs);
        }
    }
    /// Executes steps of a sweep.
    fn sweep(
        &self,
        arch: Arch,
        machine: &mut Machine,
        sweep: usize,
        steps: Range<usize>,
        inputs: &[&[u32]],
        outputs: &mut [Target<'_>],
    ) {
        let program = &self.program;
        if let Some(products) = &program.products {
            return machine.add(arch, program, products, steps, inputs);
        }
        for step in steps {
            machine.enter_step(program, step);
            machine.run(arch, program, &program.sweeps[sweep], inputs, outputs);
        }
    }
    fn run_split(&self, arch: Arch, inputs: &[&[u32]], targets: &mut [Target<'_>]) -> Option<Fault> {
        let program = &self.program;
        let units = program.units();
        let size = if program.vertical { units } else { 1 };
        let mut fault = None;
        for group in (0..units).step_by(size.max(1)).map(|unit| unit..unit + size) {
            let (totals, found) = match &self.wide {
                Some(wide) => {
                    let (totals, found) = wide.totals(arch, inputs, targets, 0..wide.program.units());
                    let kinds = program.reductions.iter().map(|(kind, _)| *kind);
                    (fold(kinds, &totals, program.kept_elements()), found)
                }
                None => self.totals(arch, inputs, targets, group.clone()),
            };
            fault = Fault::first(fault, found);
            fault = Fault::first(fault, self.conclude(arch, group, &totals, inputs, targets));
        }
        fault
    }
    /// Executes the code after the sweeps of a group of units.
    fn conclude(
        &self,
        arch: Arch,
        group: Range<usize>,
        totals: &[Vec<State>],
        inputs: &[&[u32]],
        targets: &mut [Target<'_>],
    ) -> Option<Fault> {
        let (first, last) = (self.program.unit_first(group.start), self.program.sweeps.len());
        let mut machine = self.machine(arch, inputs);
        for unit in group {
            self.prepare(arch, &mut machine, unit, first, last, totals, inputs, targets);
        }
        self.give_back(machine)
    }
    /// Executes the sweeps of a group of units: the results of their reductions.
    fn totals(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        targets: &mut [Target<'_>],
        group: Range<usize>,
    ) -> (Vec<Vec<State>>, Option<Fault>) {
        let program = &self.program;
        let first = program.unit_first(group.start);
        let kept = program.unit_first(group.end).min(program.kept_elements()) - first;
        let identities = program.reductions.iter().map(|(kind, _)| vec![kind.identity(); kept]);
        let mut totals: Vec<Vec<State>> = identities.collect();
        let mut fault = None;
        for sweep in 0..program.sweeps.len() {
            let here: Vec<usize> =
                (0..program.reductions.len()).filter(|&k| program.reductions[k].1 == sweep).collect();
            let width = here.len() * kept;
            let mut partials = vec![[0.0; 2]; width * self.tasks];
            let tasks = Tasks {
                loops: self,
                unit: group.start,
                next: 0,
                targets: targets.iter_mut().map(Target::borrow).collect(),
                partials: &mut partials,
                width,
            };
            let known = &totals;
            let found = self.spread(arch, inputs, tasks, &|machine: &mut Machine, mut task: Task<'_>| {
                for unit in group.clone() {
                    self.prepare(arch, machine, unit, first, sweep, known, inputs, &mut task.targets);
                    machine.start(program, sweep);
                    let from = task.index * self.per_task;
                    let steps = from..(from + self.per_task).min(program.steps());
                    self.sweep(arch, machine, sweep, steps, inputs, &mut task.targets);
                    machine.finish(arch, program, sweep);
                    let at = program.unit_first(unit) - first;
                    for (&k, partial) in here.iter().zip(task.partial.chunks_mut(kept)) {
                        let state = &machine.states[k];
                        partial[at..at + state.len()].copy_from_slice(state);
                    }
                }
            });
            fault = Fault::first(fault, found);
            self.combine(&here, &partials, kept, &mut totals);
        }
        (totals, fault)
    }
    /// Combines what tasks found, in their order.
    fn combine(&self, here: &[usize], partials: &[State], kept: usize, totals: &mut [Vec<State>]) {
        for partial in partials.chunks((here.len() * kept).max(1)) {
            for (&k, partial) in here.iter().zip(partial.chunks(kept)) {
                self.program.reductions[k].0.combine_all(&mut totals[k], partial);
            }
        }
    }
    /// Goes to a unit and executes its kept-level code before a sweep, given the results of earlier sweeps.
    #[expect(clippy::too_many_arguments, reason = "the place of execution")]
    fn prepare(
        &self,
        arch: Arch,
        machine: &mut Machine,
        unit: usize,
        group_first: usize,
        sweep: usize,
        totals: &[Vec<State>],
        inputs: &[&[u32]],
        outputs: &mut [Target<'_>],
    ) {
        let program = &self.program;
        machine.enter_unit(program, unit);
        machine.run(arch, program, &program.between[0], inputs, outputs);
        let first = program.unit_first(unit) - group_first;
        for earlier in 0..sweep {
            machine.resume(program, earlier, first, totals);
            machine.run(arch, program, &program.between[earlier + 1], inputs, outputs);
        }
    }

    /// A machine that has executed the prologue.
    fn machine(&self, arch: Arch, inputs: &[&[u32]]) -> Machine {
        let kept = self.machines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut machine = kept.unwrap_or_else(|| Machine::new(&self.program));
        machine.rewind();
        machine.run(arch, &self.program, &self.program.prologue, inputs, &mut []);
        machine
    }
    fn give_back(&self, mut machine: Machine) -> Option<Fault> {
        if self.program.goes_past_caches() {
            settle();
        }
        let fault = machine.fault.take();
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).push(machine);
        fault
    }
    /// Runs all tasks, on this thread and on others of the current rayon pool.
    fn spread(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        tasks: Tasks<'_, '_>,
        body: &(impl Fn(&mut Machine, Task<'_>) + Sync),
    ) -> Option<Fault> {
        let threads =
            if self.serial || self.tasks < 2 { 1 } else { rayon::current_num_threads().min(self.tasks) };
        let (queue, found) = (Mutex::new(tasks), Mutex::new(None));
        let work = || {
            let mut machine = self.machine(arch, inputs);
            loop {
                // bound to a name, so that the lock is open again while the task runs
                let task = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                match task {
                    Some(task) => {
                        body(&mut machine, task);
                    }
                    None => break,
                }
            }
            let fault = self.give_back(machine);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            *found = Fault::first(found.take(), fault);
        };
        if threads == 1 {
            work();
        } else {
            rayon::in_place_scope(|scope| {
                (1..threads).for_each(|_| scope.spawn(|_| work()));
                work();
            });
        }
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
    /// The regions of the written buffers.
    fn targets<'a>(&self, written: &'a mut [(usize, &mut [u32])]) -> Vec<Target<'a>> {
        let regions = &self.program.regions;
        let mut targets: Vec<Target<'a>> = regions.iter().map(|_| Target::default()).collect();
        for (binding, words) in written {
            let mut here: Vec<usize> =
                (0..regions.len()).filter(|&r| regions[r].binding == *binding).collect();
            here.sort_by_key(|&r| regions[r].elements.start);
            let half = here.first().is_some_and(|&r| regions[r].cell == Cell::Half);
            let (words, halves): (&mut [u32], &mut [u16]) =
                if half { (&mut [], bytemuck::cast_slice_mut(words)) } else { (words, &mut []) };
            let mut rest = Target { words, halves, start: 0 };
            for region in here {
                rest.split_before(regions[region].elements.start);
                targets[region] = rest.split_before(regions[region].elements.end);
            }
        }
        targets
    }
}

/// A part of the work, with what it may write.
struct Task<'a> {
    index: usize,
    targets: Vec<Target<'a>>,
    partial: &'a mut [State],
}

/// The tasks that nobody has taken yet.
struct Tasks<'a, 'b> {
    loops: &'b Loops,
    /// The kept element of a horizontal split.
    unit: usize,
    next: usize,
    targets: Vec<Target<'a>>,
    partials: &'a mut [State],
    /// Partial results per task.
    width: usize,
}

impl<'a> Iterator for Tasks<'a, '_> {
    type Item = Task<'a>;
    fn next(&mut self) -> Option<Task<'a>> {
        let (loops, index) = (self.loops, self.next);
        if index == loops.tasks {
            return None;
        }
        self.next += 1;
        let (partial, rest) = std::mem::take(&mut self.partials).split_at_mut(self.width);
        self.partials = rest;
        let is_last = self.next == loops.tasks;
        let first_of_next = loops.task_first(self.next);
        let regions = &loops.program.regions;
        let targets = self.targets.iter_mut().zip(regions).map(|(target, region)| {
            let is_cut = |store: &usize| !loops.split || loops.program.destinations[*store].element;
            if loops.tasks == 1 {
                std::mem::take(target)
            } else if !region.stores.iter().any(is_cut) {
                Target::default()
            } else if is_last {
                std::mem::take(target)
            } else {
                let lowest = |&store: &usize| loops.reach(store, first_of_next, self.unit).0;
                let cut = region.stores.iter().map(lowest).min().unwrap_or(0);
                target.split_before(usize::try_from(cut).unwrap_or(0))
            }
        });
        Some(Task { index, targets: targets.collect(), partial })
    }
}
