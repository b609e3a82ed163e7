//! Where in a JSON schema a keyword stands that the grammar crate does not know.

use serde_json::Value;

const UNKNOWN_KEYWORDS: &str = "Unimplemented keys: ";

/// The crate's message, with the place of the first such keyword where it is about that.
pub fn name_the_place(schema: &str, error: &str) -> String {
    let keywords = error.find(UNKNOWN_KEYWORDS).and_then(|at| {
        serde_json::from_str::<Vec<String>>(&error[at + UNKNOWN_KEYWORDS.len()..]).ok()
    });
    let (Some(keywords), Ok(schema)) = (keywords, serde_json::from_str::<Value>(schema)) else {
        return error.to_string();
    };
    match find(&schema, false, &keywords, &mut Vec::new()) {
        Some(place) => format!("the keyword at {place} is not supported"),
        None => format!("these keywords are not supported: {}", keywords.join(", ")),
    }
}

/// Keywords under which names stand that are no keywords, and keywords whose values are no schemas.
const MAPS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// The first of the keywords, as a JSON pointer.
fn find(
    value: &Value,
    is_map: bool,
    keywords: &[String],
    place: &mut Vec<String>,
) -> Option<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, child)| (name.clone(), child)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect()
        }
        _ => return None,
    };
    let names_are_keywords = value.is_object() && !is_map;
    for (name, child) in children {
        place.push(name.replace('~', "~0").replace('/', "~1"));
        if names_are_keywords && keywords.contains(&name) {
            return Some(format!("/{}", place.join("/")));
        }
        if !names_are_keywords || !DATA.contains(&name.as_str()) {
            let map = names_are_keywords && MAPS.contains(&name.as_str());
            let found = find(child, map, keywords, place);
            if found.is_some() {
                return found;
            }
        }
        place.pop();
    }
    None
}
