//! Tokenizers from GGUF metadata or a `tokenizer.json`.
//!
//! Control tokens are found by our own matcher (`LiteralSet`) and not by the crate's, because we
//! must be able to say *where* a literal counts as a control token and where it is only text; all
//! other steps (normalise, pre-tokenise, merge) are the `tokenizers` crate's, in its order.

use crate::{Code, Failure};
use std::collections::{HashMap, HashSet};
use tokenizers::models::bpe::{Vocab, BPE};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizer::Range;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, NFC};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::pre_tokenizer::PreTokenizedString;
use tokenizers::{
    Encoding, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizer,
    SplitDelimiterBehavior, Token,
};

/// GGUF's `tokenizer.ggml.token_type`.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// SentencePiece writes a space as U+2581.
const SPACE_MARK: char = '\u{2581}';

pub struct GgufVocabulary<'a> {
    pub model: &'a str,
    pub pre: &'a str,
    pub tokens: Vec<&'a str>,
    pub token_types: &'a [i32],
    pub scores: &'a [f32],
    pub merges: Vec<&'a str>,
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_space_prefix: bool,
    pub bos: i32,
    pub eos: i32,
    pub unknown: i32,
}

/// Where the literal of a control token in the text is that token.
#[derive(Clone, Copy)]
pub enum Control<'a> {
    Nowhere,
    Everywhere,
    /// Everywhere but across these byte offsets of the text (ascending): a caller's words touch
    /// the literal there.
    NotAcross(&'a [usize]),
}

/// The bytes of all tokens in one blob, for the C++ side to read without a call.
#[derive(Default)]
pub struct TokenTable {
    pub bytes: Vec<u8>,
    pub offsets: Vec<u64>, // one more than tokens
    pub special: Vec<u8>,  // 0 or 1
}

impl TokenTable {
    fn new() -> Self {
        TokenTable { offsets: vec![0], ..Default::default() }
    }

    fn push(&mut self, bytes: &[u8], special: bool) {
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(self.bytes.len() as u64);
        self.special.push(special as u8);
    }
}

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    raw: LiteralSet,        // found in the text as it was written
    normalized: LiteralSet, // found after normalisation
    controls: Vec<String>,
    prefix: Vec<i32>, // what the model's files put around a text
    suffix: Vec<i32>,
    table: TokenTable,
    adds_space_prefix: bool,
}

impl Tokenizer {
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Self, Failure> {
        check_shapes(vocabulary)?;
        match vocabulary.model {
            "gpt2" => byte_level_from_gguf(vocabulary),
            "llama" => sentencepiece_from_gguf(vocabulary),
            other => Err(Failure::new(
                Code::Unimplemented,
                format!("tokenizer.ggml.model \"{other}\" is not supported; known: gpt2, llama"),
            )),
        }
    }

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
        Ok(Tokenizer {
            inner,
            raw,
            normalized,
            controls,
            prefix,
            suffix,
            table,
            adds_space_prefix,
        })
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

const MAX_TOKENS: usize = 1 << 24;

fn check_shapes(vocabulary: &GgufVocabulary) -> Result<(), Failure> {
    let size = vocabulary.tokens.len();
    if size == 0 || size > MAX_TOKENS {
        return Err(Failure::invalid(format!(
            "tokenizer.ggml.tokens has {size} entries; wanted 1 to {MAX_TOKENS}"
        )));
    }
    for (name, length) in [
        ("token_type", vocabulary.token_types.len()),
        ("scores", vocabulary.scores.len()),
    ] {
        if length != 0 && length != size {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.{name} has {length} entries and tokens has {size}"
            )));
        }
    }
    for (name, id) in [
        ("bos", vocabulary.bos),
        ("eos", vocabulary.eos),
        ("unknown", vocabulary.unknown),
    ] {
        if id < -1 || id >= size as i32 {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.{name}_token_id is {id}; the vocabulary has {size} tokens"
            )));
        }
    }
    for (name, wanted, id) in [
        ("bos", vocabulary.add_bos, vocabulary.bos),
        ("eos", vocabulary.add_eos, vocabulary.eos),
    ] {
        if wanted && id < 0 {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.add_{name}_token is set, but there is no {name}_token_id"
            )));
        }
    }
    Ok(())
}

/// What a token is for. Some files mark the end-of-turn token as an ordinary one; bos and eos are
/// control tokens whatever the file says.
fn kind(vocabulary: &GgufVocabulary, id: usize) -> i32 {
    if id as i32 == vocabulary.bos || id as i32 == vocabulary.eos {
        return CONTROL;
    }
    vocabulary.token_types.get(id).copied().unwrap_or(1)
}

