//! Grammars: which tokens may come next, by the `llguidance` crate.
//!
//! A compiler belongs to one tokenizer and one set of end tokens. What it compiles is a matcher at
//! its beginning, which others are copied from; each copy has caches of its own, so that what one
//! sequence is allowed, and when its limits are reached, depends on its own tokens alone.
//!
//! Forced tokens: where the grammar leaves only one text, its canonical tokens are the only ones
//! allowed, one after the other, whether the caller takes them at once or draws them one by one.

use crate::compile_thread::{CompileLimits, CompileThreads};
use crate::gbnf;
use crate::schema_rewrite;
use crate::structural_tag::StructuralTags;
use crate::tokenizer::Tokenizer;
use crate::tool_grammar::ToolCalls;
use crate::word_masks::WordMasks;
use crate::{literal_set::Control, Failure};
use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{json, Value};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use toktrie::{
    InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};

/// Between two values of a JSON text: a space, or a line's end and its indentation. A model that
/// may put any amount of it there now and then never stops.
const WHITESPACE: &str = r" |\r?\n[ \t]{0,40}";

/// Of JSON's escapes those without which a character cannot be written. With the numbered ones a
/// name could be spelled in two ways, and the crate would not know it for the same.
const ESCAPES: &str = "nrbtf\\\"";

/// The crate recurs along brackets and references, and a stack that overflows is the end of the
/// process: so brackets have a bound, sources have one, and compiling has a stack for all that is
/// within them (compile_thread.rs).
const NESTING_MAX: usize = 100;

/// Bytes of a source. Compiling an expression may take the square of its length. With the crate's
/// own bounds these end it in any case: the worst that we have found takes 0.8 s of a core.
const SCHEMA_BYTES_MAX: usize = 128 << 10;
const REGEX_BYTES_MAX: usize = 2048;
const LARK_BYTES_MAX: usize = 8192;
const TAGS_BYTES_MAX: usize = 192 << 10;

/// A lexer state is one to two kilobytes; a string with a bound on its length takes one a character.
const LEXER_STATES_MAX: usize = 10_000;

/// Parser items of one mask, two fifths of what the crate takes by default: all that run wait for
/// it. It takes up to twice those of its tokens alone (word_masks.rs).
const MASK_ITEMS_MAX: usize = 20_000;

/// Tools that are compiled one by one where all together cannot be.
const TRIED_ALONE_MAX: usize = 64;

/// Tokens in a row of which the grammar leaves no choice.
const FORCED_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
pub enum Kind {
    JsonSchema = 0,
    Regex = 1,
    Choice = 2,         // a JSON array of strings
    Lark = 3,           // or GBNF (gbnf.rs)
    ToolCalls = 4,      // tool_grammar.rs
    StructuralTags = 5, // structural_tag.rs
}

impl Kind {
    pub fn from_raw(raw: i32) -> Result<Kind, Failure> {
        const KINDS: [Kind; 6] = [
            Kind::JsonSchema,
            Kind::Regex,
            Kind::Choice,
            Kind::Lark,
            Kind::ToolCalls,
            Kind::StructuralTags,
        ];
        KINDS
            .into_iter()
            .find(|kind| *kind as i32 == raw)
            .ok_or_else(|| Failure::invalid(format!("there is no kind of grammar {raw}")))
    }
}

/// The tokenizer as the crate asks for it.
struct Environment {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let mut ids = Vec::new();
            match self.tokenizer.encode(text, Control::Nowhere, false, &mut ids) {
                Ok(()) => ids.into_iter().map(|id| id as TokenId).collect(),
                Err(_) => self.trie.greedy_tokenize(text.as_bytes()),
            }
        })
    }

    /// A tokenizer that puts a space before each text gives other tokens for its middle.
    fn tokenize_is_canonical(&self) -> bool {
        !self.tokenizer.adds_space_prefix()
    }
}

/// Thread: any.
pub struct GrammarCompiler {
    shared: Arc<Shared>,
    threads: CompileThreads,
}

/// With the threads that compile.
struct Shared {
    factory: ParserFactory,
    masks: Arc<WordMasks>,
    ends: Arc<[TokenId]>,
    tokenizer: Arc<Tokenizer>,
}

