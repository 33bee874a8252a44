//! `gradcheck` of a function at random points.

use std::collections::BTreeMap;

use cotangent_autograd::GradCheck;
use cotangent_autograd::check::Report;
use cotangent_tensor::random::random_words;
use cotangent_tensor::{Array, Code, DType, Error, Key, Reference, Tensor};

use crate::function::{Function, Parameter};

/// A comparison of the derivatives of a function with dual numbers, differences and forward mode, at random points:
/// [`Function::gradcheck`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FunctionCheck {
    function: Function,
    points: usize,
    seed: u64,
    order: usize,
    ranges: BTreeMap<String, (f64, f64)>,
}

impl Function {
    /// Compares the derivatives of the function with witnesses that know nothing of its rules, at random points. As
    /// [`GradCheck`], of a batch of points:
    ///
    /// ```
    /// # use cotangent_wgsl::Module;
    /// let text = "fn hinge(p: f32, y: f32) -> f32 { return max(0.0, 1.0 - y * p); }";
    /// let report = Module::parse("losses.wgsl", text)?.function("hinge")?.gradcheck().points(200).run()?;
    /// assert!(report.is_ok() && report.compared.total() >= 400, "{report}");
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    pub fn gradcheck(&self) -> FunctionCheck {
        let ranges = BTreeMap::new();
        FunctionCheck { function: self.clone(), points: 100, seed: 0, order: 1, ranges }
    }
}

impl FunctionCheck {
    /// How many points; 100 unless this says so.
    pub fn points(mut self, count: usize) -> FunctionCheck {
        self.points = count;
        self
    }
    /// Draws other points.
    pub fn seed(mut self, seed: u64) -> FunctionCheck {
        self.seed = seed;
        self
    }
    /// Checks derivatives up to this order, 1 to 3.
    pub fn order(mut self, order: usize) -> FunctionCheck {
        self.order = order;
        self
    }
    /// Draws the numbers of a parameter, or of a field as `s.a`, from an interval; integers from those in it, with both ends. Without this, floats
    /// come from −2 to 2, and integers are 0 or 1.
    pub fn between(mut self, parameter: &str, low: f64, high: f64) -> FunctionCheck {
        self.ranges.insert(parameter.to_string(), (low, high));
        self
    }
    /// Runs the check in double precision.
    ///
    /// The report lists what is wrong, with point and parameter; kinks with both slopes; surrogates with their distance from the derivative.
    ///
    /// Errors: `E_HYPERPARAMETER` for no points, an order that is not offered or an interval that holds nothing; `AD002` for an interval of no
    /// parameter; `E_WGSL` for a result that is a structure; those of [`GradCheck::run`].
    #[track_caller]
    pub fn run(&self) -> Result<Report, Error> {
        let wrong = |message: String| Error::new(Code::Hyperparameter, "gradcheck", message);
        if self.points == 0 {
            return Err(wrong("at 0 points nothing is compared".into()).hint("choose at least one"));
        }
        let leaves = self.function.leaves();
        if let Some(unknown) = self.ranges.keys().find(|name| leaves.iter().all(|leaf| leaf.name != **name)) {
            let names: Vec<&str> = leaves.iter().map(|leaf| leaf.name.as_str()).collect();
            let message = format!(
                "`{}` has no parameter `{unknown}`; there are: {}",
                self.function.name(),
                names.join(", ")
            );
            return Err(Error::new(Code::WgslNoParameter, "gradcheck", message));
        }
        let mut inputs = Vec::new();
        for (position, leaf) in leaves.iter().enumerate() {
            inputs.push(self.drawn(leaf, position)?);
        }
        let wanted = self.function.wanted_leaves(&leaves);
        let mut check = GradCheck::new().order(self.order);
        for position in (0..leaves.len()).filter(|position| !wanted[*position]) {
            check = check.fixed(position);
        }
        let called = |all: Vec<Tensor>| {
            let named: Vec<(&str, &Tensor)> =
                leaves.iter().map(|leaf| leaf.name.as_str()).zip(&all).collect();
            self.function.by_name(&named)
        };
        check.run(called, inputs, &Reference::new())
    }

    /// Numbers of a parameter at all points.
    fn drawn(&self, leaf: &Parameter, position: usize) -> Result<Tensor, Error> {
        let dtype = leaf.scalars.first().copied().unwrap_or(DType::F32);
        let (low, high) = match (self.ranges.get(&leaf.name), dtype.is_float()) {
            (Some(&range), true) => range,
            (Some(&(low, high)), false) => (low.ceil(), high.floor()),
            (None, true) => (-2.0, 2.0),
            (None, false) => (0.0, 1.0),
        };
        if !(low <= high && (high - low).is_finite()) {
            let message = format!("the interval of `{}` holds nothing", leaf.name);
            return Err(
                Error::new(Code::Hyperparameter, "gradcheck", message).hint("give the lower end first")
            );
        }
        let shape = match leaf.scalars.len() {
            1 => vec![self.points],
            several => vec![self.points, several],
        };
        let key = Key::new(self.seed).stream("points");
        let step = u32::try_from(position).unwrap_or(u32::MAX);
        let words = random_words(key, step, shape.iter().product()).into_iter();
        let unit = words.map(|word| (f64::from(word) + 0.5) / 2f64.powi(32));
        let whole = unit.clone().map(|u| (low + ((high - low + 1.0) * u).floor()).min(high));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
        let array = match dtype {
            DType::F32 | DType::F16 => {
                Array::new(unit.map(|u| low + (high - low) * u).collect::<Vec<f64>>(), shape)
            }
            DType::I32 => Array::new(whole.map(|x| x as i32).collect::<Vec<i32>>(), shape),
            DType::U32 => Array::new(whole.map(|x| x as u32).collect::<Vec<u32>>(), shape),
            DType::Bool => Array::new(whole.map(|x| x != 0.0).collect::<Vec<bool>>(), shape),
        };
        Ok(Tensor::new(array?))
    }
}
