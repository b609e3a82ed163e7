//! Expressions of JSON schemas, which are ECMA-262's, in the syntax of the grammar crate, which is
//! Rust's: where the two differ in what matches, what both match.

use derivre::{ExprRef, RegexBuilder};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};
use serde_json::Value;

/// Spellings of one excluded expression, and characters of each.
const SPELLINGS_MAX: usize = 32;
const SPELLING_CHARS_MAX: usize = 32;

const ANY: &str = r"[\s\S]*";

/// What a string must match: the expression, and each of the others.
pub struct Pattern {
    pub expression: String,
    pub unless: Vec<String>,
}

impl Pattern {
    /// Looking ahead is known at the beginning only, at what can be spelled out.
    pub fn parse(pattern: &str) -> Result<Pattern, String> {
        let mut unless = Vec::new();
        let mut rest = pattern;
        while let Some((is_not, ahead, behind)) = split_look_ahead(rest) {
            if is_not {
                let others = complement(&format!("^(?:{})", translated(ahead, Differ::Match)?));
                unless.extend(others.ok_or("it looks ahead at too much")?);
            } else {
                unless.push(format!("^(?:{})", translated(ahead, Differ::No)?));
            }
            rest = behind;
        }
        let start = if unless.is_empty() { "" } else { "^" };
        let expression = format!("{start}(?:{})", translated(rest, Differ::No)?);
        let expression = if unless.is_empty() { translated(rest, Differ::No)? } else { expression };
        if unless.iter().chain([&expression]).any(|expression| !is_writable(expression)) {
            return Err("it is no expression, or asks for a control character".to_string());
        }
        Ok(Pattern { expression, unless })
    }

    /// One expression, and whether it matches all that the pattern does: where it looks ahead, a
    /// first character that none of what is excluded begins with.
    pub fn single(pattern: &str) -> Result<(String, bool), String> {
        let mut rest = pattern;
        let mut excluded = Vec::new();
        while let Some((is_not, ahead, behind)) = split_look_ahead(rest) {
            excluded.push((is_not, translated(ahead, Differ::Match)?));
            rest = behind;
        }
        if excluded.is_empty() {
            return Ok((Self::parse(pattern)?.expression, true));
        }
        const WHY: &str = "it looks ahead";
        let expression = format!("^{}", translated(rest, Differ::No)?);
        let hir = regex_syntax::parse(&expression).map_err(|_| WHY)?;
        let (mut class, least, most) = repeated_class(&hir).ok_or(WHY)?;
        let mut first = class.clone();
        for (is_not, ahead) in excluded {
            let hir = regex_syntax::parse(&format!("^(?:{ahead})")).map_err(|_| WHY)?;
            for spelling in spellings(&hir).filter(|_| is_not).ok_or(WHY)? {
                match (spelling.anything_before, spelling.classes.as_slice()) {
                    (true, [anywhere]) => class.difference(anywhere),
                    (false, [start, ..]) => first.difference(start),
                    _ => return Err(WHY.to_string()),
                }
            }
        }
        first.intersect(&class);
        if least == 0 || first.ranges().is_empty() {
            return Err(WHY.to_string());
        }
        let most = most.map(|most| (most - 1).to_string()).unwrap_or_default();
        let (first, class) = (written(&first), written(&class));
        Ok((format!("^{first}{class}{{{},{most}}}$", least - 1), false))
    }

    /// What it matches at most.
    pub fn at_most(pattern: &str) -> Option<String> {
        let mut rest = pattern;
        while let Some((_, _, behind)) = split_look_ahead(rest) {
            rest = behind;
        }
        let start = if rest.len() < pattern.len() { "^" } else { "" };
        Some(format!("{start}(?:{})", translated(rest, Differ::Match).ok()?))
    }
}

/// What is to be made of characters that just one of the two syntaxes matches.
#[derive(Clone, Copy, PartialEq)]
enum Differ {
    No,
    Match,
}

/// `^(?!ahead)behind`, or, behind another one, `(?!ahead)behind`.
fn split_look_ahead(pattern: &str) -> Option<(bool, &str, &str)> {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let (is_not, inner) = match pattern.strip_prefix("(?!") {
        Some(inner) => (true, inner),
        None => (false, pattern.strip_prefix("(?=")?),
    };
    let (mut depth, mut escaped, mut in_class) = (1, false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((is_not, &inner[..at], &inner[at + 1..]));
        }
    }
    None
}

