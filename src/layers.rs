//! Layers: shapes, initial values and a forward expression. Nothing here owns storage.
//!
//! A layer lists its parameters as `(name, value)` pairs, in the order in which its forward pass expects them.
//! A device makes variables of the list (`device.variables(&layers::named(&parameters))`), their views go into
//! `forward`. Initial values come from the counter-based generator: the same numbers everywhere, independent of
//! device and order.
//!
//! ```
//! use cotangent::prelude::*;
//!
//! let network = Mlp::new(&[1, 30, 20, 1], Activation::Tanh);
//! let parameters = network.parameters(Key::new(7))?;
//! assert_eq!(parameters[0].0, "layer0.weight");
//! assert_eq!(parameters.len(), 6);
//!
//! let variables = Device::cpu().variables(&layers::named(&parameters))?;
//! let x = Tensor::new([[0.5], [1.0]]);
//! let eta = network.forward(&variables.views(), &x);
//! assert_eq!(eta.shape()[..], [2, 1]);
//! # Ok::<(), Error>(())
//! ```

use std::panic::Location;

use cotangent_device::Initial;
use cotangent_tensor::random::random_words;
use cotangent_tensor::{Array, Code, Error, Key, Shape, Tensor, Values};

/// A parameter: its name and its initial value.
pub type Parameter = (String, Array);

/// Parameters in the form that [`Device::variables`](crate::Device::variables) takes.
pub fn named(parameters: &[Parameter]) -> Vec<(&str, &dyn Initial)> {
    parameters.iter().map(|(name, value)| (name.as_str(), value as &dyn Initial)).collect()
}

/// The function between two layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `tanh x`.
    Tanh,
    /// `σ(x)`.
    Sigmoid,
    /// `log(1 + eˣ)`.
    Softplus,
    /// `x·σ(x)`, also called SiLU or swish.
    Swish,
    /// `x·Φ(x)`, with the exact normal distribution function.
    Gelu,
}

impl Activation {
    /// Every activation.
    pub const ALL: &[Activation] = &[
        Activation::Identity,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Softplus,
        Activation::Swish,
        Activation::Gelu,
    ];
    /// Applies it.
    #[track_caller]
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Activation::Identity => x.clone(),
            Activation::Relu => x.relu(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::Softplus => x.softplus(),
            Activation::Swish => x * x.sigmoid(),
            // Φ(x) by erfc: accurate in the left tail, where 1 + erf would cancel.
            Activation::Gelu => x * 0.5 * (-std::f64::consts::FRAC_1_SQRT_2 * x).erfc(),
        }
    }
    /// The initializer that keeps the size of signals through a layer with this activation.
    pub fn initializer(self) -> Initializer {
        match self {
            Activation::Relu | Activation::Softplus | Activation::Swish | Activation::Gelu => Initializer::He,
            Activation::Identity | Activation::Tanh | Activation::Sigmoid => Initializer::Xavier,
        }
    }
}

/// The range of uniform initial weights; `in` and `out` are the sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initializer {
    /// Zeros.
    Zeros,
    /// `±1/√in`.
    Uniform,
    /// `±√(6/(in + out))`. Source: Glorot & Bengio, AISTATS (2010).
    Xavier,
    /// `±√(6/in)`. Source: He et al., ICCV (2015).
    He,
}

impl Initializer {
    /// Values of this shape. Multiples of 2⁻²³ times the range, computed in f64: the same numbers everywhere.
    pub fn values(self, key: Key, shape: Shape, inputs: usize, outputs: usize) -> Result<Array, Error> {
        let (inputs, outputs) = (inputs.max(1) as f64, outputs.max(1) as f64);
        let range = match self {
            Initializer::Zeros => 0.0,
            Initializer::Uniform => 1.0 / inputs.sqrt(),
            Initializer::Xavier => (6.0 / (inputs + outputs)).sqrt(),
            Initializer::He => (6.0 / inputs).sqrt(),
        };
        // As `Tensor::uniform`, then stretched from [0, 1) to ±range.
        let signed = |word: u32| (f64::from(word >> 8) * 2f64.powi(-23) - 1.0) * range;
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, as a device would at upload")]
        let values: Vec<f32> =
            random_words(key, 0, shape.elements()).into_iter().map(|word| signed(word) as f32).collect();
        Array::new(Values::Single(values), shape)
    }
}

/// An affine map `x·W + b` of the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Length of the last axis of the operand.
    pub inputs: usize,
    /// Length of the last axis of the result.
    pub outputs: usize,
    /// How the weights start; the bias starts at zero.
    pub initializer: Initializer,
}

