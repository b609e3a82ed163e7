//! Calls of tools whose arguments are not one JSON object, as Lark: each parameter by itself, those
//! that are required and perhaps the others, in the order of the schema.
//!
//! Between tags, what can be nothing but text is written bare, up to the tag that ends it. All else
//! is JSON, which is Python, too, but for true, false and null: where one of these is the value, it
//! is spelled as Python does; within a list or a dict as in JSON.

use crate::tool_grammar::literal;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// <function=f><parameter=city>Paris</parameter></function>
    Tags,
    /// f(city="Paris")
    Python,
}

/// A parameter that is text without quotes.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BareText {
    may_be_null: bool,
    /// All that it can be. Absent: any text.
    choices: Option<Vec<String>>,
    /// Of any text, in characters.
    length_min: u32,
    length_max: Option<u32>,
    /// Nothing more is asked of it.
    is_all: bool,
}

type Fields = Map<String, Value>;

const PARAMETER_END: &str = "</parameter>";

/// Of the schemas of all parameters of all tools, each with the definitions that it needs.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// Keywords of a schema of arguments that bind more than one of them and are not kept to here.
const BINDING: [&str; 18] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
];

pub struct Call<'a> {
    pub shape: Shape,
    pub index: usize,
    pub name: &'a str,
    pub texts: &'a HashMap<String, BareText>,
    /// Every keyword must be kept to.
    pub strict: bool,
    /// The schema as it was given, by which bare texts were told.
    pub given: Option<&'a Value>,
    /// Of the schemas of parameters, which all hold the definitions that they need.
    pub schema_bytes_left: &'a Cell<usize>,
}