/// What the crate would understand otherwise than ECMA-262 is written out.
fn translated(pattern: &str, differ: Differ) -> Result<String, String> {
    const SPACES: &str = r" \t\n\r\f\x0B\u{A0}";
    const SPACES_AT_MOST: &str = r"\s\x1C-\x1F\u{FEFF}";
    let at_most = differ == Differ::Match;
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut class_at: Option<bool> = None; // within a class: whether it is a negated one
    while let Some(c) = chars.next() {
        match (c, class_at) {
            ('\\', _) => {
                let Some(escaped) = chars.next() else {
                    return Err("it ends within an escape".to_string());
                };
                match (escaped, class_at) {
                    ('d' | 'w' | 'D' | 'W', _) => {
                        // Other libraries go by Unicode.
                        let turned = escaped.is_ascii_uppercase() != (class_at == Some(true));
                        let name = escaped.to_ascii_lowercase();
                        let class = match (name, turned != at_most) {
                            ('d', false) => "0-9",
                            ('d', true) => r"\p{Nd}",
                            (_, false) => "0-9A-Za-z_",
                            (_, true) => r"\p{Alphabetic}\p{M}\p{N}\p{Pc}",
                        };
                        let not = if name == escaped { "" } else { "^" };
                        out += &format!("[{not}{class}]");
                    }
                    ('s' | 'S', _) => {
                        // What is matched if the characters of `spaces` are not.
                        let turned = (escaped == 'S') != (class_at == Some(true));
                        let spaces = if turned != at_most { SPACES_AT_MOST } else { SPACES };
                        match (escaped, class_at) {
                            ('s', None) => out += &format!("[{spaces}]"),
                            ('s', Some(_)) => out += spaces,
                            _ => out += &format!("[^{spaces}]"),
                        }
                    }
                    ('b', Some(_)) => out += r"\x08",
                    ('b' | 'B', None) => return Err("it asks for a word's end".to_string()),
                    ('n' | 'r' | 't' | 'f' | 'v' | 'u' | 'x' | 'p' | 'P', _) => {
                        out.push('\\');
                        out.push(escaped);
                    }
                    ('0', _) if !chars.peek().is_some_and(char::is_ascii_digit) => out += r"\x00",
                    (other, _) if other.is_ascii_alphanumeric() => {
                        return Err(format!("\\{other} is not known"))
                    }
                    (other, _) if other.is_ascii() => {
                        out.push('\\');
                        out.push(other);
                    }
                    (other, _) => out.push(other),
                }
            }
            ('[', None) => {
                let negated = chars.peek() == Some(&'^');
                out.push('[');
                if negated {
                    out.push('^');
                    chars.next();
                }
                if chars.peek() == Some(&']') {
                    return Err("it has an empty class".to_string());
                }
                class_at = Some(negated);
            }
            (']', Some(_)) => {
                out.push(']');
                class_at = None;
            }
            ('[' | '&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
            }
            ('-', Some(_)) if chars.peek() == Some(&'-') => out += r"\-",
            ('.', None) if at_most => out += r"[^\n]",
            ('.', None) => out += r"[^\n\r\u{2028}\u{2029}]",
            ('(', None) if chars.peek() == Some(&'?') => {
                chars.next();
                let named = match chars.peek() {
                    Some(':') => false,
                    Some('<') => true,
                    _ => return Err("it looks around, or sets flags".to_string()),
                };
                if !named {
                    chars.next();
                    out += "(?:";
                    continue;
                }
                // A name means nothing here, and one of them something else to the crate.
                let name: String = chars.by_ref().take_while(|c| *c != '>').collect();
                if name[1..].starts_with(['=', '!']) {
                    return Err("it looks around".to_string());
                }
                out.push('(');
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// Whether a text has a character that no short escape of JSON's stands for: an answer cannot have
/// it, and the crate leaves it out of what is asked for.
pub fn has_control(text: &str) -> bool {
    text.chars().any(|c| c < ' ' && !"\u{8}\u{c}\n\r\t".contains(c))
}

fn is_writable(expression: &str) -> bool {
    fn literals_are(hir: &Hir) -> bool {
        match hir.kind() {
            HirKind::Literal(literal) => {
                std::str::from_utf8(&literal.0).is_ok_and(|text| !has_control(text))
            }
            kind => kind.subs().iter().all(literals_are),
        }
    }
    regex_syntax::parse(expression).is_ok_and(|hir| literals_are(&hir))
}

/// `expression` as it is found anywhere in a text.
pub fn searched(builder: &mut RegexBuilder, expression: &str) -> Option<ExprRef> {
    builder.mk_regex_for_serach(expression).ok()
}

/// Strings of so many characters.
pub fn of_length(least: u64, most: Option<u64>) -> String {
    let most = most.map(|most| most.to_string()).unwrap_or_default();
    format!(r"^[\s\S]{{{least},{most}}}$")
}

/// An expression of one class of characters, any number of them, with a length.
pub fn with_length(expression: &str, least: u64, most: Option<u64>) -> Option<String> {
    let (class, low, high) = repeated_class(&regex_syntax::parse(expression).ok()?)?;
    let least = least.max(u64::from(low));
    let most = [most, high.map(u64::from)].into_iter().flatten().min();
    let most = most.map(|most| most.to_string()).unwrap_or_default();
    Some(format!("^{}{{{least},{most}}}$", written(&class)))
}

/// Just these strings; what is no string is left out.
pub fn one_of(values: &[Value]) -> String {
    let strings: Vec<String> =
        values.iter().filter_map(Value::as_str).map(regex_syntax::escape).collect();
    format!("^(?:{})$", strings.join("|"))
}

/// Every string but these; `None`: they are too long.
pub fn none_of(texts: &[&str]) -> Option<String> {
    const CHARS_MAX: usize = 2000;
    let length = texts.iter().map(|text| text.len()).sum::<usize>();
    if length > CHARS_MAX || texts.iter().any(|text| has_control(text)) {
        return None;
    }
    Some(format!("^(?:{})$", but(texts)))
}

/// All texts but these, which are the ends of those that are excluded.
fn but(texts: &[&str]) -> String {
    let mut heads: Vec<char> = texts.iter().filter_map(|text| text.chars().next()).collect();
    heads.sort_unstable();
    heads.dedup();
    let mut ways = Vec::new();
    if !texts.contains(&"") {
        ways.push(String::new());
    }
    let ranges = heads.iter().map(|c| ClassUnicodeRange::new(*c, *c));
    let mut others = ClassUnicode::new(ranges);
    others.negate();
    ways.push(format!("{}{ANY}", written(&others)));
    for head in heads {
        let tails: Vec<&str> = texts.iter().filter_map(|text| text.strip_prefix(head)).collect();
        let class = ClassUnicode::new([ClassUnicodeRange::new(head, head)]);
        ways.push(format!("{}(?:{})", written(&class), but(&tails)));
    }
    ways.join("|")
}

/// Expressions all of which match just the texts in which `expression` is not found, or fewer;
/// `None`: it is not of a kind that can be turned round.
pub fn complement(expression: &str) -> Option<Vec<String>> {
    let hir = regex_syntax::parse(expression).ok()?;
    if let Some((class, low, high)) = repeated_class(&hir) {
        let others = others(&class);
        let mut ways = Vec::new();
        if !others.ranges().is_empty() {
            ways.push(format!("{ANY}{}{ANY}", written(&others)));
        }
        if low > 0 {
            ways.push(format!(r"[^\n]{{0,{}}}", low - 1));
        }
        if let Some(high) = high {
            ways.push(format!(r"[^\n]{{{},}}", high + 1));
        }
        let expression = format!("^(?:{})$", ways.join("|"));
        return (!ways.is_empty() && is_writable(&expression)).then(|| vec![expression]);
    }
    let spellings = spellings(&hir)?;
    let mut found = Vec::new();
    for spelling in spellings {
        found.push(without(&spelling).filter(|expression| is_writable(expression))?);
    }
    Some(found)
}

/// All characters but these, and but the line's end, before which some libraries let a text end.
fn others(class: &ClassUnicode) -> ClassUnicode {
    let mut others = class.clone();
    others.union(&ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]));
    others.negate();
    others
}

/// What an expression may match, character by character.
#[derive(Clone, Default)]
struct Spelling {
    from_start: bool,
    /// Anything may stand before; only where it is from the start.
    anything_before: bool,
    classes: Vec<ClassUnicode>,
    to_end: bool,
}

fn without(spelling: &Spelling) -> Option<String> {
    if !spelling.from_start || spelling.anything_before {
        // Found anywhere: of one character only.
        let [class] = spelling.classes.as_slice() else {
            return None;
        };
        if spelling.to_end {
            return Some(format!("^(?:|{ANY}{})$", written(&others(class))));
        }
        let mut others = class.clone();
        others.negate();
        return Some(format!("^{}*$", written(&others)));
    }
    // From the end: what may follow after each character that fits.
    let longer = format!(r"[^\n]{ANY}|\n[\s\S]+");
    let mut rest = if spelling.to_end { longer } else { String::new() };
    let mut first = true;
    for class in spelling.classes.iter().rev() {
        let mut others = class.clone();
        others.negate();
        let mut ways = vec![String::new()];
        if !others.ranges().is_empty() {
            ways.push(format!("{}{ANY}", written(&others)));
        }
        if !first || spelling.to_end {
            ways.push(format!("{}(?:{rest})", written(class)));
        }
        rest = ways.join("|");
        first = false;
    }
    if spelling.classes.is_empty() && !spelling.to_end {
        return None; // found in every text
    }
    Some(format!("^(?:{rest})$"))
}

fn spellings(hir: &Hir) -> Option<Vec<Spelling>> {
    let mut found = vec![Spelling::default()];
    spell(hir, &mut found)?;
    Some(found)
}

/// Appends what `hir` matches to each of `found`.
fn spell(hir: &Hir, found: &mut Vec<Spelling>) -> Option<()> {
    let push = |found: &mut Vec<Spelling>, class: &ClassUnicode| {
        let fits = found.iter().all(|s| !s.to_end && s.classes.len() < SPELLING_CHARS_MAX);
        found.iter_mut().for_each(|spelling| spelling.classes.push(class.clone()));
        fits.then_some(())
    };
    match hir.kind() {
        HirKind::Empty => Some(()),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            text.chars()
                .try_for_each(|c| push(found, &ClassUnicode::new([ClassUnicodeRange::new(c, c)])))
        }
        HirKind::Class(Class::Unicode(class)) => push(found, class),
        HirKind::Look(Look::Start) => {
            let at_start = found.iter().all(|s| s.classes.is_empty() && !s.anything_before);
            found.iter_mut().for_each(|spelling| spelling.from_start = true);
            at_start.then_some(())
        }
        HirKind::Look(Look::End) => {
            found.iter_mut().for_each(|spelling| spelling.to_end = true);
            Some(())
        }
        HirKind::Capture(capture) => spell(&capture.sub, found),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| spell(part, found)),
        HirKind::Alternation(parts) => {
            let before = std::mem::take(found);
            for part in parts {
                let mut ways = before.clone();
                spell(part, &mut ways)?;
                found.extend(ways);
            }
            (found.len() <= SPELLINGS_MAX).then_some(())
        }
        HirKind::Repetition(repetition) => match repetition.max {
            Some(max) if max as usize <= SPELLING_CHARS_MAX => {
                let mut all = Vec::new();
                let mut ways = found.clone();
                for count in 0..=max {
                    if count >= repetition.min {
                        all.extend(ways.clone());
                    }
                    if count < max {
                        spell(&repetition.sub, &mut ways)?;
                    }
                    if all.len() > SPELLINGS_MAX {
                        return None;
                    }
                }
                *found = all;
                Some(())
            }
            // Anything at the beginning: that it is one line only is given up.
            None if repetition.min == 0 => {
                let anything = matches!(repetition.sub.kind(), HirKind::Class(Class::Unicode(_)));
                let at_start = found.iter().all(|s| s.classes.is_empty());
                found.iter_mut().for_each(|spelling| spelling.anything_before = true);
                (anything && at_start).then_some(())
            }
            _ => None,
        },
        _ => None,
    }
}

