//! Tables of numbers from CSV files.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use cotangent_tensor::{Detail, Error, edit_distance};
use csv::StringRecord;

use super::error;

/// What a table of numbers stays below, so that a file cannot exhaust memory.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of the file.
    bytes: u64,
    /// Without the header.
    rows: usize,
    columns: usize,
    /// Bytes of a field or a name.
    field: usize,
}

const LIMITS: Limits = Limits { bytes: 1 << 30, rows: 50_000_000, columns: 100_000, field: 4096 };

/// Columns of text with a header, on the host.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    rows: Vec<StringRecord>,
    /// Where each row starts in the file.
    lines: Vec<usize>,
}

/// A column that holds something else than finite numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The name of the column.
    pub column: String,
    /// The line of the first field that is no finite number.
    pub line: usize,
    /// That field.
    pub field: String,
    /// Rows in which the column does hold a finite number.
    pub numbers: usize,
}

impl Table {
    /// Reads a CSV file whose first row holds the names of the columns.
    ///
    /// Errors: `E_FILE` for a file that cannot be read, is empty, has a row with another number of fields, or two columns
    /// of the same name; for more than 1 GiB, 50 000 000 rows, 100 000 columns, or 4096 bytes in a field.
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
        Table::within(path.as_ref(), reader, LIMITS)
    }
    fn within(path: &Path, reader: impl Read, limits: Limits) -> Result<Table, Error> {
        let mut bytes = Vec::new();
        let read = reader.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|cause| error(path, format!("cannot be read: {cause}")))?;
        if bytes.len() as u64 > limits.bytes {
            return Err(error(path, format!("is longer than {} bytes", limits.bytes)));
        }
        let mut lines = Lines::new(&bytes);
        let mut records = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(&bytes[..]);
        let broken = |cause: csv::Error| error(path, format!("is no table: {cause}"));
        let mut header = StringRecord::new();
        records.read_record(&mut header).map_err(broken)?;
        let first = lines.of(&header);
        let mut names: Vec<String> = header.iter().map(str::to_string).collect();
        if let Some(first) = names.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_string();
        }
        if names.is_empty() || names.len() > limits.columns {
            return Err(
                error(path, format!("has {} columns", names.len())).hint("the first row holds the names")
            );
        }
        let mut seen = HashSet::new();
        for name in &names {
            if name.len() > limits.field {
                return Err(error(path, format!("line {first}: a name of {} bytes", name.len())));
            }
            if !seen.insert(name) {
                return Err(error(path, format!("line {first}: two columns are called `{name}`")));
            }
        }
        let (mut rows, mut starts) = (Vec::new(), Vec::new());
        for row in records.into_records() {
            let row = row.map_err(broken)?;
            let line = lines.of(&row);
            let wrong = |message: String| error(path, message).with("line", count(line));
            if row.len() != names.len() {
                let message = format!("line {line} has {} fields, the header has {}", row.len(), names.len());
                return Err(wrong(message));
            }
            if let Some((field, name)) = row.iter().zip(&names).find(|(field, _)| field.len() > limits.field)
            {
                let length = field.len();
                return Err(wrong(format!("line {line}, column `{name}`: a field of {length} bytes")));
            }
            if rows.len() == limits.rows {
                return Err(wrong(format!("has more than {} rows", limits.rows)));
            }
            rows.push(row);
            starts.push(line);
        }
        Ok(Table { path: path.to_path_buf(), names, rows, lines: starts })
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
        self.rows.len()
    }
    /// The line of the file in which each row starts; the first line is 1.
    pub fn lines(&self) -> &[usize] {
        &self.lines
    }
    /// The position of a column. Error: `E_FILE` that lists the columns there are and suggests the nearest name.
    pub fn position(&self, name: &str) -> Result<usize, Error> {
        if let Some(position) = self.names.iter().position(|other| other == name) {
            return Ok(position);
        }
        let columns: Vec<String> = self.names.iter().map(|other| format!("`{other}`")).collect();
        let message = format!("there is no column `{name}`; the columns are {}", columns.join(", "));
        let nearest = self.names.iter().min_by_key(|other| edit_distance(name, other));
        let error = error(&self.path, message).with("column", Detail::Text(name.to_string()));
        Err(match nearest {
            Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
            None => error,
        })
    }
    /// A column of finite numbers. Error: `E_FILE` with line, column and value of the first field that is none.
    pub fn column(&self, name: &str) -> Result<Vec<f64>, Error> {
        let position = self.position(name)?;
        match self.stray(position) {
            None => Ok(self.rows.iter().filter_map(|row| number(&row[position])).collect()),
            Some(Stray { line, field, .. }) => {
                let message = format!("line {line}, column `{name}`: {field:?} is no finite number");
                Err(error(&self.path, message)
                    .with("line", count(line))
                    .with("column", Detail::Text(name.to_string()))
                    .hint("remove the row, or choose other columns"))
            }
        }
    }
    /// The names of the columns that hold nothing but finite numbers.
    pub fn numeric(&self) -> Vec<&str> {
        let names = self.names.iter().enumerate();
        names.filter(|(column, _)| self.stray(*column).is_none()).map(|(_, name)| name.as_str()).collect()
    }
    /// The other columns, each with its first field that is no finite number.
    ///
    /// ```
    /// use cotangent::io::Table;
    /// let table = Table::from_reader("t.csv", "age,sex\n31,f\n,m\n".as_bytes())?;
    /// let strays: Vec<(String, usize)> = table.strays().into_iter().map(|s| (s.column, s.line)).collect();
    /// assert_eq!(strays, [("age".to_string(), 3), ("sex".to_string(), 2)]);
    /// # Ok::<(), cotangent::Error>(())
    /// ```
    pub fn strays(&self) -> Vec<Stray> {
        (0..self.names.len()).filter_map(|column| self.stray(column)).collect()
    }
    fn stray(&self, column: usize) -> Option<Stray> {
        let first = self.rows.iter().position(|row| number(&row[column]).is_none())?;
        Some(Stray {
            column: self.names[column].clone(),
            line: self.lines[first],
            field: self.rows[first][column].to_string(),
            numbers: self.rows.iter().filter(|row| number(&row[column]).is_some()).count(),
        })
    }
}