impl GrammarCompiler {
    /// `vocab_size` is the model's, which may be above the tokenizer's. `ends`: the tokens that end
    /// an answer, at least one.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        vocab_size: usize,
        ends: &[TokenId],
        limits: CompileLimits,
    ) -> Result<Self, Failure> {
        let table = tokenizer.table();
        let count = table.special.len();
        if ends.is_empty() || ends.iter().any(|end| *end as usize >= count) || vocab_size < count {
            return Err(Failure::invalid(format!(
                "grammars need end tokens within the vocabulary; got {ends:?} of {count} tokens"
            )));
        }
        let word = |id: usize| -> Vec<u8> {
            if id >= count {
                return Vec::new();
            }
            let bytes = &table.bytes[table.offsets[id] as usize..table.offsets[id + 1] as usize];
            // So marked, a control token is no text.
            let special = table.special[id] != 0 || ends.contains(&(id as TokenId));
            let mark: &[u8] = if special { &[TokTrie::SPECIAL_TOKEN_MARKER] } else { &[] };
            [mark, bytes].concat()
        };
        let words: Vec<Vec<u8>> = (0..vocab_size).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, ends[0]), &words)
            .with_eos_tokens(ends);
        let environment: TokEnv = Arc::new(Environment { tokenizer: Arc::clone(&tokenizer), trie });
        // Where a text's tokens depend on what stands before it, nothing can be forced.
        let capabilities = InferenceCapabilities {
            ff_tokens: environment.tokenize_is_canonical(),
            ..Default::default()
        };
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| Failure::invalid(format!("tokenizer: {error}")))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_lexer_states: LEXER_STATES_MAX,
            step_max_items: MASK_ITEMS_MAX,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        let masks = WordMasks::new(&factory)
            .map_err(|error| Failure::invalid(format!("tokenizer: {error}")))?;
        let masks = Arc::new(masks);
        Ok(GrammarCompiler {
            shared: Arc::new(Shared { factory, masks, ends: ends.into(), tokenizer }),
            threads: CompileThreads::new(limits),
        })
    }

    pub fn compile(&self, kind: Kind, source: &str, owner: u64) -> Result<Grammar, Failure> {
        let bytes_max = match kind {
            Kind::JsonSchema => SCHEMA_BYTES_MAX,
            Kind::Regex => REGEX_BYTES_MAX,
            Kind::Choice | Kind::ToolCalls => usize::MAX, // the caller's bound
            Kind::StructuralTags => TAGS_BYTES_MAX,
            Kind::Lark => LARK_BYTES_MAX,
        };
        if source.len() > bytes_max {
            return Err(Failure::invalid(format!(
                "it has {} bytes; at most {bytes_max} are taken",
                source.len()
            )));
        }
        let (shared, source) = (Arc::clone(&self.shared), source.to_string());
        self.threads.run(owner, move || shared.compile_here(kind, &source))
    }
}

impl Shared {
    fn compile_here(&self, kind: Kind, source: &str) -> Result<Grammar, Failure> {
        match kind {
            Kind::JsonSchema => self.compile_parsed(of_schema(source)?),
            Kind::Regex => self.compile_parsed(TopLevelGrammar::from_regex(source)),
            Kind::Choice => self.compile_parsed(of_choice(source)?),
            Kind::Lark if gbnf::is_gbnf(source) => {
                let lark = gbnf::to_lark(source).map_err(Failure::invalid)?;
                self.compile_parsed(TopLevelGrammar::from_lark(lark)).map_err(without_source)
            }
            Kind::Lark => self.compile_parsed(of_lark(source)?),
            Kind::ToolCalls => self.compile_tool_calls(source),
            Kind::StructuralTags => {
                let tags = StructuralTags::parse(source)?;
                let lark = tags.to_lark(|text| self.control_token(text), set_options)?;
                self.compile_parsed(TopLevelGrammar::from_lark(lark)).map_err(without_source)
            }
        }
    }

    /// Schemas that cannot be kept to, or are too much together, are kept to only where a tool is
    /// strict.
    fn compile_tool_calls(&self, source: &str) -> Result<Grammar, Failure> {
        let calls = ToolCalls::parse(source)?;
        let compile = |calls: &ToolCalls, kept: &[bool]| {
            let lark = calls.to_lark(kept, |text| self.control_token(text), set_options)?;
            self.compile_parsed(TopLevelGrammar::from_lark(lark)).map_err(without_source)
        };
        let functions = calls.functions();
        let mut compiled = compile(&calls, &vec![true; functions.len()]);
        if compiled.is_err() && functions.len() <= TRIED_ALONE_MAX {
            // Which of them is it?
            let mut kept = Vec::with_capacity(functions.len());
            for (index, function) in functions.iter().enumerate() {
                let alone = compile(&calls.of_one(index), &[true]);
                match alone {
                    Err(failure) if function.strict => {
                        let what = failure.message.strip_prefix(&format!("{}: ", function.place));
                        let what = what.unwrap_or(&failure.message);
                        return Err(Failure::invalid(format!("{}: {what}", function.place)));
                    }
                    alone => kept.push(alone.is_ok()),
                }
            }
            compiled = compile(&calls, &kept);
        }
        if compiled.is_err() {
            compiled = compile(&calls, &vec![false; functions.len()]);
        }
        let grammar = compiled?;
        if let Some(open) = calls.opens_after_text() {
            grammar.lock().free_text = self.free_text(open);
        }
        Ok(grammar)
    }

