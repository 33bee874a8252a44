//! Loops: every element runs by itself, and those that go on are evaluated together.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::walk::{Meaning, unbound, walk};
use crate::{Code, Detail, Error, Node, Op, Token, WhileLoop, endless_error};

/// A column of values, one per element.
pub(super) trait Column: Sized {
    /// How many.
    fn count(&self) -> usize;
    /// The same value `count` times.
    fn repeated(&self, count: usize) -> Self;
    /// Some elements, in this order.
    fn taken(&self, elements: &[usize]) -> Self;
    /// Puts values where [`Column::taken`] would take them from.
    fn put(&mut self, elements: &[usize], values: &Self);
    /// Whether an element is true.
    fn holds(&self, element: usize) -> bool;
    /// Elements of a truth value that may be otherwise.
    fn doubtful(&self) -> Vec<usize>;
    /// Nothing is known of an element any more.
    fn spoil(&mut self, element: usize);
}

impl Column for Vec<f64> {
    fn count(&self) -> usize {
        self.len()
    }
    fn repeated(&self, count: usize) -> Vec<f64> {
        vec![self[0]; count]
    }
    fn taken(&self, elements: &[usize]) -> Vec<f64> {
        elements.iter().map(|&i| self[i]).collect()
    }
    fn put(&mut self, elements: &[usize], values: &Vec<f64>) {
        for (&i, &value) in elements.iter().zip(values) {
            self[i] = value;
        }
    }
    fn holds(&self, element: usize) -> bool {
        self[element] != 0.0
    }
    fn doubtful(&self) -> Vec<usize> {
        Vec::new()
    }
    fn spoil(&mut self, _: usize) {}
}

/// The body of a loop on the elements that are in it.
struct Body<'a, M: Meaning> {
    meaning: &'a M,
    count: usize,
    values: HashMap<u64, Rc<M::Value>>,
    /// Rounds of the longest loop inside, by element: a loop and its derivatives are one.
    turns: RefCell<Vec<u32>>,
}

impl<M: Meaning> Meaning for Body<'_, M>
where
    M::Value: Column + Clone,
{
    type Value = M::Value;

    fn compute(&self, node: &Node, operands: &[&M::Value]) -> Result<M::Value, Error> {
        if let Op::While(inner, output) = &node.op {
            let (value, turns) = run(self.meaning, inner, *output, operands)?;
            let all = &mut *self.turns.borrow_mut();
            all.iter_mut().zip(turns).for_each(|(all, turns)| *all = (*all).max(turns));
            return Ok(value);
        }
        let value = self.meaning.compute(node, operands)?;
        Ok(if operands.is_empty() { value.repeated(self.count) } else { value })
    }
    fn bound(&self, node: &Node, token: &Token) -> Result<M::Value, Error> {
        self.values.get(&token.id).map(|value| M::Value::clone(value)).ok_or_else(|| unbound(node, token))
    }
}

/// The carried value number `output` when every element has left the loop.
pub(super) fn looped<M: Meaning>(
    meaning: &M,
    looped: &WhileLoop,
    output: usize,
    operands: &[&M::Value],
) -> Result<M::Value, Error>
where
    M::Value: Column + Clone,
{
    run(meaning, looped, output, operands).map(|(value, _)| value)
}

/// The error of a loop inside of this one: of the element that ran it.
fn outside(error: Error, looped: &WhileLoop, inside: &[usize]) -> Error {
    let element = error.details().iter().find_map(|detail| match detail {
        ("element", Detail::Integer(element)) => usize::try_from(*element).ok(),
        _ => None,
    });
    match (error.code(), element.and_then(|element| inside.get(element))) {
        (Code::LoopRounds, Some(&element)) => endless_error(&looped.name, looped.rounds, element),
        _ => error,
    }
}

/// [`looped`], and how many rounds each element ran, those of loops inside included.
fn run<M: Meaning>(
    meaning: &M,
    looped: &WhileLoop,
    output: usize,
    operands: &[&M::Value],
) -> Result<(M::Value, Vec<u32>), Error>
where
    M::Value: Column + Clone,
{
    let (initial, captured) = operands.split_at(looped.carried.len());
    let mut result = initial[output].clone();
    let mut inside: Vec<usize> = (0..result.count()).collect();
    let mut doubtful = Vec::new();
    let mut state: Vec<Rc<M::Value>> = initial.iter().map(|&value| Rc::new(value.clone())).collect();
    let mut kept: Vec<Rc<M::Value>> = captured.iter().map(|&value| Rc::new(value.clone())).collect();
    let compute = |state: &[Rc<M::Value>], kept: &[Rc<M::Value>], inside: &[usize], of: &[Arc<Node>]| {
        let count = inside.len();
        let mut values = HashMap::new();
        let placeholders = looped.carried.iter().chain(&looped.captured);
        for (placeholder, value) in placeholders.zip(state.iter().chain(kept)) {
            if let Op::Placeholder(token) = &placeholder.op {
                values.insert(token.id, value.clone());
            }
        }
        let turns = RefCell::new(vec![0; count]);
        let body = Body { meaning, count, values, turns };
        let values = walk(&body, of, &HashMap::new()).map_err(|error| outside(error, looped, inside))?;
        Ok::<_, Error>((values, body.turns.into_inner()))
    };
    let mut turns = vec![0u32; inside.len()];
    while !inside.is_empty() {
        let (condition, more) = compute(&state, &kept, &inside, std::slice::from_ref(&looped.condition))?;
        inside.iter().zip(more).for_each(|(&i, more)| turns[i] = turns[i].saturating_add(more));
        // Whoever may leave now or later may have any state.
        let unknown = condition[0].doubtful();
        doubtful.extend(unknown.iter().map(|&place| inside[place]));
        let (stay, leave): (Vec<usize>, Vec<usize>) =
            (0..inside.len()).partition(|place| condition[0].holds(*place) && !unknown.contains(place));
        let left: Vec<usize> = leave.iter().map(|&place| inside[place]).collect();
        result.put(&left, &state[output].taken(&leave));
        if !leave.is_empty() {
            inside = stay.iter().map(|&place| inside[place]).collect();
            for value in state.iter_mut().chain(&mut kept) {
                *value = Rc::new(value.taken(&stay));
            }
        }
        if let Some(&endless) = inside.iter().find(|&&i| turns[i] >= looped.rounds) {
            return Err(endless_error(&looped.name, looped.rounds, endless));
        }
        if inside.is_empty() {
            break;
        }
        let (next, more) = compute(&state, &kept, &inside, &looped.next)?;
        inside
            .iter()
            .zip(more)
            .for_each(|(&i, more)| turns[i] = turns[i].saturating_add(more).saturating_add(1));
        state = next;
    }
    doubtful.into_iter().for_each(|element| result.spoil(element));
    Ok((result, turns))
}