fn gguf_literals(vocabulary: &GgufVocabulary) -> (LiteralSet, Vec<String>) {
    let mut literals = LiteralSet::default();
    let mut controls = Vec::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        let control = match kind(vocabulary, id) {
            CONTROL | UNKNOWN => true,
            USER_DEFINED => false,
            _ => continue,
        };
        if text.is_empty() {
            continue;
        }
        if control {
            controls.push(text.to_string());
        }
        literals.insert(text, Literal { id: id as u32, control, ..Default::default() });
    }
    (literals, controls)
}

/// How a byte-level vocabulary cuts text into words before merging.
struct WordSplit {
    pre: PreTokenizerWrapper,
    normalizer: Option<NormalizerWrapper>,
    ignore_merges: bool, // a word that is a token is that token, whatever the merges say
}

const GPT2_WORDS: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3_WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2_WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN_WORDS: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const KNOWN_PRE: &str = "codeshell, default, gpt-2, llama-bpe, llama-v3, llama3, phi-2, qwen2, \
                         refact, smollm, starcoder, tekken";

/// Only names whose original tokenizer we know exactly: a wrong split costs answers, not errors,
/// so an unknown name is refused. The regular expressions are those of the models' own
/// tokenizer.json files; `default` is llama.cpp's fallback list (src/llama-vocab.cpp), which is all
/// that a file without a better name says.
fn word_split(pre: &str) -> Result<WordSplit, Failure> {
    let (pre_tokenizers, normalizer, ignore_merges): (Vec<PreTokenizerWrapper>, _, _) = match pre {
        "gpt-2" | "phi-2" => (vec![byte_level(true)], None, false),
        "smollm" | "starcoder" | "refact" | "codeshell" => {
            (vec![Digits::new(true).into(), byte_level(true)], None, false)
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            (vec![isolated(LLAMA3_WORDS)?, byte_level(false)], None, true)
        }
        "qwen2" => {
            (vec![isolated(QWEN2_WORDS)?, byte_level(false)], Some(NFC.into()), false)
        }
        "tekken" => (vec![isolated(TEKKEN_WORDS)?, byte_level(false)], None, true),
        "default" => (
            vec![
                isolated(r"[\p{P}\$\+<=>\^~\|]+")?,
                isolated(GPT2_WORDS)?,
                isolated(r"\p{N}+")?,
                isolated("[0-9][0-9][0-9]")?,
                byte_level(false),
            ],
            None,
            false,
        ),
        other => {
            return Err(Failure::new(
                Code::Unimplemented,
                format!("tokenizer.ggml.pre \"{other}\" is not supported; known: {KNOWN_PRE}"),
            ))
        }
    };
    let pre = tokenizers::pre_tokenizers::sequence::Sequence::new(pre_tokenizers).into();
    Ok(WordSplit { pre, normalizer, ignore_merges })
}

fn byte_level(use_regex: bool) -> PreTokenizerWrapper {
    ByteLevel::new(false, true, use_regex).into()
}

fn isolated(regex: &str) -> Result<PreTokenizerWrapper, Failure> {
    let pattern = SplitPattern::Regex(regex.to_string());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map(Into::into)
        .map_err(|error| Failure::new(Code::Internal, format!("regular expression: {error}")))
}

fn byte_level_from_gguf(vocabulary: &GgufVocabulary) -> Result<Tokenizer, Failure> {
    let split = word_split(vocabulary.pre)?;
    let mut all: HashMap<&str, u32> = HashMap::with_capacity(vocabulary.tokens.len());
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        all.entry(text).or_insert(id as u32);
    }
    // Control tokens stay out of the model unless a merge needs one, so that no text can become
    // one by merging.
    let mut vocab: Vocab = Vocab::with_capacity(vocabulary.tokens.len());
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if !text.is_empty() && !matches!(kind(vocabulary, id), CONTROL | UNUSED) {
            vocab.entry(text.to_string()).or_insert(id as u32);
        }
    }
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for (index, merge) in vocabulary.merges.iter().enumerate() {
        // Byte-level text has no space, so the first one after the first character separates.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let Some(space) = merge[first..].find(' ').map(|at| at + first) else {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.merges[{index}] has no space between its two parts"
            )));
        };
        let (left, right) = (&merge[..space], &merge[space + 1..]);
        for part in [left, right, &format!("{left}{right}")] {
            let Some(id) = all.get(part) else {
                return Err(Failure::invalid(format!(
                    "tokenizer.ggml.merges[{index}]: \"{part}\" is not in the vocabulary"
                )));
            };
            if !vocab.contains_key(part) {
                vocab.insert(part.to_string(), *id);
            }
        }
        merges.push((left.to_string(), right.to_string()));
    }
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(split.ignore_merges)
        .build()
        .map_err(|error| Failure::invalid(format!("tokenizer.ggml: {error}")))?;
    finish_gguf(vocabulary, model, split.normalizer, Some(split.pre), Spelling::ByteLevel)
}

