//! The second half of [`super::compile`]: operations and registers, once it is known when each value is computed.

use cotangent_shaders::Store;

use super::super::calculation::Calculation;
use super::super::chain::{PIECE, Slot};
use super::super::lanes::key_words;
use super::super::program::Program;
use super::chains::Same;
use super::pairs::join;
use super::{
    Action, Cell, Check, Compiler, DType, From, Kind, Lanes, OPERANDS, Op, Pattern, Row, Segment, Stream,
    Use, What, only,
};
use crate::raw::LINE;

/// Registers numbered from here live in one segment and are renumbered at its end.
const TEMPORARY: usize = usize::MAX / 2;

/// Whether a row lives in one segment.
pub(super) fn is_temporary(row: Row) -> bool {
    matches!(row, Row::Register(r) if r >= TEMPORARY)
}

/// Elements from which on the next block is fetched while this one is computed.
const LONG: usize = 1 << 17;

/// Operations from which on: with fewer, the processor fetches well enough by itself.
const BUSY: usize = 4;

impl Compiler<'_> {
    /// A register of its own, or a temporary.
    fn register(&mut self, lanes: usize) -> usize {
        self.program.registers.push(lanes);
        self.program.registers.len() - 1
    }
    fn temporary(&mut self) -> Row {
        self.temporaries += 1;
        Row::Register(TEMPORARY + self.temporaries - 1)
    }
    /// The row a value is computed into.
    fn wide_home(&mut self, v: usize, segment: usize) -> Row {
        let uses = self.uses[v];
        let element = self.node(v).element;
        let stays =
            if !element { uses.last > segment } else { self.form.retain && uses.sweeps.count_ones() > 1 };
        let lanes = self.program.tiling.lanes;
        match (stays, element) {
            (false, _) => match self.direct_store(v, segment) {
                Some(store) => Row::Output(store),
                None => self.temporary(),
            },
            (true, false) => Row::Register(self.register(lanes)),
            (true, true) => Row::Long(self.register(0)),
        }
    }
    /// A store into whose elements the value can be computed.
    fn direct_store(&self, v: usize, segment: usize) -> Option<usize> {
        (0..self.body.stores.len()).find(|&store| {
            let (s, to) = (&self.body.stores[store], &self.program.destinations[store]);
            let loads_later = (v..self.values.nodes.len())
                .any(|w| matches!(self.node(w).what, What::Load { binding, .. } if binding == s.binding));
            self.values.image[s.value] == v
                && self.store_segment(store) == segment
                && to.cell == Cell::Word
                && self.program.regions[to.region].stores.len() == 1
                && matches!(self.program.accesses[to.access].pattern, Pattern::Step(1))
                && !loads_later
                && !(to.past_caches && self.is_read(v))
        })
    }

    /// Whether something else is made of a value that is stored: another value, or another store.
    fn is_read(&self, v: usize) -> bool {
        let mut users = self.values.nodes.iter().zip(&self.uses).filter(|(_, uses)| uses.any);
        let stores = self.body.stores.iter().filter(|store| self.values.image[store.value] == v).count();
        stores > 1 || users.any(|(node, _)| node.operands.contains(&v))
    }

    pub(super) fn emit(&mut self, segment: usize) -> Result<(), String> {
        let mut ops = Vec::new();
        // A reduction takes its row as soon as it is there, so that the register is free again.
        let mut waiting: Vec<usize> = (0..self.values.nodes.len())
            .filter(|&v| self.reduction[v].is_some_and(|r| 2 + 2 * self.program.reductions[r].1 == segment))
            .collect();
        self.reduce(&mut waiting, segment, 0, &mut ops);
        for v in 0..self.values.nodes.len() {
            if self.uses[v].any && self.is_computed_in(v, segment) {
                self.emit_value(v, segment, &mut ops)?;
                self.reduce(&mut waiting, segment, v + 1, &mut ops);
            }
        }
        self.emit_checks(segment, &mut ops);
        for store in 0..self.body.stores.len() {
            if self.store_segment(store) == segment {
                let v = self.values.image[self.body.stores[store].value];
                let wide = self.form.vertical || self.node(v).element;
                let home = self.homes[v];
                let (row, lanes) = if wide { (home.wide, Lanes::Block) } else { (home.narrow, Lanes::One) };
                if row != Row::Output(store) {
                    let from = only(row);
                    ops.push(Op { action: Action::Store(store), lanes, into: Row::None, from });
                }
            }
        }
        if !self.program.in_pieces {
            join(&mut ops);
        }
        let mut ops = self.chain(ops);
        self.settle(&mut ops);
        let mut accesses: Vec<usize> = ops.iter().flat_map(|op| self.needed(op)).collect();
        accesses.sort_unstable();
        accesses.dedup();
        let turns: usize = ops.iter().map(|op| self.turns(op)).sum();
        let streams = if self.is_long() && turns >= BUSY { self.streams(&ops) } else { Vec::new() };
        let lines = streams.len() * (self.program.tiling.lanes / LINE);
        let fetched = lines.div_ceil(turns.max(1));
        let done = Segment { ops, accesses, streams, fetched };
        match segment {
            0 => self.program.prologue = done,
            s if s.is_multiple_of(2) => self.program.sweeps[s / 2 - 1] = done,
            s => self.program.between[s / 2] = done,
        }
        Ok(())
    }
    /// Emits the reductions whose operands are there when all values before `next` are.
    fn reduce(&self, waiting: &mut Vec<usize>, segment: usize, next: usize, ops: &mut Vec<Op>) {
        waiting.retain(|&v| {
            let is_there = |&o: &usize| o < next || !self.is_computed_in(o, segment);
            let Some(reduction) = self.reduction[v] else { return false };
            let ready = self.node(v).operands.iter().all(is_there);
            if ready {
                let (action, from) = (Action::Reduce(reduction), self.rows(v, true));
                let kind = self.program.reductions[reduction].0;
                match ops.last_mut() {
                    Some(Op { action: last @ Action::Exponential, into, from: of, .. })
                        if kind == Kind::Rest
                            && !self.form.vertical
                            && from[..3] == [of[0], *into, of[1]] =>
                    {
                        *last = Action::ExponentialRest(reduction);
                    }
                    _ => ops.push(Op { action, lanes: Lanes::Block, into: Row::None, from }),
                }
            }
            !ready
        });
    }
    fn is_computed_in(&self, v: usize, segment: usize) -> bool {
        let node = self.node(v);
        if !node.element || node.uniform || self.is_still(v) || self.retains(v) {
            return self.available(v) == segment;
        }
        segment >= 2 && segment.is_multiple_of(2) && self.uses[v].sweeps >> (segment / 2 - 1) & 1 == 1
    }
    /// How often an operation gives a chance to fetch.
    fn turns(&self, op: &Op) -> usize {
        let Action::Chain(chain) = op.action else { return 1 };
        self.program.chains[chain].steps.len() * self.program.tiling.lanes.div_ceil(PIECE)
    }
    /// The rows that an operation writes.
    fn written<'a>(&'a self, op: &'a Op) -> impl Iterator<Item = &'a Row> {
        let given: &[(Slot, Row)] =
            if let Action::Chain(chain) = op.action { &self.program.chains[chain].given } else { &[] };
        [&op.into].into_iter().chain(given.iter().map(|(_, row)| row))
    }
    /// The accesses whose base an operation needs.
    fn needed(&self, op: &Op) -> Vec<usize> {
        let destination = |store: &usize| self.program.destinations[*store].access;
        let rows = op.from.iter().chain(self.written(op)).filter_map(|row| match row {
            Row::Input(access) => Some(*access),
            Row::Output(store) => Some(destination(store)),
            Row::None | Row::Register(_) | Row::Long(_) => None,
        });
        let own =
            if let Action::Store(store) = &op.action { Some(destination(store)) } else { op.action.access() };
        rows.chain(own).collect()
    }
    /// Whether the loop goes through much memory, block after block. Lanes over kept dimensions walk the reduced ones: their
    /// next block is not what is wanted next.
    fn is_long(&self) -> bool {
        let walks = self.form.vertical && !self.program.reduced.is_empty();
        !walks && self.program.kept_elements().saturating_mul(self.program.reduced_elements().max(1)) >= LONG
    }
    /// What operations read and write word by word.
    fn streams(&self, ops: &[Op]) -> Vec<Stream> {
        let stream = |access, source| Some(Stream { access, source });
        let of_store = |store: usize| {
            let to = &self.program.destinations[store];
            if to.cell == Cell::Word && !to.past_caches {
                stream(to.access, From::Store(store))
            } else {
                None
            }
        };
        let of_row = |row: &Row| match *row {
            Row::Input(access) => stream(access, From::Binding(self.program.accesses[access].binding)),
            Row::Output(store) => of_store(store),
            Row::None | Row::Register(_) | Row::Long(_) => None,
        };
        let of_action = |action: &Action| match *action {
            Action::Store(store) => of_store(store),
            Action::Load { access, source: source @ From::Binding(_), cell: Cell::Word } => {
                stream(access, source)
            }
            _ => None,
        };
        let mut streams: Vec<Stream> = Vec::new();
        for op in ops {
            for stream in
                op.from.iter().chain(self.written(op)).filter_map(of_row).chain(of_action(&op.action))
            {
                let walks = matches!(self.program.accesses[stream.access].pattern, Pattern::Step(1));
                if walks && !streams.contains(&stream) {
                    streams.push(stream);
                }
            }
        }
        streams
    }
    /// The rows of the operands of a value.
    fn rows(&self, v: usize, wide: bool) -> Vec<Row> {
        let mut rows = vec![Row::None; OPERANDS.max(self.node(v).operands.len())];
        for (o, (row, &operand)) in rows.iter_mut().zip(&self.node(v).operands).enumerate() {
            let home = self.homes[operand];
            *row = if wide && self.wants_row(v, o) { home.wide } else { home.narrow };
        }
        rows
    }
    fn emit_value(&mut self, v: usize, segment: usize, ops: &mut Vec<Op>) -> Result<(), String> {
        let uses = self.uses[v];
        let narrow = self.is_narrow(v);
        if let What::Constant(word) = self.node(v).what {
            let mut fill = |into, lanes| {
                ops.push(Op { action: Action::Fill(word), lanes, into, from: vec![Row::None; OPERANDS] });
            };
            if uses.wide {
                let lanes = self.program.tiling.lanes;
                self.homes[v].wide = Row::Register(self.register(lanes));
                fill(self.homes[v].wide, Lanes::Full);
                self.same.insert(self.homes[v].wide, Same::Word(word));
            }
            if uses.narrow {
                self.homes[v].narrow = Row::Register(self.register(1));
                fill(self.homes[v].narrow, Lanes::One);
            }
            return Ok(());
        }
        if let What::Load { binding, at } = &self.node(v).what
            && self.in_place(v, !narrow)
        {
            let (binding, at) = (*binding, at.clone());
            let row = Row::Input(self.access(binding, &at, !narrow));
            // in the prologue a row is read where it is; later segments find it at their own base
            if narrow {
                self.homes[v].narrow = row;
                // what depends on no coordinate has the same base in every segment
                self.splat(v, ops);
            } else {
                self.homes[v].wide = row;
            }
            return Ok(());
        }
        let from = match self.reduction[v] {
            Some(reduction) if self.program.reductions[reduction].0 == Kind::Rest => {
                let max = self.homes[self.node(v).operands[2]];
                let max = if self.form.vertical { max.wide } else { max.narrow };
                only(max)
            }
            Some(_) => vec![Row::None; OPERANDS],
            None => self.rows(v, !narrow),
        };
        let action = self.action(v, !narrow)?;
        if matches!(action, Action::Run(_)) {
            let lanes = if narrow { Lanes::One } else { Lanes::Block };
            ops.push(Op { action, lanes, into: Row::None, from });
            return Ok(());
        }
        let (into, lanes) = if narrow {
            (Row::Register(self.register(1)), Lanes::One)
        } else if self.is_still(v) {
            let lanes = self.program.tiling.lanes;
            (Row::Register(self.register(lanes)), Lanes::Full)
        } else {
            (self.wide_home(v, segment), Lanes::Block)
        };
        ops.push(Op { action, lanes, into, from });
        if narrow {
            self.homes[v].narrow = into;
            self.splat(v, ops);
        } else {
            self.homes[v].wide = into;
        }
        Ok(())
    }
    /// Copies a narrow value to all lanes if somebody wants a row of it.
    fn splat(&mut self, v: usize, ops: &mut Vec<Op>) {
        if self.uses[v].wide {
            let lanes = self.program.tiling.lanes;
            let into = Row::Register(self.register(lanes));
            let from = only(self.homes[v].narrow);
            ops.push(Op { action: Action::Splat, lanes: Lanes::Full, into, from });
            self.homes[v].wide = into;
            self.same.insert(into, Same::Lane(self.homes[v].narrow));
        }
    }
    fn action(&mut self, v: usize, wide: bool) -> Result<Action, String> {
        let node = &self.values.nodes[v];
        let dtype_of = |o: usize| self.values.nodes[node.operands[o]].dtype;
        let dtype = node.dtype;
        Ok(match node.what.clone() {
            What::Constant(word) => Action::Fill(word),
            What::Elementwise(row) => Action::Calculate(Calculation::Elementwise(row)),
            What::Integer(row, operand) => Action::Integer(row, operand),
            What::Cast => Action::Cast(dtype_of(0), dtype),
            What::Decay => Action::Calculate(Calculation::Decay),
            What::DecayTail => Action::Calculate(Calculation::DecayTail),
            What::Logistic(logistic) => Action::Calculate(Calculation::Logistic(logistic)),
            What::Exponential => Action::Exponential,
            What::Factor => Action::Factor,
            What::Run(_) => Action::Run(self.run[v].unwrap_or(0)),
            What::Part(value) => Action::Part { run: self.run[node.operands[0]].unwrap_or(0), value },
            What::Softmax => Action::Softmax,
            What::SoftmaxResidual => Action::SoftmaxResidual,
            What::Reduction(_) => Action::Finish(self.reduction[v].unwrap_or(0)),
            What::Coordinate(at) => Action::Coordinate { access: self.access(0, &at, wide) },
            What::InRange { at, size } => Action::InRange { access: self.access(0, &at, wide), size },
            What::Random { key, at } => {
                Action::Random { access: self.access(0, &at, wide), key: key_words(key) }
            }
            What::Load { binding, at } => {
                let bound = &self.bindings[binding];
                let (cell, is_read) = (Cell::of(bound.dtype), bound.access == Use::Read);
                let same = |s: &Store| s.binding == binding && s.at == at;
                let source = if is_read {
                    From::Binding(binding)
                } else {
                    let store = self.body.stores.iter().position(same);
                    From::Store(store.ok_or("a load in place must have a store of the same element")?)
                };
                Action::Load { access: self.access(binding, &at, wide), source, cell }
            }
            What::LoadIndexed { binding, at, stride, size, operation } => {
                if self.bindings[binding].access != Use::Read {
                    return Err("an indexed load from a buffer that is written".into());
                }
                let cell = Cell::of(self.bindings[binding].dtype);
                let check = self.check(node.operands[0], operation);
                Action::Indexed {
                    access: self.access(binding, &at, wide),
                    binding,
                    cell,
                    stride,
                    size,
                    check,
                }
            }
        })
    }
    fn check(&self, index: usize, name: &'static str) -> Check {
        let signed = self.node(index).dtype == DType::I32;
        Check { name, signed, origin: self.values.origin(index).cloned() }
    }
    /// The range checks of labels that become available in this segment.
    fn emit_checks(&self, segment: usize, ops: &mut Vec<Op>) {
        let mut done = Vec::new();
        for (v, node) in self.values.nodes.iter().enumerate().filter(|(v, _)| self.uses[*v].any) {
            let label = if let What::Reduction(Kind::Pick) = node.what {
                node.operands[1]
            } else if let What::SoftmaxResidual = node.what {
                node.operands[4]
            } else {
                continue;
            };
            let is_here = self.check_segment(label) == segment && !done.contains(&label);
            if is_here && (self.reduction[v].is_some() || node.element) {
                done.push(label);
                let home = self.homes[label];
                let (row, lanes) =
                    if self.form.vertical { (home.wide, Lanes::Block) } else { (home.narrow, Lanes::One) };
                let size = self.body.reduced.iter().product();
                let action = Action::CheckLabels { size, check: self.check(label, "cross_entropy") };
                let from = only(row);
                ops.push(Op { action, lanes, into: Row::None, from });
            }
        }
    }
    /// Gives the temporaries of a segment as few registers as they need.
    fn settle(&mut self, ops: &mut [Op]) {
        let count = self.temporaries;
        let temporary = |row: &Row| {
            if let Row::Register(r) = row { r.checked_sub(TEMPORARY) } else { None }
        };
        let mut last = vec![0; count];
        for (i, op) in ops.iter().enumerate() {
            for t in op.from.iter().chain(self.written(op)).filter_map(temporary) {
                last[t] = i;
            }
        }
        let lanes = self.program.tiling.lanes;
        let mut free = self.pool.clone();
        let mut given = vec![0; count];
        for (i, op) in ops.iter_mut().enumerate() {
            let Program { chains, registers, .. } = &mut self.program;
            let mut written = vec![&mut op.into];
            if let Action::Chain(chain) = op.action {
                written.extend(chains[chain].given.iter_mut().map(|(_, row)| row));
            }
            for t in written.iter().filter_map(|row| temporary(row)) {
                given[t] = free.pop().unwrap_or_else(|| {
                    registers.push(lanes);
                    self.pool.push(registers.len() - 1);
                    registers.len() - 1
                });
            }
            let mut ended: Vec<usize> = Vec::new();
            for row in op.from.iter_mut().chain(written) {
                if let Some(t) = temporary(row) {
                    *row = Row::Register(given[t]);
                    if last[t] == i && !ended.contains(&given[t]) {
                        ended.push(given[t]);
                    }
                }
            }
            free.append(&mut ended);
        }
        self.temporaries = 0;
    }
}
