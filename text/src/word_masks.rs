//! Masks of words without trying each word.
//!
//! Most tokens of a vocabulary are words: letters, perhaps behind a space. The crate finds those
//! that a grammar allows by walking all of them, unless the grammar is inside a JSON string; under
//! `[a-z]{2,9}` that is 0.2 ms a mask. Here the grammar is asked along one word of each spelling
//! with all letters at each place. While they all lead to the same state, or none does, a word's
//! length decides, and the words up to a length are a mask made beforehand.

use derivre::StateID;
use llguidance::earley::{BiasComputer, ParserRecognizer, SlicedBiasComputer};
use llguidance::ParserFactory;
use std::sync::Arc;
use toktrie::{ApproximateTokEnv, Recognizer, SimpleVob, TokEnv, TokTrie, TokenId};

const SPACE: &[u8] = b" ";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// How words begin. Lower case letters follow, if any.
const BEGINNINGS: [&[&[u8]]; 4] = [&[LOWER], &[UPPER], &[SPACE, LOWER], &[SPACE, UPPER]];

/// For `TokenParser::bias_computer`. Thread: any.
pub struct WordMasks {
    spellings: Vec<Spelling>,
    others: SlicedBiasComputer,
    all: Arc<SlicedBiasComputer>,
}

impl WordMasks {
    /// `factory`: whose parsers the masks are for.
    pub fn new(factory: &ParserFactory) -> Result<Self, String> {
        let trie = factory.tok_env().tok_trie();
        let spellings: Vec<Spelling> =
            BEGINNINGS.iter().map(|beginning| Spelling::new(beginning, trie)).collect();
        let mut others = trie.alloc_token_set();
        others.set_all(true);
        spellings.iter().for_each(|spelling| others.sub(&spelling.up_to[spelling.longest()]));
        let others: TokEnv = Arc::new(ApproximateTokEnv::new(trie.filter(&others)));
        let others = SlicedBiasComputer::new(&others, &factory.extra_lexemes())
            .map_err(|error| error.to_string())?;
        Ok(WordMasks { spellings, others, all: factory.slicer() })
    }

    /// For each spelling; nothing where one depends on more than the length.
    fn lengths(&self, rec: &mut ParserRecognizer<'_>, start: &[u8]) -> Option<Vec<usize>> {
        // What follows a lexeme that is found by how it stops depends on its bytes.
        if rec.lexer().lexer_spec().has_stop {
            return None;
        }
        rec.trie_started("words");
        let lengths =
            self.spellings.iter().map(|spelling| spelling.allowed_up_to(rec, start)).collect();
        rec.trie_finished();
        lengths
    }
}

impl BiasComputer for WordMasks {
    /// `start`: the beginning of the token, which the grammar has taken.
    fn compute_bias(&self, rec: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let Some(lengths) = self.lengths(rec, start) else {
            return self.all.compute_bias(rec, start);
        };
        let mut allowed = self.others.compute_bias(rec, start);
        for (spelling, length) in self.spellings.iter().zip(lengths) {
            allowed.or(&spelling.up_to[length]);
        }
        allowed
    }

    fn trie(&self) -> &TokTrie {
        self.all.trie()
    }
}

/// What a grammar says to one place of a word.
enum Place {
    Closed,
    /// Whichever letter is there; `in_lexeme`: and no lexeme ends.
    LeadsTo {
        state: StateID,
        in_lexeme: bool,
    },
    DependsOnLetter,
}

/// The words that begin in one way.
struct Spelling {
    beginning: &'static [&'static [u8]],
    up_to: Vec<SimpleVob>, // [n]: those of at most n bytes
}

