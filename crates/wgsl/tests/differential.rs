//! Random functions: what the interpreter computes from the text is what the reference computes from the lowered expression.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use cotangent_autograd::grad;
use cotangent_tensor::{Code, Evaluate, Reference, Tensor};
use cotangent_wgsl::{Function, Interpreter, Module};

struct Random(u64);
impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
    fn number(&mut self) -> f64 {
        self.below(4001) as f64 / 1000.0 - 2.0
    }
}

/// Writes a function of three numbers.
struct Writer {
    random: Random,
    text: String,
    /// Names that may be read; those after the first three are variables.
    names: Vec<String>,
    loops: usize,
}

impl Writer {
    fn name(&mut self) -> String {
        let index = self.random.below(self.names.len());
        self.names[index].clone()
    }
    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.below(3) {
                0 => format!("{:?}f", self.random.number()),
                _ => self.name(),
            };
        }
        let mut next = || self.expression(depth - 1);
        let (a, b, c) = (next(), next(), next());
        match self.random.below(30) {
            0..4 => format!("({a} + {b})"),
            4..7 => format!("({a} - {b})"),
            7..10 => format!("({a} * {b})"),
            10 => format!("({a} / {b})"),
            11 => format!("min({a}, {b})"),
            12 => format!("max({a}, {b})"),
            13 => format!("abs({a})"),
            14 => format!("sqrt(abs({a}))"),
            15 => format!("exp(clamp({a}, -3.0, 3.0))"),
            16 => format!("sin({a}) + log(1.0 + abs({b}))"),
            17 => format!("select({a}, {b}, {})", self.condition(depth - 1)),
            18 => format!("mix({a}, {b}, {c})"),
            19 => format!("floor({a}) + fract({b})"),
            20 => format!("sign({a}) * {b}"),
            21 => format!("dot(vec2<f32>({a}, {b}), vec2<f32>({b}, {c}))"),
            22 => format!("length(vec3<f32>({a}, {b}, {c}))"),
            23 => format!("step({a}, {b}) + smoothstep({c} - 1.0f, {c} + 1.0f, {a})"),
            24 => format!("f32(i32(clamp({a}, -9.0, 9.0)) * 3 % 5)"),
            25 => format!("(-({a}))"),
            26 => format!("(mat2x2<f32>({a}, {b}, {c}, 1.0) * vec2<f32>({b}, {a})).y"),
            27 => format!("helper({a}, {b})"),
            28 => format!("softplus({a}) - sigmoid({b})"),
            _ => format!("cross(vec3<f32>({a}, {b}, 1.0), vec3<f32>({c}, 2.0, {a})).z"),
        }
    }
    fn condition(&mut self, depth: usize) -> String {
        let (a, b) = (self.expression(depth), self.expression(depth));
        let sign = ["<", "<=", ">", ">=", "==", "!="][self.random.below(6)];
        match self.random.below(5) {
            0 => format!("({a} {sign} {b} && {a} > -1.0)"),
            1 => format!("({a} {sign} {b} || {b} < 0.5)"),
            2 => format!("!({a} {sign} {b})"),
            _ => format!("{a} {sign} {b}"),
        }
    }
    fn line(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
    }
    fn target(&mut self) -> String {
        let index = 3 + self.random.below(self.names.len() - 3);
        self.names[index].clone()
    }
    fn block(&mut self, depth: usize, in_loop: bool) {
        let known = self.names.len();
        for _ in 0..1 + self.random.below(3) {
            let (target, value) = (self.target(), self.expression(2));
            match self.random.below(if depth == 0 { 4 } else { 10 }) {
                0 | 1 => self.line(&format!("{target} = {value};")),
                2 => {
                    let sign = ["+", "-", "*"][self.random.below(3)];
                    self.line(&format!("{target} {sign}= {value};"));
                }
                3 => {
                    let name = format!("v{}", self.text.len());
                    self.line(&format!("var {name} = {value};"));
                    self.names.push(name);
                }
                4..7 => {
                    let condition = self.condition(1);
                    self.line(&format!("if {condition} {{"));
                    self.block(depth - 1, in_loop);
                    match self.random.below(8) {
                        0 => self.line(&format!("return {target};")),
                        1 | 2 if in_loop => self.line("break;"),
                        3 if in_loop => self.line("continue;"),
                        _ => {}
                    }
                    if self.random.below(2) == 0 {
                        self.line("} else {");
                        self.block(depth - 1, in_loop);
                    }
                    self.line("}");
                }
                7 => {
                    let of = self.name();
                    self.line(&format!("switch i32(clamp({of}, -5.0, 5.0)) {{ case 0, 2 {{"));
                    self.block(depth - 1, false);
                    self.line("} case -1: {");
                    self.block(depth - 1, false);
                    self.line("} default {");
                    self.block(depth - 1, false);
                    self.line("} }");
                }
                _ if self.loops < 3 => {
                    self.loops += 1;
                    let (counter, rounds) = (format!("i{}", self.text.len()), 1 + self.random.below(4));
                    self.line(&format!("for (var {counter} = 0; {counter} < {rounds}; {counter}++) {{"));
                    self.block(depth - 1, true);
                    self.line(&format!("{target} += f32({counter}) * 0.25 + cells[{counter}]; cells[3 - {counter}] = {target};"));
                    self.line("}");
                }
                _ => self.line(&format!("cells[1] += {value};")),
            }
        }
        self.names.truncate(known);
    }
}

