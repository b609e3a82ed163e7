//! What can be said for certain of a schema: that two exclude each other, which values one has,
//! whether it allows a value. "No" and `None` mean that nothing is known.

use crate::schema_pattern::{self as pattern, Pattern};
use derivre::{RegexAst, RegexBuilder};
use referencing::{Draft, Resolver, SPECIFICATIONS};
use serde_json::{json, Map, Value};

/// Steps of all that is asked of one schema, some microseconds each, and schemas that are written
/// of it, with copies: one within the bound on its bytes has some thousand.
const STEPS_MAX: u64 = 100_000;
const WRITTEN_MAX: u64 = 20_000;

/// Of references and schemas within schemas that are followed.
const DEPTH_MAX: u32 = 12;

/// Values of one schema that are listed.
const VALUES_MAX: usize = 4096;
const INTEGERS_MAX: f64 = 64.0;

/// Steps of one comparison of expressions.
const EXPRESSION_STEPS_MAX: u64 = 20_000;

pub const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// `true` is left out; `false` is all there is.
pub fn all(parts: Vec<Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for part in parts {
        match &part {
            Value::Bool(false) => return part,
            Value::Bool(true) => {}
            Value::Object(fields) if fields.is_empty() => {}
            _ if kept.contains(&part) => {}
            _ => kept.push(part),
        }
    }
    match kept.len() {
        0 => Value::Bool(true),
        1 => kept.swap_remove(0),
        _ if kept[0].get("allOf").is_some() => json!({ "allOf": kept }),
        _ => {
            let others = kept.split_off(1);
            let mut first = kept.swap_remove(0);
            first["allOf"] = Value::Array(others);
            first
        }
    }
}

/// `false` is left out; `true` is all there is.
pub fn any(parts: Vec<Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for part in parts {
        match &part {
            Value::Bool(true) => return part,
            Value::Bool(false) => {}
            Value::Object(fields) if fields.is_empty() => return Value::Bool(true),
            _ if kept.contains(&part) => {}
            _ => kept.push(part),
        }
    }
    match kept.len() {
        0 => Value::Bool(false),
        1 => kept.swap_remove(0),
        _ => json!({ "anyOf": kept }),
    }
}

/// 2 and 2.0.
pub fn as_count(value: &Value) -> Option<u64> {
    let whole = |number: &f64| number.fract() == 0.0 && (0.0..9e15).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(whole).map(|number| number as u64))
}

/// As the standard compares: 1 is 1.0.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let found = |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| same(a, b));
            a.len() == b.len() && a.iter().all(found)
        }
        _ => a == b,
    }
}

pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A schema with what its references are relative to.
#[derive(Clone)]
pub struct Node<'r> {
    pub schema: &'r Value,
    resolver: Resolver<'r>,
    pub draft: Draft,
}

impl<'r> Node<'r> {
    pub fn new(schema: &'r Value, resolver: Resolver<'r>, draft: Draft) -> Self {
        Node { schema, resolver, draft }
    }

    /// One that was written anew: its references lead nowhere.
    pub fn written(schema: &'r Value) -> Option<Self> {
        let resolver = SPECIFICATIONS.try_resolver("json-schema:///written").ok()?;
        Some(Node { schema, resolver, draft: Draft::Draft202012 })
    }

    pub fn inner(&self, schema: &'r Value) -> Self {
        let draft = self.draft.detect(schema).unwrap_or(self.draft);
        let resource = draft.create_resource_ref(schema);
        let resolver = self.resolver.in_subresource(resource);
        Node { schema, resolver: resolver.unwrap_or_else(|_| self.resolver.clone()), draft }
    }

