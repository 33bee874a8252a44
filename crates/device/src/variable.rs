//! Variables: named storage of a device that steps update.

use std::borrow::Borrow;
use std::ops::{Add, Deref, Div, Index, Mul, Sub};
use std::panic::Location;
use std::sync::{Arc, PoisonError};

use cotangent_tensor::{Code, DType, Error, Node, Op, Operand, Shape, Tensor, Token};

use crate::device::{Body, Device};
use crate::feed::{Feed, Initial, fit};
use crate::storage::{Storage, encode, words_of};

/// Variables of one group start at multiples of this many elements.
const ALIGNMENT: usize = 64;

/// Named mutable storage of a device. It derefs to a [`Tensor`], its value when a read or run starts, and stands for it as an
/// operand and in what is differentiated with respect to (`&x * &w`, `grad(&loss, [&w])`). The
/// storage lives as long as any handle, any tensor built from one, or any step that uses it.
#[derive(Clone, Debug)]
pub struct Variable {
    name: Arc<str>,
    tensor: Tensor,
}

impl Variable {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The value when a read or run starts.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
}

impl From<&Variable> for Operand {
    fn from(variable: &Variable) -> Operand {
        Operand::from(&variable.tensor)
    }
}

macro_rules! operators {
    ($($Trait:ident $method:ident),*) => { $(
        impl<R: Into<Operand>> $Trait<R> for &Variable {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, rhs: R) -> Tensor { $Trait::$method(&self.tensor, rhs) }
        }
    )* };
}
operators!(Add add, Sub sub, Mul mul, Div div);

impl Borrow<Tensor> for Variable {
    fn borrow(&self) -> &Tensor {
        &self.tensor
    }
}

impl Borrow<Tensor> for &Variable {
    fn borrow(&self) -> &Tensor {
        &self.tensor
    }
}

impl Deref for Variable {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

/// Variables of one role (parameters, first moments, …) in one flat storage, so that one kernel updates all of them.
///
/// The flat tensor holds them one after the other, each from a multiple of 64 elements on; what lies between is zero.
#[derive(Clone, Debug)]
pub struct Variables {
    flat: Variable,
    views: Vec<Variable>,
    starts: Vec<usize>,
}

impl Variables {
    /// All of them, as one F32 variable of shape `[elements]`: what an optimizer updates.
    pub fn flat(&self) -> &Variable {
        &self.flat
    }
    /// Each of them under its own shape, in order.
    pub fn views(&self) -> Vec<Tensor> {
        self.views.iter().map(|view| view.tensor.clone()).collect()
    }
    /// Each of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Variable> {
        self.views.iter()
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.views.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }
    /// The variable of this name.
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.views.iter().find(|view| &*view.name == name)
    }
    /// First element of each variable in the flat tensor.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }
    /// One tensor per variable, laid out as [`Variables::flat`] is: the gradients of the flat tensor from those of the
    /// views. Invalid with [`Code::Update`] if number or shapes differ.
    #[track_caller]
    pub fn flatten(&self, tensors: &[Tensor]) -> Tensor {
        let shapes = self.views.iter().map(|view| *view.shape());
        let given = tensors.iter().map(|tensor| tensor.node().map(|node| node.shape));
        let given = match given.collect::<Result<Vec<_>, _>>() {
            Ok(given) => given,
            Err(error) => return Tensor::invalid(error),
        };
        if !shapes.clone().eq(given.iter().copied()) {
            let wanted: Vec<Shape> = shapes.collect();
            let message = format!("the variables have shapes {wanted:?}, the tensors {given:?}");
            return Tensor::invalid(Error::new(Code::Update, "flatten", message).at(Location::caller()));
        }
        let ends = self.starts.iter().skip(1).chain([&self.flat.shape()[0]]);
        let mut pieces = Vec::new();
        for ((tensor, shape), (start, end)) in tensors.iter().zip(&given).zip(self.starts.iter().zip(ends)) {
            if shape.elements() > 0 {
                pieces.push(tensor.reshape([-1]).pad(0, 0, end - start - shape.elements()));
            }
        }
        match pieces.len() {
            0 => Tensor::zeros(self.flat.shape()),
            1 => pieces[0].clone(),
            _ => Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 0),
        }
    }
}

