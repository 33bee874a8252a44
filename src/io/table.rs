//! Tables of numbers from CSV files.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use cotangent_tensor::{Detail, Error};

use super::error;

/// Longest field, in bytes, and most columns: a table of numbers has neither.
const MAX_FIELD: usize = 4096;
const MAX_COLUMNS: usize = 100_000;

/// Columns of text with a header, on the host. Rows are counted as in the file: the header is row 1.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    /// Row-major.
    fields: Vec<String>,
}

impl Table {
    /// Reads a CSV file whose first row holds the names of the columns.
    ///
    /// Errors: `E_FILE` for a file that cannot be read, is empty, has a row with another number of fields, or two columns
    /// of the same name.
    pub fn read(path: impl AsRef<Path>) -> Result<Table, Error> {
        let path = path.as_ref();
        let file = fs::File::open(path).map_err(|cause| error(path, format!("cannot be read: {cause}")))?;
        Table::from_reader(path, file)
    }
    /// Reads CSV text; `path` is what messages call it.
    ///
    /// ```
    /// use cotangent::io::Table;
    /// let table = Table::from_reader("dose.csv", "dose,response\n0.5,1\n2,3\n".as_bytes())?;
    /// assert_eq!(table.column("dose")?, [0.5, 2.0]);
    /// let error = table.column("respones").unwrap_err();
    /// assert!(error.help().unwrap().contains("`response`"));
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn from_reader(path: impl AsRef<Path>, reader: impl Read) -> Result<Table, Error> {
        let path = path.as_ref();
        let mut rows = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(reader);
        let broken = |cause: csv::Error| error(path, format!("is no table: {cause}"));
        let header = rows.headers().map_err(broken)?.clone();
        let mut names: Vec<String> = header.iter().map(str::to_string).collect();
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_string();
        }
        if names.is_empty() || names.len() > MAX_COLUMNS {
            return Err(
                error(path, format!("has {} columns", names.len())).hint("the first row holds the names")
            );
        }
        for (position, name) in names.iter().enumerate() {
            if names[..position].contains(name) {
                return Err(error(path, format!("row 1: two columns are called `{name}`")));
            }
        }
        let mut fields = Vec::new();
        for (number, row) in rows.records().enumerate() {
            let row = row.map_err(broken)?;
            let number = number + 2;
            if row.len() != names.len() {
                let message =
                    format!("row {number} has {} fields, the header has {}", row.len(), names.len());
                return Err(error(path, message).with("row", count(number)));
            }
            for (field, name) in row.iter().zip(&names) {
                if field.len() > MAX_FIELD {
                    let message = format!("row {number}, column `{name}`: a field of {} bytes", field.len());
                    return Err(error(path, message).with("row", count(number)));
                }
                fields.push(field.to_string());
            }
        }
        Ok(Table { path: path.to_path_buf(), names, fields })
    }
    /// Where the table came from.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }
    /// Rows without the header.
    pub fn rows(&self) -> usize {
        self.fields.len() / self.names.len()
    }
    /// The position of a column. Error: `E_FILE` that lists the columns there are and suggests the nearest name.
    pub fn position(&self, name: &str) -> Result<usize, Error> {
        if let Some(position) = self.names.iter().position(|other| other == name) {
            return Ok(position);
        }
        let columns: Vec<String> = self.names.iter().map(|other| format!("`{other}`")).collect();
        let message = format!("there is no column `{name}`; the columns are {}", columns.join(", "));
        let nearest = self.names.iter().min_by_key(|other| distance(name, other));
        let error = error(&self.path, message).with("column", Detail::Text(name.to_string()));
        Err(match nearest {
            Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
            None => error,
        })
    }
    /// A column of finite numbers. Error: `E_FILE` with row, column and value of the first field that is none.
    pub fn column(&self, name: &str) -> Result<Vec<f64>, Error> {
        let position = self.position(name)?;
        let mut values = Vec::with_capacity(self.rows());
        for (row, fields) in self.fields.chunks_exact(self.names.len()).enumerate() {
            match number(&fields[position]) {
                Some(value) => values.push(value),
                None => {
                    let (row, field) = (row + 2, &fields[position]);
                    let message = format!("row {row}, column `{name}`: {field:?} is no finite number");
                    return Err(error(&self.path, message)
                        .with("row", count(row))
                        .with("column", Detail::Text(name.to_string()))
                        .hint("remove the row, or choose other columns"));
                }
            }
        }
        Ok(values)
    }
    /// The names of the columns that hold nothing but finite numbers.
    pub fn numeric(&self) -> Vec<&str> {
        let width = self.names.len();
        let holds =
            |column: usize| self.fields.iter().skip(column).step_by(width).all(|f| number(f).is_some());
        (0..width).filter(|&column| holds(column)).map(|column| self.names[column].as_str()).collect()
    }
}

fn count(rows: usize) -> Detail {
    Detail::Integer(i64::try_from(rows).unwrap_or(i64::MAX))
}

fn number(field: &str) -> Option<f64> {
    field.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Levenshtein distance without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use cotangent_tensor::Code;

    use super::*;

    fn table(text: &str) -> Result<Table, Error> {
        Table::from_reader("data.csv", text.as_bytes())
    }
    fn message(result: Result<impl Sized, Error>) -> String {
        let error = result.err().unwrap();
        assert_eq!(error.code(), Code::File);
        error.to_string()
    }

    #[test]
    fn columns_are_found_by_name() {
        let table = table("\u{feff}a,name, b\r\n1,x,2\r\n-3e2,\"y,z\",4\r\n").unwrap();
        assert_eq!((table.rows(), table.names().len()), (2, 3));
        assert_eq!(table.column("a").unwrap(), [1.0, -300.0]);
        assert_eq!(table.column("b").unwrap(), [2.0, 4.0]);
        assert_eq!(table.numeric(), ["a", "b"]);
    }

    #[test]
    fn errors_name_file_row_column_and_value() {
        let text = "age,weight\n1,2\n3,heavy\n";
        let error = message(table(text).unwrap().column("weight"));
        assert!(error.contains("data.csv") && error.contains("row 3, column `weight`: \"heavy\""), "{error}");
        let error = message(table(text).unwrap().column("wieght"));
        assert!(
            error.contains("columns are `age`, `weight`") && error.contains("did you mean `weight`?"),
            "{error}"
        );
        assert!(message(table("a,b\n1\n")).contains("row 2 has 1 fields, the header has 2"));
        assert!(message(table("a,a\n")).contains("two columns are called `a`"));
        assert!(message(table("")).contains("columns"));
        assert!(message(table("a\nNaN\n").unwrap().column("a")).contains("row 2"));
        assert!(message(Table::read("/nonexistent/file.csv")).contains("cannot be read"));
        let long = format!("a\n{}\n", "1".repeat(MAX_FIELD + 1));
        assert!(message(table(&long)).contains("4097 bytes"));
    }

    #[test]
    fn a_table_without_rows_is_a_table() {
        let table = table("a,b\n").unwrap();
        assert_eq!(table.rows(), 0);
        assert!(table.column("a").unwrap().is_empty());
    }
}