    pub fn get(&self, keyword: &str) -> Option<&'r Value> {
        self.schema.as_object().and_then(|fields| fields.get(keyword))
    }

    /// Only where the schema's draft knows the keyword.
    pub fn bound(&self, keyword: &str) -> Option<&'r Value> {
        let binds = match keyword {
            "dependencies" => self.draft <= Draft::Draft7,
            "additionalItems" => self.draft <= Draft::Draft201909,
            "prefixItems" => self.draft >= Draft::Draft202012,
            "$ref" => true,
            _ => self.draft.is_known_keyword(keyword) && !self.refers_only(),
        };
        self.get(keyword).filter(|_| binds)
    }

    /// Whether what stands beside `$ref` does not bind.
    pub fn refers_only(&self) -> bool {
        self.draft <= Draft::Draft7 && self.get("$ref").is_some()
    }

    /// Of its keywords, those that bind in some draft.
    pub fn num_binding(&self) -> usize {
        const OTHERS: [&str; 10] = [
            "$schema",
            "$id",
            "id",
            "$anchor",
            "$defs",
            "contentEncoding",
            "contentMediaType",
            "$dynamicAnchor",
            "$recursiveAnchor",
            "$vocabulary",
        ];
        let binds = |keyword: &str| {
            [Draft::Draft4, Draft::Draft7, Draft::Draft202012]
                .iter()
                .any(|draft| draft.is_known_keyword(keyword) && !OTHERS.contains(&keyword))
        };
        let keywords = self.schema.as_object().into_iter().flatten().map(|(name, _)| name);
        keywords.filter(|keyword| binds(keyword)).count()
    }

    pub fn list(&self, keyword: &str) -> &'r [Value] {
        self.bound(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn fields(&self, keyword: &str) -> impl Iterator<Item = (&'r String, &'r Value)> {
        self.bound(keyword).and_then(Value::as_object).into_iter().flatten()
    }

    pub fn required(&self) -> Vec<&'r str> {
        let names = self.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The schemas of the first items and of the others, each with the keyword that it stands under.
    #[allow(clippy::type_complexity)]
    pub fn item_keywords(
        &self,
    ) -> (Option<(&'static str, &'r [Value])>, Option<(&'static str, &'r Value)>) {
        match self.get("items") {
            Some(Value::Array(items)) => (
                Some(("items", items)),
                self.get("additionalItems").map(|s| ("additionalItems", s)),
            ),
            items => {
                let prefix = self.get("prefixItems").and_then(Value::as_array);
                let prefix = prefix.filter(|_| self.draft >= Draft::Draft202012);
                (prefix.map(|s| ("prefixItems", s.as_slice())), items.map(|s| ("items", s)))
            }
        }
    }

    pub fn target(&self, keyword: &str) -> Option<Node<'r>> {
        let reference = self.get(keyword)?.as_str()?;
        let resolved = self.resolver.lookup(reference).ok()?;
        let (contents, resolver, draft) = resolved.into_inner();
        if keyword == "$recursiveRef" && contents.get("$recursiveAnchor").is_some() {
            return None; // depends on where it is referred to from
        }
        let draft = draft.detect(contents).unwrap_or(draft);
        Some(Node { schema: contents, resolver, draft })
    }
}

/// Which properties and items a schema looks at in any case.
#[derive(Default)]
pub struct Evaluated {
    pub properties: Vec<String>,
    pub patterns: Vec<String>,
    pub all_properties: bool,
    pub num_items: usize,
    pub all_items: bool,
}

/// Answers questions, within a bound of steps; when that is passed nothing more is known.
#[derive(Default)]
pub struct Facts {
    steps: u64,
    written: u64,
    depth: u32,
    /// Something was not looked at.
    was_cut: bool,
}

impl Facts {
    /// Before each schema that is written.
    pub fn write_one(&mut self) -> Result<(), String> {
        self.written += 1;
        if self.steps > STEPS_MAX || self.written > WRITTEN_MAX {
            return Err("the schema takes too long to prepare; make it simpler".to_string());
        }
        Ok(())
    }

    fn deeper<T>(&mut self, unknown: T, body: impl FnOnce(&mut Self) -> T) -> T {
        self.steps += 1;
        if self.depth >= DEPTH_MAX || self.steps > STEPS_MAX {
            self.was_cut = true;
            return unknown;
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    /// The schema and all that must hold with it.
    pub fn parts<'a>(&mut self, node: &Node<'a>) -> Vec<Node<'a>> {
        self.deeper(vec![node.clone()], |facts| {
            let mut parts = Vec::new();
            if !node.refers_only() {
                parts.push(node.clone());
                for schema in node.list("allOf") {
                    parts.extend(facts.parts(&node.inner(schema)));
                }
            }
            if let Some(target) = node.target("$ref") {
                parts.extend(facts.parts(&target));
            }
            parts
        })
    }