fn function(seed: u64) -> String {
    let names = ["x", "y", "z", "s", "t"].map(String::from).to_vec();
    let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut writer = Writer { random, text: String::new(), names, loops: 0 };
    writer.line("fn helper(a: f32, b: f32) -> f32 { if a > b { return a - 0.5 * b; } return a * b; }");
    writer.line("fn f(x: f32, y: f32, z: f32) -> f32 {");
    writer.line("var s = x; var t = y - z; var cells = array<f32, 4>(x, y, z, 0.5);");
    writer.block(2, false);
    let result = writer.expression(2);
    writer.line(&format!("return {result} + s - t + cells[2];"));
    writer.line("}");
    writer.text
}

/// None for a text that is refused for a reason that is not looked at here.
fn parsed(seed: u64, text: &str) -> Option<(Module, Function)> {
    let module = match Module::parse("random.wgsl", text) {
        Ok(module) => module,
        // a constant that the front end computed
        Err(error) if error.message().contains("Float literal is") => return None,
        Err(error) => panic!("seed {seed}: {error}"),
    };
    match module.function("f") {
        Ok(function) => Some((module, function)),
        Err(error) if [Code::WgslNodes, Code::WgslLimit].contains(&error.code()) => None,
        Err(error) => panic!("seed {seed}: {error}\n{text}"),
    }
}

#[test]
fn the_interpreter_agrees_with_the_lowered_expression() {
    let (mut compared, mut finite, mut refused) = (0, 0, 0);
    for seed in 0..1500 {
        let text = function(seed);
        let Some((module, lowered)) = parsed(seed, &text) else {
            refused += 1;
            continue;
        };
        let mut random = Random(seed + 77);
        let points: Vec<[f64; 3]> = (0..8).map(|_| [0, 1, 2].map(|_| random.number())).collect();
        let column = |k: usize| Tensor::from(points.iter().map(|point| point[k]).collect::<Vec<f64>>());
        let expected = lowered.call(&[&column(0), &column(1), &column(2)]);
        let expected = Reference::new().evaluate(&[&expected]).unwrap()[0].to_f64();
        let interpreter = Interpreter::new(&module);
        for (point, expected) in points.iter().zip(expected) {
            let arguments = point.map(|x| [x]);
            let arguments = [&arguments[0][..], &arguments[1][..], &arguments[2][..]];
            let run = interpreter
                .call("f", &arguments)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
            let got = run.result()[0];
            let near = (got - expected).abs() <= 1e-9 * expected.abs().max(1.0);
            assert!(
                near || got == expected || got.is_nan() && expected.is_nan(),
                "seed {seed} at {point:?}: interpreted {got}, lowered {expected}\n{text}"
            );
            assert_eq!(run.first_nonfinite().is_none(), got.is_finite(), "seed {seed} at {point:?}\n{text}");
            compared += 1;
            finite += usize::from(got.is_finite());
        }
    }
    assert!(compared > 10_000 && refused < 200, "{compared} compared, {refused} refused");
    assert!(finite > compared / 2 && finite < compared, "{finite} of {compared} finite");
}

/// Where the trace says that nothing jumps, differences of the text agree with derivatives of the expression.
#[test]
fn differences_within_one_trace_are_derivatives() {
    let (mut compared, mut kinks) = (0, 0);
    for seed in 2000..2600 {
        let text = function(seed);
        let Some((module, lowered)) = parsed(seed, &text) else { continue };
        let mut random = Random(seed + 77);
        let point = [0, 1, 2].map(|_| random.number());
        let [x, y, z] = point.map(|x| Tensor::full([], x));
        let value = lowered.call(&[&x, &y, &z]);
        let slope = grad(&value, &x).unwrap().or_zero();
        let slope = Reference::new().evaluate(&[&slope]).unwrap()[0].scalar().unwrap();
        let interpreter = Interpreter::new(&module);
        let at = |offset: f64| {
            let run = interpreter.call("f", &[&[point[0] + offset], &[point[1]], &[point[2]]]).unwrap();
            (run.result()[0], run.trace())
        };
        let h = 1e-5;
        let near = [-2.0, -1.0, 0.0, 1.0, 2.0].map(|k| at(k * h));
        if near.iter().any(|(value, _)| !value.is_finite()) {
            continue;
        }
        if near.iter().any(|(_, trace)| *trace != near[2].1) {
            kinks += 1;
            continue;
        }
        let (wide, narrow) = ((near[4].0 - near[0].0) / (4.0 * h), (near[3].0 - near[1].0) / (2.0 * h));
        // a function that oscillates within the step has no difference that means something
        if (wide - narrow).abs() > 1e-4 * (1.0 + narrow.abs()) {
            continue;
        }
        let best = (4.0 * narrow - wide) / 3.0;
        // what the differences themselves are worth: their own spread, and the rounding of the values
        let worth = 10.0 * (wide - narrow).abs() + 1e-9 * (near[2].0.abs() / h).max(1.0);
        let rounding = 1e-6 * slope.abs();
        assert!(
            (best - slope).abs() <= worth + rounding,
            "seed {seed} at {point:?}: {best} ± {worth}, {slope}\n{text}"
        );
        compared += 1;
    }
    assert!(compared > 300 && kinks > 0, "{compared} compared, {kinks} at kinks");
}