impl Linear {
    /// With weights `±1/√inputs`.
    pub fn new(inputs: usize, outputs: usize) -> Linear {
        Linear { inputs, outputs, initializer: Initializer::Uniform }
    }
    /// With other initial weights.
    pub fn with_initializer(self, initializer: Initializer) -> Linear {
        Linear { initializer, ..self }
    }
    /// `{name}.weight` of shape `[inputs, outputs]` and `{name}.bias` of shape `[outputs]`. Error:
    /// `E_TOO_LARGE`.
    #[track_caller]
    pub fn parameters(&self, name: &str, key: Key) -> Result<Vec<Parameter>, Error> {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let at = Location::caller();
        let shape = Shape::new(&[inputs, outputs])
            .map_err(|error| error.at(at).within(format!("the weights of the layer `{name}`")))?;
        let weights = self.initializer.values(key.stream(&weight), shape, inputs, outputs)?;
        let biases = Array::new(vec![0f32; outputs], [outputs])?;
        Ok(vec![(weight, weights), (bias, biases)])
    }
    /// `x·W + b`. Invalid with `E_MATMUL_DIM` if weight, bias or operand are not of the layer's shapes: a bias of another
    /// length would broadcast.
    #[track_caller]
    pub fn forward(&self, weight: &Tensor, bias: &Tensor, x: &Tensor) -> Tensor {
        let at = Location::caller();
        let (inputs, outputs) = (self.inputs, self.outputs);
        for (name, tensor, expected) in
            [("weight", weight, &[inputs, outputs][..]), ("bias", bias, &[outputs])]
        {
            // An invalid operand speaks for itself.
            let Ok(node) = tensor.node() else { return tensor.clone() };
            if node.shape[..] != *expected {
                let message = format!("{name} has shape {}, the layer has {expected:?}", node.shape);
                return Tensor::invalid(Error::new(Code::MatmulDim, "linear", message).at(at));
            }
        }
        let Ok(node) = x.node() else { return x.clone() };
        if node.shape.last() != Some(&inputs) {
            let message = format!("the operand has shape {}, the layer has {inputs} inputs", node.shape);
            let error = Error::new(Code::MatmulDim, "linear", message).at(at);
            return Tensor::invalid(error.hint("the last axis of the operand holds the inputs"));
        }
        x.matmul(weight) + bias
    }
}

/// Linear layers with an activation between them; the last result is affine: a natural parameter, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    widths: Vec<usize>,
    activation: Activation,
    initializer: Initializer,
}

impl Mlp {
    /// `widths` are the sizes from input to output.
    pub fn new(widths: &[usize], activation: Activation) -> Mlp {
        Mlp { widths: widths.to_vec(), activation, initializer: activation.initializer() }
    }
    /// With other initial weights.
    pub fn with_initializer(self, initializer: Initializer) -> Mlp {
        Mlp { initializer, ..self }
    }
    /// The layers, from input to output.
    pub fn layers(&self) -> impl Iterator<Item = Linear> + '_ {
        let linear = |pair: &[usize]| Linear::new(pair[0], pair[1]).with_initializer(self.initializer);
        self.widths.windows(2).map(linear)
    }
    /// Weight and bias per layer: `layer0.weight`, `layer0.bias`, `layer1.weight`, … Error: `E_TOO_LARGE`.
    #[track_caller]
    pub fn parameters(&self, key: Key) -> Result<Vec<Parameter>, Error> {
        let mut parameters = Vec::new();
        for (position, layer) in self.layers().enumerate() {
            parameters.extend(layer.parameters(&format!("layer{position}"), key)?);
        }
        Ok(parameters)
    }
    /// The network on tensors in the order of [`Mlp::parameters`]. Invalid with `E_DATA_LENGTH` for another number.
    #[track_caller]
    pub fn forward(&self, parameters: &[Tensor], x: &Tensor) -> Tensor {
        let layers = self.widths.len().saturating_sub(1);
        if parameters.len() != 2 * layers {
            let message = format!("{} parameters for {layers} layers, which have 2 each", parameters.len());
            return Tensor::invalid(Error::new(Code::DataLength, "mlp", message).at(Location::caller()));
        }
        let mut signal = x.clone();
        for (position, (layer, pair)) in self.layers().zip(parameters.chunks_exact(2)).enumerate() {
            let affine = layer.forward(&pair[0], &pair[1], &signal);
            signal = if position + 1 < layers { self.activation.apply(&affine) } else { affine };
        }
        signal
    }
}

#[cfg(test)]
mod tests {
    use cotangent_tensor::{Evaluate, Reference};

    use super::*;

    fn evaluate(tensor: &Tensor) -> Vec<f64> {
        Reference::new().evaluate(&[tensor]).unwrap()[0].to_f64()
    }