impl Spelling {
    fn new(beginning: &'static [&'static [u8]], trie: &TokTrie) -> Self {
        let mut words = Spelling { beginning, up_to: Vec::new() };
        let is_word = |token: &[u8]| {
            token.len() >= beginning.len()
                && token.iter().enumerate().all(|(place, byte)| words.at(place).contains(byte))
        };
        let mut by_length: Vec<Vec<TokenId>> = vec![Vec::new()];
        for token in 0..trie.vocab_size() as TokenId {
            let bytes = trie.token(token);
            if is_word(bytes) {
                by_length.resize(by_length.len().max(bytes.len() + 1), Vec::new());
                by_length[bytes.len()].push(token);
            }
        }
        let mut all = trie.alloc_token_set();
        for of_length in by_length {
            of_length.into_iter().for_each(|token| all.allow_token(token));
            words.up_to.push(all.clone());
        }
        words
    }

    fn longest(&self) -> usize {
        self.up_to.len() - 1
    }

    /// The letters that a word may have at this place.
    fn at(&self, place: usize) -> &'static [u8] {
        self.beginning.get(place).copied().unwrap_or(LOWER)
    }

    /// The length up to which all words are allowed and above which none is; nothing where it
    /// depends on their letters.
    fn allowed_up_to(&self, rec: &mut ParserRecognizer<'_>, start: &[u8]) -> Option<usize> {
        let places = start.iter().enumerate();
        if places.clone().any(|(place, byte)| !self.at(place).contains(byte)) {
            return Some(0);
        }
        if places.clone().any(|(place, _)| self.at(place).len() > 1) {
            return None;
        }
        let mut length = start.len();
        let all_up_to = loop {
            if length >= self.longest() {
                break Some(self.longest());
            }
            let before = rec.lexer_state();
            match ask(rec, self.at(length)) {
                Place::Closed => break Some(length),
                Place::DependsOnLetter => break None,
                // And so on for ever.
                Place::LeadsTo { state, in_lexeme: true }
                    if state == before && self.at(length) == self.at(length + 1) =>
                {
                    break Some(self.longest())
                }
                Place::LeadsTo { .. } => {
                    rec.try_push_byte(self.at(length)[0]);
                    length += 1;
                }
            }
        };
        rec.pop_bytes(length - start.len());
        all_up_to
    }
}

