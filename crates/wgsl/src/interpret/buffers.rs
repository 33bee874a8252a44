//! What the host binds: numbers or words into cells, and back.

use cotangent_tensor::{Code, DType, Error};

use super::Precision;
use super::memory::Variable;
use super::shape::{self, Cell, Scalar, Shapes, float};
use crate::interpret::operators::word_of;

/// A variable with what the host gave for it.
#[derive(Clone, Debug)]
pub(super) struct Buffer<'m> {
    pub(super) variable: Variable<'m>,
    scalars: Vec<Scalar>,
    /// All words, those between the scalars as well.
    words: Vec<u32>,
}

fn wrong(name: &str, message: String) -> Error {
    Error::new(Code::WgslBinding, "interpret", format!("buffer `{name}`: {message}"))
}

/// A number as a cell.
pub(super) fn cell_of(number: f64, dtype: DType) -> Option<Cell> {
    let is_whole = number.trunc() == number;
    match dtype {
        DType::F32 | DType::F16 => Some(number.to_bits()),
        DType::I32 if is_whole && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number) => {
            Some((number as i32).cast_unsigned().into())
        }
        DType::U32 if is_whole && (0.0..=f64::from(u32::MAX)).contains(&number) => {
            Some((number as u32).into())
        }
        DType::Bool if number == 0.0 || number == 1.0 => Some((number == 1.0).into()),
        DType::I32 | DType::U32 | DType::Bool => None,
    }
}

/// A cell as a number.
pub(super) fn number_of(cell: Cell, dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F16 => float(cell),
        DType::I32 => shape::word(cell).cast_signed().into(),
        DType::U32 | DType::Bool => shape::word(cell).into(),
    }
}

impl<'m> Buffer<'m> {
    /// From one number for each scalar.
    pub(super) fn of_numbers(
        shapes: &Shapes<'m>,
        mut variable: Variable<'m>,
        numbers: &[f64],
    ) -> Result<Buffer<'m>, Error> {
        variable.tail = tail_of_count(shapes, &variable, numbers.len())?;
        let scalars = scalars(shapes, &variable);
        for (i, (&number, scalar)) in numbers.iter().zip(&scalars).enumerate() {
            variable.cells.push(cell_of(number, scalar.dtype).ok_or_else(|| {
                let path = variable.path(shapes, i);
                wrong(variable.name, format!("`{path}` is {}, and {number} is none", scalar.dtype))
            })?);
        }
        let words = vec![0; shapes.words(variable.ty, variable.tail)];
        Ok(Buffer { variable, scalars, words })
    }
    /// From the words of its bytes.
    pub(super) fn of_words(
        shapes: &Shapes<'m>,
        mut variable: Variable<'m>,
        words: &[u32],
    ) -> Result<Buffer<'m>, Error> {
        let bytes = shapes.bytes(variable.ty);
        if words.len() < bytes.div_ceil(4) {
            let message = format!("{} words where it has {bytes} bytes", words.len());
            return Err(wrong(variable.name, message));
        }
        if let Some((_, offset, stride)) = shapes.tail(variable.ty) {
            variable.tail = (words.len() * 4).saturating_sub(offset) / stride.max(1);
            if variable.tail == 0 {
                return Err(wrong(variable.name, "not one element of its array fits into the words".into()));
            }
        }
        let scalars = scalars(shapes, &variable);
        for scalar in &scalars {
            let word = words.get(scalar.word).copied().unwrap_or(0);
            variable.cells.push(match scalar.dtype {
                DType::F32 | DType::F16 => f64::from(f32::from_bits(word)).to_bits(),
                DType::I32 | DType::U32 | DType::Bool => word.into(),
            });
        }
        Ok(Buffer { variable, scalars, words: words.to_vec() })
    }
    /// Room for some scalars that nobody has written.
    pub(super) fn of_nothing(
        shapes: &Shapes<'m>,
        mut variable: Variable<'m>,
        count: usize,
    ) -> Result<Buffer<'m>, Error> {
        variable.tail = tail_of_count(shapes, &variable, count)?;
        variable.cells = vec![0; count];
        variable.unwritten = vec![true; count];
        let scalars = scalars(shapes, &variable);
        let words = vec![0; shapes.words(variable.ty, variable.tail)];
        Ok(Buffer { variable, scalars, words })
    }

    /// The variable as a run begins with it.
    pub(super) fn start(&self, precision: Precision) -> Variable<'m> {
        let mut variable = self.variable.clone();
        for (cell, scalar) in variable.cells.iter_mut().zip(&self.scalars) {
            if scalar.dtype.is_float() {
                *cell = precision.round(float(*cell)).to_bits();
            }
        }
        variable.fresh();
        variable
    }
    /// What the host sees of the variable when a run has ended.
    pub(super) fn end(&self, shapes: &Shapes<'_>, variable: Variable<'m>) -> Bound {
        let first = variable.unwritten.iter().position(|&is| is);
        Bound {
            name: variable.name.to_string(),
            unwritten: first.map(|cell| variable.path(shapes, cell)),
            scalars: self.scalars.clone(),
            words: self.words.clone(),
            cells: variable.cells,
        }
    }
}

/// The length of the array at the end of a variable that holds so many scalars.
fn tail_of_count(shapes: &Shapes<'_>, variable: &Variable<'_>, count: usize) -> Result<usize, Error> {
    let fixed = shapes.cells(variable.ty);
    let Some((element, ..)) = shapes.tail(variable.ty) else {
        if fixed == count {
            return Ok(0);
        }
        return Err(wrong(variable.name, format!("{count} numbers where it has {fixed}")));
    };
    let each = shapes.cells_of(element).max(1);
    match count.checked_sub(fixed).filter(|rest| *rest > 0 && rest % each == 0) {
        Some(rest) => Ok(rest / each),
        None => {
            let message = format!("{count} numbers where it has {fixed} and {each} for each element");
            Err(wrong(variable.name, message))
        }
    }
}

fn scalars(shapes: &Shapes<'_>, variable: &Variable<'_>) -> Vec<Scalar> {
    let mut scalars = Vec::new();
    shapes.scalars(variable.ty, 0, variable.tail, &mut scalars);
    scalars
}

/// A buffer after a run.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) name: String,
    /// What nobody wrote first.
    unwritten: Option<String>,
    scalars: Vec<Scalar>,
    words: Vec<u32>,
    cells: Vec<Cell>,
}

impl Bound {
    fn written(&self) -> Result<(), Error> {
        match &self.unwritten {
            None => Ok(()),
            Some(path) => {
                let error = wrong(&self.name, format!("nobody wrote `{path}`"));
                Err(error.hint("bind it with values if not all of it is written"))
            }
        }
    }
    pub(super) fn numbers(&self) -> Result<Vec<f64>, Error> {
        self.written()?;
        Ok(self
            .cells
            .iter()
            .zip(&self.scalars)
            .map(|(&cell, scalar)| number_of(cell, scalar.dtype))
            .collect())
    }
    pub(super) fn words(&self) -> Result<Vec<u32>, Error> {
        self.written()?;
        let mut words = self.words.clone();
        for (&cell, scalar) in self.cells.iter().zip(&self.scalars) {
            if let Some(word) = words.get_mut(scalar.word) {
                *word = word_of(cell, scalar.dtype);
            }
        }
        Ok(words)
    }
}