impl Call<'_> {
    /// The rules `call_INDEX` and those that it needs. What cannot be kept to is said with its place.
    pub fn rules(&self, schema: &Fields, prepare: &impl Fn(&mut Value)) -> Result<String, String> {
        let Call { index, shape, .. } = self;
        let is_written = |c: char| match shape {
            Shape::Tags => !c.is_whitespace() && c != '>' && c != '<',
            Shape::Python => c.is_alphanumeric() || "_-.$".contains(c),
        };
        if self.name.is_empty() || !self.name.chars().all(is_written) {
            return Err("its name cannot be written in this model's form of calls".to_string());
        }
        let empty = Fields::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let is_open = schema.get("additionalProperties") != Some(&Value::Bool(false));
        if properties.is_empty() && is_open {
            return self.free(schema);
        }
        // Of a bare text only the schema that was given tells all; else what is left of it counts.
        let binds = |word: &&String| BINDING.contains(&word.as_str());
        let given = self.given.and_then(Value::as_object).and_then(|all| all.keys().find(binds));
        let kept = schema.keys().find(binds);
        if let (Some(word), true) = (given.or(kept), kept.is_some() || *shape == Shape::Tags) {
            return Err(format!(
                "the keyword at /{word} is not supported in this model's form of calls"
            ));
        }
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let any = json!({});
        let others = schema.get("additionalProperties").unwrap_or(&any);
        let mut others_named = HashSet::new();
        let may_be_there = |(name, schema): &(&str, &Value)| {
            **schema != Value::Bool(false) || required.contains(name)
        };
        let mut parameters: Vec<(&str, &Value)> = properties
            .iter()
            .map(|(name, schema)| (name.as_str(), schema))
            .filter(may_be_there)
            .collect();
        for name in &required {
            if !properties.contains_key(*name) && others_named.insert(*name) {
                parameters.push((*name, others));
            }
        }
        let mut rules = String::new();
        let mut is_required = Vec::new();
        for (number, (name, property)) in parameters.iter().enumerate() {
            if !name.chars().all(is_written) || name.is_empty() {
                return Err(format!(
                    "the name at /properties/{name} cannot be written in this model's form of calls"
                ));
            }
            let value = match shape {
                Shape::Tags => self.tagged(number, name, property, schema, prepare)?,
                Shape::Python => self
                    .python(property, schema, prepare, 0)
                    .map(|value| format!("{} ({value})", literal(&format!("{name}="))))?,
            };
            rules += &format!("call_{index}_p{number}: {value}\n");
            rules += &self.length_rule(number, name);
            is_required.push(required.contains(name));
        }
        rules += &match shape {
            Shape::Tags => self.in_tags(&is_required),
            Shape::Python => self.in_brackets(&is_required),
        };
        if rules.contains(&format!("call_{index}_text")) {
            rules += &self.text_rule();
        }
        Ok(rules)
    }

    fn in_tags(&self, is_required: &[bool]) -> String {
        let index = self.index;
        let parameters: String = (is_required.iter().enumerate())
            .map(|(number, required)| match required {
                true => format!(" ws call_{index}_p{number}"),
                false => format!(" (ws call_{index}_p{number})?"),
            })
            .collect();
        let open = literal(&format!("<function={}>", self.name));
        format!("call_{index}: {open}{parameters} ws \"</function>\"\n")
    }

    /// A comma stands before each but the first, whichever that is.
    fn in_brackets(&self, is_required: &[bool]) -> String {
        let index = self.index;
        let mut rules = String::new();
        let count = is_required.len();
        for number in (1..count).rev() {
            let next = match number + 1 < count {
                true => format!(" call_{index}_r{}", number + 1),
                false => String::new(),
            };
            let one = format!("\",\" ws call_{index}_p{number}");
            let one = if is_required[number] { one } else { format!("({one})?") };
            rules += &format!("call_{index}_r{number}: {one}{next}\n");
        }
        let mut firsts = Vec::new();
        for (number, required) in is_required.iter().enumerate() {
            let rest = match number + 1 < count {
                true => format!(" call_{index}_r{}", number + 1),
                false => String::new(),
            };
            firsts.push(format!("call_{index}_p{number}{rest}"));
            if *required {
                break;
            }
        }
        let arguments = firsts.join(" | ");
        let open = literal(&format!("{}(", self.name));
        let arguments = match (firsts.is_empty(), is_required.contains(&true)) {
            (true, _) => String::new(),
            (false, true) => format!(" ({arguments})"),
            (false, false) => format!(" ({arguments})?"),
        };
        rules + &format!("call_{index}: {open}{arguments} \")\"\n")
    }

    /// Any arguments.
    fn free(&self, schema: &Fields) -> Result<String, String> {
        let binds = |word: &&String| {
            let of_values =
                word.as_str() == "additionalProperties" && schema[word.as_str()] != true;
            of_values || word.as_str() == "required" || BINDING.contains(&word.as_str())
        };
        if let (true, Some(word)) = (self.strict, schema.keys().find(binds)) {
            return Err(format!(
                "the keyword at /{word} is not supported in this model's form of calls"
            ));
        }
        let index = self.index;
        Ok(match self.shape {
            Shape::Tags => {
                let open = literal(&format!("<function={}>", self.name));
                format!(
                    r#"call_{index}: {open} (ws call_{index}_any)* ws "</function>"
call_{index}_any: "<parameter=" /[^<>\s]{{1,64}}/ ">\n" call_{index}_text
"#
                ) + &self.text_rule()
            }
            Shape::Python => {
                let open = literal(&format!("{}(", self.name));
                format!(
                    r#"call_{index}: {open} (call_{index}_any ("," ws call_{index}_any)*)? ")"
call_{index}_any: /[A-Za-z_][A-Za-z0-9_]{{0,63}}=/ (%json {{}} | "True" | "False" | "None")
"#
                )
            }
        })
    }

    /// Bare text and the tag that ends it.
    fn text_rule(&self) -> String {
        let index = self.index;
        match self.shape {
            Shape::Tags => format!(
                "call_{index}_text[lazy]: CALL_{index}_TEXT\nCALL_{index}_TEXT: /(.|\\n)*/ {}\n",
                literal(PARAMETER_END)
            ),
            Shape::Python => String::new(),
        }
    }

    /// Bare text of a bounded length, with the tag that ends it.
    fn length_rule(&self, number: usize, name: &str) -> String {
        let (Shape::Tags, Some(text)) = (self.shape, self.texts.get(name)) else {
            return String::new();
        };
        let (least, most) = match (text.length_min, text.length_max) {
            _ if text.choices.is_some() => return String::new(),
            (0, None) => return String::new(),
            (least, most) => (least, most.map_or(String::new(), |most| most.to_string())),
        };
        let index = self.index;
        format!(
            r"CALL_{index}_T{number}: /(.|\n){{{least},{most}}}\n<\/parameter>/ & ~(/(.|\n)*<\/parameter>(.|\n)+/)
"
        )
    }

    /// A parameter with its tags. A line's end on each side of the value is not its own.
    fn tagged(
        &self,
        number: usize,
        name: &str,
        property: &Value,
        root: &Fields,
        prepare: &impl Fn(&mut Value),
    ) -> Result<String, String> {
        let open = literal(&format!("<parameter={name}>\n"));
        let end = literal(&format!("\n{PARAMETER_END}"));
        let Some(text) = self.texts.get(name) else {
            let value = self.json_value(property, root, prepare)?;
            return Ok(format!("{open} {value} ws {}", literal(PARAMETER_END)));
        };
        if self.strict && !text.is_all {
            return Err(format!(
                "/properties/{name}: this model writes strings bare, of which nothing but their \
                 values can be kept to"
            ));
        }
        let Some(choices) = &text.choices else {
            return Ok(match (text.length_min, text.length_max) {
                (0, None) => format!("{open} call_{}_text", self.index),
                _ => format!("{open} CALL_{}_T{number}", self.index),
            });
        };
        let mut values: Vec<String> = Vec::new();
        for choice in choices {
            if choice.contains(PARAMETER_END) {
                return Err(format!("/properties/{name}: a value holds {PARAMETER_END}"));
            }
            if !choice.is_empty() {
                values.push(format!("{} {end}", literal(choice)));
            } else {
                values.push(end.clone());
            }
        }
        if text.may_be_null {
            values.push(format!("\"null\" {end}"));
        }
        if values.is_empty() {
            return Err(format!("/properties/{name} allows no value"));
        }
        Ok(format!("{open} ({})", values.join(" | ")))
    }

    /// The definitions that it needs go along.
    fn json_value(
        &self,
        property: &Value,
        root: &Fields,
        prepare: &impl Fn(&mut Value),
    ) -> Result<String, String> {
        let mut schema = match property {
            Value::Bool(true) => json!({}),
            Value::Object(_) => property.clone(),
            _ => return Err("a property's schema must be an object".to_string()),
        };
        let mut needed = Fields::new();
        if let Some(Value::Object(definitions)) = root.get("$defs") {
            add_needed(property, definitions, &mut needed);
        }
        if !needed.is_empty() {
            schema["$defs"] = Value::Object(needed);
        }
        prepare(&mut schema);
        let value = format!("%json {schema}");
        let left = self.schema_bytes_left.get().checked_sub(value.len()).ok_or_else(|| {
            format!(
                "with the definitions that each parameter needs, the parameters of all tools have \
                 more than {SCHEMA_BYTES_MAX} bytes"
            )
        })?;
        self.schema_bytes_left.set(left);
        Ok(value)
    }

    /// As Python writes it.
    fn python(
        &self,
        property: &Value,
        root: &Fields,
        prepare: &impl Fn(&mut Value),
        depth: usize,
    ) -> Result<String, String> {
        const DEPTH_MAX: usize = 4;
        let as_json = || self.json_value(property, root, prepare);
        let Value::Object(fields) = property else { return as_json() };
        if let Some(Value::Array(options)) = fields.get("anyOf") {
            if depth < DEPTH_MAX && fields.len() == 1 {
                let options: Result<Vec<String>, String> = options
                    .iter()
                    .map(|option| self.python(option, root, prepare, depth + 1))
                    .collect();
                return options.map(|options| options.join(" | "));
            }
        }
        if fields.contains_key("enum") || fields.contains_key("const") {
            return as_json();
        }
        let kinds: Vec<&str> = match fields.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let may_be_word = |kind: &&str| ["boolean", "null"].contains(kind);
        let binds_words =
            fields.keys().any(|word| ["allOf", "oneOf", "anyOf", "$ref"].contains(&word.as_str()));
        if binds_words || !kinds.iter().any(may_be_word) {
            return as_json();
        }
        let mut values = Vec::new();
        if kinds.contains(&"boolean") {
            values.push("\"True\" | \"False\"".to_string());
        }
        if kinds.contains(&"null") {
            values.push("\"None\"".to_string());
        }
        let others: Vec<&str> = kinds.into_iter().filter(|kind| !may_be_word(kind)).collect();
        if !others.is_empty() {
            let mut rest = property.clone();
            rest["type"] = json!(others);
            values.push(self.json_value(&rest, root, prepare)?);
        }
        Ok(values.join(" | "))
    }
}

/// Adds the definitions that a schema refers to, and those that they do. The schema was rewritten:
/// every reference leads to one.
fn add_needed(value: &Value, definitions: &Fields, needed: &mut Fields) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            let name = name.and_then(|reference| reference.strip_prefix("#/$defs/"));
            if let Some((name, definition)) = name.and_then(|name| definitions.get_key_value(name))
            {
                if !needed.contains_key(name) {
                    needed.insert(name.clone(), definition.clone());
                    add_needed(definition, definitions, needed);
                }
            }
            fields.values().for_each(|value| add_needed(value, definitions, needed));
        }
        Value::Array(values) => {
            values.iter().for_each(|value| add_needed(value, definitions, needed))
        }
        _ => {}
    }
}
