//! Guarded adjoints: a value together with the branch conditions under which it counts.
//!
//! The guard is a conjunction of literals (a truth value per element, and the polarity at which it holds). Where the
//! guard fails the contribution is exactly zero, *whatever the value says there*: it may be infinite or NaN, because
//! it went through partials of a branch that was not taken. A mask is applied only where contributions under
//! different guards meet, before elements mix, and at the end; so `0 · inf` never happens. Guards are closed under
//! *or*: where contributions meet, the disjunction of their guards stays behind, or `0 · inf` would come back one node
//! later. For the same reason what mixes elements stays guarded by *any* of theirs: a sum of masked elements alone is a
//! structural zero. Such a guard has no mask due; nobody computes it unless an unbounded partial follows. The same
//! pairs serve tangents of forward mode.

use std::sync::Arc;

use cotangent_tensor::{DType, Error, Node, Op, Scalar, Shape, Tensor};

/// More literals than this become one, so that a long chain of kinks costs a constant per node.
const LITERALS: usize = 8;

/// One branch condition and how it must turn out.
#[derive(Clone)]
pub(crate) struct Literal {
    pub(crate) condition: Tensor,
    pub(crate) holds: bool,
    /// Whether the value may differ from zero where this literal fails, so that a mask is still due.
    pub(crate) pending: bool,
    /// Whether a NaN may stand behind it, in the primals, where it fails: it is the condition of a branch. What a kink
    /// drops cannot be NaN, or the result of the kink would be.
    pub(crate) hides: bool,
}

/// A contribution: `value` where every literal of `guard` holds, else zero.
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) guard: Vec<Literal>,
    pub(crate) value: Tensor,
    /// The number that `value` is everywhere, if the sweep itself made it. Never set for a constant of the user's,
    /// who may differentiate with respect to it later.
    pub(crate) number: Option<f64>,
}

pub(crate) fn address(tensor: &Tensor) -> *const Node {
    tensor.node().map_or(std::ptr::null(), |node| node.key())
}

pub(crate) fn shape_of(tensor: &Tensor) -> Shape {
    tensor.node().map_or(Shape::SCALAR, |node| node.shape)
}

impl Literal {
    pub(crate) fn key(&self) -> (*const Node, bool) {
        (address(&self.condition), self.holds)
    }
    /// Takes over what is still due from an equal literal.
    pub(crate) fn absorb(&mut self, other: &Literal) {
        self.pending |= other.pending;
        self.hides |= other.hides;
    }
    /// The literal as a truth value of its own.
    fn truth(&self) -> Tensor {
        if self.holds { self.condition.clone() } else { !&self.condition }
    }
}

/// All literals at once; `None` for the empty conjunction.
pub(crate) fn conjunction<'a>(literals: impl IntoIterator<Item = &'a Literal>) -> Option<Tensor> {
    literals.into_iter().map(Literal::truth).reduce(|all, next| all.and(next))
}

/// `value` where the pending ones among `literals` hold, else zero.
pub(crate) fn mask<'a>(value: &Tensor, literals: impl IntoIterator<Item = &'a Literal>) -> Tensor {
    let pending: Vec<&Literal> = literals.into_iter().filter(|l| l.pending).collect();
    match pending[..] {
        [] => value.clone(),
        [one] if one.holds => one.condition.select(value, 0.0),
        [one] => one.condition.select(0.0, value),
        _ => conjunction(pending).map_or_else(|| value.clone(), |all| all.select(value, 0.0)),
    }
}