    /// Of `TYPES`, those that its values may have, as bits.
    fn types(&mut self, node: &Node) -> u8 {
        const ALL: u8 = (1 << TYPES.len()) - 1;
        let bit = |name: &str| {
            let name = if name == "integer" { "number" } else { name };
            TYPES.iter().position(|known| *known == name).map_or(0u8, |index| 1 << index)
        };
        self.deeper(ALL, |facts| {
            let mut types = ALL;
            for part in facts.parts(node) {
                match (part.schema, part.bound("type")) {
                    (Value::Bool(false), _) => types = 0,
                    (_, Some(Value::String(name))) => types &= bit(name),
                    (_, Some(Value::Array(names))) => {
                        let names = names.iter().filter_map(Value::as_str);
                        types &= names.map(bit).fold(0, |all, one| all | one);
                    }
                    _ => {}
                }
                if let Some(value) = part.bound("const") {
                    types &= bit(type_of(value));
                }
                if part.bound("enum").is_some() {
                    let values = part.list("enum").iter();
                    types &= values.map(|value| bit(type_of(value))).fold(0, |all, one| all | one);
                }
                for keyword in ["anyOf", "oneOf"] {
                    if part.bound(keyword).is_some() {
                        let branches = part.list(keyword).iter();
                        types &= branches
                            .map(|branch| facts.types(&part.inner(branch)))
                            .fold(0, |all, one| all | one);
                    }
                }
            }
            types
        })
    }

