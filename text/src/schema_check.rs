//! What of a JSON schema the grammar crate would pass over, answer wrongly or be undone by, found
//! before it sees the schema, with its place.

use serde_json::{Map, Value};

/// Keywords that bind in some draft and that the crate does not keep; where a schema names another
/// draft than they are of, it takes them for annotations.
const NOT_KEPT: [&str; 19] = [
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
    "divisibleBy",
    "disallow",
    "extends",
];

/// Keywords whose values are schemas, or lists of them; and those under which schemas have names.
const SCHEMAS: [&str; 7] =
    ["items", "prefixItems", "additionalItems", "additionalProperties", "allOf", "anyOf", "oneOf"];
const NAMED_SCHEMAS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// From there on not every integer is a number of JSON's.
const NUMBER_BOUND: f64 = 9007199254740992.0;

/// The crate makes a form for each property that may be the first: their square in all.
const ONE_OF_PROPERTIES_MAX: usize = 32;

/// Compiling an expression may take the square of its length.
const PATTERN_BYTES_MAX: usize = 2048;
const PATTERNS_BYTES_MAX: usize = 16 << 10;

/// Says what is wrong and where, as a JSON pointer.
pub fn check(schema: &Value) -> Result<(), String> {
    let mut walk = Walk { place: Vec::new(), pattern_bytes: 0 };
    walk.bounds(schema)?;
    walk.keywords(schema)
}

struct Walk {
    place: Vec<String>,
    pattern_bytes: usize,
}

impl Walk {
    fn place(&self) -> String {
        format!("/{}", self.place.join("/"))
    }

    fn within(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.place.push(name.replace('~', "~0").replace('/', "~1"));
        body(self)?;
        self.place.pop();
        Ok(())
    }

    /// Numbers and expressions, wherever they stand: a reference may lead there.
    fn bounds(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
                self.within(name, |walk| {
                    match (name.as_str(), field) {
                        ("pattern", Value::String(pattern)) => walk.pattern(pattern)?,
                        ("patternProperties", Value::Object(named)) => {
                            named.keys().try_for_each(|pattern| walk.pattern(pattern))?
                        }
                        _ => {}
                    }
                    walk.bounds(field)
                })
            }),
            Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
                self.within(&index.to_string(), |walk| walk.bounds(item))
            }),
            Value::Number(number) if number.as_f64().unwrap_or(f64::MAX).abs() >= NUMBER_BOUND => {
                Err(format!("the number at {} is too large: wanted below 2^53", self.place()))
            }
            _ => Ok(()),
        }
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        self.pattern_bytes += pattern.len();
        if pattern.len() <= PATTERN_BYTES_MAX && self.pattern_bytes <= PATTERNS_BYTES_MAX {
            return Ok(());
        }
        Err(format!(
            "the expressions up to {} are too long: one may have {PATTERN_BYTES_MAX} bytes, all of \
             a schema {PATTERNS_BYTES_MAX}",
            self.place()
        ))
    }

    fn keywords(&mut self, schema: &Value) -> Result<(), String> {
        match schema {
            Value::Object(fields) => {
                self.counts(fields)?;
                fields.iter().try_for_each(|(name, field)| {
                    self.within(name, |walk| walk.keyword(name, field))
                })
            }
            Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
                self.within(&index.to_string(), |walk| walk.keywords(item))
            }),
            _ => Ok(()),
        }
    }

    fn keyword(&mut self, name: &str, value: &Value) -> Result<(), String> {
        if NOT_KEPT.contains(&name) {
            return Err(format!("the keyword at {} is not supported", self.place()));
        }
        if SCHEMAS.contains(&name) {
            return self.keywords(value);
        }
        match value {
            Value::Object(named) if NAMED_SCHEMAS.contains(&name) => named
                .iter()
                .try_for_each(|(key, schema)| self.within(key, |walk| walk.keywords(schema))),
            _ => Ok(()),
        }
    }

    /// A name may come twice in an answer, which then has fewer properties than were counted.
    fn counts(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        let least = fields.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        let required = fields.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        let properties = fields.get("properties").and_then(Value::as_object).map_or(0, Map::len);
        if least <= required || (least == 1 && properties <= ONE_OF_PROPERTIES_MAX) {
            return Ok(());
        }
        self.within("minProperties", |walk| {
            Err(format!(
                "the keyword at {} is not supported above the number of required properties, but \
                 for 1 of {ONE_OF_PROPERTIES_MAX} properties at most",
                walk.place()
            ))
        })
    }
}
