//! Named arrays in safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::panic::Location;
use std::path::Path;

use ::safetensors::tensor::{Dtype, View, serialize};
use cotangent_tensor::{Array, DType, Error, Shape, Values};

use super::header::{Header, parse};
use super::{error, write_atomically};

/// One array on its way into a file.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes named arrays, atomically. Floats are stored as F32, F16 where the array is marked so.
///
/// ```
/// use cotangent::{Array, io};
/// let folder = std::env::temp_dir();
/// let path = folder.join(format!("cotangent-save-{}.safetensors", std::process::id()));
/// io::save(&path, &[("w", &Array::from([[1.0, 2.0], [3.0, 4.0]])), ("steps", &Array::from(7u32))])?;
/// let loaded = io::load(&path)?;
/// assert_eq!(loaded["w"].to_f64(), [1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(loaded["steps"].scalar()?, 7.0);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn save(path: impl AsRef<Path>, arrays: &[(&str, &Array)]) -> Result<(), Error> {
    save_described(path, arrays, &[])
}

/// As [`save`], with texts that describe the arrays, by name; [`description`] reads them.
///
/// ```
/// use cotangent::{Array, io};
/// let path = std::env::temp_dir().join(format!("cotangent-describe-{}.safetensors", std::process::id()));
/// io::save_described(&path, &[("w", &Array::from([1.0, 2.0]))], &[("unit", "mm")])?;
/// assert_eq!(io::description(&path)?["unit"], "mm");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn save_described(
    path: impl AsRef<Path>,
    arrays: &[(&str, &Array)],
    description: &[(&str, &str)],
) -> Result<(), Error> {
    let (path, at) = (path.as_ref(), Location::caller());
    let metadata = description.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let bytes = bytes_of(arrays, metadata).map_err(|message| error(path, message));
    bytes.and_then(|bytes| write_atomically(path, &bytes)).map_err(|error| error.at(at))
}

