//! Variables of a device, saved and loaded by name.

use std::panic::Location;
use std::path::Path;

use cotangent_device::{Device, Feed, Variable};
use cotangent_tensor::{DType, Error, Shape, Tensor};

use super::{load_into, save};

/// Saves variables under their names, atomically: parameters of a model, the state of its optimizer, or both in
/// one file.
///
/// Errors: `E_FILE` if the file cannot be written or two variables have one name; those of reading the device.
///
/// ```
/// use cotangent::prelude::*;
/// let device = Device::cpu();
/// let parameters = device.variables(&[("w", &[1.0, 2.0]), ("b", &0.5)])?;
/// let adam = Adam::default().attach(&device, &parameters)?;
/// # let path = std::env::temp_dir().join(format!("cotangent-variables-{}.safetensors", std::process::id()));
/// io::save_variables(&path, &device, parameters.iter().chain(adam.state()))?;
///
/// device.write(&parameters[0], &[0.0, 0.0])?;
/// io::load_variables(&path, &device, parameters.iter().chain(adam.state()))?;
/// assert_eq!(device.read(&parameters[0])?.to_f64(), [1.0, 2.0]);
///
/// let error = io::load_variables(&path, &device, &parameters).unwrap_err();
/// assert!(error.message().contains("\"first_moment\" is not expected"));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), Error>(())
/// ```
#[track_caller]
pub fn save_variables<'a>(
    path: impl AsRef<Path>,
    device: &Device,
    variables: impl IntoIterator<Item = &'a Variable>,
) -> Result<(), Error> {
    let variables: Vec<&Variable> = variables.into_iter().collect();
    let tensors: Vec<&Tensor> = variables.iter().map(|variable| variable.tensor()).collect();
    let at = Location::caller();
    let placed = |error: Error| if error.location().is_some() { error } else { error.at(at) };
    let values = device.read_all(&tensors).map_err(placed)?;
    let named: Vec<_> = variables.iter().map(|variable| variable.name()).zip(&values).collect();
    save(path, &named)
}

