//! `cotangent grad`: value and derivatives of a function written in WGSL.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cotangent::wgsl::{Function, Lint, Module, Parameter};
use cotangent::{Code, DType, Device, Error, Evaluate, Gradient, Reference, State, Tensor, check, grad, vjp};
use serde_json::{Map, Value, json};

use crate::{DeviceArgument, report};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The text
    #[arg(value_name = "FILE.wgsl")]
    file: PathBuf,
    /// The function; not needed if the text declares one only (rules do not count)
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    /// Every parameter by name, such as p=0.5,k=3,v=[1,2,2]; a structure as a list, or by its fields, as s.a=1,s.b=[1,2]
    #[arg(long, value_name = "P=X,…", default_value = "", allow_hyphen_values = true)]
    at: String,
    /// The cotangent of the result
    #[arg(long, value_name = "G", default_value_t = 1.0, allow_negative_numbers = true)]
    upstream: f64,
    /// 2 for second derivatives too
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    order: u8,
    /// Most rounds of a loop whose rounds are counted when it runs
    #[arg(long, value_name = "N", default_value_t = 65_535)]
    rounds: u32,
    /// Values of `override` constants, such as delta=2,rounds=3
    #[arg(long, value_name = "NAME=X,…", value_delimiter = ',', allow_hyphen_values = true)]
    constant: Vec<String>,
    /// Lints that are not printed, such as LN2
    #[arg(long, value_name = "LINT,…", value_delimiter = ',')]
    allow: Vec<String>,
    #[command(flatten)]
    device: DeviceArgument,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// The value of a function and its derivatives by each of its inputs.
struct Graph {
    value: Tensor,
    /// By position of the parameter.
    gradients: BTreeMap<usize, Tensor>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let name = arguments.file.display().to_string();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|cause| Error::new(Code::File, &name, format!("cannot be read: {cause}")))?;
    let mut module = Module::parse(&name, &text)?.unbounded(arguments.rounds);
    for given in &arguments.constant {
        let number = given.split_once('=').and_then(|(name, x)| Some((name.trim(), x.trim().parse().ok()?)));
        let (name, x) = number.ok_or_else(|| {
            Error::new(Code::Wgsl, "--constant", format!("`{given}` is no name=number"))
                .hint("truth values are 0 and 1")
        })?;
        module = module.constant(name, x)?;
    }
    let function = chosen(&module, arguments.function.as_deref())?;
    let function = arguments.allow.iter().try_fold(function, |function, lint| function.allow(lint))?;
    let (parameters, point) = point(&function, &function.parameters(), &arguments.at)?;
    let device = arguments.device.open()?;
    let lints = function.lints();
    lints.iter().for_each(|lint| eprintln!("{lint}"));

    // A rule is taken as it is: whether it is a surrogate is said where the function is used.
    check::unchecked(|| print(arguments, &function, &parameters, &point, &device, &lints))
}

fn print(
    arguments: &Arguments,
    function: &Function,
    parameters: &[Parameter],
    point: &[Vec<f64>],
    device: &Device,
    lints: &[Lint],
) -> Result<(), Error> {
    // On the reference every number keeps its f64; on the device it is data.
    let exact: Vec<Tensor> = parameters.iter().zip(point).map(|(p, x)| exact(p, x)).collect();
    let graph = graph(function, parameters, &exact, arguments.upstream)?;
    let reference = Reference::new();
    let (value, gradient) = evaluated(&graph, parameters, point, &reference)?;
    let data: Vec<Tensor> = parameters.iter().zip(point).map(|(p, x)| data(p, x)).collect();
    let on_device = self::graph(function, parameters, &data, arguments.upstream)?;
    let (device_value, device_gradient) = evaluated(&on_device, parameters, point, device)?;
    let curvature = match arguments.order {
        2 => Some(diagonal(&graph, parameters, &exact, point)?),
        _ => None,
    };
    let wgsl = function.derivative()?.to_string();
    if arguments.json {
        let mut document = json!({ "value": value, "gradient": gradient });
        if let (Some(curvature), Value::Object(document)) = (curvature, &mut document) {
            document.insert("hessian_diagonal".into(), Value::Object(curvature));
        }
        if let Value::Object(document) = &mut document {
            document.insert("device".into(), device.name().into());
            document.insert("device_value".into(), device_value);
            document.insert("device_gradient".into(), Value::Object(device_gradient));
            document.insert("wgsl".into(), wgsl.into());
            let described = |lint: &Lint| {
                let Lint { code, message, line, help, .. } = lint;
                json!({ "code": code, "message": message, "line": line, "help": help })
            };
            document.insert("lints".into(), lints.iter().map(described).collect());
        }
        return report::line(&document.to_string());
    }
    report::line(&format!("{function}"))?;
    report::line(&format!("value       {value}   on {}: {device_value}", device.name()))?;
    for (parameter, slope) in &gradient {
        let on_device = &device_gradient[parameter];
        report::line(&format!("∂/∂{parameter:<8} {slope}   on {}: {on_device}", device.name()))?;
    }
    for (parameter, second) in curvature.iter().flatten() {
        report::line(&format!("∂²/∂{parameter}²   {second}"))?;
    }
    report::line(&format!("\n{}", wgsl.trim_end()))
}

