//! GBNF, the grammars of llama.cpp (and near enough the EBNF of others), as Lark.
//!
//! Rules that do not refer to themselves become terminals, which are matched as wholes; the others
//! rules. Names are made anew, as Lark's have no hyphens. Errors name the line and the column.

use serde_json::json;
use std::collections::HashMap;

const NESTING_MAX: usize = 100;
const REPEATS_MAX: u32 = 10_000;

enum Item {
    Text(String),
    /// As within the brackets of an expression.
    Class(String),
    Rule(usize),
    All(Vec<Item>),
    Any(Vec<Item>),
    Repeat(Box<Item>, u32, Option<u32>),
}

/// Whether a line begins with a rule of it: no line of Lark does.
pub fn is_gbnf(source: &str) -> bool {
    source.lines().any(|line| {
        let name = line.split_once("::=").map_or("", |(name, _)| name.trim());
        !name.is_empty() && name.chars().all(is_name)
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

pub fn to_lark(source: &str) -> Result<String, String> {
    let mut parser = Parser { chars: source.chars().collect(), ..Default::default() };
    parser.grammar()?;
    let Some(root) = parser.names.get("root").copied() else {
        return Err("the grammar has no rule 'root'".to_string());
    };
    let rules: Vec<Item> = parser
        .rules
        .into_iter()
        .zip(&parser.uses)
        .map(|(rule, (name, at))| {
            let place = Parser::place(&parser.chars, *at);
            rule.ok_or_else(|| format!("the rule '{name}' is used at {place} and defined nowhere"))
        })
        .collect::<Result<_, _>>()?;
    let names = names(&rules);
    let mut lark = format!("start: {}\n", names[root]);
    for (rule, name) in rules.iter().zip(&names) {
        lark += &format!("{name}: {}\n", written(rule, &names));
    }
    Ok(lark)
}

/// In capitals: terminals.
fn names(rules: &[Item]) -> Vec<String> {
    fn used(item: &Item, into: &mut Vec<usize>) {
        match item {
            Item::Rule(rule) => into.push(*rule),
            Item::All(items) | Item::Any(items) => items.iter().for_each(|item| used(item, into)),
            Item::Repeat(item, ..) => used(item, into),
            Item::Text(_) | Item::Class(_) => {}
        }
    }
    let uses: Vec<Vec<usize>> = rules
        .iter()
        .map(|rule| {
            let mut rules = Vec::new();
            used(rule, &mut rules);
            rules
        })
        .collect();
    // A rule is a terminal when all that it uses are.
    let mut is_terminal = vec![false; rules.len()];
    loop {
        let next: Vec<usize> = (0..rules.len())
            .filter(|i| !is_terminal[*i] && uses[*i].iter().all(|used| is_terminal[*used]))
            .collect();
        if next.is_empty() {
            break;
        }
        next.into_iter().for_each(|i| is_terminal[i] = true);
    }
    let name = |i: usize| if is_terminal[i] { format!("T{i}") } else { format!("r{i}") };
    (0..rules.len()).map(name).collect()
}

fn written(item: &Item, names: &[String]) -> String {
    let each = |items: &[Item], between: &str| {
        let items: Vec<String> = items.iter().map(|item| written(item, names)).collect();
        format!("({})", items.join(between))
    };
    match item {
        Item::Text(text) => json!(text).to_string(),
        Item::Class(class) => format!("/[{class}]/"),
        Item::Rule(rule) => names[*rule].clone(),
        Item::All(items) if items.is_empty() => "\"\"".to_string(),
        Item::All(items) => each(items, " "),
        Item::Any(items) => each(items, " | "),
        Item::Repeat(item, least, most) => {
            let suffix = match (least, most) {
                (0, None) => "*".to_string(),
                (1, None) => "+".to_string(),
                (0, Some(1)) => "?".to_string(),
                (least, None) => format!("{{{least},}}"),
                (least, Some(most)) => format!("{{{least},{most}}}"),
            };
            format!("({}){suffix}", written(item, names))
        }
    }
}

#[derive(Default)]
struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    names: HashMap<String, usize>,
    rules: Vec<Option<Item>>,
    uses: Vec<(String, usize)>, // of each rule, its name and where it is used first
}

impl Parser {
    fn place(chars: &[char], at: usize) -> String {
        let before = &chars[..at.min(chars.len())];
        let line = 1 + before.iter().filter(|c| **c == '\n').count();
        let column = 1 + before.iter().rev().take_while(|c| **c != '\n').count();
        format!("line {line}, column {column}")
    }

    fn fail<T>(&self, wanted: &str) -> Result<T, String> {
        let found = match self.peek() {
            None => "the end".to_string(),
            Some(c) => format!("{:?}", c.to_string()),
        };
        let place = Self::place(&self.chars, self.at);
        Err(format!("{place}: wanted {wanted}; found {found}"))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn takes(&mut self, text: &str) -> bool {
        let fits = text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        if fits {
            self.at += text.chars().count();
        }
        fits
    }

    /// White space and comments.
    fn skip(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else if c.is_whitespace() {
                self.at += 1;
            } else {
                break;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let name: String = self.chars[self.at..].iter().take_while(|c| is_name(**c)).collect();
        self.at += name.len();
        (!name.is_empty()).then_some(name)
    }

    fn rule_of(&mut self, name: String, at: usize) -> usize {
        let next = self.rules.len();
        let rule = *self.names.entry(name.clone()).or_insert(next);
        if rule == next {
            self.rules.push(None);
            self.uses.push((name, at));
        }
        rule
    }

    /// Whether a rule's head comes next.
    fn at_head(&mut self) -> bool {
        let before = self.at;
        let named = self.name().is_some();
        self.skip();
        let is_head = named && self.takes("::=");
        self.at = before;
        is_head
    }

    fn grammar(&mut self) -> Result<(), String> {
        self.skip();
        while self.peek().is_some() {
            let at = self.at;
            let Some(name) = self.name() else {
                return self.fail("the name of a rule");
            };
            self.skip();
            if !self.takes("::=") {
                return self.fail("'::='");
            }
            let rule = self.rule_of(name.clone(), at);
            if self.rules[rule].is_some() {
                self.at = at;
                return self.fail(&format!("a rule that is not there yet, unlike '{name}'"));
            }
            let item = self.choices()?;
            self.rules[rule] = Some(item);
            if self.peek().is_some() && !self.at_head() {
                return self.fail("a rule");
            }
        }
        Ok(())
    }

    fn choices(&mut self) -> Result<Item, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.fail(&format!("brackets at most {NESTING_MAX} deep"));
        }
        let mut choices = vec![self.sequence()?];
        while self.takes("|") {
            choices.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if choices.len() == 1 { choices.swap_remove(0) } else { Item::Any(choices) })
    }

    fn sequence(&mut self) -> Result<Item, String> {
        let mut items = Vec::new();
        loop {
            self.skip();
            match self.peek() {
                None | Some('|' | ')') => break,
                _ if self.at_head() => break,
                _ => {}
            }
            let item = self.item()?;
            items.push(self.repeats(item)?);
        }
        Ok(Item::All(items))
    }

    fn item(&mut self) -> Result<Item, String> {
        let at = self.at;
        if self.takes("\"") {
            let mut text = String::new();
            while !self.takes("\"") {
                text.push(self.character('"')?);
            }
            return Ok(Item::Text(text));
        }
        if self.takes("[") {
            return self.class();
        }
        if self.takes(".") {
            return Ok(Item::Class(r"\s\S".to_string()));
        }
        if self.takes("(") {
            let choices = self.choices()?;
            if !self.takes(")") {
                return self.fail("')'");
            }
            return Ok(choices);
        }
        match self.name() {
            Some(name) => Ok(Item::Rule(self.rule_of(name, at))),
            None => self.fail("a string, a class of characters, a group or the name of a rule"),
        }
    }

    fn class(&mut self) -> Result<Item, String> {
        let mut class = if self.takes("^") { "^".to_string() } else { String::new() };
        let empty = class.len();
        while !self.takes("]") {
            let first = self.character(']')?;
            let is_range =
                self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            let last = if is_range {
                self.at += 1;
                self.character(']')?
            } else {
                first
            };
            if last < first {
                return self.fail("a range that goes upwards");
            }
            class += &format!(r"\u{{{:X}}}-\u{{{:X}}}", first as u32, last as u32);
        }
        if class.len() == empty {
            return self.fail("a class with a character before this");
        }
        Ok(Item::Class(class))
    }

    /// One character of a string or a class, which ends with `end`.
    fn character(&mut self, end: char) -> Result<char, String> {
        let Some(c) = self.peek() else {
            return self.fail(&format!("'{end}'"));
        };
        self.at += 1;
        if c != '\\' {
            return Ok(c);
        }
        let digits = match self.peek() {
            Some('n') => Err('\n'),
            Some('r') => Err('\r'),
            Some('t') => Err('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '/' | '.')) => Err(c),
            Some('x') => Ok(2),
            Some('u') => Ok(4),
            Some('U') => Ok(8),
            _ => return self.fail("an escape: one of n r t \\ \" [ ] x u U"),
        };
        self.at += 1;
        let digits = match digits {
            Ok(digits) => digits,
            Err(c) => return Ok(c),
        };
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) else {
                return self.fail(&format!("{digits} hexadecimal digits"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.fail("the number of a character before this"),
        }
    }

    fn repeats(&mut self, item: Item) -> Result<Item, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(item),
            _ => return Ok(item),
        };
        self.at += 1;
        self.repeats(Item::Repeat(Box::new(item), least, most))
    }

    fn counted(&mut self, item: Item) -> Result<Item, String> {
        self.at += 1;
        let least = self.number()?.unwrap_or(0);
        self.skip();
        let most = match self.takes(",") {
            true => self.number()?,
            false => Some(least),
        };
        self.skip();
        if most.is_some_and(|most| most < least) || !self.takes("}") {
            return self.fail("counts as {2}, {2,} or {2,5}");
        }
        Ok(Item::Repeat(Box::new(item), least, most))
    }

    fn number(&mut self) -> Result<Option<u32>, String> {
        self.skip();
        let digits: String =
            self.chars[self.at..].iter().take_while(|c| c.is_ascii_digit()).take(9).collect();
        self.at += digits.len();
        match digits.parse() {
            Ok(number) if number > REPEATS_MAX => {
                self.fail(&format!("a count of {REPEATS_MAX} at most before this"))
            }
            number => Ok(number.ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_do_not_refer_to_themselves_are_terminals() {
        let lark =
            to_lark("root ::= a-b | \"(\" root \")\"\na-b ::= [^x-z\"]{2,} # two\n").unwrap();
        assert!(lark.contains("start: r0\n"), "{lark}");
        assert!(lark.contains(r#"T1: ((/[^\u{78}-\u{7A}\u{22}-\u{22}]/){2,})"#), "{lark}");
    }

    #[test]
    fn lark_is_told_apart() {
        for lark in ["start: \"a ::= b\"", "start: a\na: \"x\"", "// root ::= \"a\"\nstart: \"a\""]
        {
            assert!(!is_gbnf(lark), "{lark}");
        }
        assert!(is_gbnf("# a comment\n  root ::= \"a\"") && is_gbnf("root\t::="));
    }
}