impl Guarded {
    /// A value that counts everywhere.
    pub(crate) fn plain(value: Tensor) -> Guarded {
        Guarded { guard: Vec::new(), value, number: None }
    }
    /// The same number everywhere, made by the sweep itself.
    pub(crate) fn number(shape: Shape, number: f64) -> Guarded {
        Guarded { guard: Vec::new(), value: Tensor::full(shape, number), number: Some(number) }
    }
    /// The first error of value and conditions.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.value.node()?;
        self.guard.iter().try_for_each(|l| l.condition.node().map(|_| ()))
    }
    /// The value with the guard applied: what may mix with other elements or leave the sweep.
    pub(crate) fn masked(&self) -> Tensor {
        mask(&self.value, &self.guard)
    }
    /// Counts only where `condition` is `holds` as well. `pending` as in [`Literal`].
    pub(crate) fn under(self, condition: Tensor, holds: bool, pending: bool) -> Guarded {
        self.with(Literal { condition, holds, pending, hides: false })
    }
    /// Counts only where a branch was taken: where `condition` is `holds`.
    pub(crate) fn in_branch(self, condition: Tensor, holds: bool) -> Guarded {
        self.with(Literal { condition, holds, pending: true, hides: true })
    }
    /// Counts only where the literal holds as well.
    pub(crate) fn with(mut self, literal: Literal) -> Guarded {
        if literal.pending {
            self.number = None;
        }
        match self.guard.iter_mut().find(|l| l.key() == literal.key()) {
            Some(known) => known.absorb(&literal),
            None => self.guard.push(literal),
        }
        if self.guard.len() > LITERALS
            && let Some(all) = merged(&self.guard.iter().collect::<Vec<_>>())
        {
            self.guard = vec![all];
        }
        self
    }
    /// Times a factor that the sweep made; `number` is its value if it is one number everywhere.
    pub(crate) fn times(&self, factor: &Tensor, number: Option<f64>) -> Guarded {
        let sign = |v: f64| (v.abs().to_bits() == 1f64.to_bits()).then(|| v.is_sign_negative());
        if let Some(negative) = number.and_then(sign) {
            return if negative { self.negated() } else { self.clone() };
        }
        let finite = number.is_some_and(f64::is_finite);
        let mut guard = self.guard.clone();
        for literal in &mut guard {
            literal.pending |= !finite;
        }
        let value = match self.number.and_then(sign) {
            Some(false) => factor.clone(),
            Some(true) => -factor,
            None => &self.value * factor,
        };
        Guarded { guard, value, number: None }
    }
    fn negated(&self) -> Guarded {
        match self.number {
            Some(number) => {
                Guarded { guard: self.guard.clone(), ..Guarded::number(shape_of(&self.value), -number) }
            }
            None => Guarded { guard: self.guard.clone(), value: -&self.value, number: None },
        }
    }
    /// Through a movement that only rearranges or repeats elements.
    pub(crate) fn moved(&self, movement: impl Fn(&Tensor) -> Tensor) -> Guarded {
        let mut moved = self.filled(&movement);
        if let (Some(number), Ok(node)) = (self.number, moved.value.node()) {
            (moved.value, moved.number) = (Tensor::full(node.shape, number), Some(number));
        }
        moved
    }
    /// Through a movement that puts zeros between or around the elements.
    pub(crate) fn filled(&self, movement: impl Fn(&Tensor) -> Tensor) -> Guarded {
        let guard = self.guard.iter().map(|l| Literal { condition: movement(&l.condition), ..l.clone() });
        Guarded { guard: guard.collect(), value: movement(&self.value), number: None }
    }
    /// Summed over `axes`, which disappear.
    pub(crate) fn summed(&self, axes: &[usize]) -> Guarded {
        let shape = shape_of(&self.value);
        let count: usize = axes.iter().map(|&a| shape[a]).product();
        let constant = |l: &Literal| constant_along(&l.condition, axes).is_some();
        if let (Some(number), true) = (self.number, self.guard.iter().all(constant)) {
            let guard = self.across(axes);
            #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
            return Guarded { guard, ..Guarded::number(shape.without(axes), number * count as f64) };
        }
        self.reduced(axes, |value| value.sum(signed(axes)))
    }
    /// Through something linear along `axes`, which disappear. Conditions that are constant along the axes stay in the
    /// guard; the others are applied before elements mix, and the result counts where they hold anywhere.
    pub(crate) fn reduced(&self, axes: &[usize], reduction: impl FnOnce(&Tensor) -> Tensor) -> Guarded {
        let applied = self.guard.iter().filter(|l| constant_along(&l.condition, axes).is_none());
        let value = reduction(&mask(&self.value, applied));
        Guarded { guard: self.across(axes), value, number: None }
    }
    /// The guard of a sum over `axes`, which disappear: no mask is due for the conditions that vary along them.
    pub(crate) fn across(&self, axes: &[usize]) -> Vec<Literal> {
        let (mut kept, mut applied) = (Vec::new(), Vec::new());
        for literal in &self.guard {
            match constant_along(&literal.condition, axes) {
                Some(condition) => kept.push(Literal { condition, ..literal.clone() }),
                None => applied.push(literal),
            }
        }
        kept.extend(merged(&applied).map(|all| Literal {
            condition: any(&all.condition, axes),
            pending: false,
            ..all
        }));
        kept
    }
    /// The same value under those conditions of branches that vary along `axis`.
    pub(crate) fn hidden_along(&self, axis: usize) -> Guarded {
        let varies = |l: &&Literal| l.hides && constant_along(&l.condition, &[axis]).is_none();
        Guarded { guard: self.guard.iter().filter(varies).cloned().collect(), ..self.clone() }
    }
    /// Through something linear that mixes elements along `axes` into others. `live` does to the guard, as ones and
    /// zeros, what `mixture` does to the value, and gives a positive number where any of it counts. Conditions that are
    /// constant along the axes stay. `unbounded`: the mixture multiplies by primals.
    pub(crate) fn mixed(
        &self,
        axes: &[usize],
        unbounded: bool,
        mixture: impl FnOnce(&Tensor) -> Tensor,
        live: impl FnOnce(&Tensor) -> Tensor,
    ) -> Guarded {
        let (kept, applied): (Vec<&Literal>, Vec<&Literal>) =
            self.guard.iter().partition(|l| !axes.is_empty() && constant_along(&l.condition, axes).is_some());
        let value = mixture(&mask(&self.value, applied.iter().copied()));
        let due = |l: &Literal| Literal { pending: l.pending || unbounded && l.hides, ..l.clone() };
        let guard = kept.into_iter().map(due).collect();
        let mixed = Guarded { guard, value, number: None };
        match merged(&applied) {
            Some(all) => {
                let condition = live(&all.condition.cast(DType::F32)).gt(0.0);
                mixed.with(Literal { condition, pending: unbounded && all.hides, ..all })
            }
            None => mixed,
        }
    }
    /// A value made of this one by something that does not mix what is kept apart by `movement`; any partial may have
    /// come in.
    pub(crate) fn carried(&self, value: Tensor, movement: impl Fn(&Tensor) -> Tensor) -> Guarded {
        let due = |l: &Literal| Literal { condition: movement(&l.condition), pending: true, ..l.clone() };
        Guarded { guard: self.guard.iter().map(due).collect(), value, number: None }
    }
}

