//! The chat template of a Hugging Face model folder.

use crate::Failure;
use serde_json::Value;

#[derive(Default)]
pub struct TemplateSource {
    pub source: String,
    pub tool_use_source: String, // empty: the same for all
    pub bos_token: String,
    pub eos_token: String,
}

/// Reads tokenizer_config.json and, where the folder has one, chat_template.jinja, which then wins.
/// Either path may be empty. Of several named templates, `default` and `tool_use` are taken.
/// An empty source: the folder has no template.
pub fn load(config_path: &str, template_path: &str) -> Result<TemplateSource, Failure> {
    let mut found = TemplateSource::default();
    if !config_path.is_empty() {
        let text = crate::read_file(config_path)?;
        let config: Value = serde_json::from_slice(&text)
            .map_err(|error| Failure::invalid(format!("{config_path}: {error}")))?;
        found.bos_token = token_text(&config, "bos_token");
        found.eos_token = token_text(&config, "eos_token");
        match config.get("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(source)) => found.source = source.clone(),
            Some(Value::Array(named)) => {
                for entry in named {
                    let field = |name| entry.get(name).and_then(Value::as_str).unwrap_or_default();
                    match field("name") {
                        "default" => found.source = field("template").to_string(),
                        "tool_use" => found.tool_use_source = field("template").to_string(),
                        _ => {}
                    }
                }
            }
            Some(_) => {
                return Err(Failure::invalid(format!(
                    "{config_path}: chat_template is neither a string nor an array"
                )))
            }
        }
    }
    if !template_path.is_empty() {
        found.source = String::from_utf8(crate::read_file(template_path)?)
            .map_err(|_| Failure::invalid(format!("{template_path}: not UTF-8")))?;
        found.tool_use_source.clear();
    }
    Ok(found)
}

/// A token is written as its text or as an object with `content`.
fn token_text(config: &Value, name: &str) -> String {
    let token = config.get(name).unwrap_or(&Value::Null);
    let text = token.as_str().or_else(|| token.get("content").and_then(Value::as_str));
    text.unwrap_or_default().to_string()
}
