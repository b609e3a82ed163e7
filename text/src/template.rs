//! Chat templates as Hugging Face's transformers renders them, under limits.

use crate::guard::{unmark, Guard};
use crate::literal_set::Control;
use crate::python_json;
use crate::tokenizer::Tokenizer;
use crate::{Code, Failure};
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::ffi::CString;
use std::io;
use std::sync::Arc;

/// Writes the present local time by `format` into `out`, without a NUL. 0: does not fit.
pub type FormatNow =
    unsafe extern "C" fn(format: *const std::ffi::c_char, out: *mut u8, capacity: usize) -> usize;

pub struct Options<'a> {
    pub source: &'a str,
    pub bos_token: &'a str,
    pub eos_token: &'a str,
    pub fuel: u64,
    pub output_bytes_max: usize,
    pub format_now: FormatNow,
}

pub struct Input<'a> {
    pub messages: &'a str,
    pub tools: &'a str,
    pub kwargs: &'a str,
    pub add_generation_prompt: bool,
}

pub struct ChatTemplate {
    environment: Environment<'static>,
    guard: Guard,
    tokenizer: Arc<Tokenizer>,
    bos_token: String,
    eos_token: String,
    fuel: u64,
    output_bytes_max: usize,
}

const NAME: &str = "chat_template";
/// Where filters find this rendering's mark; no template can name it.
const MARK: &str = "guard mark";
/// Names that templates get from us; a caller's chat_template_kwargs may not set them.
const RESERVED: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

impl ChatTemplate {
    pub fn new(options: &Options, tokenizer: Arc<Tokenizer>) -> Result<Self, Failure> {
        let mut environment = Environment::new();
        let syntax = environment
            .syntax()
            .to_builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(options.fuel));
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", tojson);
        environment.add_filter("length", length);
        environment.add_filter("count", length);
        environment.add_function("raise_exception", raise_exception);
        let format_now = options.format_now;
        environment
            .add_function("strftime_now", move |format: String| strftime_now(format_now, &format));
        environment.add_template_owned(NAME, without_generation_tags(options.source)).map_err(
            |error| {
                Failure::invalid(format!("the chat template does not compile: {}", say(&error)))
            },
        )?;
        Ok(ChatTemplate {
            environment,
            guard: Guard::new(tokenizer.controls(), options.source),
            tokenizer,
            bos_token: options.bos_token.to_string(),
            eos_token: options.eos_token.to_string(),
            fuel: options.fuel,
            output_bytes_max: options.output_bytes_max,
        })
    }

    pub fn encode(&self, input: &Input, ids: &mut Vec<i32>) -> Result<(), Failure> {
        let (text, marks) = self.render_with_marks(input)?;
        self.tokenizer.encode(&text, Control::NotAcross(&marks), false, ids)
    }

    pub fn render(&self, input: &Input) -> Result<String, Failure> {
        Ok(self.render_with_marks(input)?.0)
    }

    fn render_with_marks(&self, input: &Input) -> Result<(String, Vec<usize>), Failure> {
        let mut messages = parse("messages", input.messages)?;
        let mut tools = parse("tools", input.tools)?;
        let mut kwargs = parse("chat_template_kwargs", input.kwargs)?;
        if !messages.is_array() {
            return Err(Failure::invalid("messages must be an array"));
        }
        if !tools.is_array() && !tools.is_null() {
            return Err(Failure::invalid("tools must be an array"));
        }
        if !kwargs.is_object() && !kwargs.is_null() {
            return Err(Failure::invalid("chat_template_kwargs must be an object"));
        }
        let mark = self.guard.choose_mark(&[&messages, &tools, &kwargs])?;
        self.guard.mark_messages(&mut messages, mark);
        self.guard.mark(&mut tools, mark);

        let mut names: Vec<(String, Value)> = Vec::new();
        if let serde_json::Value::Object(fields) = &mut kwargs {
            for (name, value) in fields.iter_mut() {
                if RESERVED.contains(&name.as_str()) {
                    return Err(Failure::invalid(format!(
                        "chat_template_kwargs may not set {name}"
                    )));
                }
                self.guard.mark(value, mark);
                names.push((name.clone(), to_jinja(value)));
            }
        }
        names.extend([
            ("messages".to_string(), to_jinja(&messages)),
            ("tools".to_string(), to_jinja(&tools)),
            ("documents".to_string(), Value::from(())),
            ("add_generation_prompt".to_string(), Value::from(input.add_generation_prompt)),
            ("bos_token".to_string(), Value::from(self.bos_token.as_str())),
            ("eos_token".to_string(), Value::from(self.eos_token.as_str())),
            (MARK.to_string(), Value::from(mark.to_string())),
        ]);

        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let mut output = Bounded { bytes: Vec::new(), max: self.output_bytes_max, full: false };
        let result = template.render_captured_to(Value::from_pairs(names), &mut output).map(drop);
        if output.full {
            return Err(Failure::invalid(format!(
                "the chat template renders more than {} bytes; shorten the messages",
                self.output_bytes_max
            )));
        }
        result.map_err(|error| self.refusal(&error))?;
        let text = String::from_utf8(output.bytes)
            .map_err(|_| Failure::new(Code::Internal, "the chat template wrote broken UTF-8"))?;
        Ok(unmark(&text, mark))
    }

    fn refusal(&self, error: &Error) -> Failure {
        if error.kind() == ErrorKind::OutOfFuel {
            return Failure::invalid(format!(
                "the chat template takes more than {} steps; shorten the messages",
                self.fuel
            ));
        }
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(cause) = source {
            if let Some(raised) = cause.downcast_ref::<Raised>() {
                return Failure::invalid(format!(
                    "the chat template refuses the messages: {}",
                    raised.0
                ));
            }
            source = cause.source();
        }
        Failure::invalid(format!("the chat template fails: {}", say(error)))
    }
}