    /// `None` where a token holds the opening and what comes behind it.
    fn free_text(&self, open: &str) -> Option<FreeText> {
        let trie = self.factory.tok_env().tok_trie();
        let mut allowed = trie.alloc_token_set();
        let open_token = self.control_token(open);
        for token in 0..trie.vocab_size() as TokenId {
            let bytes = trie.token(token);
            let is_control = bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER);
            if bytes.is_empty() || is_control || !begins_text(bytes) {
                continue;
            }
            match find(bytes, open.as_bytes()) {
                Some(_) if open_token.is_some() => continue, // is spelled so
                Some(at) if at + open.len() < bytes.len() => return None,
                _ => allowed.allow_token(token),
            }
        }
        self.ends.iter().chain(&open_token).for_each(|token| allowed.allow_token(*token));
        Some(FreeText {
            allowed: Arc::new(allowed),
            open: open.as_bytes().into(),
            open_token,
            environment: self.factory.tok_env().clone(),
            tail: Vec::new(),
        })
    }

    fn control_token(&self, text: &str) -> Option<TokenId> {
        let table = self.tokenizer.table();
        let bytes_of =
            |id: usize| &table.bytes[table.offsets[id] as usize..table.offsets[id + 1] as usize];
        (0..table.special.len())
            .find(|id| table.special[*id] != 0 && bytes_of(*id) == text.as_bytes())
            .map(|id| id as TokenId)
    }

    fn compile_parsed(&self, parsed: TopLevelGrammar) -> Result<Grammar, Failure> {
        let parser = self.factory.create_parser(parsed).map(|mut parser| {
            parser.bias_computer = Arc::clone(&self.masks) as _;
            parser
        });
        let mut first = GrammarMatcher {
            matcher: Matcher::new(parser),
            ends: Arc::clone(&self.ends),
            forced: VecDeque::new(),
            free_text: None,
        };
        if let Some(error) = first.matcher.get_error() {
            return Err(Failure::invalid(brief(&error)));
        }
        // What the first token may be is found here, not in front of a step that waits for it.
        first.next().map_err(|failure| {
            if failure.message.contains("NoExtension") {
                Failure::invalid("it allows no answer")
            } else {
                failure
            }
        })?;
        Ok(Grammar { first: Mutex::new(first) })
    }
}

/// The crate's message in one line, without the source that it may repeat.
fn brief(error: &str) -> String {
    const CHARACTERS_MAX: usize = 240;
    let line = error.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "no reason was given".to_string();
    }
    let mut cut: String = line.chars().take(CHARACTERS_MAX).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

/// The crate repeats the grammar behind its reason, which is ours and none of the caller's.
fn without_source(failure: Failure) -> Failure {
    let end = failure.message.find(" 1 | ").unwrap_or(failure.message.len());
    Failure { message: failure.message[..end].to_string(), ..failure }
}

fn of_schema(source: &str) -> Result<TopLevelGrammar, Failure> {
    let schema: Value =
        serde_json::from_str(source).map_err(|error| Failure::invalid(error.to_string()))?;
    if !schema.is_object() && schema != Value::Bool(true) {
        return Err(Failure::invalid("a schema must be an object"));
    }
    let mut schema =
        schema_rewrite::rewrite(&schema).map(Value::Object).map_err(Failure::invalid)?;
    set_options(&mut schema);
    Ok(TopLevelGrammar::from_grammar(GrammarWithLexer::from_json_schema(schema)))
}

fn set_options(schema: &mut Value) {
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITESPACE.to_string()),
        json_allowed_escapes: Some(ESCAPES.to_string()),
        ..Default::default()
    };
    options.apply_to(schema);
}

fn of_choice(source: &str) -> Result<TopLevelGrammar, Failure> {
    let choices: Vec<String> =
        serde_json::from_str(source).map_err(|error| Failure::invalid(error.to_string()))?;
    if choices.is_empty() || choices.iter().any(String::is_empty) {
        return Err(Failure::invalid("choices must be strings that are not empty, one at least"));
    }
    let literals: Vec<String> = choices.iter().map(|choice| json!(choice).to_string()).collect();
    // As one terminal: as rules, a few thousand would be too many at once.
    Ok(TopLevelGrammar::from_lark(format!("start: CHOICE\nCHOICE: {}", literals.join(" | "))))
}

