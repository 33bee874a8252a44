//! Random functions in WGSL, and a walk through them with dual numbers, one path at a time.

use std::fmt::Write as _;

/// Parameters: x, y, z, and an integer k.
pub(crate) const FLOATS: usize = 3;

// ------------------------------------------------------------------------------------------------------ programs

#[derive(Clone, Debug)]
pub(crate) enum Number {
    Literal(f64),
    /// A variable, `x`, `y` and `z` first.
    Variable(usize),
    /// An element of the array: a constant index, or one made of k.
    Element(Index),
    /// The counter of the innermost loop.
    Counter,
    Unary(&'static str, Box<Number>),
    Binary(&'static str, Box<Number>, Box<Number>),
    Choice(Box<Test>, Box<Number>, Box<Number>),
    /// The helper of two numbers, which returns early.
    Helper(Box<Number>, Box<Number>),
}

#[derive(Clone, Debug)]
pub(crate) enum Index {
    Constant(usize),
    Of(i32),
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Less(Number, Number),
    And(Box<Test>, Box<Test>),
    Not(Box<Test>),
    KIs(i32),
}

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Assign(usize, Number),
    AssignElement(Index, Number),
    If(Test, Vec<Statement>, Vec<Statement>),
    For(i32, Vec<Statement>),
    /// Counts in its body; leaves when the test holds at its start.
    While(i32, Test, Vec<Statement>),
    Switch(Vec<Statement>, Vec<Statement>, Vec<Statement>),
    LeaveIf(&'static str, Test),
    ReturnIf(Test, Number),
}

pub(crate) struct Program {
    variables: usize,
    body: Vec<Statement>,
    result: Number,
}

// ----------------------------------------------------------------------------------------------------- generation

pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    /// A multiple of 1/8 that f32 holds.
    pub(crate) fn eighth(&mut self) -> f64 {
        self.below(41) as f64 / 8.0 - 2.5
    }
}

pub(crate) struct Generator {
    random: Random,
    variables: usize,
    loops: usize,
}

impl Generator {
    fn number(&mut self, depth: usize) -> Number {
        let kind = if depth == 0 { self.random.below(4) } else { self.random.below(12) };
        match kind {
            0 => Number::Literal(self.random.eighth()),
            1 | 2 => Number::Variable(self.random.below(self.variables)),
            3 if self.loops > 0 => Number::Counter,
            3 => Number::Element(self.index()),
            4..=6 => {
                let row = self.random.pick(&["+", "-", "*", "*", "/", "max", "min", "atan2"]);
                Number::Binary(row, Box::new(self.number(depth - 1)), Box::new(self.number(depth - 1)))
            }
            7 | 8 => {
                let row = self.random.pick(&[
                    "-",
                    "abs",
                    "sqrt",
                    "log",
                    "exp",
                    "sin",
                    "tanh",
                    "sigmoid",
                    "log1p",
                    "floor",
                    "softplus",
                    "inverseSqrt",
                ]);
                Number::Unary(row, Box::new(self.number(depth - 1)))
            }
            9 => Number::Helper(Box::new(self.number(depth - 1)), Box::new(self.number(depth - 1))),
            _ => {
                let test = Box::new(self.test(depth - 1));
                Number::Choice(test, Box::new(self.number(depth - 1)), Box::new(self.number(depth - 1)))
            }
        }
    }
    fn index(&mut self) -> Index {
        if self.random.below(2) == 0 {
            Index::Constant(self.random.below(3))
        } else {
            Index::Of(self.random.below(3) as i32)
        }
    }
    fn test(&mut self, depth: usize) -> Test {
        match self.random.below(6) {
            0 if depth > 0 => Test::And(Box::new(self.test(depth - 1)), Box::new(self.test(depth - 1))),
            1 if depth > 0 => Test::Not(Box::new(self.test(depth - 1))),
            2 => Test::KIs(self.random.below(3) as i32),
            _ => Test::Less(self.number(depth), self.number(depth)),
        }
    }
    fn block(&mut self, depth: usize) -> Vec<Statement> {
        (0..1 + self.random.below(3)).map(|_| self.statement(depth)).collect()
    }
    fn statement(&mut self, depth: usize) -> Statement {
        let kind = if depth == 0 { self.random.below(4) } else { self.random.below(10) };
        match kind {
            // parameters cannot be assigned
            0..=2 if self.variables > FLOATS => {
                let variable = FLOATS + self.random.below(self.variables - FLOATS);
                Statement::Assign(variable, self.number(2))
            }
            0..=2 => Statement::AssignElement(self.index(), self.number(2)),
            3 if self.loops > 0 => Statement::LeaveIf(self.random.pick(&["break", "continue"]), self.test(1)),
            3 => Statement::AssignElement(self.index(), self.number(1)),
            4 | 5 => {
                let other = if self.random.below(2) == 0 { self.block(depth - 1) } else { Vec::new() };
                Statement::If(self.test(1), self.block(depth - 1), other)
            }
            6 | 7 => {
                self.loops += 1;
                let rounds = 1 + self.random.below(4) as i32;
                let body = self.block(depth - 1);
                let statement = if self.random.below(2) == 0 {
                    Statement::For(rounds, body)
                } else {
                    Statement::While(rounds, self.test(1), body)
                };
                self.loops -= 1;
                statement
            }
            8 => {
                // `break` in a case leaves the case: none is made there
                let loops = std::mem::take(&mut self.loops);
                let cases = [0; 3].map(|_| self.block(depth - 1));
                self.loops = loops;
                let [a, b, c] = cases;
                Statement::Switch(a, b, c)
            }
            _ => Statement::ReturnIf(self.test(1), self.number(2)),
        }
    }
    pub(crate) fn program(seed: u64) -> Program {
        let mut generator = Generator { random: Random(seed), variables: FLOATS + 2, loops: 0 };
        let body: Vec<Statement> = (0..3).map(|_| generator.statement(3)).collect();
        Program { variables: generator.variables, body, result: generator.number(3) }
    }
}

// --------------------------------------------------------------------------------------------------------- as text

const NAMES: [&str; 5] = ["x", "y", "z", "a", "b"];

impl Number {
    fn text(&self, depth: usize) -> String {
        match self {
            // a call, so that the parser does not evaluate constants: it refuses log(-1.0)
            Number::Literal(x) => format!("lit({x:?})"),
            Number::Variable(v) => NAMES[*v].into(),
            Number::Element(index) => format!("s[{}]", index.text()),
            Number::Counter => format!("f32(i{})", depth.max(1) - 1),
            Number::Unary("-", a) => format!("(-{})", a.text(depth)),
            Number::Unary(row, a) => format!("{row}({})", a.text(depth)),
            Number::Binary(row @ ("max" | "min" | "atan2"), a, b) => {
                format!("{row}({}, {})", a.text(depth), b.text(depth))
            }
            Number::Binary(sign, a, b) => format!("({} {sign} {})", a.text(depth), b.text(depth)),
            Number::Choice(test, a, b) => {
                format!("select({}, {}, {})", b.text(depth), a.text(depth), test.text(depth))
            }
            Number::Helper(a, b) => format!("helper({}, {})", a.text(depth), b.text(depth)),
        }
    }
}
impl Index {
    pub(crate) fn text(&self) -> String {
        match self {
            Index::Constant(i) => i.to_string(),
            Index::Of(shift) => format!("(k + {shift}) % 3"),
        }
    }
    fn at(&self, k: i32) -> usize {
        match self {
            Index::Constant(i) => *i,
            Index::Of(shift) => ((k + shift) % 3) as usize,
        }
    }
}
impl Test {
    fn text(&self, depth: usize) -> String {
        match self {
            Test::Less(a, b) => format!("({} < {})", a.text(depth), b.text(depth)),
            Test::And(a, b) => format!("({} && {})", a.text(depth), b.text(depth)),
            Test::Not(a) => format!("!{}", a.text(depth)),
            Test::KIs(x) => format!("(k == {x})"),
        }
    }
}

pub(crate) fn print(block: &[Statement], depth: usize, indent: usize, to: &mut String) {
    let margin = "  ".repeat(indent);
    for statement in block {
        let _ = match statement {
            Statement::Assign(v, value) => writeln!(to, "{margin}{} = {};", NAMES[*v], value.text(depth)),
            Statement::AssignElement(index, value) => {
                writeln!(to, "{margin}s[{}] = {};", index.text(), value.text(depth))
            }
            Statement::If(test, a, b) => {
                let _ = writeln!(to, "{margin}if {} {{", test.text(depth));
                print(a, depth, indent + 1, to);
                if !b.is_empty() {
                    let _ = writeln!(to, "{margin}}} else {{");
                    print(b, depth, indent + 1, to);
                }
                writeln!(to, "{margin}}}")
            }
            Statement::For(rounds, body) => {
                let _ = writeln!(to, "{margin}for (var i{depth} = 0; i{depth} < {rounds}; i{depth}++) {{");
                print(body, depth + 1, indent + 1, to);
                writeln!(to, "{margin}}}")
            }
            Statement::While(rounds, test, body) => {
                // in a block of its own: it declares its counter
                let _ = writeln!(to, "{margin}{{ var i{depth} = 0;");
                let _ = writeln!(to, "{margin}while i{depth} < {rounds} {{");
                let _ =
                    writeln!(to, "{margin}  i{depth}++;\n{margin}  if {} {{ break; }}", test.text(depth + 1));
                print(body, depth + 1, indent + 1, to);
                writeln!(to, "{margin}}} }}")
            }
            Statement::Switch(a, b, c) => {
                let _ = writeln!(to, "{margin}switch k {{");
                for (label, body) in [("case 0, 5", a), ("case 1", b), ("default", c)] {
                    let _ = writeln!(to, "{margin}  {label}: {{");
                    print(body, depth, indent + 2, to);
                    let _ = writeln!(to, "{margin}  }}");
                }
                writeln!(to, "{margin}}}")
            }
            Statement::LeaveIf(how, test) => writeln!(to, "{margin}if {} {{ {how}; }}", test.text(depth)),
            Statement::ReturnIf(test, value) => {
                writeln!(to, "{margin}if {} {{ return {}; }}", test.text(depth), value.text(depth))
            }
        };
    }
}

impl Program {
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "fn lit(x: f32) -> f32 { return x; }\nfn helper(p: f32, q: f32) -> f32 {\n  if p < q { return p * q; }\n  var r = p;\n  for (var i = 0; i < 2; i++) { r = r - q * 0.25; if r < q { return r; } }\n  return r + q;\n}\n\
             fn f(x: f32, y: f32, z: f32, k: i32) -> f32 {\n  var s = array<f32, 3>(x, y, 0.5);\n",
        );
        for name in &NAMES[FLOATS..self.variables] {
            let _ = writeln!(text, "  var {name} = z;");
        }
        print(&self.body, 0, 1, &mut text);
        text + &format!("  return {};\n}}\n", self.result.text(0))
    }
}

