//! Where contributions meet: their sum under the disjunction of their guards.

use std::collections::HashMap;

use cotangent_tensor::{Node, Tensor};

use crate::guard::{Guarded, Literal, conjunction, mask, shape_of};

type Key = Vec<(*const Node, bool)>;

fn added(a: Guarded, b: Guarded) -> Guarded {
    let mut guard = a.guard;
    for (mine, other) in guard.iter_mut().zip(&b.guard) {
        mine.absorb(other);
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
    // A merged guard is shorter by a literal, so there are as many rounds as a guard has literals, and no more.
    while groups.len() > 1 {
        let before = groups.len();
        groups = complements_merged(groups);
        if groups.len() == before {
            break;
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
        let equal = groups.iter().flat_map(|g| &g.guard).filter(|l| l.key() == literal.key());
        let equal: Vec<Literal> = equal.cloned().collect();
        equal.iter().for_each(|l| literal.absorb(l));
    }
    let mut hides = false;
    let mut rests = Vec::new();
    let mut masked = Vec::new();
    for group in &groups {
        let rest: Vec<&Literal> =
            group.guard.iter().filter(|l| !common.iter().any(|c| c.key() == l.key())).collect();
        masked.push(mask(&group.value, rest.iter().copied()));
        hides |= rest.iter().any(|l| l.hides);
        rests.push(conjunction(rest));
    }
    let total = Guarded { guard: common, value: pairwise(masked, |a, b| a + b)?, number: None };
    // The sum is zero where no contribution is live, so no mask is due yet; but the next partial may be infinite.
    match rests.into_iter().collect::<Option<Vec<Tensor>>>() {
        Some(rests) => {
            let condition = pairwise(rests, |a, b| a.or(b))?;
            Some(total.with(Literal { condition, holds: true, pending: false, hides }))
        }
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

/// Merges pairs of groups whose guards differ in the polarity of one literal, each group at most once.
fn complements_merged(groups: Vec<Guarded>) -> Vec<Guarded> {
    let keys: Vec<Key> = groups.iter().map(|group| key_of(&group.guard)).collect();
    let place: HashMap<&Key, usize> = keys.iter().enumerate().map(|(at, key)| (key, at)).collect();
    let mut left: Vec<Option<Guarded>> = groups.into_iter().map(Some).collect();
    let mut merged = Vec::with_capacity(left.len());
    for (at, key) in keys.iter().enumerate() {
        let Some(first) = left[at].take() else { continue };
        let partner = (0..key.len()).rev().find_map(|position| {
            let mut other = key.clone();
            other[position].1 = !other[position].1;
            Some((left[*place.get(&other)?].take()?, position))
        });
        merged.push(match partner {
            Some((second, position)) => complement(first, &second, position),
            None => first,
        });
    }
    merged
}

/// One value under the common part of two guards that differ in the polarity of the literal at `position`.
fn complement(mut first: Guarded, second: &Guarded, position: usize) -> Guarded {
    let literal = first.guard.remove(position);
    let (yes, no) = if literal.holds { (&first.value, &second.value) } else { (&second.value, &first.value) };
    first.value = literal.condition.select(yes, no);
    first.number = None;
    let others = second.guard.iter().enumerate().filter(|(at, _)| *at != position);
    for (mine, (_, other)) in first.guard.iter_mut().zip(others) {
        mine.absorb(other);
    }
    first
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
