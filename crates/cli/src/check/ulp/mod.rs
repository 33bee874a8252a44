//! `cotangent check --ulp`: the largest error of every function of the table against its f64 meaning, in units in the last
//! place, and whether it is as promised.

mod points;
mod tally;

use cotangent::elementwise::Class;
use cotangent::{Array, Code, DType, Device, Elementwise, Error, Feed, Real, Step, Tensor, Values};
use serde_json::{Value, json};

use super::Arguments;
use crate::{Failure, report};
use tally::{Tally, judge, mismatches};

/// Elements that a device computes at once.
const CHUNK: usize = 1 << 20;

/// What was found of a function.
struct Measured {
    row: Elementwise,
    exhaustive: bool,
    tally: Tally,
    /// Special arguments with a wrong result.
    special: Vec<String>,
}

impl Measured {
    fn is_kept(&self) -> bool {
        self.tally.worst <= self.row.ulp() && self.special.is_empty()
    }
    fn document(&self) -> Value {
        let Measured { row, exhaustive, tally, special } = self;
        json!({
            "function": row.name(),
            "points": tally.points,
            "exhaustive": exhaustive,
            "ulp": report::number(tally.worst),
            "at": tally.at.iter().map(|&x| report::number(f64::from(x))).collect::<Vec<Value>>(),
            "got": report::number(f64::from(tally.got)),
            "exact": report::number(tally.exact),
            "mean": report::number(tally.mean()),
            "promise": report::number(row.ulp()),
            "special": special,
            "kept": self.is_kept(),
        })
    }
    fn line(&self) -> String {
        let Measured { row, tally, special, .. } = self;
        let at: Vec<String> = tally.at.iter().map(|x| format!("{x:e}")).collect();
        let verdict = if self.is_kept() { "kept" } else { "BROKEN" };
        let mut line = format!(
            "{:14} {:8.3} {:8.3} {:8.1}  {verdict:7} {:>10}  {}",
            row.name(),
            tally.worst,
            tally.mean(),
            row.ulp(),
            tally.points,
            at.join(", ")
        );
        for text in special {
            line += &format!("\n    {text}");
        }
        line
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.device.open()?;
    let rows: Vec<Elementwise> = Elementwise::ALL.iter().copied().filter(|&row| is_measured(row)).collect();
    let wanted = |row: &Elementwise| arguments.op.as_ref().is_none_or(|op| row.name() == op);
    let rows: Vec<Elementwise> = rows.into_iter().filter(wanted).collect();
    if rows.is_empty() {
        let name = arguments.op.as_deref().unwrap_or_default();
        let error =
            Error::new(Code::CrossCheck, "check", format!("there is no function `{name}` to measure"));
        return Err(error.hint("names are those of methods of one or two numbers: exp, lgamma, pow").into());
    }
    if !arguments.json {
        report::line(&format!(
            "{}\n{:14} {:>8} {:>8} {:>8}  {:7} {:>10}  at",
            device.name(),
            "function",
            "ULP",
            "mean",
            "promise",
            "",
            "points"
        ))?;
    }
    let mut found = Vec::new();
    for row in rows {
        let measured = measure_on(&device, row, arguments.exhaustive)?;
        if !arguments.json {
            report::line(&measured.line())?;
        }
        found.push(measured);
    }
    let broken: Vec<&str> = found.iter().filter(|m| !m.is_kept()).map(|m| m.row.name()).collect();
    if arguments.json {
        let document = json!({
            "device": device.name(),
            "functions": found.iter().map(Measured::document).collect::<Vec<Value>>(),
            "broken": broken,
        });
        report::line(&document.to_string())?;
    } else {
        report::line(&format!("{} functions, {} promises broken", found.len(), broken.len()))?;
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}

/// Rows from one or two numbers to a number. Of three there is `clamp`, which computes nothing.
fn is_measured(row: Elementwise) -> bool {
    row.class() == Class::Real && row.arity() <= 2
}

/// A function on columns of arguments, one for each operand.
type Function<'a> = dyn FnMut(&[Vec<f32>]) -> Result<Vec<f32>, Error> + 'a;

fn measure_on(device: &Device, row: Elementwise, exhaustive: bool) -> Result<Measured, Error> {
    let inputs: Vec<Tensor> = (0..row.arity())
        .map(|position| Tensor::input(&format!("x{position}"), [CHUNK], DType::F32))
        .collect();
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let step = Step::new(device, &inputs, &[&Tensor::apply(row, &inputs)], &[])?;
    let mut function = |columns: &[Vec<f32>]| {
        let count = columns[0].len();
        let arrays = columns.iter().map(|column| {
            let mut values = column.clone();
            values.resize(CHUNK, 1.0);
            Array::new(Values::Single(values), [CHUNK])
        });
        let arrays = arrays.collect::<Result<Vec<Array>, Error>>()?;
        let given: Vec<(&Tensor, &dyn Feed)> =
            inputs.iter().zip(&arrays).map(|(&input, array)| (input, array as &dyn Feed)).collect();
        let mut values = step.run(&given)?.read(0)?.to_f32();
        values.truncate(count);
        Ok(values)
    };
    measure(row, exhaustive, device.info().probe.denormals, &mut function)
}

/// Measures a function that stands for a row: at every number if `exhaustive` and there is one argument.
fn measure(
    row: Elementwise,
    exhaustive: bool,
    denormals: bool,
    function: &mut Function<'_>,
) -> Result<Measured, Error> {
    let exhaustive = exhaustive && row.arity() == 1;
    let mut tally = Tally::default();
    if exhaustive {
        let chunks = (1u64 << 32) / CHUNK as u64;
        let bar = report::progress(chunks);
        bar.set_message(row.name());
        for chunk in 0..chunks {
            let first = (chunk * CHUNK as u64) as u32;
            let columns = [(0..CHUNK as u32).map(|offset| f32::from_bits(first + offset)).collect()];
            tally.merge(judge(row, denormals, &columns, &function(&columns)?));
            bar.inc(1);
        }
        bar.finish_and_clear();
    } else {
        let columns = points::stratified(row);
        for start in (0..columns[0].len()).step_by(CHUNK) {
            let end = columns[0].len().min(start + CHUNK);
            let columns: Vec<Vec<f32>> = columns.iter().map(|column| column[start..end].to_vec()).collect();
            tally.merge(judge(row, denormals, &columns, &function(&columns)?));
        }
    }
    let columns = points::special(row);
    let special = mismatches(row, denormals, &columns, &function(&columns)?);
    Ok(Measured { row, exhaustive, tally, special })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The f64 meaning, rounded, but for what `fault` makes of it.
    fn rounded(row: Elementwise, fault: impl Fn(f32, f32) -> f32) -> Measured {
        let mut function = |columns: &[Vec<f32>]| {
            let value = |i: usize| {
                let args: Vec<f64> = columns.iter().map(|column| f64::from(column[i])).collect();
                fault(columns[0][i], row.eval(&args) as f32)
            };
            Ok((0..columns[0].len()).map(value).collect())
        };
        measure(row, false, true, &mut function).expect("a host function does not fail")
    }

    #[test]
    fn a_rounded_meaning_is_within_half_a_unit_and_one_wrong_value_is_found() {
        let right = rounded(Elementwise::Exp, |_, y| y);
        assert!(right.is_kept() && right.tally.worst > 0.49 && right.tally.worst <= 0.5, "{}", right.line());
        assert!(right.tally.points >= 1 << 20);
        // Three units too much at one point of a million.
        let at = points::stratified(Elementwise::Exp)[0].iter().copied().find(|x| *x > 1.0 && *x < 2.0);
        let at = at.expect("every exponent is there");
        let wrong =
            rounded(Elementwise::Exp, |x, y| if x == at { f32::from_bits(y.to_bits() + 3) } else { y });
        assert!(!wrong.is_kept() && wrong.special.is_empty(), "{}", wrong.line());
        assert_eq!(wrong.tally.at, [at]);
        assert!(wrong.tally.worst > 2.0 && wrong.tally.worst < 3.6);
    }

    #[test]
    fn wrong_special_values_are_named() {
        let positive = rounded(Elementwise::Asinh, |x, y| if x == 0.0 { 0.0 } else { y });
        assert_eq!(positive.special, ["asinh(-0e0) is 0e0, not -0e0"]);
        let finite = rounded(Elementwise::Log, |x, y| if x == 0.0 { f32::MIN } else { y });
        assert!(!finite.is_kept() && finite.special.len() == 2, "{}", finite.line());
        let number = rounded(Elementwise::Pow, |_, y| if y.is_nan() { 0.0 } else { y });
        assert!(!number.is_kept() && number.tally.worst.is_infinite());
    }
}