impl<'a> IntoIterator for &'a Variables {
    type Item = &'a Variable;
    type IntoIter = std::slice::Iter<'a, Variable>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Index<usize> for Variables {
    type Output = Variable;
    fn index(&self, position: usize) -> &Variable {
        &self.views[position]
    }
}

/// The part of a variable that a tensor is a view of: everything, or a contiguous slice of a flat one.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// The variable itself.
    pub(crate) variable: Arc<Node>,
    pub(crate) token: Arc<Token>,
    pub(crate) first: usize,
    pub(crate) elements: usize,
}

impl Region {
    /// Sees through reshapes and one slice.
    pub(crate) fn of(node: &Arc<Node>) -> Option<Region> {
        let elements = node.shape.elements();
        let mut node = node;
        while matches!(node.op, Op::Reshape) {
            node = &node.operands[0];
        }
        let mut first = 0;
        if let Op::Slice { starts, steps } = &node.op
            && let ([start], [1]) = (&starts[..], &steps[..])
        {
            first = *start;
            node = &node.operands[0];
        }
        let Op::Variable(token) = &node.op else { return None };
        Some(Region { variable: node.clone(), token: token.clone(), first, elements })
    }
    pub(crate) fn is_whole(&self) -> bool {
        self.elements == self.variable.shape.elements()
    }
}

