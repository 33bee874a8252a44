//! The header of a safetensors file, checked before anything else sees the file.

use std::collections::HashSet;
use std::fmt;

use cotangent_tensor::{MAX_RANK, Shape};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Longest header that is read, in bytes.
const MAX_HEADER: usize = 16 << 20;
/// Most tensors in a file.
const MAX_TENSORS: usize = 1_000_000;

/// A tensor as the header describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) data_offsets: (usize, usize),
}

/// Text that describes the file. Values must be strings.
pub(super) type Metadata = std::collections::BTreeMap<String, String>;

/// A header that was checked.
#[derive(Debug)]
pub(super) struct Header {
    /// In the order of their data.
    pub(super) entries: Vec<(String, Entry)>,
    pub(super) metadata: Metadata,
    /// Where the data starts.
    pub(super) start: usize,
}

/// Names in the order of the file. A map would swallow duplicate names.
#[derive(Debug)]
struct Entries(Vec<(String, Entry)>, Metadata);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        deserializer.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Entries;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to tensors")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        use serde::de::Error as _;
        let (mut entries, mut metadata, mut seen) = (Vec::new(), Metadata::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("the name {name:?} occurs twice")));
            }
            if name == "__metadata__" {
                metadata = map.next_value()?;
                continue;
            }
            if name.is_empty() {
                return Err(A::Error::custom("a tensor has an empty name"));
            }
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            entries.push((name, map.next_value()?));
        }
        Ok(Entries(entries, metadata))
    }
}

/// Bytes per element of the types that may stand in a file.
pub(super) fn size_of(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "BOOL" | "I8" | "U8" => 1,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "F32" | "I32" | "U32" => 4,
        "F64" | "I64" | "U64" => 8,
        _ => return None,
    })
}

/// Every entry lies inside the file, the data is covered without holes and overlaps, and sizes are those of shape and type.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("has {} bytes, too few for a header", bytes.len()));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(format!(
            "is no safetensors file: it would have a header of {length} bytes, {MAX_HEADER} are allowed"
        ));
    }
    let Some(header) = rest.get(..length) else {
        return Err(format!("claims a header of {length} bytes, {} are there", rest.len()));
    };
    if header.first() != Some(&b'{') {
        return Err("its header does not start with `{`".to_string());
    }
    let Entries(mut entries, metadata) =
        serde_json::from_slice(header).map_err(|cause| format!("its header is not valid: {cause}"))?;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0usize;
    for (name, entry) in &entries {
        let Entry { dtype, shape, data_offsets: (start, stop) } = entry;
        let size = size_of(dtype).ok_or_else(|| format!("tensor {name:?} has the unknown type {dtype:?}"))?;
        if shape.len() > MAX_RANK {
            return Err(format!("tensor {name:?} has rank {}, {MAX_RANK} is the largest", shape.len()));
        }
        let elements = Shape::new(shape).map_err(|e| format!("tensor {name:?}: {}", e.message()))?.elements();
        let needed = elements.checked_mul(size);
        if needed.is_none() || stop.checked_sub(*start) != needed {
            return Err(format!("tensor {name:?}: {dtype} {shape:?} does not fill bytes {start}..{stop}"));
        }
        if *start != end {
            let what = if *start > end { "a hole" } else { "an overlap" };
            return Err(format!(
                "tensor {name:?} starts at byte {start}, the data before it ends at {end}: {what}"
            ));
        }
        end = *stop;
    }
    let there = rest.len() - length;
    if end != there {
        return Err(format!("its tensors take {end} bytes, {there} are there"));
    }
    Ok(Header { entries, metadata, start: 8 + length })
}
