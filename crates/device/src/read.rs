//! Values of tensors: the only way from a graph to numbers.

use std::sync::Arc;

use cotangent_shaders::plan;
use cotangent_tensor::{Array, DType, Error, Evaluate, Node, Op, Scalar, Tensor, Token, Values};

use crate::device::Device;

use crate::program::{Check, Program};
use crate::storage::{rounded, words_of};

/// Said where an input has no value.
const READ_HINT: &str = "a read has no inputs: build a `Step`, or use a variable";

impl Device {
    /// The value of a tensor. Nothing is cached: another read computes again.
    ///
    /// Errors: that of an invalid tensor; [`Code::Unbound`](cotangent_tensor::Code::Unbound) for an input;
    /// [`Code::DeviceMismatch`](cotangent_tensor::Code::DeviceMismatch) for a variable of another device;
    /// [`Code::Index`](cotangent_tensor::Code::Index) for an index outside its axis; what the device reports.
    pub fn read(&self, tensor: &Tensor) -> Result<Array, Error> {
        Ok(self.read_all(&[tensor])?.remove(0))
    }
    /// The values of several tensors, computed together as one plan.
    pub fn read_all(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        let nodes = tensors.iter().map(|tensor| tensor.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let known = nodes.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let asked: Vec<Arc<Node>> = nodes
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(node, _)| node.clone())
            .collect();
        let mut computed = Vec::new();
        if !asked.is_empty() {
            self.overlooked()?;
            let program = Program::new(self, plan(&asked, &[], &self.plan_options())?, Check::Status)?;
            program.require_inputs("read", &[], READ_HINT)?;
            let flight = program.launch(&[])?;
            computed = (0..asked.len()).map(|i| program.output(&flight, i)).collect::<Result<Vec<_>, _>>()?;
        }
        let mut computed = computed.into_iter();
        let value = |known: Option<Array>| known.or_else(|| computed.next()).expect("one value per output");
        Ok(known.into_iter().map(value).collect())
    }
    /// [`Device::read`] where one must not block. On native targets the value is computed when the future is first polled,
    /// and is there when that returns.
    pub async fn read_async(&self, tensor: &Tensor) -> Result<Array, Error> {
        self.read(tensor)
    }
    /// Computes tensors and keeps their values on the device: leaves without history, through which no gradient flows.
    #[track_caller]
    pub fn materialize(&self, tensors: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
        let mut leaves = Vec::new();
        let mut updates = Vec::new();
        for tensor in tensors {
            let node = tensor.node()?;
            if node.shape.elements() == 0 {
                leaves.push(tensor.detach());
                continue;
            }
            let name = node.called();
            let leaf = self.allot(Token::new(name, self.0.id), node.shape, node.dtype, &[])?;
            updates.push((leaf.node()?.clone(), node.clone()));
            leaves.push(leaf);
        }
        if !updates.is_empty() {
            let program = Program::new(self, plan(&[], &updates, &self.plan_options())?, Check::Status)?;
            program.require_inputs("materialize", &[], READ_HINT)?;
            program.wait(&program.launch(&[])?)?;
        }
        Ok(leaves)
    }
}

impl Evaluate for Device {
    fn name(&self) -> String {
        Device::name(self).to_owned()
    }
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error> {
        self.read_all(tensors)
    }
}

/// The value of a node that needs no kernel: no elements, host data, or one number.
pub(crate) fn known(node: &Arc<Node>) -> Result<Option<Array>, Error> {
    let elements = node.shape.elements();
    if elements == 0 {
        return Array::from_words(Vec::new(), node.shape, node.dtype).map(Some);
    }
    debug_assert!(words_of(node.dtype, elements) > 0, "elements take words");
    match &node.op {
        Op::Leaf(array) => rounded(array).map(Some),
        Op::Constant(scalar) => filled(*scalar, node).map(Some),
        _ => Ok(None),
    }
}

fn filled(scalar: Scalar, node: &Node) -> Result<Array, Error> {
    match node.dtype {
        DType::F16 => {
            let values = vec![f32::from_bits(scalar.to_word()); node.shape.elements()];
            rounded(&Array::new(Values::Single(values), node.shape)?.with_dtype(DType::F16))
        }
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => {
            Array::from_words(vec![scalar.to_word(); node.shape.elements()], node.shape, node.dtype)
        }
    }
}
