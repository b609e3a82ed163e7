//! Keeps a caller's words from becoming control tokens.
//!
//! A chat template joins its own text with callers' strings, and only afterwards is the whole cut
//! into tokens. So before rendering, a mark (a character that occurs nowhere in the input) is put
//! into every caller's string at the places where the literal of a control token could come to lie:
//! inside each literal, at an end that could be completed by a neighbour, and into a short string
//! that lies wholly inside a literal. After rendering the marks are taken out, and a literal that
//! one of them lay in is text.
//!
//! Letter case of ASCII does not matter to the search, since templates may change it. A template
//! that deletes characters from inside a caller's string could still join what was apart; none that
//! we know does.

use crate::Failure;
use serde_json::Value;
use std::collections::HashSet;

/// Roles are a closed set of words which templates may build control tokens from (`<|user|>`).
const ROLES: [&str; 7] =
    ["system", "developer", "user", "assistant", "tool", "function", "ipython"];

/// The literals of a tokenizer's control tokens, prepared for the search. Lower case.
pub struct Guard {
    literals: HashSet<String>,
    prefixes: HashSet<String>, // proper ones
    suffixes: HashSet<String>,
    tails: Vec<String>, // all suffixes, sorted: a string inside a literal begins one of them
    first_bytes: [bool; 256],
    lengths: Vec<usize>, // of the literals, distinct
    max_bytes: usize,
    own_words: HashSet<String>, // words that the template compares with
    source_noncharacters: u128,
}

impl Guard {
    pub fn new(controls: &[String], template: &str) -> Self {
        let mut guard = Guard {
            literals: HashSet::new(),
            prefixes: HashSet::new(),
            suffixes: HashSet::new(),
            tails: Vec::new(),
            first_bytes: [false; 256],
            lengths: Vec::new(),
            max_bytes: 0,
            own_words: own_words(template),
            source_noncharacters: noncharacters(template),
        };
        for control in controls.iter().filter(|control| !control.is_empty()) {
            let literal = control.to_ascii_lowercase();
            for (at, _) in literal.char_indices().skip(1) {
                guard.prefixes.insert(literal[..at].to_string());
                guard.suffixes.insert(literal[at..].to_string());
            }
            guard.tails.extend(literal.char_indices().map(|(at, _)| literal[at..].to_string()));
            guard.max_bytes = guard.max_bytes.max(literal.len());
            guard.lengths.push(literal.len());
            guard.first_bytes[literal.as_bytes()[0] as usize] = true;
            guard.literals.insert(literal);
        }
        guard.tails.sort_unstable();
        guard.tails.dedup();
        guard.lengths.sort_unstable();
        guard.lengths.dedup();
        guard
    }

    /// A character for the marks of this input: a Unicode noncharacter that occurs in none of the
    /// values. There are 66 of them, none of which is for interchange.
    pub fn choose_mark(&self, values: &[&Value]) -> Result<char, Failure> {
        let mut used = self.source_noncharacters;
        values.iter().for_each(|value| visit(value, &mut |text| used |= noncharacters(text)));
        (0..NONCHARACTERS)
            .find(|index| used & (1 << index) == 0)
            .map(noncharacter)
            .ok_or_else(|| Failure::invalid("the messages contain every Unicode noncharacter"))
    }

    pub fn mark_messages(&self, messages: &mut Value, mark: char) {
        let Value::Array(messages) = messages else { return };
        for message in messages {
            let role = message.get("role").and_then(Value::as_str);
            let role = role.filter(|role| ROLES.contains(role)).map(str::to_string);
            self.mark(message, mark);
            if let (Some(role), Some(slot)) = (role, message.get_mut("role")) {
                *slot = Value::String(role);
            }
        }
    }

    /// Marks all strings of a caller's value, object keys included.
    pub fn mark(&self, value: &mut Value, mark: char) {
        match value {
            Value::String(text) => {
                if let Some(marked) = self.marked(text, mark) {
                    *text = marked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark(item, mark)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.mark(field, mark));
                if fields.keys().any(|key| self.marked(key, mark).is_some()) {
                    let old = std::mem::take(fields);
                    fields.extend(
                        old.into_iter().map(|(key, v)| (self.marked(&key, mark).unwrap_or(key), v)),
                    );
                }
            }
            _ => {}
        }
    }

