//! Shapes: up to eight dimensions, row-major, with checked sizes.

use std::fmt;
use std::ops::{Deref, RangeFull};

use crate::{Code, Detail, Error};

/// The largest rank.
pub const MAX_RANK: usize = 8;

/// Dimensions of a tensor, outermost first. A rank-0 shape is a scalar with one element; a zero dimension is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: u8,
    dims: [usize; MAX_RANK],
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Shape = Shape { rank: 0, dims: [0; MAX_RANK] };
    /// `[0]`: no elements.
    pub(crate) const EMPTY: Shape = Shape { rank: 1, dims: [0; MAX_RANK] };

    /// Checks rank and number of elements.
    ///
    /// Errors: [`Code::Rank`] above eight dimensions; [`Code::TooLarge`] if the product of the non-zero dimensions
    /// does not fit 32 bits (indices on devices are 32-bit), in whatever order the dimensions come.
    pub fn new(dims: &[usize]) -> Result<Shape, Error> {
        if dims.len() > MAX_RANK {
            return Err(Error::new(
                Code::Rank,
                "shape",
                format!("rank {} is above {MAX_RANK}: {dims:?}", dims.len()),
            )
            .with("rank", Detail::Integer(i64::try_from(dims.len()).unwrap_or(i64::MAX)))
            .hint("merge dimensions with `reshape`"));
        }
        let product = dims.iter().filter(|&&d| d != 0).try_fold(1usize, |p, &d| p.checked_mul(d));
        if product.is_none_or(|p| u32::try_from(p).is_err()) {
            return Err(Error::new(
                Code::TooLarge,
                "shape",
                format!("the number of elements of {dims:?} does not fit 32 bits"),
            )
            .hint("split the tensor"));
        }
        let mut shape = Shape { rank: u8::try_from(dims.len()).unwrap_or(0), dims: [0; MAX_RANK] };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }
    /// Number of elements; 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }
    /// Distance in elements between neighbors along each dimension, row-major.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..self.rank()).rev() {
            strides[axis] = step;
            step *= self.dims[axis];
        }
        strides
    }
    /// A shape derived from valid ones by dropping, permuting or replacing dimensions; `expect`s what `new` checks.
    pub(crate) fn derived(dims: &[usize]) -> Shape {
        Shape::new(dims).expect("dimensions derived from a valid shape are valid")
    }
    /// This shape without the given axes (sorted or not).
    pub fn without(&self, axes: &[usize]) -> Shape {
        let kept: Vec<usize> = (0..self.rank()).filter(|a| !axes.contains(a)).map(|a| self[a]).collect();
        Shape::derived(&kept)
    }
    /// The common shape of two operands by NumPy's rule, or the axis of the result at which they disagree.
    pub fn broadcast(&self, other: &Shape) -> Result<Shape, usize> {
        let rank = self.rank().max(other.rank());
        let mut dims = [1; MAX_RANK];
        for (axis, dim) in dims.iter_mut().enumerate().take(rank) {
            let at = |s: &Shape| (axis + s.rank()).checked_sub(rank).map_or(1, |i| s[i]);
            *dim = match (at(self), at(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return Err(axis),
            };
        }
        Shape::new(&dims[..rank]).map_err(|_| rank)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }
}
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

/// What may be given as a shape: arrays, slices, vectors and shapes.
pub trait IntoShape {
    /// Checks rank and size.
    fn into_shape(self) -> Result<Shape, Error>;
}
impl<const N: usize> IntoShape for [usize; N] {
    fn into_shape(self) -> Result<Shape, Error> {
        Shape::new(&self)
    }
}
impl IntoShape for &[usize] {
    fn into_shape(self) -> Result<Shape, Error> {
        Shape::new(self)
    }
}
impl IntoShape for Vec<usize> {
    fn into_shape(self) -> Result<Shape, Error> {
        Shape::new(&self)
    }
}
impl IntoShape for &Vec<usize> {
    fn into_shape(self) -> Result<Shape, Error> {
        Shape::new(self)
    }
}
impl IntoShape for Shape {
    fn into_shape(self) -> Result<Shape, Error> {
        Ok(self)
    }
}
impl IntoShape for &Shape {
    fn into_shape(self) -> Result<Shape, Error> {
        Ok(*self)
    }
}

/// What may be given as axes: `..` for all, one axis, or several; negative axes count from the end.
pub trait Axes {
    /// Sorted, distinct axes below `rank`.
    fn resolve(&self, operation: &str, rank: usize) -> Result<Vec<usize>, Error>;
}
impl Axes for RangeFull {
    fn resolve(&self, _: &str, rank: usize) -> Result<Vec<usize>, Error> {
        Ok((0..rank).collect())
    }
}
impl Axes for isize {
    fn resolve(&self, operation: &str, rank: usize) -> Result<Vec<usize>, Error> {
        [*self][..].resolve(operation, rank)
    }
}
impl Axes for [isize] {
    fn resolve(&self, operation: &str, rank: usize) -> Result<Vec<usize>, Error> {
        let mut axes =
            self.iter().map(|&a| resolve_axis(operation, a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        if let Some(pair) = axes.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::new(
                Code::Axis,
                operation,
                format!("axis {} is named twice in {self:?}", pair[0]),
            ));
        }
        Ok(axes)
    }
}
impl<const N: usize> Axes for [isize; N] {
    fn resolve(&self, operation: &str, rank: usize) -> Result<Vec<usize>, Error> {
        self[..].resolve(operation, rank)
    }
}
impl Axes for Vec<isize> {
    fn resolve(&self, operation: &str, rank: usize) -> Result<Vec<usize>, Error> {
        self[..].resolve(operation, rank)
    }
}
impl<A: Axes + ?Sized> Axes for &A {
    fn resolve(&self, operation: &str, rank: usize) -> Result<Vec<usize>, Error> {
        (**self).resolve(operation, rank)
    }
}

/// One axis, negative counting from the end.
pub fn resolve_axis(operation: &str, axis: isize, rank: usize) -> Result<usize, Error> {
    let resolved = if axis < 0 { axis.checked_add_unsigned(rank) } else { Some(axis) };
    resolved.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank).ok_or_else(|| {
        Error::new(Code::Axis, operation, format!("axis {axis} of a tensor of rank {rank}"))
            .with("axis", Detail::Integer(axis as i64))
            .with("rank", Detail::Integer(rank as i64))
            .hint(match rank {
                0 => "a scalar has no axes".to_string(),
                r => format!("axes run from -{r} to {}", r - 1),
            })
    })
}

/// What may be given to `reshape`: like a shape, with at most one −1 that is computed from the rest.
pub trait Dims {
    /// The dimensions as signed numbers.
    fn dims(&self) -> Vec<isize>;
}
impl<const N: usize> Dims for [isize; N] {
    fn dims(&self) -> Vec<isize> {
        self.to_vec()
    }
}
impl Dims for Vec<isize> {
    fn dims(&self) -> Vec<isize> {
        self.clone()
    }
}
impl Dims for &[isize] {
    fn dims(&self) -> Vec<isize> {
        self.to_vec()
    }
}
impl Dims for Shape {
    fn dims(&self) -> Vec<isize> {
        // A dimension is below 2³² (checked by `Shape::new`), so it fits.
        self.iter().map(|&d| isize::try_from(d).unwrap_or(isize::MAX)).collect()
    }
}
impl<D: Dims> Dims for &D {
    fn dims(&self) -> Vec<isize> {
        (**self).dims()
    }
}