impl Device {
    /// New storage with this value. Tensors given as `init` are computed once.
    ///
    /// ```
    /// use cotangent_device::Device;
    ///
    /// let device = Device::cpu();
    /// let w = device.variable("w", &[0.5, 1.5])?;
    /// assert_eq!(w.name(), "w");
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    #[track_caller]
    pub fn variable(&self, name: &str, init: &dyn Initial) -> Result<Variable, Error> {
        let init = init.tensor();
        let node = init.node()?;
        let (shape, dtype) = (node.shape, node.dtype);
        let value = self.read(&init)?;
        let tensor = self.allot(Token::new(name, self.0.id), shape, dtype, &encode(&value, dtype))?;
        Ok(Variable { name: name.into(), tensor })
    }
    /// Several F32 variables in one flat storage. Error: [`Code::Dtype`] for other element types.
    #[track_caller]
    pub fn variables(&self, init: &[(&str, &dyn Initial)]) -> Result<Variables, Error> {
        let mut tensors: Vec<Tensor> = Vec::new();
        for (position, (name, value)) in init.iter().enumerate() {
            if init[..position].iter().any(|(other, _)| other == name) {
                let message = format!("two variables have the name `{name}`");
                return Err(Error::new(Code::Update, "variables", message)
                    .at(Location::caller())
                    .hint("names tell them apart in files and messages: give each its own"));
            }
            tensors.push(value.tensor());
        }
        let values = self.read_all(&tensors.iter().collect::<Vec<_>>())?;
        let mut words = Vec::new();
        let mut starts = Vec::new();
        for ((name, _), value) in init.iter().zip(&values) {
            if value.dtype() != DType::F32 {
                let message = format!("`{name}` is {}; variables in one storage are f32", value.dtype());
                return Err(Error::new(Code::Dtype, "variables", message)
                    .at(Location::caller())
                    .hint("create it with `variable`"));
            }
            starts.push(words.len());
            words.extend(encode(value, DType::F32));
            words.resize(words.len().next_multiple_of(ALIGNMENT), 0);
        }
        let name = init.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("+");
        let token = Token::shared(&name, self.0.id);
        let tensor = self.allot(token, Shape::new(&[words.len()])?, DType::F32, &words)?;
        let flat = Variable { name: name.into(), tensor };
        let mut views = Vec::new();
        for (((name, _), value), &start) in init.iter().zip(&values).zip(&starts) {
            let shape = *value.shape();
            let tensor = flat.slice(0, start, start + shape.elements(), 1).reshape(shape).named(name);
            views.push(Variable { name: (*name).into(), tensor });
        }
        Ok(Variables { flat, views, starts })
    }
    /// Storage under a new token, with these words.
    #[track_caller]
    pub(crate) fn allot(
        &self,
        token: Arc<Token>,
        shape: Shape,
        dtype: DType,
        words: &[u32],
    ) -> Result<Tensor, Error> {
        let storage = self.storage(&token.name, words_of(dtype, shape.elements()).max(1))?;
        if !words.is_empty() {
            self.upload(&storage, 0, words)?;
        }
        self.adopt(&token, storage);
        Ok(Tensor::variable(token, shape, dtype))
    }
    /// Gives a variable, or one of a group, a new value. Runs that were launched before see the old one.
    ///
    /// Errors: [`Code::ShapeChanged`], [`Code::Dtype`], [`Code::DeviceMismatch`].
    #[track_caller]
    pub fn write(&self, variable: &Tensor, data: &dyn Feed) -> Result<(), Error> {
        self.write_all(&[(variable, data)])
    }
    /// [`Device::write`] of several: nothing is written before all have been found to fit.
    ///
    /// ```
    /// use cotangent_device::Device;
    ///
    /// let device = Device::cpu();
    /// let (w, b) = (device.variable("w", &[0.5, 1.5])?, device.variable("b", &0.0)?);
    /// assert!(device.write_all(&[(&w, &[1.0, 2.0]), (&b, &[3.0, 4.0])]).is_err());
    /// assert_eq!(device.read(&w)?.to_f64(), [0.5, 1.5]);
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    #[track_caller]
    pub fn write_all(&self, values: &[(&Tensor, &dyn Feed)]) -> Result<(), Error> {
        let at = Location::caller();
        let mut fitting = Vec::new();
        for (variable, data) in values {
            let node = variable.node()?;
            let region = Region::of(node).ok_or_else(|| not_a_variable(node))?;
            let storage = self.held(&region.token).map_err(|error| error.at(at))?;
            fitting.push((node.dtype, region, storage, fit(*data, node, "write")?));
        }
        for (dtype, region, storage, words) in &fitting {
            match (words.is_empty(), dtype) {
                (true, _) => {}
                (false, DType::F16) => self.write_halves(storage, region, words)?,
                (false, _) => self.upload(storage, region.first, words)?,
            }
        }
        Ok(())
    }
    /// Writes elements of 16 bits, two per word. A word that is written in part is read first.
    fn write_halves(&self, storage: &Storage, region: &Region, words: &[u32]) -> Result<(), Error> {
        let (first, end) = (region.first, region.first + region.elements);
        let is_last = end == region.variable.shape.elements();
        if first.is_multiple_of(2) && (end.is_multiple_of(2) || is_last) {
            return self.upload(storage, first / 2, words);
        }
        let merge = |held: &mut [u32]| {
            let (held, new): (&mut [u16], &[u16]) =
                (bytemuck::cast_slice_mut(held), bytemuck::cast_slice(words));
            held[first % 2..][..region.elements].copy_from_slice(&new[..region.elements]);
        };
        let part = first / 2..end.div_ceil(2);
        match &self.0.body {
            Body::Host => {
                merge(&mut storage.host().lock().unwrap_or_else(PoisonError::into_inner)[part]);
                Ok(())
            }
            Body::Gpu(gpu) => {
                let mut held = gpu.download(storage, part.start, part.len())?;
                merge(&mut held);
                gpu.upload(storage, part.start, &held)
            }
        }
    }
}

pub(crate) fn not_a_variable(node: &Node) -> Error {
    let message = format!("`{}` is neither a variable nor a part of one", node.called());
    Error::new(Code::Update, "update", message)
        .at(node.location)
        .hint("storage comes from `device.variable` and `device.variables`")
}
