//! Tokenizers from GGUF metadata: byte-level BPE ("gpt2") and SentencePiece with scores ("llama").

use crate::literal_set::{Literal, LiteralSet};
use crate::spelling::{Spelling, SPACE_MARK};
use crate::tokenizer::{TokenTable, Tokenizer, MAX_TOKENS};
use crate::{Code, Failure};
use std::collections::HashMap;
use tokenizers::models::bpe::{Vocab, BPE};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, NFC};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::SplitDelimiterBehavior;

/// GGUF's `tokenizer.ggml.token_type`.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

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
}

fn check_shapes(vocabulary: &GgufVocabulary) -> Result<(), Failure> {
    let size = vocabulary.tokens.len();
    if size == 0 || size > MAX_TOKENS {
        return Err(Failure::invalid(format!(
            "tokenizer.ggml.tokens has {size} entries; wanted 1 to {MAX_TOKENS}"
        )));
    }
    for (name, length) in
        [("token_type", vocabulary.token_types.len()), ("scores", vocabulary.scores.len())]
    {
        if length != 0 && length != size {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.{name} has {length} entries and tokens has {size}"
            )));
        }
    }
    for (name, id) in
        [("bos", vocabulary.bos), ("eos", vocabulary.eos), ("unknown", vocabulary.unknown)]
    {
        if id < -1 || id >= size as i32 {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.{name}_token_id is {id}; the vocabulary has {size} tokens"
            )));
        }
    }
    for (name, wanted, id) in
        [("bos", vocabulary.add_bos, vocabulary.bos), ("eos", vocabulary.add_eos, vocabulary.eos)]
    {
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
        "qwen2" => (vec![isolated(QWEN2_WORDS)?, byte_level(false)], Some(NFC.into()), false),
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