    #[test]
    fn initial_values_lie_in_their_range_and_depend_on_key_and_name() {
        let (key, shape) = (Key::new(3), Shape::new(&[40, 50]).unwrap());
        let ranges = [
            (Initializer::Uniform, 1.0 / 40f64.sqrt()),
            (Initializer::Xavier, (6.0 / 90f64).sqrt()),
            (Initializer::He, (6.0 / 40f64).sqrt()),
        ];
        for (initializer, range) in ranges {
            let values = initializer.values(key, shape, 40, 50).unwrap().to_f64();
            let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
            assert!(largest <= range * (1.0 + f64::from(f32::EPSILON)) && largest > 0.99 * range);
            let mean = values.iter().sum::<f64>() / 2000.0;
            assert!(mean.abs() < range / 10.0, "{mean}");
        }
        let of =
            |seed: u64, name: &str| Linear::new(2, 3).parameters(name, Key::new(seed)).unwrap()[0].1.to_f64();
        assert_eq!(of(1, "a"), of(1, "a"));
        assert_ne!(of(1, "a"), of(2, "a"));
        assert_ne!(of(1, "a"), of(1, "b"));
        // Fixed for all time: checkpoints and published runs depend on it.
        assert_eq!(of(1, "a")[0].to_bits(), evaluate(&first_weight(Key::new(1)))[0].to_bits());
    }

    /// The first weight of `Linear::new(2, 3).parameters("a", key)` as a tensor expression.
    fn first_weight(key: Key) -> Tensor {
        let uniform = Tensor::uniform(key.stream("a.weight"), 0u32, [1]);
        let exact = evaluate(&((uniform * 2.0 - 1.0) * (1.0 / 2f64.sqrt())))[0];
        Tensor::new([exact as f32])
    }

    #[test]
    fn a_network_is_its_layers_with_activations_between_them() {
        let network = Mlp::new(&[2, 3, 1], Activation::Relu);
        let w0 = Tensor::new([[1.0, -1.0, 0.5], [2.0, 1.0, -1.0]]);
        let (b0, w1, b1) =
            (Tensor::new([0.0, 0.5, 0.0]), Tensor::new([[1.0], [2.0], [3.0]]), Tensor::new([-1.0]));
        let x = Tensor::new([[1.0, 2.0]]);
        // Hidden: relu(5, 1.5, −1.5) = (5, 1.5, 0).
        assert_eq!(evaluate(&network.forward(&[w0, b0, w1, b1], &x)), [7.0]);
        assert_eq!(network.forward(&[], &x).error().unwrap().code(), Code::DataLength);
        assert!(Mlp::new(&[2], Activation::Relu).parameters(Key::new(1)).unwrap().is_empty());
    }

    #[test]
    fn a_layer_takes_its_own_shapes_only() {
        let layer = Linear::new(2, 1);
        let (weight, bias, x) = (Tensor::ones([2, 1]), Tensor::ones([1]), Tensor::ones([3, 2]));
        assert_eq!(layer.forward(&weight, &bias, &x).shape()[..], [3, 1]);
        let wrong = [
            (layer.forward(&weight, &Tensor::ones([5]), &x), "bias has shape [5], the layer has [1]"),
            (
                layer.forward(&Tensor::ones([2, 4]), &bias, &x),
                "weight has shape [2, 4], the layer has [2, 1]",
            ),
            (layer.forward(&weight, &bias, &Tensor::ones([3, 4])), "the layer has 2 inputs"),
            (layer.forward(&weight, &bias, &Tensor::ones([])), "the operand has shape []"),
        ];
        for (tensor, text) in wrong {
            let error = tensor.error().unwrap();
            assert_eq!(error.code(), Code::MatmulDim);
            assert!(error.message().contains(text), "{error}");
            assert!(error.to_string().contains("src/layers.rs"), "{error}");
        }
        // The first mistake travels on.
        let invalid = Tensor::ones([2]) + Tensor::ones([3]);
        assert_eq!(layer.forward(&weight, &bias, &invalid).error().unwrap().code(), Code::Broadcast);
        let network = Mlp::new(&[2, 3, 1], Activation::Relu);
        let shapes = [&[2, 3][..], &[1], &[3, 1], &[1]].map(|shape: &[usize]| Tensor::ones(shape));
        assert_eq!(network.forward(&shapes, &x).error().unwrap().code(), Code::MatmulDim);
    }

    #[test]
    fn activations_are_zero_or_half_open_at_zero() {
        let at_zero: Vec<f64> =
            Activation::ALL.iter().map(|a| evaluate(&a.apply(&Tensor::new([0.0])))[0]).collect();
        assert_eq!(at_zero, [0.0, 0.0, 0.0, 0.5, 2f64.ln(), 0.0, 0.0]);
    }
}