/// Axes as the builders take them.
pub(crate) fn signed(axes: &[usize]) -> Vec<isize> {
    axes.iter().map(|&a| isize::try_from(a).unwrap_or(isize::MAX)).collect()
}

/// All literals as one; `None` for none.
pub(crate) fn merged(literals: &[&Literal]) -> Option<Literal> {
    let (pending, hides) = (literals.iter().any(|l| l.pending), literals.iter().any(|l| l.hides));
    let condition = conjunction(literals.iter().copied())?;
    Some(Literal { condition, holds: true, pending, hides })
}

/// The operand of a broadcast under a shape of the same rank as the result.
fn repeated(condition: &Tensor) -> Option<(Tensor, Shape)> {
    let node = condition.node().ok()?;
    let (Op::Broadcast, [source]) = (&node.op, &node.operands[..]) else { return None };
    let added = node.shape.rank() - source.shape.rank();
    let lined: Vec<usize> = std::iter::repeat_n(1, added).chain(source.shape.iter().copied()).collect();
    let lined = Shape::new(&lined).ok()?;
    (node.shape.elements() > 0).then(|| (Tensor::from_node(source.clone()).reshape(lined), lined))
}

/// `condition` without `axes`, if it repeats one value along them.
fn constant_along(condition: &Tensor, axes: &[usize]) -> Option<Tensor> {
    let node = condition.node().ok()?;
    if let (Op::Constant(Scalar::Bool(truth)), false) = (&node.op, node.shape.elements() == 0) {
        return Some(Tensor::full(node.shape.without(axes), *truth));
    }
    let (source, lined) = repeated(condition)?;
    let kept = axes.iter().all(|&a| lined[a] == 1).then(|| lined.without(axes))?;
    Some(source.reshape(kept).broadcast_to(node.shape.without(axes)))
}

/// Whether `condition` holds anywhere along `axes`, which disappear; found before values are repeated, if they are.
fn any(condition: &Tensor, axes: &[usize]) -> Tensor {
    let anywhere = |t: &Tensor, axes: &[usize]| t.cast(DType::F32).sum(signed(axes)).gt(0.0);
    match repeated(condition) {
        Some((source, lined)) => {
            let varying: Vec<usize> = axes.iter().copied().filter(|&a| lined[a] != 1).collect();
            let found = if varying.is_empty() { source } else { anywhere(&source, &varying) };
            found.reshape(lined.without(axes)).broadcast_to(shape_of(condition).without(axes))
        }
        None => anywhere(condition, axes),
    }
}

/// The number that a factor made for `node` is everywhere. Operands of the node do not count: they are the user's.
pub(crate) fn own_number(factor: &Tensor, node: &Node) -> Option<f64> {
    let made = factor.node().ok()?;
    let Op::Constant(scalar) = made.op else { return None };
    (!node.operands.iter().any(|o| Arc::ptr_eq(o, made))).then(|| scalar.as_f64())
}