fn sentencepiece_from_gguf(vocabulary: &GgufVocabulary) -> Result<Tokenizer, Failure> {
    if vocabulary.scores.is_empty() {
        return Err(Failure::invalid(
            "tokenizer.ggml.scores is missing; a \"llama\" vocabulary needs it".to_string(),
        ));
    }
    let mut vocab = Vocab::with_capacity(vocabulary.tokens.len());
    let mut normal: HashMap<&str, u32> = HashMap::with_capacity(vocabulary.tokens.len());
    let mut unknown = None;
    let mut has_bytes = false;
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        match kind(vocabulary, id) {
            _ if text.is_empty() => continue,
            CONTROL | USER_DEFINED | UNUSED => continue,
            UNKNOWN => unknown = Some(text.to_string()),
            BYTE => has_bytes = true,
            _ => {
                normal.entry(text).or_insert(id as u32);
            }
        }
        vocab.entry(text.to_string()).or_insert(id as u32);
    }
    if unknown.is_none() && vocabulary.unknown >= 0 {
        let text = vocabulary.tokens[vocabulary.unknown as usize];
        vocab.entry(text.to_string()).or_insert(vocabulary.unknown as u32);
        unknown = Some(text.to_string());
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges_from_scores(vocabulary, &normal))
        .byte_fallback(has_bytes)
        .fuse_unk(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    let model =
        builder.build().map_err(|error| Failure::invalid(format!("tokenizer.ggml: {error}")))?;

    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if vocabulary.add_space_prefix {
        steps.push(Prepend::new(SPACE_MARK.to_string()).into());
    }
    let replace = Replace::new(" ", SPACE_MARK.to_string())
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    steps.push(replace.into());
    let normalizer = tokenizers::normalizers::utils::Sequence::new(steps).into();
    finish_gguf(vocabulary, model, Some(normalizer), None, Spelling::SentencePiece)
}

/// SentencePiece merges the adjacent pair whose product scores best. As merges of a BPE model: all
/// ways to cut each token into two tokens, best score first. The order among equals is the one that
/// transformers uses when it converts such a vocabulary (convert_slow_tokenizer.py), so that ids
/// agree with its fast tokenizers.
fn merges_from_scores(
    vocabulary: &GgufVocabulary,
    normal: &HashMap<&str, u32>,
) -> Vec<(String, String)> {
    struct Merge<'a> {
        left: &'a str,
        right: &'a str,
        score: f32,
        chars: (usize, usize),
    }
    let mut merges: Vec<Merge> = Vec::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if normal.get(text) != Some(&(id as u32)) {
            continue;
        }
        let count = text.chars().count();
        let mut local: Vec<(u32, u32, Merge)> = Vec::new();
        for (nth, (at, _)) in text.char_indices().enumerate().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(left_id), Some(right_id)) = (normal.get(left), normal.get(right)) {
                let score = vocabulary.scores[id];
                let chars = (nth, count - nth);
                local.push((*left_id, *right_id, Merge { left, right, score, chars }));
            }
        }
        local.sort_by_key(|(left, right, _)| (*left, *right));
        merges.extend(local.into_iter().map(|(_, _, merge)| merge));
    }
    merges.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.chars.cmp(&a.chars)));
    merges.into_iter().map(|merge| (merge.left.to_string(), merge.right.to_string())).collect()
}

fn finish_gguf(
    vocabulary: &GgufVocabulary,
    model: BPE,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    spelling: Spelling,
) -> Result<Tokenizer, Failure> {
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(model));
    inner
        .with_normalizer(normalizer)
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    inner.with_pre_tokenizer(pre_tokenizer);
    let mut table = TokenTable::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        match kind(vocabulary, id) {
            CONTROL | UNKNOWN => table.push(text.as_bytes(), true),
            USER_DEFINED | UNUSED => table.push(text.as_bytes(), false),
            _ => table.push(&spelling.bytes(text), false),
        }
    }
    let (raw, controls) = gguf_literals(vocabulary);
    Ok(Tokenizer {
        inner,
        raw,
        normalized: LiteralSet::default(),
        controls,
        prefix: vocabulary.add_bos.then_some(vocabulary.bos).into_iter().collect(),
        suffix: vocabulary.add_eos.then_some(vocabulary.eos).into_iter().collect(),
        table,
        adds_space_prefix: spelling == Spelling::SentencePiece && vocabulary.add_space_prefix,
    })
}

