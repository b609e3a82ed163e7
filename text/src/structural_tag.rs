//! Free text in which a trigger begins a tag whose content is held to a schema, as Lark, from a
//! description of the tags.
//!
//! Text ends at the first trigger in it: from there on only a tag fits that begins with it. A mark
//! that is a control token of the model is that token, another is its text.

use crate::{schema_rewrite, tool_grammar::literal, Failure};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructuralTags {
    triggers: Vec<String>,
    tags: Vec<Tag>,
    /// The answer begins with a tag.
    at_least_one: bool,
    /// The answer ends with its first tag.
    stop_after_first: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    begin: String,
    end: String,
    schema: Value,
    /// The caller's name of the tag.
    place: String,
}

impl StructuralTags {
    pub fn parse(source: &str) -> Result<StructuralTags, Failure> {
        serde_json::from_str(source).map_err(|error| Failure::invalid(error.to_string()))
    }

    /// `control_token` and `prepare` as in `ToolCalls::to_lark`.
    pub fn to_lark(
        &self,
        control_token: impl Fn(&str) -> Option<u32>,
        prepare: impl Fn(&mut Value),
    ) -> Result<String, Failure> {
        self.check()?;
        let mark = |text: &str| match (text, control_token(text)) {
            ("", _) => String::new(),
            (_, Some(token)) => format!("<[{token}]>"),
            (_, None) => literal(text),
        };
        let spelled: Vec<String> = self.triggers.iter().map(|text| literal(text)).collect();
        let spelled = spelled.join(" | ");
        let mut rules = format!("FREE: /(.|\\n)*/ & ~(/(.|\\n)*/ ({spelled}) /(.|\\n)*/)\n");
        for (index, tag) in self.tags.iter().enumerate() {
            let fail = |what: String| Failure::invalid(format!("{}.{what}", tag.place));
            let schema = schema_rewrite::rewrite(&tag.schema);
            let mut schema = Value::Object(schema.map_err(|what| fail(format!("schema: {what}")))?);
            prepare(&mut schema);
            rules += &format!("content_{index}: %json {schema} {}\n", mark(&tag.end));
        }
        let mut tagged = Vec::new();
        let mut firsts = Vec::new();
        for (index, trigger) in self.triggers.iter().enumerate() {
            let behind = |tag: &Tag| tag.begin.strip_prefix(trigger.as_str()).map(mark);
            let ways: Vec<String> = self
                .tags
                .iter()
                .enumerate()
                .filter_map(|(at, tag)| Some(format!("{} content_{at}", behind(tag)?)))
                .collect();
            if ways.is_empty() {
                continue;
            }
            rules += &format!("behind_{index}: {}\n", ways.join(" | "));
            firsts.push(format!("{} behind_{index}", mark(trigger)));
            if control_token(trigger).is_some() {
                tagged.push(format!("FREE {} behind_{index}", mark(trigger)));
            } else {
                rules += &format!("before_{index}[lazy]: BEFORE_{index}\n");
                rules += &format!("BEFORE_{index}: FREE {}\n", literal(trigger));
                tagged.push(format!("before_{index} behind_{index}"));
            }
        }
        rules += &format!("tagged: {}\nfirst: {}\n", tagged.join(" | "), firsts.join(" | "));
        let start = match (self.at_least_one, self.stop_after_first) {
            (false, false) => "tagged* FREE",
            (true, false) => "first tagged* FREE",
            (false, true) => "FREE | tagged",
            (true, true) => "first",
        };
        Ok(format!("start: {start}\n{rules}"))
    }

    fn check(&self) -> Result<(), Failure> {
        if self.triggers.is_empty() || self.triggers.iter().any(String::is_empty) {
            return Err(Failure::invalid(
                "triggers must be strings that are not empty, one at least",
            ));
        }
        if self.tags.is_empty() {
            return Err(Failure::invalid("there must be a tag"));
        }
        let triggers = &self.triggers;
        for tag in &self.tags {
            if !triggers.iter().any(|trigger| tag.begin.starts_with(trigger.as_str())) {
                let begin = &tag.begin;
                return Err(Failure::invalid(format!(
                    "{}.begin is '{begin}', which begins with none of the triggers {triggers:?}",
                    tag.place
                )));
            }
        }
        Ok(())
    }
}