    fn names_of(types: u8) -> Vec<&'static str> {
        (0..TYPES.len()).filter(|i| types >> i & 1 == 1).map(|i| TYPES[i]).collect()
    }

    pub fn may_be(&mut self, node: &Node, name: &str) -> bool {
        Self::names_of(self.types(node)).contains(&name)
    }

    pub fn types_but(&mut self, node: &Node, name: &str) -> Vec<&'static str> {
        let mut names = Self::names_of(self.types(node));
        names.retain(|other| *other != name);
        names
    }

    /// All values that the schema may have, where they can be listed.
    pub fn values(&mut self, node: &Node) -> Option<Vec<Value>> {
        let listed = self.deeper(None, |facts| {
            for part in facts.parts(node) {
                if let Some(value) = part.bound("const") {
                    return Some(vec![value.clone()]);
                }
                if part.bound("enum").is_some() {
                    return Some(part.list("enum").to_vec());
                }
                for keyword in ["anyOf", "oneOf"] {
                    let branches = part.list(keyword);
                    let each: Option<Vec<Vec<Value>>> =
                        branches.iter().map(|branch| facts.values(&part.inner(branch))).collect();
                    if let Some(each) = each.filter(|each| !each.is_empty()) {
                        return Some(each.concat());
                    }
                }
            }
            match Self::names_of(facts.types(node)).as_slice() {
                ["number"] => integers(&facts.parts(node)),
                ["boolean"] => Some(vec![json!(true), json!(false)]),
                ["null"] => Some(vec![Value::Null]),
                ["null", "boolean"] => Some(vec![Value::Null, json!(true), json!(false)]),
                _ => None,
            }
        })?;
        let mut values: Vec<Value> = Vec::new();
        if listed.len() > VALUES_MAX {
            return None;
        }
        for value in listed {
            let is_new = !values.iter().any(|other| same(other, &value));
            if is_new && self.allows(node, &value) != Some(false) {
                values.push(value);
            }
        }
        Some(values)
    }

    /// Those of `values` that are surely allowed.
    pub fn sure_values(&mut self, node: &Node) -> Option<Vec<Value>> {
        let mut values = self.values(node)?;
        values.retain(|value| self.allows(node, value) == Some(true));
        Some(values)
    }

    // -- Whether a value is allowed.

    pub fn allows(&mut self, node: &Node, value: &Value) -> Option<bool> {
        self.deeper(None, |facts| match node.schema {
            Value::Bool(allowed) => Some(*allowed),
            Value::Object(fields) => {
                let mut verdict = Some(true);
                for keyword in fields.keys() {
                    if node.bound(keyword).is_none() {
                        continue;
                    }
                    match facts.keyword_allows(node, keyword, value) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => verdict = None,
                    }
                }
                verdict
            }
            _ => None,
        })
    }

    fn keyword_allows(&mut self, node: &Node, keyword: &str, value: &Value) -> Option<bool> {
        let asked = node.get(keyword)?;
        let number = |pass: fn(f64, f64) -> bool| match (value.as_f64(), asked.as_f64()) {
            (None, _) => Some(true),
            (Some(value), Some(bound)) => Some(pass(value, bound)),
            _ => None,
        };
        let count = |size: Option<usize>, pass: fn(u64, u64) -> bool| match (size, as_count(asked))
        {
            (None, _) => Some(true),
            (Some(size), Some(bound)) => Some(pass(size as u64, bound)),
            _ => None,
        };
        let length = value.as_str().map(|text| text.chars().count());
        let items = value.as_array().map(Vec::len);
        let properties = value.as_object().map(Map::len);
        match keyword {
            "type" => Some(match asked {
                Value::String(name) => has_type(value, name),
                Value::Array(names) => {
                    names.iter().filter_map(Value::as_str).any(|name| has_type(value, name))
                }
                _ => return None,
            }),
            "const" => Some(same(value, asked)),
            "enum" => Some(node.list("enum").iter().any(|one| same(one, value))),
            "minimum" if node.get("exclusiveMinimum") == Some(&json!(true)) => number(|v, b| v > b),
            "maximum" if node.get("exclusiveMaximum") == Some(&json!(true)) => number(|v, b| v < b),
            "minimum" => number(|value, bound| value >= bound),
            "maximum" => number(|value, bound| value <= bound),
            "exclusiveMinimum" if asked.is_boolean() => Some(true),
            "exclusiveMaximum" if asked.is_boolean() => Some(true),
            "exclusiveMinimum" => number(|value, bound| value > bound),
            "exclusiveMaximum" => number(|value, bound| value < bound),
            "minLength" => count(length, |size, bound| size >= bound),
            "maxLength" => count(length, |size, bound| size <= bound),
            "minItems" => count(items, |size, bound| size >= bound),
            "maxItems" => count(items, |size, bound| size <= bound),
            "minProperties" => count(properties, |size, bound| size >= bound),
            "maxProperties" => count(properties, |size, bound| size <= bound),
            "pattern" => match value.as_str() {
                None => Some(true),
                Some(text) => self.pattern_matches(asked.as_str()?, text),
            },
            "required" => Some(match value.as_object() {
                None => true,
                Some(fields) => node.required().iter().all(|name| fields.contains_key(*name)),
            }),
            "properties" => self.each(
                node.fields("properties")
                    .filter_map(|(name, schema)| Some((node.inner(schema), value.get(name)?))),
            ),
            "items" | "uniqueItems" | "contains" | "prefixItems" if !value.is_array() => Some(true),
            "format" if !value.is_string() => Some(true),
            "items" if asked.is_object() && node.get("prefixItems").is_none() => {
                let items = value.as_array()?.iter();
                self.each(items.map(|item| (node.inner(asked), item)))
            }
            "additionalProperties"
            | "patternProperties"
            | "propertyNames"
            | "dependencies"
            | "dependentRequired"
            | "dependentSchemas"
            | "unevaluatedProperties"
                if !value.is_object() =>
            {
                Some(true)
            }
            "allOf" => self.each(node.list("allOf").iter().map(|s| (node.inner(s), value))),
            "anyOf" => {
                let verdicts = self.verdicts(node, "anyOf", value);
                match verdicts {
                    _ if verdicts.contains(&Some(true)) => Some(true),
                    _ if verdicts.contains(&None) => None,
                    _ => Some(false),
                }
            }
            "oneOf" => {
                let verdicts = self.verdicts(node, "oneOf", value);
                let held = verdicts.iter().filter(|verdict| **verdict == Some(true)).count();
                match held {
                    2.. => Some(false),
                    _ if verdicts.contains(&None) => None,
                    _ => Some(held == 1),
                }
            }
            "not" => self.allows(&node.inner(asked), value).map(|allowed| !allowed),
            "$ref" => {
                let target = node.target("$ref")?;
                self.allows(&target, value)
            }
            "$schema" | "$id" | "id" | "$anchor" | "$defs" | "definitions" | "$comment"
            | "title" | "description" | "default" | "examples" | "then" | "else"
            | "contentMediaType" | "contentEncoding" | "readOnly" | "writeOnly" => Some(true),
            "if" if node.get("then").is_none() && node.get("else").is_none() => Some(true),
            _ => None,
        }
    }

    fn each<'a, 'b>(&mut self, pairs: impl Iterator<Item = (Node<'a>, &'b Value)>) -> Option<bool> {
        let mut verdict = Some(true);
        for (node, value) in pairs {
            match self.allows(&node, value) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => verdict = None,
            }
        }
        verdict
    }

    fn verdicts(&mut self, node: &Node, keyword: &str, value: &Value) -> Vec<Option<bool>> {
        let branches = node.list(keyword).iter();
        branches.map(|branch| self.allows(&node.inner(branch), value)).collect()
    }

    // -- Whether two schemas exclude each other.

    pub fn exclude(&mut self, a: &Node, b: &Node) -> bool {
        self.exclude_where(a, b, &[])
    }

    /// As of two that were written anew, of values that have the `required` properties.
    pub fn written_exclude(&mut self, a: &Value, b: &Value, required: &[&str]) -> bool {
        match (Node::written(a), Node::written(b)) {
            (Some(a), Some(b)) => self.exclude_where(&a, &b, required),
            _ => false,
        }
    }

    pub fn exclude_where(&mut self, a: &Node, b: &Node, required: &[&str]) -> bool {
        self.deeper(false, |facts| {
            let common = facts.types(a) & facts.types(b);
            if common == 0 || facts.no_value(a, b) || facts.no_value(b, a) {
                return true;
            }
            if facts.no_branch(a, b, required) || facts.no_branch(b, a, required) {
                return true;
            }
            let (a, b) = (facts.parts(a), facts.parts(b));
            Self::names_of(common).into_iter().all(|name| match name {
                "number" => ranges_exclude(&a, &b, "number"),
                "string" => ranges_exclude(&a, &b, "string") || facts.strings_exclude(&a, &b),
                "array" => ranges_exclude(&a, &b, "array"),
                "object" => facts.objects_exclude(&a, &b, required),
                _ => false,
            })
        })
    }

    fn no_value(&mut self, a: &Node, b: &Node) -> bool {
        let Some(values) = self.values(a) else {
            return false;
        };
        values.iter().all(|value| self.allows(b, value) == Some(false))
    }

    fn no_branch(&mut self, a: &Node, b: &Node, required: &[&str]) -> bool {
        for part in self.parts(a) {
            for keyword in ["anyOf", "oneOf"] {
                let branches = part.list(keyword);
                let none = |branch: &Value| {
                    let branch = part.inner_of(branch);
                    self.exclude_where(&branch, b, required)
                };
                if !branches.is_empty() && branches.iter().all(none) {
                    return true;
                }
            }
        }
        false
    }

    fn strings_exclude(&mut self, a: &[Node], b: &[Node]) -> bool {
        let patterns = |parts: &[Node]| -> Vec<String> {
            let patterns = parts.iter().filter_map(|part| part.bound("pattern")?.as_str());
            patterns.filter_map(Pattern::at_most).collect()
        };
        let (a, b) = (patterns(a), patterns(b));
        a.iter().any(|one| b.iter().any(|other| self.patterns_exclude(one, other)))
    }

    fn objects_exclude(&mut self, a: &[Node], b: &[Node], required: &[&str]) -> bool {
        let mut names: Vec<&str> = required.to_vec();
        for part in a.iter().chain(b).filter(|part| part.bound("required").is_some()) {
            names.extend(part.required());
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().any(|name| {
            let of = |parts: &[Node]| -> Vec<(usize, bool)> {
                let each = parts.iter().enumerate();
                each.filter_map(|(i, part)| property(part, name).map(|s| (i, *s.schema == false)))
                    .collect()
            };
            let (of_a, of_b) = (of(a), of(b));
            if of_a.iter().chain(&of_b).any(|(_, forbidden)| *forbidden) {
                return true;
            }
            of_a.iter().any(|(i, _)| {
                of_b.iter().any(|(j, _)| match (property(&a[*i], name), property(&b[*j], name)) {
                    (Some(one), Some(other)) => self.exclude(&one, &other),
                    _ => false,
                })
            })
        })
    }

    // -- Arrays and objects.

    /// Whether no two items of one array can be alike.
    pub fn items_differ(&mut self, node: &Node, most: u64) -> bool {
        let (prefix, rest) = node.item_keywords();
        let Some((_, prefix)) = prefix else {
            return false;
        };
        if most > prefix.len() as u64 && rest.map(|(_, s)| s) != Some(&Value::Bool(false)) {
            return false;
        }
        let items: Vec<Node> = prefix.iter().map(|schema| node.inner(schema)).collect();
        (0..items.len()).all(|i| (0..i).all(|j| self.exclude(&items[i], &items[j])))
    }

    pub fn evaluated(&mut self, node: &Node) -> Evaluated {
        let mut seen = Evaluated::default();
        for (index, part) in self.parts(node).into_iter().enumerate() {
            seen.properties.extend(part.fields("properties").map(|(name, _)| name.clone()));
            seen.patterns.extend(part.fields("patternProperties").map(|(name, _)| name.clone()));
            seen.all_properties |= part.bound("additionalProperties").is_some()
                || (index > 0 && part.bound("unevaluatedProperties").is_some());
            let (prefix, rest) = part.item_keywords();
            seen.num_items = seen.num_items.max(prefix.map_or(0, |(_, items)| items.len()));
            seen.all_items |=
                rest.is_some() || (index > 0 && part.bound("unevaluatedItems").is_some());
        }
        seen
    }

    // -- Expressions.

    /// An expression that strings of this schema match and no others; `Ok(None)`: all do.
    pub fn as_pattern(&mut self, node: &Node) -> Result<Option<String>, String> {
        self.was_cut = false;
        let pattern = self.pattern_of(node)?;
        if self.was_cut {
            return Err("schemas within schemas".to_string());
        }
        Ok(pattern)
    }

    fn pattern_of(&mut self, node: &Node) -> Result<Option<String>, String> {
        let mut found: Vec<String> = Vec::new();
        let mut lengths = (0, None);
        for part in self.parts(node) {
            if part.schema == &Value::Bool(false) || !self.may_be(&part, "string") {
                return Err("no name fits".to_string());
            }
            for keyword in ["not", "if", "const", "enum", "$dynamicRef", "$recursiveRef"] {
                if part.bound(keyword).is_some() {
                    return Err(format!("{keyword} beside other keywords"));
                }
            }
            if let Some(Value::String(pattern)) = part.get("pattern") {
                found.push(Pattern::single(pattern)?.0);
            }
            let count = |keyword: &str| part.get(keyword).and_then(as_count);
            lengths.0 = count("minLength").unwrap_or(0).max(lengths.0);
            lengths.1 = [count("maxLength"), lengths.1].into_iter().flatten().min();
            for keyword in ["anyOf", "oneOf"] {
                if part.bound(keyword).is_some() {
                    let branches = part.list(keyword);
                    let mut each = Vec::new();
                    for branch in branches {
                        let branch = part.inner(branch);
                        match self.sure_values(&branch) {
                            Some(values) => each.push(pattern::one_of(&values)),
                            None => match self.pattern_of(&branch)? {
                                Some(pattern) => each.push(format!("(?:{pattern})")),
                                None => each.push(String::new()),
                            },
                        }
                    }
                    let disjoint = keyword == "anyOf"
                        || (0..each.len())
                            .all(|i| (0..i).all(|j| self.patterns_exclude(&each[i], &each[j])));
                    if !disjoint {
                        return Err("branches that may hold together".to_string());
                    }
                    found.push(each.join("|"));
                }
            }
        }
        found.dedup();
        if lengths != (0, None) {
            match found.as_slice() {
                [] => found.push(pattern::of_length(lengths.0, lengths.1)),
                [one] => match pattern::with_length(one, lengths.0, lengths.1) {
                    Some(both) => found = vec![both],
                    None => return Err("an expression and a length".to_string()),
                },
                _ => {}
            }
        }
        match found.len() {
            0 => Ok(None),
            1 => Ok(found.pop()),
            _ => Err("several expressions".to_string()),
        }
    }

    fn is_empty(&mut self, ast: impl FnOnce(&mut RegexBuilder) -> Option<RegexAst>) -> bool {
        self.steps += 20;
        if self.steps > STEPS_MAX {
            return false;
        }
        let mut builder = RegexBuilder::new();
        let Some(ast) = ast(&mut builder) else {
            return false;
        };
        let any = RegexAst::Regex("(?s:.*)".to_string());
        let Ok(expression) = builder.mk(&RegexAst::And(vec![any, ast])) else {
            return false;
        };
        let regex = builder.to_regex_limited(expression, EXPRESSION_STEPS_MAX);
        regex.is_ok_and(|mut regex| regex.always_empty())
    }

    pub fn patterns_exclude(&mut self, a: &str, b: &str) -> bool {
        self.is_empty(|builder| {
            let each = [pattern::searched(builder, a)?, pattern::searched(builder, b)?];
            Some(RegexAst::And(each.map(RegexAst::ExprRef).to_vec()))
        })
    }

    pub fn pattern_within(&mut self, small: &str, big: &str) -> bool {
        self.is_empty(|builder| {
            let small = RegexAst::ExprRef(pattern::searched(builder, small)?);
            let big = RegexAst::ExprRef(pattern::searched(builder, big)?);
            Some(RegexAst::And(vec![small, RegexAst::Not(Box::new(big))]))
        })
    }

    pub fn matches_all(&mut self, pattern: &str) -> bool {
        self.pattern_within("", pattern)
    }

    pub fn pattern_matches(&mut self, pattern: &str, text: &str) -> Option<bool> {
        self.steps += 20;
        // Where white space is and what a point matches differs among the libraries.
        if self.steps > STEPS_MAX || !text.chars().all(|c| (' '..='~').contains(&c)) {
            return None;
        }
        let parsed = Pattern::parse(pattern).ok()?;
        let mut matches = true;
        for expression in std::iter::once(&parsed.expression).chain(&parsed.unless) {
            let mut builder = RegexBuilder::new();
            let expression = pattern::searched(&mut builder, expression)?;
            let regex = builder.to_regex_limited(expression, EXPRESSION_STEPS_MAX);
            matches &= regex.ok()?.is_match(text);
        }
        Some(matches)
    }
}

