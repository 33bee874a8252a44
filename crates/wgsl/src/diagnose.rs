//! Errors with a frame of the user's text.

use std::fmt;

use cotangent_tensor::{Code, Detail, Error};
use naga::{Span, WithSpan};

/// The text that was parsed, under the name given for it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    /// The user's text, and after it what of the prelude it uses.
    pub(crate) text: String,
}

/// What is wrong with a place of the text.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    message: String,
    help: Option<String>,
    labels: Vec<(Span, String)>,
    details: Vec<(&'static str, Detail)>,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), help: None, labels: Vec::new(), details: Vec::new() }
    }
    pub(crate) fn code(&self) -> Code {
        self.code
    }
    /// Adds a value that programs may read.
    pub(crate) fn with(mut self, name: &'static str, detail: Detail) -> Problem {
        self.details.push((name, detail));
        self
    }
    /// Points to a place.
    pub(crate) fn at(mut self, span: Span, label: impl Into<String>) -> Problem {
        self.labels.push((span, label.into()));
        self
    }
    pub(crate) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
    /// The error, with a frame of the text for every place.
    pub(crate) fn in_text(self, source: &Source) -> Error {
        let (line, frame) = frame(&self.labels, source);
        let message = if line.is_none() { self.message } else { format!("{}\n{frame}", self.message) };
        let mut error = Error::new(self.code, &source.name, message);
        if let Some(line) = line {
            error = error.with("line", Detail::Integer(line.into()));
        }
        for (name, detail) in self.details {
            error = error.with(name, detail);
        }
        match self.help {
            Some(help) => error.hint(help),
            None => error,
        }
    }
}

/// The first line of the text that is pointed to, if any is, and a frame of all places with their labels.
pub(crate) fn frame(labels: &[(Span, String)], source: &Source) -> (Option<u32>, String) {
    let mut framed = WithSpan::new(Headline);
    for (span, label) in labels {
        framed = framed.with_span(*span, label);
    }
    let line = framed.location(&source.text).map(|place| place.line_number);
    let drawn = framed.emit_to_string_with_path(&source.text, &source.name);
    // the first line is the headline, which stands in the message already
    (line, drawn.split_once('\n').map_or("", |(_, frame)| frame.trim_end()).to_string())
}

/// Stands where the renderer of frames wants an error.
#[derive(Debug)]
struct Headline;
impl fmt::Display for Headline {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
impl std::error::Error for Headline {}