/// The function of a name, or the only one.
fn chosen(module: &Module, name: Option<&str>) -> Result<Function, Error> {
    if let Some(name) = name {
        return module.function(name);
    }
    let functions = module.functions();
    let names: Vec<&str> = functions.iter().map(Function::name).collect();
    let is_rule = |name: &str| name.strip_suffix("_vjp").is_some_and(|f| names.contains(&f));
    let own: Vec<&str> = names.iter().copied().filter(|name| !is_rule(name)).collect();
    match own[..] {
        [one] => module.function(one),
        [] => Err(Error::new(Code::Wgsl, module.name(), "the text declares no function")),
        _ => Err(Error::new(
            Code::Wgsl,
            module.name(),
            format!("there are several functions: {}", own.join(", ")),
        )
        .hint("name one with --fn")),
    }
}

/// The parameters, or fields of structures, that are given, and the numbers of each.
fn point(
    function: &Function,
    parameters: &[Parameter],
    at: &str,
) -> Result<(Vec<Parameter>, Vec<Vec<f64>>), Error> {
    let wrong = |message: String| {
        Error::new(Code::Wgsl, "--at", message)
            .hint(format!("the function is {function}; write --at name=number,name=[numbers],…"))
    };
    let mut given: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut rest = at.trim();
    while !rest.is_empty() {
        let (name, after) =
            rest.split_once('=').ok_or_else(|| wrong(format!("`{rest}` is no name=number")))?;
        let (numbers, later) = match after.trim_start().strip_prefix('[') {
            Some(list) => {
                let (list, later) =
                    list.split_once(']').ok_or_else(|| wrong(format!("`{name}` has no `]`")))?;
                (list, later.trim_start())
            }
            None => match after.find(',') {
                Some(end) => (&after[..end], &after[end..]),
                None => (after, ""),
            },
        };
        let name = name.trim();
        let parsed = numbers.split(',').map(|number| {
            let number = number.trim();
            let truth = [("true", 1.0), ("false", 0.0)].into_iter().find(|known| known.0 == number);
            truth.map(|known| known.1).or_else(|| number.parse().ok()).ok_or(number)
        });
        let parsed: Result<Vec<f64>, &str> = parsed.collect();
        let parsed = parsed.map_err(|number| wrong(format!("`{number}` of `{name}` is no number")))?;
        if given.insert(name, parsed).is_some() {
            return Err(wrong(format!("`{name}` is given twice")));
        }
        rest = match later.strip_prefix(',') {
            Some(later) => later.trim_start(),
            None if later.is_empty() => "",
            None => return Err(wrong(format!("`{later}` stands where a comma is expected"))),
        };
    }
    // a structure by its fields, where those are given
    let mut stack: Vec<Parameter> = parameters.iter().rev().cloned().collect();
    let (mut leaves, mut point, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(parameter) = stack.pop() {
        let Parameter { name, wgsl, scalars, fields } = &parameter;
        let Some(numbers) = given.remove(name.as_str()) else {
            if fields.is_empty() {
                missing.push(name.clone());
            }
            stack.extend(fields.iter().rev().cloned());
            continue;
        };
        if numbers.len() != scalars.len() {
            let message =
                format!("`{name}` is {wgsl}, {} numbers; {} are given", scalars.len(), numbers.len());
            return Err(wrong(message));
        }
        if scalars.iter().any(|dtype| Some(dtype) != scalars.first()) {
            let names: Vec<String> = fields.iter().map(|field| format!("{}=…", field.name)).collect();
            let message = format!("`{name}` is {wgsl}, which holds several types");
            return Err(wrong(message).hint(format!("give its fields: --at {}", names.join(","))));
        }
        let (low, high) = match dtype_of(&parameter) {
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            DType::U32 => (0.0, f64::from(u32::MAX)),
            DType::Bool => (0.0, 1.0),
            DType::F32 | DType::F16 => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let is_float = dtype_of(&parameter).is_float();
        let fits = |x: &f64| is_float || (x.fract() == 0.0 && (low..=high).contains(x));
        if let Some(number) = numbers.iter().find(|x| !fits(x)) {
            return Err(wrong(format!("`{name}` is {wgsl}, and {number} is none")));
        }
        leaves.push(parameter);
        point.push(numbers);
    }
    // a misspelt name is a parameter that is not given too
    match (given.keys().next(), &missing[..]) {
        (Some(name), _) => Err(wrong(format!("there is no parameter `{name}`"))),
        (None, []) => Ok((leaves, point)),
        (None, missing) => Err(wrong(format!("`{}` is not given", missing.join("`, `")))),
    }
}

fn dtype_of(parameter: &Parameter) -> DType {
    parameter.scalars.first().copied().unwrap_or(DType::F32)
}
/// The numbers as data of the type of the parameter.
fn data(parameter: &Parameter, numbers: &[f64]) -> Tensor {
    let all = match dtype_of(parameter) {
        DType::F32 | DType::F16 => Tensor::new(numbers.to_vec()),
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        DType::I32 => Tensor::new(numbers.iter().map(|&x| x as i32).collect::<Vec<i32>>()),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole")]
        DType::U32 => Tensor::new(numbers.iter().map(|&x| x as u32).collect::<Vec<u32>>()),
        DType::Bool => Tensor::new(numbers.iter().map(|&x| x != 0.0).collect::<Vec<bool>>()),
    };
    if parameter.scalars.len() == 1 { all.reshape([]) } else { all }
}
/// The same with every bit of floats: data would be f32.
fn exact(parameter: &Parameter, numbers: &[f64]) -> Tensor {
    if !dtype_of(parameter).is_float() {
        return data(parameter, numbers);
    }
    let each: Vec<Tensor> = numbers.iter().map(|&x| Tensor::full([], x)).collect();
    match &each[..] {
        [one] if parameter.scalars.len() == 1 => one.clone(),
        several => Tensor::stack(&several.iter().collect::<Vec<_>>(), 0),
    }
}

/// A gradient; zeros for what only counts in integers, of which the lint `LN1` tells.
fn or_step(gradient: &Gradient, input: &Tensor) -> Tensor {
    match gradient.state() {
        State::NotDifferentiable { op } if op == "cast" => Tensor::zeros(input.shape()),
        _ => gradient.or_zero(),
    }
}

fn graph(
    function: &Function,
    parameters: &[Parameter],
    inputs: &[Tensor],
    upstream: f64,
) -> Result<Graph, Error> {
    let named: Vec<(&str, &Tensor)> = parameters.iter().map(|p| p.name.as_str()).zip(inputs).collect();
    let value = function.by_name(&named);
    let seed = Tensor::full(value.node()?.shape, upstream);
    let mut gradients = BTreeMap::new();
    for (position, input) in inputs.iter().enumerate() {
        if dtype_of(&parameters[position]).is_float() {
            gradients.insert(position, or_step(&vjp(&[(&value, &seed)], input)?, input));
        }
    }
    Ok(Graph { value, gradients })
}

/// Value and gradient as they are printed.
fn evaluated(
    graph: &Graph,
    parameters: &[Parameter],
    point: &[Vec<f64>],
    on: &impl Evaluate,
) -> Result<(Value, Map<String, Value>), Error> {
    let tensors: Vec<&Tensor> = std::iter::once(&graph.value).chain(graph.gradients.values()).collect();
    let mut results = on.evaluate(&tensors)?.into_iter().map(|array| array.to_f64());
    let value = results.next().unwrap_or_default();
    let value = printed(&value, value.len() == 1);
    let mut gradient = Map::new();
    for (&position, numbers) in graph.gradients.keys().zip(results) {
        let single = point[position].len() == 1;
        gradient.insert(parameters[position].name.clone(), printed(&numbers, single));
    }
    Ok((value, gradient))
}
fn printed(numbers: &[f64], single: bool) -> Value {
    match numbers {
        [one] if single => report::number(*one),
        several => report::numbers(several),
    }
}

/// The second derivative by each number of each parameter.
fn diagonal(
    graph: &Graph,
    parameters: &[Parameter],
    inputs: &[Tensor],
    point: &[Vec<f64>],
) -> Result<Map<String, Value>, Error> {
    let mut curvature = Map::new();
    for (&position, first) in &graph.gradients {
        let mut numbers = Vec::new();
        for k in 0..point[position].len() {
            let part = |tensor: &Tensor| match parameters[position].scalars.len() {
                1 => tensor.clone(),
                _ => tensor.slice(0, k, k + 1, 1).squeeze(0),
            };
            let second = part(&or_step(&grad(&part(first), &inputs[position])?, &inputs[position]));
            numbers.push(Reference::new().evaluate(&[&second])?[0].scalar()?);
        }
        curvature.insert(parameters[position].name.clone(), printed(&numbers, numbers.len() == 1));
    }
    Ok(curvature)
}