/// How a vocabulary writes bytes as text.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    ByteLevel,     // one printable character for each byte (GPT-2)
    SentencePiece, // U+2581 for a space, <0xXX> for a byte
}

impl Spelling {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Result<Self, Failure> {
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

    fn bytes(self, text: &str) -> Vec<u8> {
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
fn strips_first_space(tokenizer: &tokenizers::Tokenizer) -> bool {
    let mut names = HashSet::new();
    let decoder = as_json(tokenizer.get_decoder()).unwrap_or_default();
    type_names(&decoder, &mut names);
    names.contains("Strip")
        || names.contains("Metaspace") && !decoder.to_string().contains("\"never\"")
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
        return Err(Failure::invalid(
            "tokenizer.json: post_processor drops the text".to_string(),
        ));
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

/// A token that is found as a whole before the text is cut into words.
#[derive(Clone, Copy, Default)]
struct Literal {
    id: u32,
    control: bool,
    single_word: bool, // not next to a letter, digit or underscore
    lstrip: bool,      // takes the white space before it
    rstrip: bool,      // and after it
}

struct Found {
    id: u32,
    start: usize,
    end: usize,
}

/// A byte trie. Finds the leftmost, and there the longest, literal that may count.
#[derive(Default)]
struct LiteralSet {
    nodes: Vec<LiteralNode>, // [0] is the root
}

#[derive(Default)]
struct LiteralNode {
    children: Vec<(u8, u32)>, // sorted
    literal: Option<Literal>,
}

impl LiteralNode {
    fn child(&self, byte: u8) -> Option<usize> {
        let at = self.children.binary_search_by_key(&byte, |child| child.0).ok()?;
        Some(self.children[at].1 as usize)
    }
}

impl LiteralSet {
    fn insert(&mut self, text: &str, literal: Literal) {
        if text.is_empty() {
            return;
        }
        if self.nodes.is_empty() {
            self.nodes.push(LiteralNode::default());
        }
        let mut node = 0;
        for byte in text.bytes() {
            node = match self.nodes[node].child(byte) {
                Some(next) => next,
                None => {
                    let next = self.nodes.len();
                    self.nodes.push(LiteralNode::default());
                    let children = &mut self.nodes[node].children;
                    let at = children.partition_point(|child| child.0 < byte);
                    children.insert(at, (byte, next as u32));
                    next
                }
            };
        }
        // Of two tokens with one text the control token wins: it must not be reached as text.
        let slot = &mut self.nodes[node].literal;
        if slot.is_none_or(|present| literal.control && !present.control) {
            *slot = Some(literal);
        }
    }

    fn find(&self, text: &str, control: Control) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        if self.nodes.is_empty() {
            return found;
        }
        let (mut at, mut done) = (0, 0);
        while at < text.len() {
            let Some((literal, end)) = self.longest_at(text, at, control) else {
                at += 1;
                continue;
            };
            let mut start = at;
            if literal.lstrip {
                start = text[done..at].trim_end().len() + done;
            }
            let mut stop = end;
            if literal.rstrip {
                stop = text.len() - text[end..].trim_start().len();
            }
            found.push(Found { id: literal.id, start, end: stop });
            done = stop;
            at = stop;
        }
        found
    }

    fn longest_at(&self, text: &str, start: usize, control: Control) -> Option<(Literal, usize)> {
        let mut node = 0;
        let mut best = None;
        for (offset, byte) in text.as_bytes()[start..].iter().enumerate() {
            let Some(next) = self.nodes[node].child(*byte) else { break };
            node = next;
            let end = start + offset + 1;
            if let Some(literal) = self.nodes[node].literal {
                if counts(&literal, text, start, end, control) {
                    best = Some((literal, end));
                }
            }
        }
        best
    }
}

fn counts(literal: &Literal, text: &str, start: usize, end: usize, control: Control) -> bool {
    if literal.control {
        match control {
            Control::Nowhere => return false,
            Control::Everywhere => {}
            Control::NotAcross(offsets) => {
                // A literal of one character has no inside: an offset right before it counts.
                let single = text[start..end].chars().count() == 1;
                let from = if single { start } else { start + 1 };
                let next = offsets.partition_point(|offset| *offset < from);
                if offsets.get(next).is_some_and(|offset| *offset < end) {
                    return false;
                }
            }
        }
    }
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !literal.single_word
        || !is_word(text[..start].chars().next_back()) && !is_word(text[end..].chars().next())
}
