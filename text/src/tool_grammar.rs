//! The grammar of answers that may or must call tools, as Lark, from a description of the calls.
//!
//! What opens a call ends the free text before it: from there on only a call fits. A mark that is
//! a control token of the model is that token, another is its text.

use crate::call_shape::{BareText, Call, Shape, SCHEMA_BYTES_MAX};
use crate::{schema_rewrite, Failure};
use serde::Deserialize;
use serde_json::{json, Value};
use std::cell::Cell;
use std::collections::HashMap;

/// Of all parameters together; a tool of an agent has one to two kilobytes.
const PARAMETERS_BYTES_MAX: usize = 192 << 10;
const ANSWER_BYTES_MAX: usize = 128 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCalls {
    /// Before and after each call, or the list of them. Empty: nothing.
    open: String,
    close: String,
    /// Calls stand in one list: [call, call].
    is_list: bool,
    /// Between calls that stand side by side. Empty: nothing.
    separator: String,
    /// A call is {"name": ..., KEY: arguments}, or, where the mark is not empty, name MARK arguments.
    arguments_key: String,
    arguments_mark: String,
    /// A call has another shape. Absent: it has not.
    shape: Option<Shape>,
    /// Calls are all that is allowed.
    required: bool,
    /// Several calls are.
    parallel: bool,
    functions: Vec<Function>,
    /// A schema that an answer without calls must fit. Absent: any text.
    answer: Option<Value>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    name: String,
    /// A JSON schema. Absent: it takes none.
    parameters: Option<Value>,
    /// The schema is kept to, or the request refused.
    pub strict: bool,
    /// The caller's name of the parameters.
    pub place: String,
    /// Those of its parameters that are written bare.
    #[serde(default)]
    texts: HashMap<String, BareText>,
}

type Fields = serde_json::Map<String, Value>;

impl ToolCalls {
    pub fn parse(source: &str) -> Result<ToolCalls, Failure> {
        serde_json::from_str(source).map_err(|error| Failure::invalid(error.to_string()))
    }

    /// What opens a call after free text; `None`: there is no free text, or it may begin as a call.
    pub fn opens_after_text(&self) -> Option<&str> {
        let free = !self.required && self.answer.is_none() && !self.open.is_empty();
        free.then_some(self.open.as_str())
    }

    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The same calls, of one function alone.
    pub fn of_one(&self, index: usize) -> ToolCalls {
        ToolCalls {
            open: self.open.clone(),
            close: self.close.clone(),
            is_list: self.is_list,
            separator: self.separator.clone(),
            arguments_key: self.arguments_key.clone(),
            arguments_mark: self.arguments_mark.clone(),
            shape: self.shape,
            required: true,
            parallel: self.parallel,
            functions: vec![self.functions[index].clone()],
            answer: None,
        }
    }

