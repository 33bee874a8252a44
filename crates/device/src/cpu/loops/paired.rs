//! Two loops over one matrix: the first multiplies its rows by a vector, the second sums its rows times what the first made of
//! the products, as the gradient of a linear model does. They take turns block by block, so that the second finds each
//! block in the caches, and memory is read once. What either computes is the same to the last bit as one after the other.

use pulp::Arch;

use super::super::products::Sums;
use super::{Along, Fault, Loops, Machine, Products, State, Target, Task, Tasks};

/// How the second of two loops goes along with the first.
#[derive(Debug)]
pub(crate) struct Pair {
    /// For each of its products, the store of the first loop that makes its vector; none where the vector was there before.
    made: Vec<Option<usize>>,
}

/// Which buffers the bindings of two loops have, and which lie in the same memory.
pub(crate) struct Bound<'a> {
    pub(crate) first: &'a [usize],
    pub(crate) second: &'a [usize],
    /// Bindings of the first loop that it writes.
    pub(crate) written: &'a [usize],
    pub(crate) same_memory: &'a dyn Fn(usize, usize) -> bool,
}

impl Loops {
    /// Whether its sweep may run along with that of a loop before it.
    pub(crate) fn is_second(&self) -> bool {
        let program = &self.program;
        let one_piece = self.split && self.tasks > 1 && self.wide.is_none() && program.units() == 1;
        one_piece && program.kept.len() == 1 && self.adds(Along::Columns)
    }
    /// Whether the sweep of a loop after it may run along.
    pub(crate) fn is_first(&self) -> bool {
        let program = &self.program;
        self.tasks > 1 && !self.split && program.kept.len() == 1 && self.adds(Along::Rows)
    }
    /// The bindings that its sweep reads.
    pub(crate) fn swept(&self) -> impl Iterator<Item = usize> {
        let products = self.program.products.iter().flat_map(|products| &products.each);
        products.flat_map(|product| [product.matrix.binding, product.vector.binding])
    }
    /// How the sweep of `second` goes along with this loop, if both read one matrix and nothing that this loop writes is read but as it
    /// writes it. Both get the same tasks then.
    pub(crate) fn pair(&mut self, second: &mut Loops, bound: &Bound<'_>) -> Option<Pair> {
        let (own, other) = (&self.program, &second.program);
        let products: [&Products; 2] = [own.products.as_ref()?, other.products.as_ref()?];
        if !self.is_first() || !second.is_second() || own.kept != other.reduced || own.reduced != other.kept {
            return None;
        }
        let [of_first, of_second] = products.map(|products| &products.each);
        let shared = of_second.iter().all(|product| {
            let at = &other.accesses[product.matrix.access].at;
            of_first.iter().any(|own_product| {
                let own_at = &own.accesses[own_product.matrix.access].at;
                bound.first[own_product.matrix.binding] == bound.second[product.matrix.binding]
                    && own_at.offset == at.offset
                    && own_product.matrix.lane == product.matrix.walk
            })
        });
        let is_written = |binding: usize| {
            bound.written.iter().any(|&b| (bound.same_memory)(bound.first[b], bound.second[binding]))
        };
        let mut made = Vec::new();
        for product in of_second {
            let vector = &product.vector;
            let at = &other.accesses[vector.access].at;
            let makes = |store: &usize| {
                let to = &own.destinations[*store];
                let (region, access) = (&own.regions[to.region], &own.accesses[to.access]);
                bound.first[region.binding] == bound.second[vector.binding]
                    && region.stores.len() == 1
                    && access.at.offset == at.offset
                    && access.at.strides.first() == Some(&1)
                    && vector.walk == 1
            };
            let store = (0..own.destinations.len()).find(makes);
            if is_written(product.matrix.binding) || (store.is_none() && is_written(vector.binding)) {
                return None;
            }
            made.push(store);
        }
        if !shared || made.iter().all(Option::is_none) {
            return None;
        }
        let lanes = own.tiling.lanes;
        second.per_task = second.per_task.next_multiple_of(lanes);
        second.tasks = second.program.steps().div_ceil(second.per_task);
        self.per_task = second.per_task / lanes;
        self.tasks = self.program.units().div_ceil(self.per_task);
        Some(Pair { made })
    }
    /// Runs this loop and, along with it, the sweep of `second` on `others`: gives the results of its reductions.
    pub(crate) fn run_along(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
        (second, pair): (&Loops, &Pair),
        others: &[&[u32]],
    ) -> (Vec<Vec<State>>, Result<(), Fault>) {
        let kept = second.program.kept_elements();
        let here: Vec<usize> = (0..second.program.reductions.len()).collect();
        let width = here.len() * kept;
        let mut partials = vec![[0.0; 2]; width * self.tasks];
        let targets = self.targets(written);
        let tasks = Tasks { loops: self, unit: 0, next: 0, targets, partials: &mut partials, width };
        let fault = self.spread(arch, inputs, tasks, &|machine: &mut Machine, mut task: Task<'_>| {
            let mut sums = Sums::new(here.len(), kept);
            let first = task.index * self.per_task;
            for unit in first..(first + self.per_task).min(self.program.units()) {
                self.run_unit(arch, machine, unit, inputs, &mut task.targets);
                let rows = (machine.kept_first, machine.kept_lanes);
                self.follow(arch, rows, &task.targets, (second, pair), others, &mut sums);
            }
            sums.finish(arch);
            for (partial, totals) in task.partial.chunks_mut(kept).zip(&sums.totals) {
                partial.copy_from_slice(totals);
            }
        });
        let identities = second.program.reductions.iter().map(|(kind, _)| vec![kind.identity(); kept]);
        let mut totals: Vec<Vec<State>> = identities.collect();
        second.combine(&here, &partials, kept, &mut totals);
        (totals, fault.map_or(Ok(()), Err))
    }
    /// Adds the rows of a block to the sums of `second`.
    fn follow(
        &self,
        arch: Arch,
        (row, rows): (usize, usize),
        targets: &[Target<'_>],
        (second, pair): (&Loops, &Pair),
        others: &[&[u32]],
        sums: &mut Sums,
    ) {
        let (own, other) = (&self.program, &second.program);
        let Some(products) = &other.products else { return };
        for (which, (product, made)) in products.each.iter().zip(&pair.made).enumerate() {
            let matrix = product.matrix.from(&other.accesses, &[0, 0], row, others);
            let vector = match made {
                Some(store) => {
                    let to = &own.destinations[*store];
                    targets[to.region].peek(own.accesses[to.access].base(&[row]), rows)
                }
                None => product.vector.from(&other.accesses, &[0, 0], row, others),
            };
            sums.add(arch, which, matrix, product.matrix.walk, vector, product.vector.walk, rows);
        }
    }
    /// Runs the code after the sweep, given the results of its reductions.
    pub(crate) fn run_after(
        &self,
        arch: Arch,
        inputs: &[&[u32]],
        written: &mut [(usize, &mut [u32])],
        totals: &[Vec<State>],
    ) -> Result<(), Fault> {
        let mut targets = self.targets(written);
        let fault = self.conclude(arch, 0..self.program.units(), totals, inputs, &mut targets);
        fault.map_or(Ok(()), Err)
    }
}
