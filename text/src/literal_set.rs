//! Tokens that are found as wholes before text is cut into words: control tokens and tokens that a
//! model's makers added.

/// Where the literal of a control token in the text is that token.
#[derive(Clone, Copy)]
pub enum Control<'a> {
    Nowhere,
    Everywhere,
    /// Everywhere but across these byte offsets of the text (ascending): a caller's words touch
    /// the literal there.
    NotAcross(&'a [usize]),
}

/// A token that is found as a whole before the text is cut into words.
#[derive(Clone, Copy, Default)]
pub struct Literal {
    pub id: u32,
    pub control: bool,
    pub single_word: bool, // not next to a letter, digit or underscore
    pub lstrip: bool,      // takes the white space before it
    pub rstrip: bool,      // and after it
}

pub struct Found {
    pub id: u32,
    pub start: usize,
    pub end: usize,
}

/// A byte trie. Finds the leftmost, and there the longest, literal that may count.
#[derive(Default)]
pub struct LiteralSet {
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
    pub fn insert(&mut self, text: &str, literal: Literal) {
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

    pub fn find(&self, text: &str, control: Control) -> Vec<Found> {
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