    /// `kept`: whether the parameters of each function are kept to; where not, to their being an
    /// object. `control_token`: the id of the control token that is spelled so. `prepare` puts the
    /// crate's settings into a schema.
    pub fn to_lark(
        &self,
        kept: &[bool],
        control_token: impl Fn(&str) -> Option<u32>,
        prepare: impl Fn(&mut Value),
    ) -> Result<String, Failure> {
        let mark = |text: &str| match (text, control_token(text)) {
            ("", _) => String::new(),
            (_, Some(token)) => format!("<[{token}]>"),
            (_, None) => literal(text),
        };
        let mut bytes_left = PARAMETERS_BYTES_MAX;
        let schema_bytes_left = Cell::new(SCHEMA_BYTES_MAX);
        let mut rules = String::new();
        for (index, function) in self.functions.iter().enumerate() {
            let fields = function.schema(kept[index], &mut bytes_left)?;
            if let Some(shape) = self.shape {
                rules += &function.rules(index, shape, fields, &schema_bytes_left, &prepare)?;
                continue;
            }
            let mut schema = Value::Object(fields);
            prepare(&mut schema);
            let call = if self.arguments_mark.is_empty() {
                let name = literal(&json!(function.name).to_string());
                let key = literal(&json!(self.arguments_key).to_string());
                format!(
                    r#""{{" ws "\"name\"" ws ":" ws {name} ws "," ws {key} ws ":" ws %json {schema} ws "}}""#
                )
            } else {
                format!("{} {} %json {schema}", literal(&function.name), mark(&self.arguments_mark))
            };
            rules += &format!("call_{index}: {call}\n");
        }
        let calls: Vec<String> = (0..self.functions.len()).map(|i| format!("call_{i}")).collect();
        let open = mark(&self.open);
        let spaced = |text: &str| match text {
            "" => String::new(),
            _ => format!(" ws {}", mark(text)),
        };
        let (close, separator) = (spaced(&self.close), spaced(&self.separator));
        // `opened` is what comes after the first opening.
        let opened = match (self.is_list, self.parallel) {
            (true, true) => format!(r#"ws "[" ws call ({separator} ws call)* ws "]"{close}"#),
            (true, false) => format!(r#"ws "[" ws call ws "]"{close}"#),
            (false, true) if self.open.is_empty() => {
                format!("ws call{close} ({separator} ws call{close})*")
            }
            (false, true) => format!("ws call{close} ({separator} ws {open} ws call{close})*"),
            (false, false) => format!("ws call{close}"),
        };
        rules += &format!("call: {}\nopened: {opened}\nws: WS?\n", calls.join(" | "));
        rules += "WS: /[ \\t\\r\\n]{1,8}/\n";
        if self.required {
            return Ok(format!("start: {open} opened\n{rules}"));
        }
        if let Some(answer) = &self.answer {
            if !answer.is_object() || answer.to_string().len() > ANSWER_BYTES_MAX {
                return Err(Failure::invalid(format!(
                    "the answer's schema must be an object of {ANSWER_BYTES_MAX} bytes at most"
                )));
            }
            let schema = schema_rewrite::rewrite(answer).map_err(Failure::invalid)?;
            let mut schema = Value::Object(schema);
            prepare(&mut schema);
            return Ok(format!("start: answer | {open} opened\nanswer: %json {schema}\n{rules}"));
        }
        let free = if self.open.is_empty() {
            // Nothing opens a call: an answer is one if it begins as one.
            let first = if self.is_list { r"\[" } else { "{" };
            format!(
                r"start: TEXT | opened
TEXT: /([^{first} \t\r\n](.|\n)*)?/"
            )
        } else if control_token(&self.open).is_some() {
            // Whoever reads the text cannot tell the token from what is spelled so.
            let spelled = literal(&self.open);
            format!(
                r"start: TEXT | TEXT {open} opened
TEXT: /(.|\n)*/ & ~(/(.|\n)*/ {spelled} /(.|\n)*/)"
            )
        } else {
            format!(
                r"start: TEXT | before opened
before[lazy]: BEFORE
BEFORE: /(.|\n)*/ {open}
TEXT: /(.|\n)*/ & ~(/(.|\n)*/ {open} /(.|\n)*/)"
            )
        };
        Ok(format!("{free}\n{rules}"))
    }
}

/// As a string of Lark.
pub fn literal(text: &str) -> String {
    json!(text).to_string()
}

impl Function {
    /// Of a call that has a shape of its own.
    fn rules(
        &self,
        index: usize,
        shape: Shape,
        fields: Fields,
        schema_bytes_left: &Cell<usize>,
        prepare: &impl Fn(&mut Value),
    ) -> Result<String, Failure> {
        let call = Call {
            shape,
            index,
            name: &self.name,
            texts: &self.texts,
            strict: self.strict,
            given: self.parameters.as_ref(),
            schema_bytes_left,
        };
        let any = Fields::from_iter([("type".to_string(), json!("object"))]);
        let rules = match call.rules(&fields, prepare) {
            Err(_) if !self.strict => Call { given: None, ..call }.rules(&any, prepare),
            rules => rules,
        };
        rules.map_err(|what| Failure::invalid(format!("{}: {what}", self.place)))
    }

    fn schema(&self, kept: bool, bytes_left: &mut usize) -> Result<Fields, Failure> {
        if self.strict || kept {
            match self.checked(bytes_left) {
                Ok(schema) => return Ok(schema),
                Err(what) if self.strict => {
                    return Err(Failure::invalid(format!("{}: {what}", self.place)))
                }
                Err(_) => {}
            }
        }
        Ok(Fields::from_iter([("type".to_string(), json!("object"))]))
    }

    fn checked(&self, bytes_left: &mut usize) -> Result<Fields, String> {
        let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
        let schema = self.parameters.as_ref().unwrap_or(&none);
        let Value::Object(fields) = schema else { return Err("it must be an object".to_string()) };
        // Arguments are an object, whatever else the schema lets them be.
        if fields.get("type").is_some_and(|kind| kind != "object") {
            return Err("/type must be \"object\"".to_string());
        }
        let bytes = schema.to_string().len();
        *bytes_left = bytes_left.checked_sub(bytes).ok_or_else(|| {
            format!("the parameters of all tools have more than {PARAMETERS_BYTES_MAX} bytes")
        })?;
        let mut fields = fields.clone();
        fields.insert("type".to_string(), json!("object"));
        schema_rewrite::rewrite(&Value::Object(fields))
    }
}
