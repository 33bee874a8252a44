//! Guarded adjoints: a value together with the branch conditions under which it counts.
//!
//! The guard is a conjunction of literals (a truth value per element, and the polarity at which it holds). Where the
//! guard fails the contribution is exactly zero, *whatever the value says there*: it may be infinite or NaN, because
//! it went through partials of a branch that was not taken. A mask is applied only where contributions under
//! different guards meet, before elements mix, and at the end; so `0 · inf` never happens. Guards are closed under
//! *or*: where contributions meet, the disjunction of their guards stays behind, or `0 · inf` would come back one node
//! later. The same pairs serve tangents of forward mode.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{Node, Op, Scalar, Shape, Tensor};

/// More literals than this become one, so that a long chain of kinks costs a constant per node.
const LITERALS: usize = 8;

/// One branch condition and how it must turn out.
#[derive(Clone)]
pub(crate) struct Literal {
    pub(crate) condition: Tensor,
    pub(crate) holds: bool,
    /// Whether the value may differ from zero where this literal fails, so that a mask is still due.
    pub(crate) pending: bool,
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

type Key = Vec<(*const Node, bool)>;

pub(crate) fn address(tensor: &Tensor) -> *const Node {
    tensor.node().map_or(std::ptr::null(), |node| node.key())
}

pub(crate) fn shape_of(tensor: &Tensor) -> Shape {
    tensor.node().map_or(Shape::SCALAR, |node| node.shape)
}

impl Literal {
    fn key(&self) -> (*const Node, bool) {
        (address(&self.condition), self.holds)
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
fn mask<'a>(value: &Tensor, literals: impl IntoIterator<Item = &'a Literal>) -> Tensor {
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
    /// The value with the guard applied: what may mix with other elements or leave the sweep.
    pub(crate) fn masked(&self) -> Tensor {
        mask(&self.value, &self.guard)
    }
    /// Counts only where `condition` is `holds` as well. `pending` as in [`Literal`].
    pub(crate) fn under(mut self, condition: Tensor, holds: bool, pending: bool) -> Guarded {
        let literal = Literal { condition, holds, pending };
        match self.guard.iter_mut().find(|l| l.key() == literal.key()) {
            Some(known) => known.pending |= pending,
            None => self.guard.push(literal),
        }
        if self.guard.len() > LITERALS {
            let pending = self.guard.iter().any(|l| l.pending);
            if let Some(condition) = conjunction(&self.guard) {
                self.guard = vec![Literal { condition, holds: true, pending }];
            }
        }
        if pending {
            self.number = None;
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
    /// Summed over `axes`, which disappear. Conditions that are constant along the axes stay in the guard; the others
    /// are applied before elements mix.
    pub(crate) fn summed(&self, axes: &[usize]) -> Guarded {
        let shape = shape_of(&self.value);
        let (mut kept, mut applied) = (Vec::new(), Vec::new());
        for literal in &self.guard {
            match constant_along(&literal.condition, axes) {
                Some(condition) => kept.push(Literal { condition, ..literal.clone() }),
                None => applied.push(literal),
            }
        }
        let count: usize = axes.iter().map(|&a| shape[a]).product();
        if let (Some(number), true) = (self.number, applied.iter().all(|l| !l.pending) && applied.is_empty())
        {
            #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
            return Guarded { guard: kept, ..Guarded::number(shape.without(axes), number * count as f64) };
        }
        let value = mask(&self.value, applied.iter().copied()).sum(signed(axes));
        Guarded { guard: kept, value, number: None }
    }
}

/// Axes as the builders take them.
pub(crate) fn signed(axes: &[usize]) -> Vec<isize> {
    axes.iter().map(|&a| isize::try_from(a).unwrap_or(isize::MAX)).collect()
}

/// `condition` without `axes`, if it is a broadcast that repeats one value along them.
fn constant_along(condition: &Tensor, axes: &[usize]) -> Option<Tensor> {
    let node = condition.node().ok()?;
    let result = node.shape.without(axes);
    if let (Op::Constant(Scalar::Bool(truth)), false) = (&node.op, node.shape.elements() == 0) {
        return Some(Tensor::full(result, *truth));
    }
    let (Op::Broadcast, [source]) = (&node.op, &node.operands[..]) else { return None };
    let added = node.shape.rank() - source.shape.rank();
    let lined: Vec<usize> = std::iter::repeat_n(1, added).chain(source.shape.iter().copied()).collect();
    if axes.iter().any(|&a| lined[a] != 1) {
        return None;
    }
    let kept = Shape::new(&lined).ok()?.without(axes);
    Some(Tensor::from_node(source.clone()).reshape(kept).broadcast_to(result))
}

/// The number that a factor made for `node` is everywhere. Operands of the node do not count: they are the user's.
pub(crate) fn own_number(factor: &Tensor, node: &Node) -> Option<f64> {
    let made = factor.node().ok()?;
    let Op::Constant(scalar) = made.op else { return None };
    (!node.operands.iter().any(|o| Arc::ptr_eq(o, made))).then(|| scalar.as_f64())
}

fn added(a: Guarded, b: Guarded) -> Guarded {
    let mut guard = a.guard;
    for (mine, other) in guard.iter_mut().zip(&b.guard) {
        mine.pending |= other.pending;
    }
    match (a.number, b.number) {
        (Some(x), Some(y)) => Guarded { guard, ..Guarded::number(shape_of(&a.value), x + y) },
        _ => Guarded { guard, value: &a.value + &b.value, number: None },
    }
}

/// The sum of contributions under their guards.
///
/// Equal guards add up; `(G ∧ c, a) + (G ∧ ¬c, b) = (G, select(c, a, b))`; what is left shares a common part `C`:
/// `(C ∧ p, a) + (C ∧ q, b) = (C ∧ (p ∨ q), select(p, a, 0) + select(q, b, 0))`. `None` for no contributions.
pub(crate) fn join(contributions: Vec<Guarded>) -> Option<Guarded> {
    let mut groups = equal_guards_added(contributions);
    while let Some((first, second, position)) = complementary(&groups) {
        // `first < second`, so that removing the second leaves the first in place.
        let second = groups.remove(second);
        let first = &mut groups[first];
        let literal = first.guard.remove(position);
        let (yes, no) =
            if literal.holds { (&first.value, &second.value) } else { (&second.value, &first.value) };
        first.value = literal.condition.select(yes, no);
        first.number = None;
        let mut others = second.guard;
        others.remove(position);
        for (mine, other) in first.guard.iter_mut().zip(&others) {
            mine.pending |= other.pending;
        }
        groups = equal_guards_added(groups);
    }
    if groups.len() < 2 {
        return groups.pop();
    }
    let has = |group: &Guarded, literal: &Literal| group.guard.iter().any(|l| l.key() == literal.key());
    let mut common: Vec<Literal> = groups[0].guard.clone();
    common.retain(|l| groups.iter().all(|g| has(g, l)));
    for literal in &mut common {
        literal.pending = groups.iter().flat_map(|g| &g.guard).any(|l| l.key() == literal.key() && l.pending);
    }
    let mut rests = Vec::new();
    let mut masked = Vec::new();
    for group in &groups {
        let rest: Vec<&Literal> =
            group.guard.iter().filter(|l| !common.iter().any(|c| c.key() == l.key())).collect();
        masked.push(mask(&group.value, rest.iter().copied()));
        rests.push(conjunction(rest));
    }
    let total = Guarded { guard: common, value: pairwise(masked, |a, b| a + b)?, number: None };
    // The sum is zero where no contribution is live, so no mask is due yet; but the next partial may be infinite.
    match rests.into_iter().collect::<Option<Vec<Tensor>>>() {
        Some(rests) => Some(total.under(pairwise(rests, |a, b| a.or(b))?, true, false)),
        None => Some(total),
    }
}

fn key_of(guard: &[Literal]) -> Key {
    guard.iter().map(Literal::key).collect()
}

fn equal_guards_added(contributions: Vec<Guarded>) -> Vec<Guarded> {
    if contributions.len() < 2 {
        return contributions;
    }
    let mut place: HashMap<Key, usize> = HashMap::new();
    let mut groups: Vec<Vec<Guarded>> = Vec::new();
    for contribution in contributions {
        let group = *place.entry(key_of(&contribution.guard)).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(members) => members.push(contribution),
            None => groups.push(vec![contribution]),
        }
    }
    groups.into_iter().filter_map(|members| pairwise(members, added)).collect()
}

/// Two groups whose guards differ in the polarity of one literal.
fn complementary(groups: &[Guarded]) -> Option<(usize, usize, usize)> {
    if groups.len() < 2 {
        return None;
    }
    let place: HashMap<Key, usize> =
        groups.iter().enumerate().map(|(at, group)| (key_of(&group.guard), at)).collect();
    groups.iter().enumerate().find_map(|(first, group)| {
        (0..group.guard.len()).rev().find_map(|position| {
            let mut key = key_of(&group.guard);
            key[position].1 = !key[position].1;
            let second = *place.get(&key)?;
            (first < second).then_some((first, second, position))
        })
    })
}

/// Combines neighbors, then neighbors of the results: a tree of logarithmic depth in a fixed order.
fn pairwise<T>(mut items: Vec<T>, combine: impl Fn(T, T) -> T) -> Option<T> {
    while items.len() > 1 {
        let mut next = Vec::with_capacity(items.len().div_ceil(2));
        let mut rest = items.into_iter();
        while let Some(first) = rest.next() {
            next.push(match rest.next() {
                Some(second) => combine(first, second),
                None => first,
            });
        }
        items = next;
    }
    items.pop()
}
