//! How a WGSL value is a run of scalars: vectors by component, matrices by column, arrays by element, structures by member.

use cotangent_tensor::{Code, DType};
use naga::{ArraySize, Handle, Module, ScalarKind, Type, TypeInner};

use crate::diagnose::Problem;
use crate::text::name_or;

/// Most numbers of one value: 16 KiB.
const MAX_NUMBERS: usize = 4096;

/// The element type of a scalar type.
pub(crate) fn dtype(scalar: naga::Scalar) -> Result<DType, Problem> {
    match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => Ok(DType::F32),
        (ScalarKind::Sint, 4) => Ok(DType::I32),
        (ScalarKind::Uint, 4) => Ok(DType::U32),
        (ScalarKind::Bool, _) => Ok(DType::Bool),
        (
            ScalarKind::Float
            | ScalarKind::Sint
            | ScalarKind::Uint
            | ScalarKind::AbstractInt
            | ScalarKind::AbstractFloat,
            _,
        ) => Err(Problem::new(Code::WgslType, "only f32, i32, u32 and bool are supported")
            .help("f16 tensors are converted when they are loaded: declare the parameter f32")),
    }
}

/// The element types of the scalars of a type, in order.
pub(crate) fn scalars(module: &Module, ty: &TypeInner) -> Result<Vec<DType>, Problem> {
    Ok(match ty {
        TypeInner::Scalar(scalar) => vec![dtype(*scalar)?],
        TypeInner::Vector { size, scalar } => vec![dtype(*scalar)?; *size as usize],
        TypeInner::Matrix { columns, rows, scalar } => {
            vec![dtype(*scalar)?; *columns as usize * *rows as usize]
        }
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            let (each, count) = (scalars_of(module, *base)?, count.get() as usize);
            few(each.len().saturating_mul(count))?;
            each.repeat(count)
        }
        TypeInner::Struct { members, .. } => {
            let mut all = Vec::new();
            for member in members {
                all.extend(scalars_of(module, member.ty)?);
                few(all.len())?;
            }
            all
        }
        _ => {
            return Err(Problem::new(Code::WgslType, "a value of this type is no run of numbers")
                .help("use f32, i32, u32, bool, vectors, matrices, arrays of constant length and structures of them"));
        }
    })
}

fn few(count: usize) -> Result<(), Problem> {
    if count <= MAX_NUMBERS {
        return Ok(());
    }
    let message = format!("a value of {count} numbers, where {MAX_NUMBERS} are allowed");
    Err(Problem::new(Code::WgslLimit, message).help("pass large arrays as tensors, and reduce them there"))
}

/// [`scalars`] of a type by its handle.
pub(crate) fn scalars_of(module: &Module, ty: Handle<Type>) -> Result<Vec<DType>, Problem> {
    scalars(module, &module.types[ty].inner)
}

/// How many parts a composite value has, and how many scalars lie before part `index`.
pub(crate) fn part(module: &Module, ty: &TypeInner, index: usize) -> Result<(usize, usize), Problem> {
    Ok(match ty {
        TypeInner::Vector { size, .. } => (*size as usize, index),
        TypeInner::Matrix { columns, rows, .. } => (*columns as usize, index * *rows as usize),
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            (count.get() as usize, index * scalars_of(module, *base)?.len())
        }
        TypeInner::Struct { members, .. } => {
            let mut before = 0;
            for member in members.iter().take(index) {
                before += scalars_of(module, member.ty)?.len();
            }
            (members.len(), before)
        }
        _ => return Err(Problem::new(Code::WgslType, "a value of this type has no parts")),
    })
}

/// The scalars of a value of a type, by what leads to them: `v.x`, `z[1]`, `o.delta`.
pub(crate) fn named(module: &Module, name: &str, ty: Handle<Type>) -> Result<Vec<(String, DType)>, Problem> {
    let inner = &module.types[ty].inner;
    let kinds = scalars(module, inner)?;
    let same = |name: String| (name, kinds[0]);
    Ok(match inner {
        TypeInner::Vector { size, .. } => {
            "xyzw".chars().take(*size as usize).map(|c| same(format!("{name}.{c}"))).collect()
        }
        TypeInner::Matrix { columns, rows, .. } => {
            let of_column = |c: usize| (0..*rows as usize).map(move |r| (c, r));
            let all = (0..*columns as usize).flat_map(of_column);
            all.map(|(c, r)| same(format!("{name}[{c}][{r}]"))).collect()
        }
        TypeInner::Array { base, .. } => {
            let count = kinds.len() / scalars_of(module, *base)?.len().max(1);
            let elements = (0..count).map(|i| named(module, &format!("{name}[{i}]"), *base));
            elements.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        }
        TypeInner::Struct { members, .. } => {
            let of_member = |member: &naga::StructMember| {
                named(module, &format!("{name}.{}", name_or(&member.name, "_")), member.ty)
            };
            members.iter().map(of_member).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        }
        _ => kinds.iter().map(|&dtype| (name.to_string(), dtype)).collect(),
    })
}
