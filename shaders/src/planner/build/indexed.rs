//! Elements chosen by an index of run time.

use cotangent_tensor::{DType, Elementwise};

use super::super::access::{self, Coordinates, to_i64, walk};
use super::super::graph::Role;
use super::{Builder, Obstacle, internal};
use crate::kernel::*;

impl Builder<'_> {
    pub(super) fn gather(&mut self, id: usize, axis: usize, at: &Coordinates) -> Result<Value, Obstacle> {
        let graph = self.graph;
        let [data, indices] = graph.operands[id][..] else {
            return Err(internal("gather needs two operands", &graph.nodes[id]));
        };
        let index = self.operand(indices, vec![at[axis].clone()], None)?;
        let size = graph.shape(data)[axis];
        // The index is one more loop coordinate of unknown value below `size`.
        let mut extents = self.group.domain.clone();
        extents.push(size);
        let mut coordinates: Coordinates = at.clone();
        coordinates[axis] = Affine::constant(0, extents.len() - 1);
        coordinates.iter_mut().for_each(|c| c.strides.push(0));
        coordinates[axis].strides[extents.len() - 1] = 1;
        let base = walk(graph, data, coordinates, &extents);
        if matches!(graph.roles[base.node], Role::Free | Role::Inline) {
            return Err(Obstacle::Copy(base.node));
        }
        let Some(mut linear) = base.linear else { return Err(Obstacle::Copy(base.blocked.unwrap_or(data))) };
        let stride = linear.strides.pop().unwrap_or(0);
        let Ok(stride) = usize::try_from(stride) else { return Err(Obstacle::Copy(data)) };
        let (binding, offset) = self.read(base.node)?;
        let (mut place, level) = self.placed(&linear);
        place.offset += to_i64(offset);
        let level = level.max(self.code[index].level);
        let dtype = if graph.nodes[id].dtype == DType::F16 { DType::F32 } else { graph.nodes[id].dtype };
        Ok(self.push_at(
            Code::LoadIndexed { binding, at: place, index, stride, size, guard: None, operation: "gather" },
            dtype,
            level,
            Some(id),
        ))
    }
    /// Sum of the updates whose index is the coordinate along `axis`, in order of the updates.
    pub(super) fn scatter(&mut self, id: usize, axis: usize, at: &Coordinates) -> Result<Value, Obstacle> {
        let graph = self.graph;
        let [indices, updates] = graph.operands[id][..] else {
            return Err(internal("scatter needs two operands", &graph.nodes[id]));
        };
        let domain = &self.group.domain;
        let mut position = Affine::constant(0, domain.len());
        for d in (0..domain.len()).filter(|&d| self.group.reduced[d]) {
            position.strides[d] = 1;
        }
        let index = self.operand(indices, vec![position.clone()], None)?;
        let checked = self.checked(index, indices, graph.shape(id)[axis])?;
        let (target, level) = self.placed(&at[axis]);
        let target = self.shared(Code::Coordinate(target), DType::I32, level);
        let target = if graph.nodes[indices].dtype == DType::I32 {
            target
        } else {
            self.push(Code::Cast(target), DType::U32, &[target], id)
        };
        let mut equals = |index: Value| {
            let equal =
                Code::Integer(cotangent_tensor::Integer::Eq, graph.nodes[indices].dtype, vec![index, target]);
            self.push_at(equal, DType::Bool, Level::Element, None)
        };
        let mut here = equals(index);
        if checked != index {
            // An index outside is read as 0, where its update does not belong either.
            let inside = equals(checked);
            here = self.row(Elementwise::And, &[here, inside], id);
        }
        let mut coordinates = at.clone();
        coordinates[axis] = position;
        let update = self.operand(updates, coordinates, None)?;
        let zero = self.number(0.0);
        let term = self.choose(here, update, zero, id);
        let term = self.at_element_level(term);
        Ok(self.push_at(Code::Reduce(cotangent_tensor::Reduce::Sum, term), DType::F32, Level::Kept, Some(id)))
    }
    /// An index that is loaded once more, by itself, so that the load reports it if it is not below `size`.
    fn checked(&mut self, index: Value, indices: usize, size: usize) -> Result<Value, Obstacle> {
        let graph = self.graph;
        let (dtype, level) = (self.code[index].dtype, self.code[index].level);
        match self.code[index].code.clone() {
            Code::Load { binding, at, guard: None } => {
                let operation = "scatter_add";
                let code = Code::LoadIndexed { binding, at, index, stride: 0, size, guard: None, operation };
                Ok(self.push_at(code, dtype, level, None))
            }
            Code::Constant(word) if usize::try_from(word).is_ok_and(|word| word < size) => Ok(index),
            Code::Coordinate(_) if graph.shape(indices)[0] <= size => Ok(index),
            _ => {
                let shape = *graph.shape(indices);
                let base = walk(graph, indices, access::identity(&shape), &shape);
                Err(Obstacle::Copy(base.node))
            }
        }
    }
}
