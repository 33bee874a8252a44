//! `cotangent check`: every operation, loss and family on this machine, kernel by kernel against the f64 reference.

mod cases;

use cotangent::{Detail, Device, Error, cross_check};
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
    let device = arguments.device.open()?;
    let wanted = |case: &Case| {
        arguments.op.as_ref().is_none_or(|op| {
            case.name == *op || case.name.strip_prefix(op.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let cases: Vec<Case> = all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        let name = arguments.op.as_deref().unwrap_or_default();
        let error = Error::new(cotangent::Code::CrossCheck, "check", format!("there is no case `{name}`"));
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
        match cross_check(device, &case.outputs.iter().collect::<Vec<_>>()) {
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