impl<'r> Node<'r> {
    /// As `inner`, of a schema that lives shorter.
    fn inner_of<'s>(&self, schema: &'s Value) -> Node<'s>
    where
        'r: 's,
    {
        let shorter: Node<'s> = self.clone();
        shorter.inner(schema)
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => type_of(value) == name,
    }
}

/// The schema of a property where just one is known to bind.
fn property<'a>(part: &Node<'a>, name: &str) -> Option<Node<'a>> {
    let own = part.bound("properties").and_then(|named| named.get(name));
    let others =
        || part.bound("additionalProperties").filter(|_| part.get("patternProperties").is_none());
    own.or_else(others).map(|schema| part.inner(schema))
}

/// The integers within bounds, whether those are excluded themselves or not, where they are few.
fn integers(parts: &[Node]) -> Option<Vec<Value>> {
    let integer = json!("integer");
    if !parts.iter().any(|part| part.bound("type") == Some(&integer)) {
        return None;
    }
    let bounds = |keywords: [&'static str; 2]| {
        let of = move |part: &Node| keywords.map(|keyword| part.bound(keyword)?.as_f64());
        parts.iter().flat_map(of).flatten()
    };
    let least = bounds(["minimum", "exclusiveMinimum"]).fold(f64::NEG_INFINITY, f64::max).ceil();
    let most = bounds(["maximum", "exclusiveMaximum"]).fold(f64::INFINITY, f64::min).floor();
    (most - least < INTEGERS_MAX).then(|| (least as i64..=most as i64).map(Value::from).collect())
}

