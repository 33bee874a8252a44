//! Builtin functions of whole vectors and matrices, and products of matrices.

use naga::{MathFunction as M, TypeInner};

use super::Precision;
use super::builtins::{frexp, ldexp};
use super::witness::Trace;

/// `Σ xᵢ·yᵢ` from the first to the last.
pub(super) fn dot(x: &[f64], y: &[f64], precision: Precision) -> f64 {
    let products = x.iter().zip(y).map(|(x, y)| precision.round(x * y));
    products.reduce(|sum, product| precision.round(sum + product)).unwrap_or(0.0)
}

/// `√(x·x)`, as the specification has it; of a number its magnitude.
fn length(x: &[f64], precision: Precision) -> f64 {
    match x {
        [x] => x.abs(),
        _ => dot(x, x, precision).sqrt(),
    }
}

/// A builtin of whole vectors; none if it is another one. Scalars are vectors of one.
pub(super) fn vector(
    function: M,
    a: [&[f64]; 3],
    precision: Precision,
    trace: &mut Trace,
) -> Option<Vec<f64>> {
    let [x, y, z] = a;
    let minus = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<f64>>();
    let exact = Precision::F64;
    Some(match function {
        M::Dot => vec![dot(x, y, precision)],
        M::Length | M::Distance => {
            let length =
                if function == M::Length { length(x, precision) } else { length(&minus(x, y), precision) };
            // its derivative jumps at 0, and that of a number changes its sign there
            trace.compare(length, 0.0);
            if let (&[x], M::Length) = (x, function) {
                trace.compare(x, 0.0);
            }
            if let (&[x], &[y], M::Distance) = (x, y, function) {
                trace.compare(x, y);
            }
            vec![length]
        }
        M::Normalize => {
            let length = precision.round(length(x, precision));
            x.iter().map(|x| x / length).collect()
        }
        M::Cross => {
            let &[x0, x1, x2] = x else { return None };
            let &[y0, y1, y2] = y else { return None };
            vec![x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0]
        }
        M::FaceForward => {
            let facing = dot(y, z, exact);
            trace.compare(facing, 0.0);
            x.iter().map(|x| if facing < 0.0 { *x } else { -x }).collect()
        }
        M::Reflect => {
            let twice = 2.0 * dot(y, x, exact);
            x.iter().zip(y).map(|(x, y)| x - twice * y).collect()
        }
        M::Refract => {
            let (ratio, cosine) = (z.first().copied().unwrap_or(f64::NAN), dot(y, x, exact));
            let k = 1.0 - ratio * ratio * (1.0 - cosine * cosine);
            trace.compare(k, 0.0);
            let along = ratio * cosine + k.sqrt();
            let bent = x.iter().zip(y).map(|(x, y)| if k < 0.0 { 0.0 } else { ratio * x - along * y });
            bent.collect()
        }
        M::Modf => {
            let whole: Vec<f64> = x.iter().map(|&x| trace.truncate(x)).collect();
            [minus(x, &whole), whole].concat()
        }
        _ => return None,
    })
}

/// `frexp` of a vector: its fractions, then its exponents.
pub(super) fn frexp_all(x: &[f64], trace: &mut Trace) -> (Vec<f64>, Vec<u32>) {
    let parts = x.iter().map(|&x| frexp(x));
    parts
        .map(|(fraction, exponent)| {
            trace.note(exponent.cast_unsigned().into());
            trace.compare(fraction.abs(), 0.5);
            (fraction, exponent.cast_unsigned())
        })
        .unzip()
}

/// `ldexp` of a vector.
pub(super) fn ldexp_all(x: &[f64], exponents: &[u32]) -> Vec<f64> {
    x.iter().zip(exponents).map(|(&x, e)| ldexp(x, e.cast_signed())).collect()
}

/// `transpose` and `determinant`; none for another builtin.
pub(super) fn matrix(function: M, ty: &TypeInner, x: &[f64]) -> Option<Vec<f64>> {
    let &TypeInner::Matrix { columns, rows, .. } = ty else { return None };
    let (columns, rows) = (columns as usize, rows as usize);
    match function {
        M::Transpose => {
            let across = (0..rows).flat_map(|row| (0..columns).map(move |column| column * rows + row));
            Some(across.map(|i| x[i]).collect())
        }
        M::Determinant => Some(vec![determinant(x, columns)]),
        _ => None,
    }
}

/// By the first column.
fn determinant(x: &[f64], n: usize) -> f64 {
    if n == 1 {
        return x[0];
    }
    let minor = |without: usize| -> Vec<f64> {
        let rest = (1..n).flat_map(|column| (0..n).map(move |row| (column, row)));
        rest.filter(|&(_, row)| row != without).map(|(column, row)| x[column * n + row]).collect()
    };
    let terms = (0..n).map(|row| {
        let term = x[row] * determinant(&minor(row), n - 1);
        if row % 2 == 0 { term } else { -term }
    });
    terms.sum()
}

/// A product in which a matrix is a factor and nothing is a number; none for others.
pub(super) fn product(
    (left, x): (&TypeInner, &[f64]),
    (right, y): (&TypeInner, &[f64]),
    precision: Precision,
) -> Option<Vec<f64>> {
    // inner extent; a vector on the left is a row, one on the right a column
    let (rows, inner) = match *left {
        TypeInner::Matrix { columns, rows, .. } => (rows as usize, columns as usize),
        TypeInner::Vector { size, .. } if matches!(right, TypeInner::Matrix { .. }) => (1, size as usize),
        _ => return None,
    };
    let columns = match *right {
        TypeInner::Matrix { columns, .. } => columns as usize,
        TypeInner::Vector { .. } if matches!(left, TypeInner::Matrix { .. }) => 1,
        _ => return None,
    };
    let mut product = Vec::with_capacity(rows * columns);
    for column in 0..columns {
        for row in 0..rows {
            let across: Vec<f64> = (0..inner).map(|k| x[k * rows + row]).collect();
            product.push(dot(&across, &y[column * inner..(column + 1) * inner], precision));
        }
    }
    Some(product)
}