fn of_lark(source: &str) -> Result<TopLevelGrammar, Failure> {
    if source.contains("x-guidance") {
        return Err(Failure::invalid("x-guidance cannot be set here"));
    }
    let mut depth = 0usize;
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(Failure::invalid(format!(
                "the grammar's brackets are nested more than {NESTING_MAX} deep"
            )));
        }
    }
    Ok(TopLevelGrammar::from_lark(source.to_string()))
}

pub struct Grammar {
    first: Mutex<GrammarMatcher>,
}

impl Grammar {
    pub fn matcher(&self) -> GrammarMatcher {
        let first = self.lock();
        GrammarMatcher {
            matcher: first.matcher.deep_clone(),
            ends: Arc::clone(&first.ends),
            forced: first.forced.clone(),
            free_text: first.free_text.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GrammarMatcher> {
        self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Free text that the opening of a call may end. While none of it can have begun, what may come
/// next is always the same: the crate, which does not know that, would try the whole vocabulary.
#[derive(Clone)]
struct FreeText {
    allowed: Arc<SimpleVob>,
    /// What opens a call; where it is `open_token`, what must not be spelled.
    open: Arc<[u8]>,
    open_token: Option<TokenId>,
    environment: TokEnv,
    /// The text's end, shorter than the opening or than a character.
    tail: Vec<u8>,
}

impl FreeText {
    fn nothing_has_begun(&self) -> bool {
        let may_open = (1..=self.tail.len())
            .any(|size| self.open.starts_with(&self.tail[self.tail.len() - size..]));
        !may_open && std::str::from_utf8(&self.tail).is_ok()
    }

    /// False: a call has been opened.
    fn consume(&mut self, token: TokenId) -> bool {
        if Some(token) == self.open_token {
            return false;
        }
        self.tail.extend_from_slice(self.environment.tok_trie().token(token));
        if find(&self.tail, &self.open).is_some() {
            return false;
        }
        // The last character is whole there or not at all.
        let kept = self.open.len().max(4);
        if self.tail.len() > kept {
            let mut from = self.tail.len() - kept;
            while from < self.tail.len() && self.tail[from] & 0xC0 == 0x80 {
                from += 1;
            }
            self.tail.drain(..from);
        }
        true
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// UTF-8, but for a last character that may go on.
fn begins_text(text: &[u8]) -> bool {
    std::str::from_utf8(text).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// What may come next: these tokens, one after the other, or one of a mask.
pub enum Next<'a> {
    Forced(&'a [TokenId]),
    Mask(Arc<SimpleVob>),
}

pub struct GrammarMatcher {
    matcher: Matcher,
    ends: Arc<[TokenId]>,
    forced: VecDeque<TokenId>,
    free_text: Option<FreeText>, // until a call is opened
}

impl GrammarMatcher {
    pub fn consume(&mut self, token: TokenId) -> Result<(), Failure> {
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            let is_end = self.ends.contains(&token);
            return if is_end { Ok(()) } else { Err(failed("its grammar is complete")) };
        }
        if self.forced.front() == Some(&token) {
            self.forced.pop_front();
        } else {
            self.forced.clear();
        }
        self.matcher.consume_token(token).map_err(|error| failed(&error.to_string()))?;
        if let Some(free) = &mut self.free_text {
            if !free.consume(token) {
                self.free_text = None;
            }
        }
        Ok(())
    }

    pub fn next(&mut self) -> Result<Next<'_>, Failure> {
        if let Some(free) = &self.free_text {
            if free.nothing_has_begun() && !self.matcher.is_stopped() {
                return Ok(Next::Mask(Arc::clone(&free.allowed)));
            }
        }
        if self.forced.is_empty() && !self.matcher.is_stopped() {
            self.forced = self.matcher.compute_ff_tokens().into();
            if self.forced.len() > FORCED_MAX {
                return Err(failed(&format!("it forces more than {FORCED_MAX} tokens in a row")));
            }
        }
        if !self.forced.is_empty() {
            // Behind a token of free text, what comes may be free again.
            let known = if self.free_text.is_some() { 1 } else { self.forced.len() };
            return Ok(Next::Forced(&self.forced.make_contiguous()[..known]));
        }
        let mask =
            self.matcher.compute_mask_or_eos().map_err(|error| failed(&error.to_string()))?;
        if mask.is_zero() {
            return Err(failed("no token of the model's vocabulary fits"));
        }
        Ok(Next::Mask(Arc::new(mask)))
    }
}

fn failed(error: &str) -> Failure {
    Failure::invalid(format!(
        "the answer could not be held to its grammar: {}; make the grammar simpler",
        brief(error)
    ))
}
