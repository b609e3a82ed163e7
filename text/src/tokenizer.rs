//! A tokenizer: what all kinds have in common, and those from a `tokenizer.json`.
//!
//! Control tokens are found by our own matcher (`LiteralSet`) and not by the crate's, because we
//! must be able to say *where* a literal counts as a control token and where it is only text; all
//! other steps (normalise, pre-tokenise, merge) are the `tokenizers` crate's, in its order.

use crate::literal_set::{Control, Found, Literal, LiteralSet};
use crate::spelling::{strips_first_space, Spelling};
use crate::{Code, Failure};
use tokenizers::normalizer::Range;
use tokenizers::tokenizer::pre_tokenizer::PreTokenizedString;
use tokenizers::{
    Encoding, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizer,
    Token,
};

pub const MAX_TOKENS: usize = 1 << 24;

/// The bytes of all tokens in one blob, for the C++ side to read without a call.
#[derive(Default)]
pub struct TokenTable {
    pub bytes: Vec<u8>,
    pub offsets: Vec<u64>, // one more than tokens
    pub special: Vec<u8>,  // 0 or 1
}

impl TokenTable {
    pub fn new() -> Self {
        TokenTable { offsets: vec![0], ..Default::default() }
    }

    pub fn push(&mut self, bytes: &[u8], special: bool) {
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(self.bytes.len() as u64);
        self.special.push(special as u8);
    }
}

pub struct Tokenizer {
    pub(crate) inner: tokenizers::Tokenizer,
    pub(crate) raw: LiteralSet, // found in the text as it was written
    pub(crate) normalized: LiteralSet, // found after normalisation
    pub(crate) controls: Vec<String>,
    pub(crate) prefix: Vec<i32>, // what the model's files put around a text
    pub(crate) suffix: Vec<i32>,
    pub(crate) table: TokenTable,
    pub(crate) adds_space_prefix: bool,
}

impl Tokenizer {
    pub fn from_json(text: &[u8]) -> Result<Self, Failure> {
        let mut inner = tokenizers::Tokenizer::from_bytes(text)
            .map_err(|error| Failure::invalid(format!("tokenizer.json: {error}")))?;
        // A prompt is never cut or filled up silently.
        inner
            .with_truncation(None)
            .map_err(|error| Failure::invalid(format!("tokenizer.json: {error}")))?;
        inner.with_padding(None);
        let spelling = Spelling::of(&inner)?;

        let added = inner.get_added_tokens_decoder();
        let vocabulary = inner.get_vocab(true);
        let size = vocabulary.values().chain(added.keys()).max().map_or(0, |id| *id as usize + 1);
        if size == 0 || size > MAX_TOKENS {
            return Err(Failure::invalid(format!(
                "tokenizer.json has {size} token ids; wanted 1 to {MAX_TOKENS}"
            )));
        }
        let mut texts: Vec<Option<&str>> = vec![None; size];
        for (text, id) in &vocabulary {
            texts[*id as usize] = Some(text);
        }
        let mut table = TokenTable::new();
        let mut raw = LiteralSet::default();
        let mut normalized = LiteralSet::default();
        let mut controls = Vec::new();
        for (id, text) in texts.iter().enumerate() {
            let Some(token) = added.get(&(id as u32)) else {
                let bytes = text.map_or_else(Vec::new, |text| spelling.bytes(text));
                table.push(&bytes, false);
                continue;
            };
            table.push(token.content.as_bytes(), token.special);
            let literal = Literal {
                id: id as u32,
                control: token.special,
                single_word: token.single_word,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
            };
            if token.special {
                controls.push(token.content.clone());
            }
            match (token.special || !token.normalized, inner.get_normalizer()) {
                (false, Some(normalizer)) => {
                    let mut content = NormalizedString::from(token.content.as_str());
                    normalizer
                        .normalize(&mut content)
                        .map_err(|error| Failure::invalid(format!("tokenizer.json: {error}")))?;
                    normalized.insert(content.get(), literal);
                }
                _ => raw.insert(&token.content, literal),
            }
        }
        let (prefix, suffix) = surroundings(&inner)?;
        let adds_space_prefix = spelling == Spelling::SentencePiece && strips_first_space(&inner);
        Ok(Tokenizer { inner, raw, normalized, controls, prefix, suffix, table, adds_space_prefix })
    }

    pub fn encode(
        &self,
        text: &str,
        control: Control,
        add_bos_eos: bool,
        ids: &mut Vec<i32>,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::new(Code::Internal, format!("tokenizer: {error}"));
        let mut pieces = PreTokenizedString::from(text);
        pieces
            .split(|_, piece| {
                let found = self.raw.find(piece.get(), control);
                cut(&piece, found)
            })
            .map_err(failed)?;
        if self.inner.get_normalizer().is_some() {
            pieces
                .split(|_, mut piece| {
                    if let Some(normalizer) = self.inner.get_normalizer() {
                        normalizer.normalize(&mut piece)?;
                    }
                    let found = self.normalized.find(piece.get(), Control::Nowhere);
                    cut(&piece, found)
                })
                .map_err(failed)?;
        }
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        let model = self.inner.get_model();
        pieces.tokenize(|piece| model.tokenize(piece.get())).map_err(failed)?;

        if add_bos_eos {
            ids.extend_from_slice(&self.prefix);
        }
        for (_, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id as i32));
        }
        if add_bos_eos {
            ids.extend_from_slice(&self.suffix);
        }
        Ok(())
    }

    pub fn table(&self) -> &TokenTable {
        &self.table
    }

    /// The literals of all control tokens.
    pub fn controls(&self) -> &[String] {
        &self.controls
    }

    pub fn adds_space_prefix(&self) -> bool {
        self.adds_space_prefix
    }
}

/// The ids that the post-processor puts before and after a text.
fn surroundings(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<i32>, Vec<i32>), Failure> {
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let whole = tokenizer
        .post_process(text, None, true)
        .map_err(|error| Failure::invalid(format!("tokenizer.json: post_processor: {error}")))?;
    let ids = whole.get_ids();
    let Some(at) = ids.iter().position(|id| *id == TEXT) else {
        return Err(Failure::invalid("tokenizer.json: post_processor drops the text".to_string()));
    };
    let signed = |ids: &[u32]| ids.iter().map(|id| *id as i32).collect();
    Ok((signed(&ids[..at]), signed(&ids[at + 1..])))
}

fn cut(
    piece: &NormalizedString,
    found: Vec<Found>,
) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
    let slice = |start: usize, end: usize| {
        piece.slice(Range::Normalized(start..end)).ok_or("a token begins inside a character")
    };
    let mut parts = Vec::with_capacity(2 * found.len() + 1);
    let mut done = 0;
    for Found { id, start, end } in found {
        if done < start {
            parts.push((slice(done, start)?, None));
        }
        let token = Token::new(id, String::new(), (0, end - start));
        parts.push((slice(start, end)?, Some(vec![token])));
        done = end;
    }
    if done < piece.get().len() {
        parts.push((slice(done, piece.get().len())?, None));
    }
    Ok(parts)
}