fn ask(rec: &mut ParserRecognizer<'_>, letters: &[u8]) -> Place {
    let mut first = None;
    for (index, letter) in letters.iter().enumerate() {
        let (made, found) = (rec.stats_mut().rows, rec.stats_mut().cached_rows);
        let state = rec.try_push_byte(*letter).then(|| {
            let state = rec.lexer_state();
            rec.pop_bytes(1);
            state
        });
        // The parser gets a row where a lexeme ends, and finds it again where the same one does.
        let (made, found) = (rec.stats_mut().rows - made, rec.stats_mut().cached_rows - found);
        let rows = match index {
            0 => made + found,
            _ if made == 0 => found,
            _ => usize::MAX,
        };
        let next = state.map(|state| (state, rows));
        if index > 0 && next != first {
            return Place::DependsOnLetter;
        }
        first = next;
    }
    match first {
        None => Place::Closed,
        Some((state, rows)) => Place::LeadsTo { state, in_lexeme: rows == 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llguidance::api::TopLevelGrammar;
    use llguidance::Matcher;
    use serde_json::json;
    use toktrie::{InferenceCapabilities, TokRxInfo, TokenizerEnv};

    struct Longest(TokTrie);

    impl TokenizerEnv for Longest {
        fn tok_trie(&self) -> &TokTrie {
            &self.0
        }

        fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
            self.0.greedy_tokenize(bytes)
        }
    }

    fn factory() -> ParserFactory {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        for text in ["the", "quick", "brown", "fox", "a", "an", "ab", "abc", "aa", "ac", "bc", "ca"]
        {
            let upper = text[..1].to_uppercase() + &text[1..];
            for word in [text.to_string(), upper.clone(), format!(" {text}"), format!(" {upper}")] {
                tokens.extend([word.clone(), word + "."].map(String::into_bytes));
            }
        }
        tokens.extend(
            [
                "\", \"",
                "\"}",
                "12",
                "USA",
                " x1",
                "antidisestablishment",
                "bcq",
                "bxc",
                "them",
                "thec",
            ]
            .map(|t| t.into()),
        );
        tokens.sort();
        tokens.dedup();
        // A byte twice, as where there are tokens for bytes beside those of text, and no token.
        tokens.extend([b"a".to_vec(), Vec::new()]);
        tokens.push(b"\xFF<|end|>".to_vec());
        let end = tokens.len() as TokenId - 1;
        let trie = TokTrie::from(&TokRxInfo::new(tokens.len() as u32, end), &tokens);
        let environment: TokEnv = Arc::new(Longest(trie));
        let slices = SlicedBiasComputer::general_slices();
        let capabilities = InferenceCapabilities { ff_tokens: true, ..Default::default() };
        let mut factory = ParserFactory::new(&environment, capabilities, &slices).unwrap();
        factory.quiet();
        factory
    }

    /// Walks at random; every mask must be the one that trying each token gives.
    fn check(factory: &ParserFactory, words: &Arc<WordMasks>, grammar: TopLevelGrammar) {
        let of = |words: Option<Arc<WordMasks>>| {
            let mut parser = factory.create_parser(grammar.clone()).unwrap();
            if let Some(words) = words {
                parser.bias_computer = words;
            }
            Matcher::new(Ok(parser))
        };
        let mut random = 1u32;
        for _ in 0..20 {
            let (mut tried, mut found) = (of(None), of(Some(Arc::clone(words))));
            for _ in 0..30 {
                let mask = tried.compute_mask_or_eos().unwrap();
                assert_eq!(mask.to_list(), found.compute_mask_or_eos().unwrap().to_list());
                if tried.is_stopped() {
                    break;
                }
                random = random.wrapping_mul(1664525).wrapping_add(1013904223);
                let allowed = mask.to_list();
                let token = allowed[random as usize % allowed.len()];
                tried.consume_token(token).unwrap();
                found.consume_token(token).unwrap();
            }
        }
    }

    #[test]
    fn a_mask_allows_what_trying_each_token_does() {
        let factory = factory();
        let words = Arc::new(WordMasks::new(&factory).unwrap());
        for expression in [
            "([a-z]{2,9} ){999}",
            "[a-z]+|[a-f0-9]{3,5}",
            "[A-Z][a-z ]{10,200}\\.",
            "(the|quick|brown)( [A-Za-z]{1,3}){4}",
            "(.|\n)*",
            "[^ab]{1,4}",
            "[0-9]the[a-z]{0,3}([0-9] [a-z]{1,5}){2}",
        ] {
            check(&factory, &words, TopLevelGrammar::from_regex(expression));
        }
        for lark in [
            "start: (WORD){9}\nWORD: /[a-z]{2,9} /",
            "start: (A | B) A B\nA: /[a-m]+/\nB: /[n-z]+/",
            "start: L L L\nL: /[a-z]/",
            // After a "q" all letters leave "c" to come, of this terminal or, after "qa", of the next.
            "start: X X\nX: /q([b-z]c)?|ac/",
            "start: a\na[lazy]: /[a-z ]*x/",
            "start: a \"bx\" C\na[stop=/[a-z][a-z]/]: /[0-9]*/\nC: /[a-z]+/",
            "start: a C\na[suffix=\"xy\"]: /[a-z ]*/\nC: /[a-z]+/",
            "start: (W S?)+\nS: /[0-9]/\nW: /[a-z]{2,3}/\n%ignore / +/",
            "start: \"a\" (\" \" W | start) | W\nW: /[A-Z]?[a-z]/",
        ] {
            check(&factory, &words, TopLevelGrammar::from_lark(lark.to_string()));
        }
        let schema = json!({"type": "object", "properties": {
            "the": {"type": "string", "maxLength": 5}, "fox": {"enum": ["quick", "brown", "The fox"]},
            "any": {"type": "array", "items": {"type": "string", "pattern": "^[a-z ]+$"}}},
            "required": ["the", "fox", "any"], "additionalProperties": {"type": "integer"}});
        let schema = llguidance::api::GrammarWithLexer::from_json_schema(schema);
        check(&factory, &words, TopLevelGrammar::from_grammar(schema));
    }
}
