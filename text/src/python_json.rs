//! JSON as Python's `json.dumps` writes it: Hugging Face's `tojson` filter.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

struct Style {
    ascii: bool,
    mark: Option<char>, // a character that is not there: never escaped or compared
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as
/// transformers defines it (utils/chat_template_utils.py). The answer is an ordinary string, so
/// that later filters work on it.
pub fn tojson(
    value: &Value,
    positional: &[Value],
    kwargs: &Kwargs,
    mark: Option<char>,
) -> Result<Value, Error> {
    let argument = |index: usize, name: &str| -> Result<Option<Value>, Error> {
        match positional.get(index) {
            Some(value) => Ok(Some(value.clone())),
            None => kwargs.get::<Option<Value>>(name),
        }
    };
    let present = |value: Option<Value>| value.filter(|v| !v.is_none() && !v.is_undefined());
    let ascii = present(argument(0, "ensure_ascii")?).is_some_and(|v| v.is_true());
    let indent = match present(argument(1, "indent")?) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        }),
    };
    let (mut item, mut key) = (", ".to_string(), ": ".to_string());
    if indent.is_some() {
        item = ",".to_string();
    }
    if let Some(separators) = present(argument(2, "separators")?) {
        item = separators.get_item_by_index(0)?.to_string();
        key = separators.get_item_by_index(1)?.to_string();
    }
    let sort_keys = present(argument(3, "sort_keys")?).is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;

    let style = Style { ascii, mark, indent, item, key, sort_keys };
    let mut out = String::new();
    write_value(value, &style, 0, &mut out)?;
    Ok(Value::from(out))
}

const DEPTH_MAX: usize = 256;

fn refuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

fn write_value(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(refuse("tojson: the value is nested too deeply"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)?),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_list('[', ']', items.len(), style, depth, out, |index, out| {
                write_value(&items[index], style, depth + 1, out)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                let plain = |key: &Value| key.to_string().replace(|c| Some(c) == style.mark, "");
                keys.sort_by_cached_key(plain);
            }
            write_list('{', '}', keys.len(), style, depth, out, |index, out| {
                let key = &keys[index];
                match key.kind() {
                    ValueKind::String => write_string(key.as_str().unwrap_or_default(), style, out),
                    ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                        out.push('"');
                        write_value(key, style, depth + 1, out)?;
                        out.push('"');
                    }
                    kind => return Err(refuse(format!("tojson: a key is a {kind}"))),
                }
                out.push_str(&style.key);
                write_value(&value.get_item(key)?, style, depth + 1, out)
            })?;
        }
        kind => return Err(refuse(format!("tojson: {kind} is not JSON serializable"))),
    }
    Ok(())
}

fn write_list(
    open: char,
    close: char,
    count: usize,
    style: &Style,
    depth: usize,
    out: &mut String,
    mut write_item: impl FnMut(usize, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize, out: &mut String| {
        if let (Some(indent), true) = (&style.indent, count > 0) {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(open);
    for index in 0..count {
        if index > 0 {
            out.push_str(&style.item);
        }
        new_line(depth + 1, out);
        write_item(index, out)?;
    }
    new_line(depth, out);
    out.push(close);
    Ok(())
}

fn write_string(text: &str, style: &Style, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => write_unit(c as u16, out),
            c if style.ascii && c as u32 > 0x7E && Some(c) != style.mark => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write_unit(*unit, out));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_unit(unit: u16, out: &mut String) {
    let _ = write!(out, "\\u{unit:04x}");
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    Ok(float(f64::try_from(value.clone())?))
}

/// Python's repr of a float: shortest digits; an exponent below -4 or from 16 on.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = x.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