    /// None: needs no mark.
    fn marked(&self, text: &str, mark: char) -> Option<String> {
        if text.is_empty() || self.literals.is_empty() {
            return None;
        }
        let lower = text.to_ascii_lowercase();
        let mut places = self.places_inside(&lower);
        let end = lower.trim_end().len();
        let start = lower.len() - lower.trim_start().len();
        for (from, to) in [(0, lower.len()), (start.min(end), end)] {
            let core = &lower[from..to];
            if self.begins_with_a_suffix(core) {
                places.push(from);
            }
            if self.ends_with_a_prefix(core) {
                places.push(to);
            }
            // Text on both sides could complete it, so a mark at one end parts them.
            if self.lies_inside(core) && !self.own_words.contains(text) {
                places.push(to);
            }
        }
        if places.is_empty() {
            return None;
        }
        places.sort_unstable();
        places.dedup();
        let mut marked = String::with_capacity(text.len() + places.len() * mark.len_utf8());
        let mut done = 0;
        for place in places {
            marked.push_str(&text[done..place]);
            marked.push(mark);
            done = place;
        }
        marked.push_str(&text[done..]);
        Some(marked)
    }

    /// After the first character of each literal; before it where that is all there is.
    fn places_inside(&self, lower: &str) -> Vec<usize> {
        let mut places = Vec::new();
        for (start, c) in lower.char_indices() {
            if !self.first_bytes[lower.as_bytes()[start] as usize] {
                continue;
            }
            for length in &self.lengths {
                let candidate = lower.get(start..start + length);
                if candidate.is_some_and(|candidate| self.literals.contains(candidate)) {
                    let first = c.len_utf8();
                    places.push(if *length > first { start + first } else { start });
                }
            }
        }
        places
    }

    fn ends_with_a_prefix(&self, lower: &str) -> bool {
        let reach = lower.len().min(self.max_bytes);
        (1..=reach).any(|length| {
            let suffix = lower.get(lower.len() - length..);
            suffix.is_some_and(|suffix| self.prefixes.contains(suffix))
        })
    }

    fn begins_with_a_suffix(&self, lower: &str) -> bool {
        let reach = lower.len().min(self.max_bytes);
        (1..=reach)
            .any(|length| lower.get(..length).is_some_and(|prefix| self.suffixes.contains(prefix)))
    }

    fn lies_inside(&self, lower: &str) -> bool {
        if lower.is_empty() || lower.len() > self.max_bytes {
            return false;
        }
        let at = self.tails.partition_point(|tail| tail.as_str() < lower);
        self.tails.get(at).is_some_and(|tail| tail.starts_with(lower))
    }
}

/// Takes the marks out of rendered text. Returns their places, ascending.
pub fn unmark(text: &str, mark: char) -> (String, Vec<usize>) {
    let mut clean = String::with_capacity(text.len());
    let mut places = Vec::new();
    for (index, part) in text.split(mark).enumerate() {
        if index > 0 {
            places.push(clean.len());
        }
        clean.push_str(part);
    }
    places.dedup();
    (clean, places)
}

/// Words that the template itself names: quoted, or as an attribute. A caller's string that is one
/// of them must stay comparable with it.
fn own_words(template: &str) -> HashSet<String> {
    let mut words = HashSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, quote) in template.char_indices() {
        let rest = &template[at + quote.len_utf8()..];
        match quote {
            '\'' | '"' => {
                if let Some(end) = rest.find(quote) {
                    words.insert(rest[..end].to_string());
                }
            }
            '.' => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                words.insert(rest[..end].to_string());
            }
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty() && word.len() <= 64 && word.chars().all(is_word));
    words
}

fn visit(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Object(fields) => fields.iter().for_each(|(key, field)| {
            see(key);
            visit(field, see);
        }),
        _ => {}
    }
}

/// U+FDD0 to U+FDEF, and the last two of each of the 17 planes.
const NONCHARACTERS: u32 = 66;

fn noncharacter(index: u32) -> char {
    let code = match index {
        0..=31 => 0xFDD0 + index,
        _ => (index - 32) / 2 * 0x10000 + 0xFFFE + index % 2,
    };
    char::from_u32(code).unwrap_or('\u{FDD0}')
}

/// The noncharacters of a text, as a bit set.
fn noncharacters(text: &str) -> u128 {
    let mut set = 0;
    for c in text.chars() {
        let code = c as u32;
        if (0xFDD0..=0xFDEF).contains(&code) {
            set |= 1 << (code - 0xFDD0);
        } else if code & 0xFFFE == 0xFFFE {
            set |= 1 << (32 + (code >> 16) * 2 + (code & 1));
        }
    }
    set
}