/// `^[class]{low,high}$`.
fn repeated_class(hir: &Hir) -> Option<(ClassUnicode, u32, Option<u32>)> {
    let HirKind::Concat(parts) = hir.kind() else {
        return None;
    };
    let [start, middle, end] = parts.as_slice() else {
        return None;
    };
    let is = |part: &Hir, look: Look| matches!(part.kind(), HirKind::Look(l) if *l == look);
    if !is(start, Look::Start) || !is(end, Look::End) {
        return None;
    }
    let HirKind::Repetition(repetition) = middle.kind() else {
        return None;
    };
    match repetition.sub.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            Some((class.clone(), repetition.min, repetition.max))
        }
        HirKind::Literal(literal) => {
            let mut chars = std::str::from_utf8(&literal.0).ok()?.chars();
            let (c, None) = (chars.next()?, chars.next()) else {
                return None;
            };
            let class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            Some((class, repetition.min, repetition.max))
        }
        _ => None,
    }
}

fn written(class: &ClassUnicode) -> String {
    if class.ranges().is_empty() {
        return r"[^\s\S]".to_string();
    }
    let ranges = class.ranges().iter();
    let ranges = ranges
        .map(|range| format!(r"\u{{{:X}}}-\u{{{:X}}}", range.start() as u32, range.end() as u32));
    format!("[{}]", ranges.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, text: &str) -> bool {
        let mut builder = RegexBuilder::new();
        let found = searched(&mut builder, expression).expect(expression);
        builder.to_regex(found).is_match(text)
    }

    const TEXTS: [&str; 16] = [
        "", "a", "b", "ab", "ba", "abc", "aab", "a1", "1", "12", "/", "a/b", ".", "..", "a\nb", "é",
    ];

    #[test]
    fn a_complement_matches_what_the_expression_does_not() {
        for expression in ["^a", "^ab$", "^[ab]+$", "^(a|ab)$", "/", "^a{1,2}$", "^[a-z]{0,2}$"] {
            let others = complement(expression).expect(expression);
            for text in TEXTS {
                let turned = others.iter().all(|other| matches(other, text));
                assert!(!turned || !matches(expression, text), "{expression} {text:?}");
                // Of texts with a line's end some are given up.
                let all = turned || matches(expression, text) || text.contains('\n');
                assert!(all, "{expression} {text:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_turned_round_is_left() {
        for expression in ["a.*b", "ab", "^(ab)+$", "^a+b"] {
            assert!(complement(expression).is_none(), "{expression}");
        }
    }

    #[test]
    fn every_text_but_some() {
        let expression = none_of(&["a", "ab", "é"]).unwrap();
        for text in TEXTS {
            assert_eq!(matches(&expression, text), !["a", "ab", "é"].contains(&text), "{text:?}");
        }
    }

    #[test]
    fn looking_ahead_at_the_beginning_is_kept_as_more_expressions() {
        let pattern = Pattern::parse(r"^(?!\.{1,2}$)(?!.*/)[a-z./]+$").unwrap();
        let all = std::iter::once(&pattern.expression).chain(&pattern.unless);
        let all: Vec<&String> = all.collect();
        for (text, wanted) in
            [("a", true), (".", false), ("..", false), ("...", true), ("a/b", false)]
        {
            assert_eq!(all.iter().all(|one| matches(one, text)), wanted, "{text}");
        }
        let (single, is_whole) = Pattern::single(r"^(?!@@)[@a]+$").unwrap();
        assert!(matches(&single, "a@@") && !matches(&single, "@@") && !is_whole);
    }

    #[test]
    fn what_the_two_syntaxes_take_otherwise_is_written_out() {
        for (pattern, text, wanted) in [
            ("^.$", "\u{2028}", false),
            (r"^\s$", "\u{85}", false),
            (r"^\S$", "\u{FEFF}", false),
            (r"^\d$", "٣", false),
            (r"^\W$", "é", false),
            (r"^[[a]$", "[", true),
            (r"^[&&a]$", "&", true),
            (r"^[\w-]$", "-", true),
            (r"^\/$", "/", true),
        ] {
            let expression =
                Pattern::parse(pattern).unwrap_or_else(|why| panic!("{pattern} {why}"));
            assert_eq!(matches(&expression.expression, text), wanted, "{pattern}");
        }
        for pattern in
            [r"a\b", r"(a)\1", "a(?=b)", "(?<!a)b", "(?i)a", r"\cA", r"^\x01$", "[]", "a)"]
        {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
