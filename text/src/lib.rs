//! The text room's Rust side: tokenizers, chat templates and grammars behind the C header text_c.h, where the
//! contract of each entry is told. No entry unwinds into C++: a panic becomes an internal error.

#![allow(clippy::missing_safety_doc)] // text_c.h tells each contract

mod call_shape;
mod compile_thread;
mod gbnf;
mod gguf;
mod grammar;
mod guard;
mod hugging_face;
mod literal_set;
mod python_json;
mod schema_check;
mod schema_exclusion;
mod schema_facts;
mod schema_pattern;
mod schema_rewrite;
mod spelling;
mod structural_tag;
mod template;
mod tokenizer;
mod tool_grammar;
mod word_masks;

use compile_thread::CompileLimits;
use gguf::GgufVocabulary;
use grammar::{Grammar, GrammarCompiler, GrammarMatcher, Kind, Next};
use literal_set::Control;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use template::{ChatTemplate, FormatNow, Input, Options};
use tokenizer::Tokenizer;

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
pub enum Code {
    InvalidArgument = 1,
    NotFound = 2,
    Unimplemented = 3,
    Internal = 4,
    ResourceExhausted = 5,
}
const OK: i32 = 0;

/// Why a call failed; the message is for people.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Failure::new(Code::InvalidArgument, message)
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(Code::NotFound, format!("{path}: {error}")))
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct TextView {
    data: *const u8,
    size: usize,
}

impl TextView {
    /// Safety: data and size name memory that outlives 'a.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        slice(self.data, self.size)
    }

    unsafe fn text<'a>(self, name: &str) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.bytes())
            .map_err(|_| Failure::invalid(format!("{name} is not UTF-8")))
    }
}

unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

/// A vector handed to C.
#[repr(C)]
pub struct Owned<T> {
    data: *mut T,
    size: usize,
    capacity: usize,
}

impl<T> Owned<T> {
    fn from(vector: Vec<T>) -> Self {
        let mut vector = std::mem::ManuallyDrop::new(vector);
        Owned { data: vector.as_mut_ptr(), size: vector.len(), capacity: vector.capacity() }
    }

    unsafe fn free(self) {
        if !self.data.is_null() {
            drop(Vec::from_raw_parts(self.data, self.size, self.capacity));
        }
    }
}

type TextBuffer = Owned<u8>;
type TextIds = Owned<i32>;

/// Runs an entry's body; writes what went wrong to `error`.
unsafe fn entry(error: *mut TextBuffer, body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Failure::new(Code::Internal, format!("text library: {}", text.unwrap_or("panic"))))
    });
    match result {
        Ok(()) => OK,
        Err(failure) => {
            *error = Owned::from(failure.message.into_bytes());
            failure.code as i32
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn text_buffer_free(buffer: TextBuffer) {
    buffer.free();
}

#[no_mangle]
pub unsafe extern "C" fn text_ids_free(ids: TextIds) {
    ids.free();
}

#[repr(C)]
pub struct TextGgufVocabulary {
    model: TextView,
    pre: TextView,
    tokens: *const TextView,
    num_tokens: usize,
    token_types: *const i32,
    num_token_types: usize,
    scores: *const f32,
    num_scores: usize,
    merges: *const TextView,
    num_merges: usize,
    bos: i32,
    eos: i32,
    unknown: i32,
    add_bos: u8,
    add_eos: u8,
    add_space_prefix: u8,
}

unsafe fn texts<'a>(
    name: &str,
    views: *const TextView,
    count: usize,
) -> Result<Vec<&'a str>, Failure> {
    let views = slice(views, count);
    let text = |(index, view): (usize, &TextView)| view.text(&format!("{name}[{index}]"));
    views.iter().enumerate().map(text).collect()
}

type TextTokenizer = Arc<Tokenizer>;

