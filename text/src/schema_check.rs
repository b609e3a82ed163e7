//! What of a JSON schema the grammar crate would answer wrongly or be undone by, whatever keyword it
//! stands under, found before it sees the schema, with its place.

use serde_json::Value;

/// From there on not every integer is a number of JSON's.
const NUMBER_BOUND: f64 = 9007199254740992.0;

/// Compiling an expression may take the square of its length.
const PATTERN_BYTES_MAX: usize = 2048;
const PATTERNS_BYTES_MAX: usize = 16 << 10;

/// Says what is wrong and where, as a JSON pointer.
pub fn check(schema: &Value) -> Result<(), String> {
    let mut walk = Walk { place: Vec::new(), pattern_bytes: 0 };
    walk.bounds(schema)
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
}
