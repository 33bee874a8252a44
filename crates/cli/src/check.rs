//! `cotangent check`: every operation, loss and family on this machine, kernel by kernel against the f64 reference; with
//! `--ulp` the errors of functions.

mod cases;
mod ulp;

use cotangent::{Code, Detail, Device, Error, Report, cross_check};
use serde_json::{Map, Value, json};

use crate::{DeviceArgument, Failure, report};
use cases::{Case, all};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    device: DeviceArgument,
    /// Only cases whose name is this, or starts with it and a dot
    #[arg(long, value_name = "NAME")]
    op: Option<String>,
    /// Measure the largest error of functions in units in the last place instead, at every sign and exponent
    #[arg(long)]
    ulp: bool,
    /// With --ulp: functions of one number at every number there is (minutes each)
    #[arg(long, requires = "ulp")]
    exhaustive: bool,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// What the cases together have found.
#[derive(Default)]
struct Totals {
    cases: usize,
    kernels: usize,
    elements: usize,
    failed: Vec<Value>,
    worst_ratio: f64,
    worst: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.ulp {
        return ulp::run(arguments);
    }
    let device = arguments.device.open()?;
    let wanted = |case: &Case| {
        arguments.op.as_ref().is_none_or(|op| {
            case.name == *op || case.name.strip_prefix(op.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let cases: Vec<Case> = all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        let name = arguments.op.as_deref().unwrap_or_default();
        let error = Error::new(Code::CrossCheck, "check", format!("there is no case `{name}`"));
        return Err(error.hint("names are those of methods and losses: exp, matmul, softmax, huber").into());
    }
    let totals = totals(&device, &cases);
    say(arguments, &device, &totals)?;
    if totals.failed.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}

fn totals(device: &Device, cases: &[Case]) -> Totals {
    let mut totals = Totals::default();
    let bar = report::progress(cases.len() as u64);
    for case in cases {
        bar.set_message(case.name.clone());
        totals.cases += 1;
        match compare(device, case) {
            Ok(found) => {
                totals.kernels += found.kernels;
                totals.elements += found.cases;
                if found.worst_ratio > totals.worst_ratio {
                    totals.worst_ratio = found.worst_ratio;
                    totals.worst = format!("{}: {}", case.name, found.worst);
                }
            }
            Err(error) => {
                eprintln!("{}: {error}", case.name);
                totals.failed.push(failure(case, &error));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    totals
}

/// Kernel by kernel. Error: also for a case that compares nothing.
fn compare(device: &Device, case: &Case) -> Result<Report, Error> {
    let outputs = case.outputs.as_ref().map_err(Error::clone)?;
    let report = cross_check(device, &outputs.iter().collect::<Vec<_>>())?;
    if report.cases == 0 {
        let message = "no element was compared: a case that cannot fail";
        return Err(Error::new(Code::CrossCheck, "check", message));
    }
    Ok(report)
}

/// The details of a violation; other errors have none but their text.
fn failure(case: &Case, error: &Error) -> Value {
    let mut fields = Map::new();
    fields.insert("case".to_string(), case.name.clone().into());
    for key in ["kernel", "node", "element", "got", "expected", "bound"] {
        let detail = error.details().iter().find(|(name, _)| *name == key);
        let value = detail.map_or(Value::Null, |(_, detail)| match detail {
            Detail::Number(number) => report::number(*number),
            Detail::Integer(integer) => (*integer).into(),
            Detail::Text(text) => text.clone().into(),
            other => format!("{other:?}").into(),
        });
        fields.insert(key.to_string(), value);
    }
    fields.insert("error".to_string(), error.to_string().into());
    fields.into()
}

fn say(arguments: &Arguments, device: &Device, totals: &Totals) -> Result<(), Error> {
    if arguments.json {
        let document = json!({
            "device": device.name(),
            "cases": totals.cases,
            "kernels": totals.kernels,
            "elements": totals.elements,
            "failed": totals.failed,
            "worst_ratio": report::number(totals.worst_ratio),
            "worst": totals.worst,
        });
        return report::line(&document.to_string());
    }
    report::line(&format!(
        "{}: {} cases, {} kernels, {} elements compared, {} failed",
        device.name(),
        totals.cases,
        totals.kernels,
        totals.elements,
        totals.failed.len()
    ))?;
    report::line(&format!("largest error over its bound: {:.3} ({})", totals.worst_ratio, totals.worst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotangent::elementwise::Class;
    use cotangent::{Elementwise, Tensor};

    #[test]
    fn what_cannot_be_built_or_compares_nothing_has_failed() {
        let of = |name: &str, outputs| Case { name: name.to_string(), outputs };
        let error = Error::new(Code::Internal, "grad", "planted");
        let cases = [
            of("broken", Err(error)),
            of("invalid", Ok(vec![Tensor::zeros([2]) + Tensor::zeros([3])])),
            of("empty", Ok(Vec::new())),
            of("good", Ok(vec![Tensor::new([1.0, 2.0]).exp()])),
        ];
        let totals = totals(&Device::cpu(), &cases);
        let failed: Vec<&Value> = totals.failed.iter().map(|failure| &failure["case"]).collect();
        assert_eq!(failed, ["broken", "invalid", "empty"]);
        assert_eq!(totals.cases, 4);
        assert!(totals.elements > 0);
    }

    #[test]
    fn every_case_can_be_built() {
        let cases = all();
        let broken: Vec<String> = cases
            .iter()
            .filter_map(|case| Some(format!("{}: {}", case.name, case.outputs.as_ref().err()?)))
            .collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        for name in ["permute", "broadcast", "slice", "pad", "concat", "stack", "flip", "tril", "dropout"] {
            assert!(names.contains(format!("{name}.gradient").as_str()), "{name}");
        }
        let flat: Vec<&str> = Elementwise::ALL
            .iter()
            .filter(|row| matches!(row.class(), Class::Real | Class::Select))
            .map(|row| row.name())
            .filter(|name| !names.contains(format!("{name}.gradient").as_str()))
            .collect();
        // Flat everywhere, and the end of a chain of special functions.
        assert_eq!(flat, ["sign", "floor", "ceil", "round", "trunc", "trigamma"]);
    }
}