/// Lines of a file, by where a record starts. The reader counts neither blank lines nor CR LF as people do.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Lines<'a> {
        Lines { bytes, at: 0, line: 1 }
    }
    /// The line of a record; records come in the order of the file.
    fn of(&mut self, record: &StringRecord) -> usize {
        let start = record.position().map_or(self.at as u64, csv::Position::byte);
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.bytes.len());
        // What is left of the line end before it, and blank lines.
        let blank = self.bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = self.bytes.get(self.at..start + blank).unwrap_or_default();
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count();
        self.at = self.at.max(start + blank);
        self.line
    }
}

fn count(rows: usize) -> Detail {
    Detail::Integer(i64::try_from(rows).unwrap_or(i64::MAX))
}

fn number(field: &str) -> Option<f64> {
    field.parse::<f64>().ok().filter(|value| value.is_finite())
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
        assert!(
            error.contains("data.csv") && error.contains("line 3, column `weight`: \"heavy\""),
            "{error}"
        );
        let error = message(table(text).unwrap().column("wieght"));
        assert!(
            error.contains("columns are `age`, `weight`") && error.contains("did you mean `weight`?"),
            "{error}"
        );
        assert!(message(table("a,b\n1\n")).contains("line 2 has 1 fields, the header has 2"));
        assert!(message(table("a,a\n")).contains("two columns are called `a`"));
        assert!(message(table("")).contains("columns"));
        assert!(message(table("a\nNaN\n").unwrap().column("a")).contains("line 2"));
        assert!(message(Table::read("/nonexistent/file.csv")).contains("cannot be read"));
        let long = "1".repeat(LIMITS.field + 1);
        assert!(
            message(table(&format!("a\n{long}\n"))).contains("line 2, column `a`: a field of 4097 bytes")
        );
        assert!(message(table(&format!("{long}\n"))).contains("a name of 4097 bytes"));
    }

    #[test]
    fn a_table_stays_below_its_limits() {
        let within =
            |limits: Limits| Table::within(Path::new("data.csv"), "a,b\n1,2\n3,4\n".as_bytes(), limits);
        assert_eq!(within(Limits { bytes: 12, rows: 2, columns: 2, field: 1 }).unwrap().rows(), 2);
        assert!(message(within(Limits { bytes: 11, ..LIMITS })).contains("longer than 11 bytes"));
        assert!(message(within(Limits { rows: 1, ..LIMITS })).contains("more than 1 rows"));
        assert!(message(within(Limits { columns: 1, ..LIMITS })).contains("has 2 columns"));
        assert!(message(within(Limits { field: 0, ..LIMITS })).contains("a name of 1 bytes"));
    }

    #[test]
    fn many_columns_are_named_apart_in_linear_time() {
        let names: Vec<String> = (0..100_000).map(|i| format!("column {i}")).collect();
        let start = std::time::Instant::now();
        assert_eq!(table(&names.join(",")).unwrap().names().len(), 100_000);
        // Comparing all pairs took 22 s in a release build.
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let text = "\n\na,b\n\n\n1,2\r\n\"x\ny\",3\r\n4,5\n\r\n6,7";
        let table = table(text).unwrap();
        assert_eq!(table.names(), ["a", "b"]);
        assert_eq!(table.lines(), [6, 7, 9, 11]);
        let stray = table.strays();
        assert_eq!(
            stray,
            [Stray { column: "a".to_string(), line: 7, field: "x\ny".to_string(), numbers: 3 }]
        );
    }

    #[test]
    fn a_table_without_rows_is_a_table() {
        let table = table("a,b\n").unwrap();
        assert_eq!(table.rows(), 0);
        assert!(table.column("a").unwrap().is_empty());
    }
}
