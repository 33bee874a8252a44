//! Whether a rule's gradient is linear in the cotangent it gets.

use cotangent_tensor::{Array, Code, DType, Error, InputGradient, Pullback, Tensor, TracedRule};

use super::ROUNDING;
use super::lab::{Lab, coordinates};
use super::local::Alone;

/// Factors that a gradient must let through: a small one, and one that changes the sign and is out of reach of bounds.
const FACTORS: [f64; 2] = [2.0, -1024.0];

/// Gradients by input: zeros for a structural zero, no elements where there is none.
struct Pulled {
    values: Vec<Vec<f64>>,
    rounding: Vec<Vec<f64>>,
}

/// Input and element.
type Place = (usize, usize);

impl Pulled {
    fn at(&self, (input, element): Place) -> f64 {
        self.values[input][element]
    }
    fn error(&self, (input, element): Place) -> f64 {
        self.rounding[input][element]
    }
}

/// A rule, and two cotangents of its outputs.
struct Trial<'a> {
    lab: &'a Lab<'a>,
    alone: &'a Alone,
    rule: &'a TracedRule,
    u: Vec<Array>,
    v: Vec<Array>,
}

impl Trial<'_> {
    /// The gradients for `a u + b v`, with zeros where a pullback knows that a cotangent is missing.
    fn of(&self, pullback: &Pullback, present: &[bool], a: f64, b: f64) -> Result<Pulled, Error> {
        let mut upstream = Vec::new();
        for (((slot, present), u), v) in self.rule.upstream.iter().zip(present).zip(&self.u).zip(&self.v) {
            let scale = if *present { 1.0 } else { 0.0 };
            let mix = |(u, v): (f64, f64)| scale * (a * u + b * v);
            let mixed: Vec<f64> = u.to_f64().into_iter().zip(v.to_f64()).map(mix).collect();
            upstream.push(Tensor::new(Array::new(mixed, slot.shape)?).node()?.clone());
        }
        let operands = &self.alone.node.operands;
        let gradients = self.rule.pull_back(pullback, operands, &upstream).into_iter().zip(operands);
        let tensors: Vec<Tensor> = gradients
            .map(|(gradient, operand)| match gradient {
                InputGradient::Value(gradient) => Tensor::from_node(gradient).cast(DType::F32),
                InputGradient::Zero => Tensor::zeros(operand.shape),
                InputGradient::Nothing | InputGradient::Missing(_) => Tensor::zeros([0]),
            })
            .collect();
        Ok(Pulled { values: self.lab.values(&tensors)?, rounding: self.lab.rounding(&tensors)? })
    }

    fn finding(&self, (input, element): Place, what: &str) -> Error {
        let parameter = &self.rule.parameters[input];
        let element = coordinates(&parameter.shape, element);
        let message = format!("{what} (input {input} `{}`, element {element:?})", parameter.name());
        Error::new(Code::RuleLinear, format!("custom gradient {:?}", self.rule.name), message)
            .at(self.alone.node.location)
            .hint("a gradient is linear in `upstream`: multiply by it once, and declare a surrogate for all else")
    }
}

/// What is wrong with the gradient of a rule as a linear function of its cotangents, if anything is.
pub(super) fn nonlinear(lab: &Lab<'_>, alone: &Alone, rule: &TracedRule) -> Result<Option<Error>, Error> {
    let Some(full) = rule.pullbacks.first() else { return Ok(None) };
    let drawn = || rule.upstream.iter().map(|slot| lab.draw(&slot.shape)).collect::<Result<Vec<_>, _>>();
    let trial = Trial { lab, alone, rule, u: drawn()?, v: drawn()? };
    let of = |a, b| trial.of(full, &full.present, a, b);
    let (zero, u, v, both) = (of(0.0, 0.0)?, of(1.0, 0.0)?, of(0.0, 1.0)?, of(1.0, 1.0)?);
    let scaled = FACTORS.map(|factor| of(0.0, factor).map(|pulled| (factor, pulled)));
    let scaled = scaled.into_iter().collect::<Result<Vec<_>, _>>()?;
    // Where the rule gives no number for any cotangent, nothing can be said.
    let sizes = u.values.iter().map(Vec::len).enumerate();
    let places = sizes.flat_map(|(input, size)| (0..size).map(move |element| (input, element)));
    let places: Vec<Place> = places.filter(|&p| u.at(p).is_finite() && v.at(p).is_finite()).collect();

    if let Some(&place) = places.iter().find(|&&p| zero.at(p) != 0.0) {
        let all = || [&u, &v, &both].into_iter().chain(scaled.iter().map(|(_, pulled)| pulled));
        let ignored = places.iter().all(|&p| all().all(|w| w.at(p).to_bits() == zero.at(p).to_bits()));
        let value = zero.at(place);
        let what = match ignored {
            true => format!("ignores its cotangent: every one gives {value:?}"),
            false => format!("a cotangent of zeros gives {value:?} instead of 0"),
        };
        return Ok(Some(trial.finding(place, &what)));
    }
    let text = "not linear in its cotangent";
    for &p in &places {
        for (factor, pulled) in &scaled {
            let (got, expected) = (pulled.at(p), factor * v.at(p));
            if !lab.same(got, expected, factor.abs() * v.error(p) + pulled.error(p)) {
                let what = format!("{text}: f({factor}v) = {got:?}, {factor} f(v) = {expected:?}");
                return Ok(Some(trial.finding(p, &what)));
            }
        }
        let (got, expected) = (both.at(p), u.at(p) + v.at(p));
        // Rounding is that of the terms, which may cancel.
        let terms = ROUNDING * (u.at(p).abs() + v.at(p).abs());
        let rounding = u.error(p) + v.error(p) + both.error(p) + terms;
        if rounding.is_finite() && !lab.same(got, expected, rounding) {
            let what = format!("{text}: f(u + v) = {got:?}, f(u) + f(v) = {expected:?}");
            return Ok(Some(trial.finding(p, &what)));
        }
    }
    for other in &rule.pullbacks[1..] {
        let (knows, zeros) =
            (trial.of(other, &other.present, 1.0, 0.0)?, trial.of(full, &other.present, 1.0, 0.0)?);
        for &p in places.iter().filter(|p| knows.values[p.0].len() == zeros.values[p.0].len()) {
            if !lab.same(knows.at(p), zeros.at(p), knows.error(p) + zeros.error(p)) {
                let which = other.present.iter().zip(&full.present).position(|(here, all)| here != all);
                let what = format!(
                    "a missing cotangent of output {} gives {:?}, one of zeros {:?}",
                    which.unwrap_or_default(),
                    knows.at(p),
                    zeros.at(p)
                );
                return Ok(Some(trial.finding(p, &what)));
            }
        }
    }
    Ok(None)
}
