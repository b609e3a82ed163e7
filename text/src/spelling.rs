//! From a token as a vocabulary writes it to the bytes that it stands for.

use crate::{Code, Failure};
use std::collections::HashSet;

/// SentencePiece writes a space as U+2581.
pub const SPACE_MARK: char = '\u{2581}';

/// How a vocabulary writes bytes as text.
#[derive(Clone, Copy, PartialEq)]
pub enum Spelling {
    ByteLevel,     // one printable character for each byte (GPT-2)
    SentencePiece, // U+2581 for a space, <0xXX> for a byte
}

impl Spelling {
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Result<Self, Failure> {
        let mut steps = HashSet::new();
        type_names(&as_json(tokenizer.get_decoder())?, &mut steps);
        if steps.is_empty() {
            type_names(&as_json(tokenizer.get_pre_tokenizer())?, &mut steps);
        }
        let has = |name: &str| steps.contains(name);
        if has("ByteLevel") {
            return Ok(Spelling::ByteLevel);
        }
        if has("Metaspace") || has("ByteFallback") {
            return Ok(Spelling::SentencePiece);
        }
        let mut steps: Vec<_> = steps.into_iter().collect();
        steps.sort();
        Err(Failure::new(
            Code::Unimplemented,
            format!(
                "tokenizer.json: decoder [{}] is not supported; known: ByteLevel, Metaspace, \
                 ByteFallback",
                steps.join(", ")
            ),
        ))
    }

    pub fn bytes(self, text: &str) -> Vec<u8> {
        match self {
            Spelling::ByteLevel => {
                let bytes: Option<Vec<u8>> = text.chars().map(byte_of_char).collect();
                bytes.unwrap_or_else(|| text.as_bytes().to_vec())
            }
            Spelling::SentencePiece => match byte_of_name(text) {
                Some(byte) => vec![byte],
                None => text.replace(SPACE_MARK, " ").into_bytes(),
            },
        }
    }
}

/// GPT-2's table: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on.
fn byte_of_char(c: char) -> Option<u8> {
    fn printable(byte: u32) -> bool {
        matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
    }
    let code = c as u32;
    if code < 0x100 {
        return printable(code).then_some(code as u8);
    }
    (0..0x100u32).filter(|byte| !printable(*byte)).nth((code - 0x100) as usize).map(|b| b as u8)
}

/// `<0x0A>` and the like.
fn byte_of_name(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

fn as_json<T: serde::Serialize>(part: Option<&T>) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(part).map_err(|error| Failure::new(Code::Internal, error.to_string()))
}

fn type_names(value: &serde_json::Value, names: &mut HashSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::String(name)) = fields.get("type") {
                if name != "Sequence" {
                    names.insert(name.clone());
                }
            }
            fields.values().for_each(|field| type_names(field, names));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| type_names(item, names)),
        _ => {}
    }
}

/// Whether decoding drops one leading space, because encoding put it there.
pub fn strips_first_space(tokenizer: &tokenizers::Tokenizer) -> bool {
    let mut names = HashSet::new();
    let decoder = as_json(tokenizer.get_decoder()).unwrap_or_default();
    type_names(&decoder, &mut names);
    names.contains("Strip")
        || names.contains("Metaspace") && !decoder.to_string().contains("\"never\"")
}