/// Gives variables the values that a file holds under their names: all of them, or none where anything does not fit. A device that
/// fails in the middle of the upload leaves some written.
///
/// The file must hold these names with their shapes and element types, and no other. Error: `E_FILE` that lists
/// *all* differences, as from [`load_into`]; those of writing to the device.
#[track_caller]
pub fn load_variables<'a>(
    path: impl AsRef<Path>,
    device: &Device,
    variables: impl IntoIterator<Item = &'a Variable>,
) -> Result<(), Error> {
    let variables: Vec<&Variable> = variables.into_iter().collect();
    let expected = |variable: &&'a Variable| -> Result<(&'a str, &'a Shape, DType), Error> {
        let node = variable.node()?;
        Ok((variable.name(), &node.shape, node.dtype))
    };
    let expected = variables.iter().map(expected).collect::<Result<Vec<_>, _>>()?;
    let values = load_into(path, &expected)?;
    let values: Vec<(&Tensor, &dyn Feed)> =
        variables.iter().zip(&values).map(|(variable, value)| (variable.tensor(), value as _)).collect();
    device.write_all(&values)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use cotangent_device::Variables;
    use cotangent_tensor::{Array, Code};

    use super::*;
    use crate::io::{load, to_bytes};

    /// A folder of its own for each test.
    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("cotangent-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A group, and single variables of every type that has storage.
    fn model(device: &Device, scale: f64) -> (Variables, Vec<Variable>) {
        let group = device
            .variables(&[("w", &[[0.1 * scale, -0.0], [f64::INFINITY, 1e-40]]), ("b", &(3.0 * scale))])
            .unwrap();
        let halves = Tensor::new([0.5 * scale, 65504.0, 3.0]).cast(DType::F16);
        let single = [
            device.variable("half", &halves),
            device.variable("count", &[i32::MIN, 7]),
            device.variable("steps", &(scale as u32)),
            device.variable("none", &Tensor::zeros([0, 2])),
        ];
        (group, single.into_iter().collect::<Result<_, _>>().unwrap())
    }
    fn all((group, single): &(Variables, Vec<Variable>)) -> impl Iterator<Item = &Variable> {
        group.iter().chain(single)
    }
    fn words(device: &Device, model: &(Variables, Vec<Variable>)) -> Vec<Vec<u32>> {
        let tensors: Vec<&Tensor> = all(model).map(|variable| variable.tensor()).collect();
        device.read_all(&tensors).unwrap().iter().map(Array::to_words).collect()
    }

    #[test]
    fn variables_of_every_type_come_back_bit_by_bit_on_every_device() {
        let folder = folder("round-trip");
        let mut devices = 0;
        for device in Device::all() {
            let path = folder.join(device.slug());
            let (saved, other) = (model(&device, 1.0), model(&device, 2.0));
            save_variables(&path, &device, all(&saved)).unwrap();
            assert_ne!(words(&device, &other), words(&device, &saved));
            // The order of the variables is of no importance.
            let mut turned: Vec<&Variable> = all(&other).collect();
            turned.reverse();
            load_variables(&path, &device, turned).unwrap();
            assert_eq!(words(&device, &other), words(&device, &saved), "{}", device.slug());
            assert_eq!(load(&path).unwrap().len(), 6);
            devices += 1;
        }
        assert!(devices >= 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_does_not_fit_changes_nothing_and_every_difference_is_listed() {
        let (device, folder) = (Device::cpu(), folder("differences"));
        let path = folder.join("model");
        let w = device.variable("w", &[1.0, 2.0]).unwrap();
        let b = device.variable("b", &[3.0]).unwrap();
        let new = device.variable("new", &4.0).unwrap();
        let before = |variable: &Variable| device.read(variable).unwrap().to_f64();
        let saved: [(&str, Array); 3] =
            [("w", [9.0, 9.0].into()), ("b", [9, 9].into()), ("surplus", 9.0.into())];
        save(&path, &saved.each_ref().map(|(name, array)| (*name, array))).unwrap();
        let error = load_variables(&path, &device, [&w, &b, &new]).unwrap_err();
        assert_eq!(error.code(), Code::File);
        for text in [
            "4 differences",
            "\"b\" has shape [2], [1] is expected",
            "\"b\" is i32, f32 is expected",
            "\"new\" is missing",
            "\"surplus\" is not expected",
        ] {
            assert!(error.message().contains(text), "{text} in {error}");
        }
        let twice = device.variable("w", &[5.0, 6.0]).unwrap();
        save(&path, &[("w", &[9.0, 9.0].into())]).unwrap();
        for (error, text) in [
            (load_variables(&path, &device, [&w, &twice]).unwrap_err(), "\"w\" is expected twice"),
            (save_variables(&path, &device, [&w, &twice]).unwrap_err(), "two tensors have the name \"w\""),
        ] {
            assert_eq!(error.code(), Code::File);
            assert!(error.message().contains(text), "{error}");
        }
        assert_eq!(
            [&w, &twice, &b, &new].map(before),
            [vec![1.0, 2.0], vec![5.0, 6.0], vec![3.0], vec![4.0]]
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_truncated_file_changes_nothing_wherever_it_ends() {
        let (device, folder) = (Device::cpu(), folder("truncated"));
        let path = folder.join("model");
        let parameters = device.variables(&[("w", &[1.0, 2.0]), ("b", &3.0)]).unwrap();
        let bytes = to_bytes(&[("w", &[9.0, 9.0].into()), ("b", &9.0.into())]).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = load_variables(&path, &device, &parameters).unwrap_err();
            assert_eq!(error.code(), Code::File, "{length} bytes: {error}");
        }
        let values = || device.read(parameters.flat()).unwrap().to_f64();
        assert_eq!((values()[..2].to_vec(), values()[64]), (vec![1.0, 2.0], 3.0));
        fs::write(&path, &bytes).unwrap();
        load_variables(&path, &device, &parameters).unwrap();
        assert_eq!((values()[..2].to_vec(), values()[64]), (vec![9.0, 9.0], 9.0));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_variable_of_another_device_changes_nothing() {
        let (device, other, folder) = (Device::cpu(), Device::cpu(), folder("devices"));
        let path = folder.join("model");
        let (w, b) = (device.variable("w", &1.0).unwrap(), other.variable("b", &2.0).unwrap());
        save(&path, &[("w", &9.0.into()), ("b", &9.0.into())]).unwrap();
        let error = load_variables(&path, &device, [&w, &b]).unwrap_err();
        assert_eq!(error.code(), Code::DeviceMismatch);
        assert_eq!(device.read(&w).unwrap().scalar().unwrap(), 1.0);
        fs::remove_dir_all(&folder).unwrap();
    }
}
