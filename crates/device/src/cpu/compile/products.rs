//! Recognizes a sweep that adds up products of two buffers and does nothing else.

use cotangent_tensor::{DType, Elementwise};

use super::super::products::{Along, Factor, Product, Products};
use super::{Compiler, Kind, Pattern, Use, What};

impl Compiler<'_> {
    /// The products of the only sweep, if that is all it does.
    pub(super) fn products(&mut self) -> Option<Products> {
        let one_sweep = self.form.vertical && self.sweeps == 1 && self.body.reduced.len() == 1;
        if !one_sweep || self.body.stores.iter().any(|s| self.node(self.values.image[s.value]).element) {
            return None;
        }
        let mut terms = Vec::new();
        for v in (0..self.values.nodes.len()).filter(|&v| self.reduction[v].is_some()) {
            let What::Reduction(Kind::Sum) = self.node(v).what else { return None };
            let term = self.node(v).operands[0];
            let What::Elementwise(Elementwise::Mul) = self.node(term).what else { return None };
            terms.push((term, [self.node(term).operands[0], self.node(term).operands[1]]));
        }
        let known = |v: usize| terms.iter().any(|(term, factors)| *term == v || factors.contains(&v));
        let mut others = (0..self.values.nodes.len()).filter(|&v| self.uses[v].any && self.node(v).element);
        if others.any(|v| !known(v)) {
            return None;
        }
        let mut pairs = Vec::new();
        for (_, [a, b]) in &terms {
            pairs.push([self.factor(*a)?, self.factor(*b)?]);
        }
        let columns = |[matrix, vector]: [Factor; 2]| {
            let fits = matrix.lane == 1 && matrix.walk > 0 && vector.lane == 0;
            fits.then_some(Product { matrix, vector })
        };
        let along_rows = pairs.iter().flatten().all(|factor| factor.walk == 1);
        let each: Option<Vec<Product>> = match along_rows {
            true => Some(pairs.iter().map(|&[matrix, vector]| Product { matrix, vector }).collect()),
            false => pairs.iter().map(|&[a, b]| columns([a, b]).or_else(|| columns([b, a]))).collect(),
        };
        let along = if along_rows { Along::Rows } else { Along::Columns };
        // A vector stands second, so that a lane step of 0 is found there.
        let vector_last = |p: Product| match p.matrix.lane {
            0 => Product { matrix: p.vector, vector: p.matrix },
            _ => p,
        };
        Some(Products { along, each: each?.into_iter().map(vector_last).collect() })
    }
    /// Where the elements of a load lie, if they are plain f32 in equal steps.
    fn factor(&mut self, v: usize) -> Option<Factor> {
        let node = self.node(v);
        let What::Load { binding, at } = node.what.clone() else { return None };
        let bound = &self.bindings[binding];
        if bound.dtype != DType::F32 || bound.access != Use::Read || !node.operands.is_empty() {
            return None;
        }
        let walk = usize::try_from(at.strides[self.body.kept.len()]).ok()?;
        let access = self.access(binding, &at, true);
        let Pattern::Step(step) = self.program.accesses[access].pattern else { return None };
        Some(Factor { binding, access, lane: usize::try_from(step).ok()?, walk })
    }
}