/// Bounds from below and above that leave nothing between.
fn ranges_exclude(a: &[Node], b: &[Node], kind: &str) -> bool {
    let (low, high) = match kind {
        "number" => ("minimum", "maximum"),
        "string" => ("minLength", "maxLength"),
        _ => ("minItems", "maxItems"),
    };
    let mut least = (f64::NEG_INFINITY, false); // the bound, and whether it is excluded itself
    let mut most = (f64::INFINITY, false);
    for part in a.iter().chain(b) {
        let of = |keyword: &str| part.bound(keyword).and_then(Value::as_f64);
        let flag = |keyword: &str| part.bound(keyword) == Some(&Value::Bool(true));
        let (low_flag, high_flag) = (flag("exclusiveMinimum"), flag("exclusiveMaximum"));
        let mut lows = vec![(of(low), low_flag && kind == "number")];
        let mut highs = vec![(of(high), high_flag && kind == "number")];
        if kind == "number" {
            lows.push((of("exclusiveMinimum"), true));
            highs.push((of("exclusiveMaximum"), true));
        }
        for (bound, open) in lows.into_iter().filter_map(|(bound, open)| Some((bound?, open))) {
            if bound > least.0 || (bound == least.0 && open) {
                least = (bound, open);
            }
        }
        for (bound, open) in highs.into_iter().filter_map(|(bound, open)| Some((bound?, open))) {
            if bound < most.0 || (bound == most.0 && open) {
                most = (bound, open);
            }
        }
    }
    least.0 > most.0 || (least.0 == most.0 && (least.1 || most.1))
}