#[no_mangle]
pub unsafe extern "C" fn text_tokenizer_from_gguf(
    vocabulary: *const TextGgufVocabulary,
    out: *mut *mut TextTokenizer,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let raw = &*vocabulary;
        let tokenizer = Tokenizer::from_gguf(&GgufVocabulary {
            model: raw.model.text("tokenizer.ggml.model")?,
            pre: raw.pre.text("tokenizer.ggml.pre")?,
            tokens: texts("tokenizer.ggml.tokens", raw.tokens, raw.num_tokens)?,
            token_types: slice(raw.token_types, raw.num_token_types),
            scores: slice(raw.scores, raw.num_scores),
            merges: texts("tokenizer.ggml.merges", raw.merges, raw.num_merges)?,
            add_bos: raw.add_bos != 0,
            add_eos: raw.add_eos != 0,
            add_space_prefix: raw.add_space_prefix != 0,
            bos: raw.bos,
            eos: raw.eos,
            unknown: raw.unknown,
        })?;
        *out = Box::into_raw(Box::new(Arc::new(tokenizer)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_tokenizer_from_json_file(
    path: TextView,
    out: *mut *mut TextTokenizer,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let tokenizer = Tokenizer::from_json(&read_file(path.text("path")?)?)?;
        *out = Box::into_raw(Box::new(Arc::new(tokenizer)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_tokenizer_free(tokenizer: *mut TextTokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[repr(C)]
pub struct TextTokenTable {
    bytes: *const u8,
    offsets: *const u64,
    special: *const u8,
    num_tokens: usize,
    adds_space_prefix: u8,
}

#[no_mangle]
pub unsafe extern "C" fn text_tokenizer_table(tokenizer: *const TextTokenizer) -> TextTokenTable {
    let tokenizer: &Tokenizer = &*tokenizer;
    let table = tokenizer.table();
    TextTokenTable {
        bytes: table.bytes.as_ptr(),
        offsets: table.offsets.as_ptr(),
        special: table.special.as_ptr(),
        num_tokens: table.special.len(),
        adds_space_prefix: tokenizer.adds_space_prefix() as u8,
    }
}

#[no_mangle]
pub unsafe extern "C" fn text_tokenizer_encode(
    tokenizer: *const TextTokenizer,
    text: TextView,
    parse_special: u8,
    add_bos_eos: u8,
    out: *mut TextIds,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let tokenizer: &Tokenizer = &*tokenizer;
        let control = if parse_special != 0 { Control::Everywhere } else { Control::Nowhere };
        let text = String::from_utf8_lossy(text.bytes());
        let mut ids = Vec::new();
        tokenizer.encode(&text, control, add_bos_eos != 0, &mut ids)?;
        *out = Owned::from(ids);
        Ok(())
    })
}

#[repr(C)]
pub struct TextTemplateOptions {
    source: TextView,
    bos_token: TextView,
    eos_token: TextView,
    fuel: u64,
    output_bytes_max: usize,
    format_now: FormatNow,
}

#[no_mangle]
pub unsafe extern "C" fn text_template_create(
    options: *const TextTemplateOptions,
    tokenizer: *const TextTokenizer,
    out: *mut *mut ChatTemplate,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let raw = &*options;
        let options = Options {
            source: raw.source.text("chat template")?,
            bos_token: raw.bos_token.text("bos_token")?,
            eos_token: raw.eos_token.text("eos_token")?,
            fuel: raw.fuel,
            output_bytes_max: raw.output_bytes_max,
            format_now: raw.format_now,
        };
        let template = ChatTemplate::new(&options, Arc::clone(&*tokenizer))?;
        *out = Box::into_raw(Box::new(template));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_template_free(template: *mut ChatTemplate) {
    if !template.is_null() {
        drop(Box::from_raw(template));
    }
}

#[repr(C)]
pub struct TextChatInput {
    messages: TextView,
    tools: TextView,
    kwargs: TextView,
    add_generation_prompt: u8,
}

impl TextChatInput {
    unsafe fn input<'a>(&self) -> Result<Input<'a>, Failure> {
        Ok(Input {
            messages: self.messages.text("messages")?,
            tools: self.tools.text("tools")?,
            kwargs: self.kwargs.text("chat_template_kwargs")?,
            add_generation_prompt: self.add_generation_prompt != 0,
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn text_template_encode(
    template: *const ChatTemplate,
    input: *const TextChatInput,
    out: *mut TextIds,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let mut ids = Vec::new();
        (*template).encode(&(*input).input()?, &mut ids)?;
        *out = Owned::from(ids);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_template_render(
    template: *const ChatTemplate,
    input: *const TextChatInput,
    out: *mut TextBuffer,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let text = (*template).render(&(*input).input()?)?;
        *out = Owned::from(text.into_bytes());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_load_chat_template(
    config_path: TextView,
    template_path: TextView,
    source: *mut TextBuffer,
    tool_use_source: *mut TextBuffer,
    bos_token: *mut TextBuffer,
    eos_token: *mut TextBuffer,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let found = hugging_face::load(config_path.text("path")?, template_path.text("path")?)?;
        *source = Owned::from(found.source.into_bytes());
        *tool_use_source = Owned::from(found.tool_use_source.into_bytes());
        *bos_token = Owned::from(found.bos_token.into_bytes());
        *eos_token = Owned::from(found.eos_token.into_bytes());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_grammar_compiler_create(
    tokenizer: *const TextTokenizer,
    vocab_size: usize,
    ends: *const i32,
    num_ends: usize,
    limits: *const CompileLimits,
    out: *mut *mut GrammarCompiler,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let ends: Vec<u32> = slice(ends, num_ends).iter().map(|end| *end as u32).collect();
        let compiler = GrammarCompiler::new(Arc::clone(&*tokenizer), vocab_size, &ends, *limits)?;
        *out = Box::into_raw(Box::new(compiler));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_grammar_compiler_free(compiler: *mut GrammarCompiler) {
    if !compiler.is_null() {
        drop(Box::from_raw(compiler));
    }
}

#[no_mangle]
pub unsafe extern "C" fn text_grammar_compile(
    compiler: *const GrammarCompiler,
    kind: i32,
    source: TextView,
    owner: u64,
    out: *mut *mut Grammar,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        let source = source.text("the grammar")?;
        let grammar = (*compiler).compile(Kind::from_raw(kind)?, source, owner)?;
        *out = Box::into_raw(Box::new(grammar));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_grammar_free(grammar: *mut Grammar) {
    if !grammar.is_null() {
        drop(Box::from_raw(grammar));
    }
}

#[no_mangle]
pub unsafe extern "C" fn text_matcher_create(
    grammar: *const Grammar,
    out: *mut *mut GrammarMatcher,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        *out = Box::into_raw(Box::new((*grammar).matcher()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn text_matcher_free(matcher: *mut GrammarMatcher) {
    if !matcher.is_null() {
        drop(Box::from_raw(matcher));
    }
}

#[no_mangle]
pub unsafe extern "C" fn text_matcher_consume(
    matcher: *mut GrammarMatcher,
    token: i32,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || (*matcher).consume(token as u32))
}

#[no_mangle]
pub unsafe extern "C" fn text_matcher_next(
    matcher: *mut GrammarMatcher,
    words: *mut u32,
    num_words: usize,
    forced: *mut *const i32,
    num_forced: *mut usize,
    error: *mut TextBuffer,
) -> i32 {
    entry(error, || {
        *num_forced = 0;
        match (*matcher).next()? {
            Next::Forced(tokens) => {
                *forced = tokens.as_ptr().cast();
                *num_forced = tokens.len();
            }
            Next::Mask(mask) => {
                let words = std::slice::from_raw_parts_mut(words, num_words);
                let known = mask.as_slice();
                let count = known.len().min(num_words);
                words[..count].copy_from_slice(&known[..count]);
                words[count..].fill(0);
            }
        }
        Ok(())
    })
}