/// An absent value is null.
fn parse(name: &str, text: &str) -> Result<serde_json::Value, Failure> {
    if text.is_empty() {
        return Ok(serde_json::Value::Null);
    }
    serde_json::from_str(text).map_err(|error| Failure::invalid(format!("{name}: {error}")))
}

fn to_jinja(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(to_jinja).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, field)| (name.clone(), to_jinja(field))))
        }
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64()),
        },
    }
}

fn say(error: &Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// What `raise_exception` said.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(state: &mut State, message: Value) -> Result<Value, Error> {
    let message: String = message.to_string().chars().filter(|c| Some(*c) != mark(state)).collect();
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

fn strftime_now(format_now: FormatNow, format: &str) -> Result<Value, Error> {
    let refuse = |what| Error::new(ErrorKind::InvalidOperation, what);
    let format = CString::new(format).map_err(|_| refuse("strftime_now: NUL in the format"))?;
    let mut out = [0u8; 1024];
    // Safety: format is a C string, and out has as many bytes as we say.
    let length = unsafe { format_now(format.as_ptr(), out.as_mut_ptr(), out.len()) };
    if length > out.len() {
        return Err(refuse("strftime_now: the result is too long"));
    }
    Ok(Value::from(String::from_utf8_lossy(&out[..length]).into_owned()))
}

fn tojson(
    state: &mut State,
    value: &Value,
    positional: Rest<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    python_json::tojson(value, &positional, &kwargs, mark(state))
}

/// As Python counts: an undefined value is empty, a string has characters (and no marks).
fn length(state: &mut State, value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        let mark = mark(state);
        return Ok(text.chars().filter(|c| Some(*c) != mark).count());
    }
    value.len().ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("a {} has no length", value.kind()))
    })
}

/// Python's methods on strings, lists and dicts. `title` also begins a word after punctuation, which
/// the crate's does not.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (method, value.as_str()) {
        ("title", Some(text)) if arguments.is_empty() => Ok(Value::from(title(text))),
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        in_word = c.is_alphabetic();
    }
    out
}

fn mark(state: &State) -> Option<char> {
    state.lookup(MARK)?.as_str()?.chars().next()
}

/// transformers marks the assistant's text for training by `{% generation %}`, which renders as its
/// content. `if true` has the same effect on white space.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else { break };
        let inside = &tag[2..end];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" => out.push_str(&format!("{{%{}%}}", inside.replace(word, "if true"))),
            "endgeneration" => out.push_str(&format!("{{%{}%}}", inside.replace(word, "endif"))),
            _ => {
                // Only the opening is passed over: a string inside may hold "%}".
                out.push_str("{%");
                rest = &tag[2..];
                continue;
            }
        }
        rest = &tag[end + 2..];
    }
    out.push_str(rest);
    out
}

/// Refuses what goes beyond its bound.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max - self.bytes.len() {
            self.full = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
