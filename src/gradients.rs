//! Gradients of several tensors, taken together.

use cotangent_autograd::Gradient;
use cotangent_tensor::{Error, Tensor};

/// [`Gradient::or_error`] and [`Gradient::or_zero`] of all gradients that [`grad`](crate::grad()) or
/// [`vjp`](crate::vjp()) give for an array, a slice or a vector.
///
/// ```
/// use cotangent::prelude::*;
/// let (w, b, unused) = (Tensor::new([1.0, 2.0]), Tensor::new(0.5), Tensor::new(3.0));
/// let loss = (&w * &w + &b).sum(..);
/// let [dw, db] = grad(&loss, [&w, &b])?.or_error()?;
/// let values = Reference::new().evaluate(&[&dw, &db])?;
/// assert_eq!((values[0].to_f64(), values[1].scalar()?), (vec![2.0, 4.0], 2.0));
///
/// let error = grad(&loss, &vec![&w, &unused])?.or_error().unwrap_err();
/// assert_eq!(error.code(), Code::Unconnected);
/// # Ok::<(), Error>(())
/// ```
pub trait OrError {
    /// As many tensors, in the same form.
    type Tensors;
    /// The derivatives, all of which must exist; structural zeros do. Error: that of the first gradient without
    /// one, as from [`Gradient::or_error`]; it says how many there are.
    fn or_error(&self) -> Result<Self::Tensors, Error>;
    /// The derivatives, with zeros where they are zero, unconnected or stopped; invalid where one is missing.
    fn or_zero(&self) -> Self::Tensors;
}

impl<const N: usize> OrError for [Gradient; N] {
    type Tensors = [Tensor; N];
    fn or_error(&self) -> Result<[Tensor; N], Error> {
        self[..].or_error().map(array)
    }
    fn or_zero(&self) -> [Tensor; N] {
        self.each_ref().map(Gradient::or_zero)
    }
}

impl OrError for [Gradient] {
    type Tensors = Vec<Tensor>;
    fn or_error(&self) -> Result<Vec<Tensor>, Error> {
        let tensors: Result<Vec<Tensor>, Error> = self.iter().map(Gradient::or_error).collect();
        tensors.map_err(|first| match self.iter().filter(|gradient| gradient.or_error().is_err()).count() {
            1 => first,
            missing => {
                let all = self.len();
                first
                    .within(format!("one of {missing} missing gradients of {all}; `audit` lists the reasons"))
            }
        })
    }
    fn or_zero(&self) -> Vec<Tensor> {
        self.iter().map(Gradient::or_zero).collect()
    }
}

fn array<const N: usize>(tensors: Vec<Tensor>) -> [Tensor; N] {
    let mut tensors = tensors.into_iter();
    std::array::from_fn(|_| tensors.next().expect("there is one tensor per gradient"))
}

#[cfg(test)]
mod tests {
    use cotangent_autograd::grad;
    use cotangent_tensor::{Code, Evaluate, Reference};

    use super::*;

    #[test]
    fn several_gradients_are_values_together_or_the_first_error() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| Tensor::new(2.0).named(name));
        let loss = &a * &a * &b + c.detach() + d.floor();
        let values =
            Reference::new().evaluate(&grad(&loss, [&b, &a]).unwrap().or_error().unwrap().each_ref());
        let values: Vec<f64> = values.unwrap().iter().map(|value| value.scalar().unwrap()).collect();
        assert_eq!(values, [4.0, 8.0]);
        // A structural zero is a derivative.
        assert_eq!(grad(&loss, vec![&a, &d]).unwrap().or_error().unwrap().len(), 2);
        let other = Tensor::new(1.0).named("other");
        let gradients = grad(&loss, [&a, &c, &other]).unwrap();
        let error = gradients.or_error().unwrap_err();
        assert_eq!(error.code(), Code::Stopped);
        assert!(error.to_string().contains("`c`"), "{error}");
        assert!(error.to_string().contains("one of 2 missing gradients of 3"), "{error}");
        assert!(error.to_string().contains("src/gradients.rs"), "{error}");
        let one = grad(&loss, vec![&a, &c]).unwrap().or_error().unwrap_err();
        assert!(!one.to_string().contains("missing gradients"), "{one}");
        let zeros = Reference::new().evaluate(&gradients.or_zero().each_ref()).unwrap();
        let zeros: Vec<f64> = zeros.iter().map(|value| value.scalar().unwrap()).collect();
        assert_eq!(zeros, [8.0, 0.0, 0.0]);
    }
}