// ---------------------------------------------------------------------------------------------- with dual numbers

/// A number and its derivatives by x, y and z.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dual(pub(crate) f64, pub(crate) [f64; FLOATS]);

impl Dual {
    fn map(self, value: f64, slope: f64) -> Dual {
        // what does not vary stays so, however steep the function is
        Dual(value, self.1.map(|d| if d == 0.0 { 0.0 } else { d * slope }))
    }
    fn combine(self, other: Dual, value: f64, [a, b]: [f64; 2]) -> Dual {
        let (left, right) = (self.map(value, a), other.map(value, b));
        Dual(value, std::array::from_fn(|i| left.1[i] + right.1[i]))
    }
}

pub(crate) enum Left {
    No,
    Break,
    Continue,
    Return(Dual),
}

pub(crate) struct Walk {
    variables: Vec<Dual>,
    array: [Dual; 3],
    counters: Vec<i32>,
    k: i32,
    /// A decision was so close that rounding could turn it, or a kink was met.
    close: bool,
}

impl Walk {
    fn decide(&mut self, a: f64, b: f64) -> bool {
        // not a NaN: those compare the same everywhere
        self.close |= (a - b).abs() <= 1e-7 * (1.0 + a.abs() + b.abs());
        a < b
    }
    fn number(&mut self, number: &Number) -> Dual {
        match number {
            Number::Literal(x) => Dual(*x, [0.0; FLOATS]),
            Number::Variable(v) => self.variables[*v],
            Number::Element(index) => self.array[index.at(self.k)],
            Number::Counter => Dual(self.counters.last().copied().unwrap_or(0).into(), [0.0; FLOATS]),
            Number::Unary(row, a) => {
                let a = self.number(a);
                let x = a.0;
                let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
                let (value, slope) = match *row {
                    "-" => (-x, -1.0),
                    "abs" => {
                        self.decide(x, 0.0);
                        (x.abs(), x.signum())
                    }
                    "sqrt" => (x.sqrt(), 0.5 / x.sqrt()),
                    "log" => (x.ln(), 1.0 / x),
                    "exp" => (x.exp(), x.exp()),
                    "sin" => (x.sin(), x.cos()),
                    "tanh" => (x.tanh(), 1.0 - x.tanh().powi(2)),
                    "sigmoid" => (sigmoid(x), sigmoid(x) * sigmoid(-x)),
                    "log1p" => (x.ln_1p(), 1.0 / (1.0 + x)),
                    "floor" => {
                        self.decide(x, x.round());
                        (x.floor(), 0.0)
                    }
                    "softplus" => (x.max(0.0) + (-x.abs()).exp().ln_1p(), sigmoid(x)),
                    "inverseSqrt" => (1.0 / x.sqrt(), -0.5 / (x * x.sqrt())),
                    other => panic!("{other}"),
                };
                // times a zero it is NaN in reverse mode, everywhere
                self.close |= slope.is_infinite();
                a.map(value, slope)
            }
            Number::Binary(row, a, b) => {
                let (p, q) = (self.number(a), self.number(b));
                let (a, b) = (p.0, q.0);
                match *row {
                    "+" => p.combine(q, a + b, [1.0, 1.0]),
                    "-" => p.combine(q, a - b, [1.0, -1.0]),
                    "*" => p.combine(q, a * b, [b, a]),
                    "/" => p.combine(q, a / b, [1.0 / b, -a / (b * b)]),
                    // NaN if either is
                    "max" | "min" if a.is_nan() || b.is_nan() => Dual(f64::NAN, [f64::NAN; FLOATS]),
                    "max" => {
                        if self.decide(a, b) {
                            q
                        } else {
                            p
                        }
                    }
                    "min" => {
                        if self.decide(a, b) {
                            p
                        } else {
                            q
                        }
                    }
                    "atan2" => {
                        let square = a * a + b * b;
                        self.close |= square == 0.0;
                        p.combine(q, a.atan2(b), [b / square, -a / square])
                    }
                    other => panic!("{other}"),
                }
            }
            Number::Choice(test, a, b) => {
                if self.test(test) {
                    self.number(a)
                } else {
                    self.number(b)
                }
            }
            Number::Helper(a, b) => {
                let (p, q) = (self.number(a), self.number(b));
                if self.decide(p.0, q.0) {
                    return p.combine(q, p.0 * q.0, [q.0, p.0]);
                }
                let mut r = p;
                for _ in 0..2 {
                    r = r.combine(q, r.0 - q.0 * 0.25, [1.0, -0.25]);
                    if self.decide(r.0, q.0) {
                        return r;
                    }
                }
                r.combine(q, r.0 + q.0, [1.0, 1.0])
            }
        }
    }
    fn test(&mut self, test: &Test) -> bool {
        match test {
            Test::Less(a, b) => {
                let (a, b) = (self.number(a).0, self.number(b).0);
                self.decide(a, b)
            }
            Test::And(a, b) => self.test(a) && self.test(b),
            Test::Not(a) => !self.test(a),
            Test::KIs(x) => self.k == *x,
        }
    }
    fn block(&mut self, block: &[Statement]) -> Left {
        for statement in block {
            match self.statement(statement) {
                Left::No => {}
                left => return left,
            }
        }
        Left::No
    }
    fn statement(&mut self, statement: &Statement) -> Left {
        match statement {
            Statement::Assign(v, value) => self.variables[*v] = self.number(value),
            Statement::AssignElement(index, value) => self.array[index.at(self.k)] = self.number(value),
            Statement::If(test, a, b) => return if self.test(test) { self.block(a) } else { self.block(b) },
            Statement::For(rounds, body) => {
                for i in 0..*rounds {
                    self.counters.push(i);
                    let left = self.block(body);
                    self.counters.pop();
                    match left {
                        Left::No | Left::Continue => {}
                        Left::Break => break,
                        Left::Return(_) => return left,
                    }
                }
            }
            Statement::While(rounds, test, body) => {
                for i in 0..*rounds {
                    self.counters.push(i + 1);
                    let left = if self.test(test) { Left::Break } else { self.block(body) };
                    self.counters.pop();
                    match left {
                        Left::No | Left::Continue => {}
                        Left::Break => break,
                        Left::Return(_) => return left,
                    }
                }
            }
            Statement::Switch(a, b, c) => {
                return match self.k {
                    0 | 5 => self.block(a),
                    1 => self.block(b),
                    _ => self.block(c),
                };
            }
            Statement::LeaveIf(how, test) => {
                if self.test(test) {
                    return if *how == "break" { Left::Break } else { Left::Continue };
                }
            }
            Statement::ReturnIf(test, value) => {
                if self.test(test) {
                    return Left::Return(self.number(value));
                }
            }
        }
        Left::No
    }
}

/// Value and gradient at a point; none where a decision is close.
pub(crate) fn walk(program: &Program, point: [f64; FLOATS], k: i32) -> Option<Dual> {
    let inputs: Vec<Dual> =
        (0..FLOATS).map(|i| Dual(point[i], std::array::from_fn(|j| f64::from(u8::from(i == j))))).collect();
    let mut variables = inputs.clone();
    variables.resize(program.variables, inputs[2]);
    let array = [inputs[0], inputs[1], Dual(0.5, [0.0; FLOATS])];
    let mut walk = Walk { variables, array, counters: Vec::new(), k, close: false };
    let result = match walk.block(&program.body) {
        Left::Return(value) => value,
        Left::No | Left::Break | Left::Continue => walk.number(&program.result),
    };
    (!walk.close).then_some(result)
}