/// The texts that describe a file; empty where there are none.
#[track_caller]
pub fn description(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>, Error> {
    let (path, at) = (path.as_ref(), Location::caller());
    let texts = bytes_in(path).and_then(|bytes| parse(&bytes).map(|header| header.metadata));
    texts.map_err(|message| error(path, message).at(at))
}

/// The bytes of a file with these arrays. The error is a text: names that occur twice or are empty.
pub fn to_bytes(arrays: &[(&str, &Array)]) -> Result<Vec<u8>, String> {
    bytes_of(arrays, HashMap::new())
}

fn bytes_of(arrays: &[(&str, &Array)], metadata: HashMap<String, String>) -> Result<Vec<u8>, String> {
    let mut named = BTreeMap::new();
    for (name, array) in arrays {
        if let Some(error) = array.error() {
            return Err(format!("{name:?} holds no data: {}", error.message()));
        }
        if name.is_empty() || *name == "__metadata__" {
            return Err(format!("{name:?} cannot be the name of a tensor"));
        }
        if named.insert(name.to_string(), stored(array)).is_some() {
            return Err(format!("two tensors have the name {name:?}"));
        }
    }
    let metadata = Some(metadata).filter(|texts| !texts.is_empty());
    serialize(named, metadata).map_err(|cause| cause.to_string())
}

fn stored(array: &Array) -> Stored {
    let (dtype, bytes) = match array.dtype() {
        DType::F32 => (Dtype::F32, array.to_words().into_iter().flat_map(u32::to_le_bytes).collect()),
        DType::I32 => (Dtype::I32, array.to_words().into_iter().flat_map(u32::to_le_bytes).collect()),
        DType::U32 => (Dtype::U32, array.to_words().into_iter().flat_map(u32::to_le_bytes).collect()),
        DType::F16 => {
            let halves = array.to_f32().into_iter().map(half::f16::from_f32);
            (Dtype::F16, halves.flat_map(half::f16::to_le_bytes).collect())
        }
        DType::Bool => (Dtype::BOOL, array.to_words().into_iter().map(|word| u8::from(word != 0)).collect()),
    };
    Stored { dtype, shape: array.shape().to_vec(), bytes }
}

/// Reads every array of a file. F64 and 64-bit integers, BF16 and bytes are refused by name: they would not survive.
#[track_caller]
pub fn load(path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>, Error> {
    let (path, at) = (path.as_ref(), Location::caller());
    let arrays = bytes_in(path).and_then(|bytes| from_bytes(&bytes));
    arrays.map_err(|message| error(path, message).at(at))
}

fn bytes_in(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|cause| format!("cannot be read: {cause}"))
}

/// The arrays of a file in memory. The error is a text.
pub fn from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Array>, String> {
    let Header { entries, start, .. } = parse(bytes)?;
    let data = &bytes[start..];
    // The crate's own opinion as well: what it refuses is refused.
    ::safetensors::SafeTensors::deserialize(bytes).map_err(|cause| cause.to_string())?;
    let mut arrays = BTreeMap::new();
    for (name, entry) in entries {
        let (first, last) = entry.data_offsets;
        let array = decode(&entry.dtype, &entry.shape, &data[first..last])
            .map_err(|message| format!("tensor {name:?}: {message}"))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// Copies values out of unaligned bytes.
fn decode(dtype: &str, shape: &[usize], bytes: &[u8]) -> Result<Array, String> {
    let shape = Shape::new(shape).map_err(|e| e.message().to_string())?;
    let words = || bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let values = match dtype {
        "F32" => Values::Single(words().map(f32::from_bits).collect()),
        "I32" => Values::Int(words().map(|word| word as i32).collect()),
        "U32" => Values::Uint(words().collect()),
        "F16" => Values::Single(
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        ),
        "BOOL" => match bytes.iter().find(|&&byte| byte > 1) {
            Some(byte) => return Err(format!("a truth value is {byte}, not 0 or 1")),
            None => Values::Bool(bytes.iter().map(|&byte| byte == 1).collect()),
        },
        other => return Err(format!("the type {other} is not supported; F32, F16, I32, U32 and BOOL are")),
    };
    let array = Array::new(values, shape).map_err(|e| e.message().to_string())?;
    Ok(if dtype == "F16" { array.with_dtype(DType::F16) } else { array })
}

/// Reads the arrays that a model expects, given as `(name, shape, type)`, in that order.
///
/// Error: `E_FILE` that lists *all* differences: missing and unexpected names, other shapes, other types.
///
/// ```
/// use cotangent::{Array, DType, Shape, io};
/// let path = std::env::temp_dir().join(format!("cotangent-load-{}.safetensors", std::process::id()));
/// io::save(&path, &[("weight", &Array::from([1.0, 2.0])), ("extra", &Array::from(1.0))])?;
/// let shape = Shape::new(&[3])?;
/// let error = io::load_into(&path, &[("weight", &shape, DType::F32), ("bias", &shape, DType::F32)]).unwrap_err();
/// assert!(error.message().contains("3 differences"));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn load_into(path: impl AsRef<Path>, expected: &[(&str, &Shape, DType)]) -> Result<Vec<Array>, Error> {
    let path = path.as_ref();
    let mut found = load(path)?;
    let mut differences = Vec::new();
    let mut arrays = Vec::new();
    for (position, (name, shape, dtype)) in expected.iter().enumerate() {
        let Some(array) = found.remove(*name) else {
            let twice = expected[..position].iter().any(|(other, ..)| other == name);
            differences.push(format!("{name:?} is {}", if twice { "expected twice" } else { "missing" }));
            continue;
        };
        if array.shape() != *shape {
            differences.push(format!("{name:?} has shape {}, {shape} is expected", array.shape()));
        }
        if array.dtype() != *dtype {
            differences.push(format!("{name:?} is {}, {dtype} is expected", array.dtype()));
        }
        arrays.push(array);
    }
    let only_more = differences.is_empty();
    differences.extend(found.keys().map(|name| format!("{name:?} is not expected")));
    if differences.is_empty() {
        return Ok(arrays);
    }
    let count = differences.len();
    let plural = if count == 1 { "difference" } else { "differences" };
    let message = format!("does not fit the model, {count} {plural}:\n    {}", differences.join("\n    "));
    Err(error(path, message).at(Location::caller()).hint(match only_more {
        true => {
            "the file holds more than that: `io::load` gives all of it, `Device::write` takes what is wanted"
        }
        false => "the file was saved from another model",
    }))
}

#[cfg(test)]
mod tests {
    use cotangent_tensor::Code;

    use super::*;

    /// A file with this header and so many bytes of data.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    }
    fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    }
    fn one(dtype: &str, shape: &str, offsets: &str) -> String {
        format!(r#"{{"a":{}}}"#, entry(dtype, shape, offsets))
    }

    #[test]
    fn every_type_survives() {
        let arrays: [(&str, Array); 6] = [
            ("float", [1.5, -0.0, f64::INFINITY].into()),
            ("half", Array::from([0.5, 65504.0]).with_dtype(DType::F16)),
            ("int", [i32::MIN, 3].into()),
            ("uint", [u32::MAX].into()),
            ("bool", [true, false].into()),
            ("empty", Array::new(Vec::<f32>::new(), [2, 0]).unwrap()),
        ];
        let named: Vec<(&str, &Array)> = arrays.iter().map(|(name, array)| (*name, array)).collect();
        let loaded = from_bytes(&to_bytes(&named).unwrap()).unwrap();
        assert_eq!(loaded.len(), arrays.len());
        for (name, array) in &arrays {
            let found = &loaded[*name];
            assert_eq!((found.shape(), found.dtype()), (array.shape(), array.dtype()));
            assert_eq!(found.to_words(), array.to_words(), "{name}");
        }
        assert!(to_bytes(&[named[0], named[0]]).unwrap_err().contains("two tensors"));
    }

    #[test]
    fn a_description_survives_and_a_file_without_one_has_none() {
        let folder = std::env::temp_dir().join(format!("cotangent-described-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.safetensors");
        crate::io::check_writable(&path).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let (w, texts) = (Array::from([1.0, 2.0]), [("family", "poisson"), ("note", "été \"q\"")]);
        save_described(&path, &[("w", &w)], &texts).unwrap();
        let found = description(&path).unwrap();
        assert_eq!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), texts);
        assert_eq!(load(&path).unwrap()["w"].to_f64(), [1.0, 2.0]);
        save(&path, &[("w", &w)]).unwrap();
        assert!(description(&path).unwrap().is_empty());
        for wrong in [&folder, &folder.join("absent/model.safetensors"), Path::new("/")] {
            assert_eq!(crate::io::check_writable(wrong).unwrap_err().code(), Code::File);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn crafted_files_are_refused() {
        let two = |a: &str, b: &str| format!(r#"{{"a":{a},"b":{b}}}"#);
        let (first, second) = (entry("F32", "[1]", "[0,4]"), entry("F32", "[1]", "[4,8]"));
        let duplicate = format!(r#"{{"a":{first},"a":{second}}}"#);
        let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        let huge = "[2305843009213693951]";
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![1, 2, 3], "too few"),
            (u64::MAX.to_le_bytes().to_vec(), "are allowed"),
            (100u64.to_le_bytes().to_vec(), "0 are there"),
            (file(" {}", 0), "start with"),
            (file("[]", 0), "start with"),
            (file("{", 0), "not valid"),
            (file(&deep, 0), "not valid"),
            (file("{\"\u{7f}\":3}", 0), "not valid"),
            (file(&duplicate, 8), "twice"),
            (file(&one("F32", "[1]", "[0,4]").replace("\"a\"", "\"\""), 4), "empty name"),
            (file(&one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4), "rank 9"),
            (file(&one("F32", "[0,1099511627776,1099511627776]", "[0,0]"), 0), "does not fit 32 bits"),
            (file(&one("F32", huge, "[0,4]"), 4), "does not fit 32 bits"),
            (file(&one("F7", "[1]", "[0,4]"), 4), "unknown type"),
            (file(&one("F32", "[-1]", "[0,4]"), 4), "not valid"),
            (file(&one("F32", "[1.5]", "[0,4]"), 4), "not valid"),
            (file(&one("F32", "[2]", "[0,4]"), 4), "does not fill"),
            (file(&one("F32", "[1]", "[4,0]"), 4), "does not fill"),
            (file(&one("F32", "[1]", "[4,8]"), 8), "a hole"),
            (file(&two(&first, &first), 4), "an overlap"),
            (file(&one("F32", "[1]", "[0,4]"), 5), "5 are there"),
            (file(&one("F32", "[1]", "[0,4]"), 3), "3 are there"),
            (file(&one("F32", "[1]", "[0,4]").replace("shape", "form"), 4), "not valid"),
            (file(r#"{"__metadata__":{"a":1}}"#, 0), "not valid"),
            (file(&one("F64", "[1]", "[0,8]"), 8), "not supported"),
            (
                file(&one("BOOL", "[2]", "[0,2]"), 2).iter().map(|b| if *b == 1 { 2 } else { *b }).collect(),
                "truth",
            ),
        ];
        let count = cases.len();
        let mut refused = 0;
        for (bytes, reason) in cases {
            let message = from_bytes(&bytes).map(|_| String::new()).unwrap_or_else(|message| message);
            assert!(message.contains(reason), "{reason:?} expected, got {message:?}");
            refused += 1;
        }
        assert_eq!(refused, count);
    }

    #[test]
    fn every_truncation_and_every_changed_header_byte_is_an_error_or_another_file() {
        let bytes = to_bytes(&[("w", &[1.0, 2.0].into()), ("b", &[3, 4].into())]).unwrap();
        for length in 0..bytes.len() {
            assert!(from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 0x11;
            // Must not panic; what is accepted is a file with other values or names.
            let _ = from_bytes(&changed);
        }
    }

    #[test]
    fn all_differences_are_listed_at_once() {
        let folder = std::env::temp_dir().join(format!("cotangent-io-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.safetensors");
        save(&path, &[("w", &[1.0, 2.0].into()), ("b", &[3].into()), ("old", &1.0.into())]).unwrap();
        let shape = Shape::new(&[1]).unwrap();
        let expected = [("w", &shape, DType::F32), ("b", &shape, DType::F32), ("new", &shape, DType::F32)];
        let error = load_into(&path, &expected).unwrap_err();
        assert_eq!(error.code(), Code::File);
        for text in [
            "4 differences",
            r#""w" has shape [2], [1]"#,
            r#""b" is i32, f32"#,
            r#""new" is missing"#,
            r#""old" is not"#,
        ] {
            assert!(error.message().contains(text), "{text} in {error}");
        }
        assert_eq!(
            load_into(&path, &[("w", &Shape::new(&[2]).unwrap(), DType::F32)]).unwrap_err().code(),
            Code::File
        );
        // Data that was refused is not taken for empty.
        let ragged = Array::from(vec![vec![1.0, 2.0], vec![3.0]]);
        let refused = save(folder.join("ragged"), &[("w", &ragged)]).unwrap_err();
        assert!(refused.message().contains("row 1 has 1 values"), "{refused}");
        // Nothing but the file is left behind, and a folder cannot be written.
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(save(&folder, &[]).unwrap_err().message().contains("cannot be written"));
        assert!(load(folder.join("absent")).unwrap_err().message().contains("cannot be read"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
