//! A JSON schema in the keywords that the grammar crate keeps, before it sees it.
//!
//! What those cannot say exactly is *narrowed*: every document of the new schema is one of the old
//! schema, and some of the old are given up. Nothing is passed over. Where a narrowing would leave
//! nothing, the schema is refused with the keyword and its place.
//!
//! The new schema stands alone: what was referred to is in its `$defs`, written anew, with no
//! identifiers left. Each keyword has one rule, a method named after it; what the rules need to know
//! of a schema (what it excludes, which values it has) is in `schema_facts.rs`.

use crate::schema_check;
use crate::schema_facts::{all, any, as_count, type_of, Facts, Node};
use crate::schema_pattern::{has_control, Pattern};
use referencing::{Draft, Registry};
use serde_json::{json, Map, Value};
use std::collections::HashMap;

type Fields = Map<String, Value>;
/// Why not, with the place.
type Refusal = String;

/// Ways in which one schema may be kept that are multiplied out: conditions and dependencies. What
/// is above is given up.
const WAYS_MAX: usize = 32;

/// Ways of excluding one schema that are kept, where several are excluded at once.
const EXCLUSIONS_MAX: usize = 16;

/// Parts of an array of distinct values; the crate gets a form for each set of them.
const DISTINCT_PARTS: usize = 6;

/// Properties of which one must be there.
const ONE_OF_PROPERTIES_MAX: usize = 32;

const BASE: &str = "json-schema:///";

/// Keywords of drafts before 4, which bind there and nowhere else.
const TOO_OLD: [&str; 3] = ["divisibleBy", "disallow", "extends"];

/// What the value of a keyword must be.
const OBJECTS: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentRequired",
    "dependentSchemas",
];
const LISTS: [&str; 6] = ["allOf", "anyOf", "oneOf", "enum", "required", "prefixItems"];
const STRINGS: [&str; 5] = ["pattern", "format", "$ref", "$dynamicRef", "$recursiveRef"];

pub fn rewrite(schema: &Value) -> Result<Fields, Refusal> {
    schema_check::check(schema)?;
    let draft = Draft::Draft202012.detect(schema).unwrap_or(Draft::Draft202012);
    let registry = Registry::options()
        .draft(draft)
        .build([(BASE, draft.create_resource(schema.clone()))])
        .map_err(|error| format!("a reference leads nowhere within the schema: {error}"))?;
    let resolver = registry.try_resolver(BASE).map_err(|error| error.to_string())?;
    let root = resolver.lookup(BASE).map_err(|error| error.to_string())?;
    let root = Node::new(root.contents(), root.resolver().clone(), draft).inner(root.contents());
    let mut rewriter = Rewriter { dynamic_anchors: dynamic_anchors(schema), ..Default::default() };
    let kept = rewriter.schema(&root)?;
    let mut fields = match kept {
        Value::Object(fields) => fields,
        Value::Bool(true) => Fields::new(),
        _ => return Err("it allows no answer".to_string()),
    };
    while let Some(wanted) = rewriter.wanted.pop() {
        rewriter.place = wanted.place;
        let definition = rewriter.schema(&wanted.node)?;
        rewriter.definitions.insert(wanted.name, definition);
    }
    if !rewriter.definitions.is_empty() {
        fields.insert("$defs".to_string(), Value::Object(rewriter.definitions));
    }
    Ok(fields)
}

/// What is referred to and is still to be written.
struct Wanted<'r> {
    name: String,
    node: Node<'r>,
    place: Vec<String>,
}

#[derive(Default)]
pub struct Rewriter<'r> {
    pub facts: Facts,
    pub exclusion_depth: u32,
    place: Vec<String>,
    names: HashMap<*const Value, String>,
    num_names: usize,
    wanted: Vec<Wanted<'r>>,
    definitions: Fields,
    dynamic_anchors: Vec<String>,
    /// The schemas of values that are being written, each within the one before.
    writing: Vec<*const Value>,
    /// What is being written in the place of a reference, for the same value.
    copying: Vec<*const Value>,
    /// What is written will be joined with other schemas of the same value. The crate cannot join a
    /// reference to something that refers to itself; a copy it can.
    is_joined: bool,
}

/// One schema as it is being written.
#[derive(Default)]
struct Kept {
    fields: Fields,
    /// What must hold as well.
    and: Vec<Value>,
    /// Of each list, one must hold.
    ways: Vec<Vec<Value>>,
}

impl Kept {
    fn set(&mut self, keyword: &str, value: Value) {
        self.fields.insert(keyword.to_string(), value);
    }

    fn count(&self, keyword: &str) -> Option<u64> {
        self.fields.get(keyword).and_then(Value::as_u64)
    }
}

impl<'r> Rewriter<'r> {
    fn place(&self) -> String {
        format!("/{}", self.place.join("/"))
    }

    fn within<T>(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.place.push(name.replace('~', "~0").replace('/', "~1"));
        let result = body(self)?;
        self.place.pop();
        Ok(result)
    }

    fn refuse<T>(&self, keyword: &str, why: &str) -> Result<T, Refusal> {
        Err(format!("the keyword at {}{keyword} is not supported{why}", self.start()))
    }

    /// Of the place of a keyword.
    fn start(&self) -> String {
        self.place.iter().map(|name| format!("/{name}")).collect::<String>() + "/"
    }

    /// Of a value of its own.
    pub fn schema(&mut self, node: &Node<'r>) -> Result<Value, Refusal> {
        let key: *const Value = node.schema;
        if self.writing.contains(&key) {
            return Ok(Value::Object(self.reference(node.clone(), "")));
        }
        self.writing.push(key);
        let copying = std::mem::take(&mut self.copying);
        let is_joined = std::mem::take(&mut self.is_joined);
        let written = self.same(node)?;
        (self.copying, self.is_joined) = (copying, is_joined);
        self.writing.pop();
        Ok(written)
    }

    /// Of the value that is being written already.
    fn same(&mut self, node: &Node<'r>) -> Result<Value, Refusal> {
        self.facts.write_one()?;
        let fields = match node.schema {
            Value::Bool(_) => return Ok(node.schema.clone()),
            Value::Object(fields) => fields,
            _ => return Err(format!("the schema at {} must be an object", self.place())),
        };
        if let Some(word) = TOO_OLD.iter().find(|word| fields.contains_key(**word)) {
            return self.refuse(word, "");
        }
        for (keywords, wanted) in
            [(&OBJECTS[..], "object"), (&LISTS, "array"), (&STRINGS, "string")]
        {
            let is_other = |word: &&&str| fields.get(**word).is_some_and(|v| type_of(v) != wanted);
            if let Some(word) = keywords.iter().find(is_other) {
                return Err(format!(
                    "the keyword at {}{word} must be of type {wanted}",
                    self.start()
                ));
            }
        }
        let is_joined = self.is_joined;
        self.is_joined |= node.num_binding() > 1;
        let written = self.keywords(node, fields);
        self.is_joined = is_joined;
        written
    }

    fn keywords(&mut self, node: &Node<'r>, fields: &Fields) -> Result<Value, Refusal> {
        let mut kept = Kept::default();
        self.plain(fields, &mut kept);
        self.pattern(node, &mut kept)?;
        self.format(fields, &mut kept);
        self.items(node, &mut kept)?;
        self.properties(node, &mut kept)?;
        self.property_counts(node, &mut kept)?;
        self.property_names(node, &mut kept)?;
        self.dependencies(node, &mut kept)?;
        self.references(node, &mut kept)?;
        self.constants(fields, &mut kept)?;
        self.all_and_any_of(node, &mut kept)?;
        self.one_of(node, &mut kept)?;
        self.not(node, &mut kept)?;
        self.conditions(node, &mut kept)?;
        self.contains(node, &mut kept)?;
        self.unique_items(node, &mut kept)?;
        self.unevaluated(node, &mut kept)?;
        self.put_together(kept)
    }

    /// What may fail without harm; to be joined with others.
    pub fn attempt(&mut self, node: &Node<'r>) -> Option<Value> {
        let (place, num_wanted) = (self.place.len(), self.wanted.len());
        let (writing, copying) = (self.writing.len(), self.copying.clone());
        let is_joined = std::mem::replace(&mut self.is_joined, true);
        let written = self.same(node);
        if written.is_err() {
            self.place.truncate(place);
            self.writing.truncate(writing);
            self.copying = copying;
            let forgotten = self.wanted.split_off(num_wanted);
            self.names.retain(|_, name| forgotten.iter().all(|wanted| wanted.name != *name));
        }
        self.is_joined = is_joined;
        written.ok()
    }

    fn put_together(&mut self, kept: Kept) -> Result<Value, Refusal> {
        let Kept { fields, mut and, ways } = kept;
        let required: Vec<String> = strings(fields.get("required"));
        let ways = self.multiply(&required, ways);
        if ways.is_empty() {
            return Err(format!("the conditions at {} leave nothing", self.place()));
        }
        if ways.len() != 1 || !ways[0].is_empty() {
            and.push(any(ways.into_iter().map(all).collect()));
        }
        let mut parts = vec![Value::Object(fields)];
        parts.extend(and);
        Ok(all(parts))
    }

    /// All choices of one way each that may hold together, at most `WAYS_MAX` of them.
    pub fn multiply(&mut self, required: &[String], ways: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
        let required: Vec<&str> = required.iter().map(String::as_str).collect();
        let mut choices: Vec<Vec<Value>> = vec![vec![]];
        for alternatives in ways {
            let mut longer = Vec::new();
            for choice in &choices {
                for way in &alternatives {
                    let excluded = choice
                        .iter()
                        .any(|chosen| self.facts.written_exclude(chosen, way, &required));
                    if !excluded && longer.len() < WAYS_MAX {
                        longer.push([choice.as_slice(), std::slice::from_ref(way)].concat());
                    }
                }
            }
            choices = longer;
        }
        choices
    }

    // -- Keywords that are copied.

    fn plain(&mut self, fields: &Fields, kept: &mut Kept) {
        const COPIED: [&str; 4] = ["type", "multipleOf", "minimum", "maximum"];
        const COUNTS: [&str; 4] = ["minLength", "maxLength", "minItems", "maxItems"];
        for keyword in COPIED {
            if let Some(value) = fields.get(keyword) {
                kept.set(keyword, value.clone());
            }
        }
        for (keyword, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
            match (fields.get(keyword), fields.get(bound)) {
                (Some(Value::Bool(true)), Some(value)) => kept.set(keyword, value.clone()),
                (None | Some(Value::Bool(_)), _) => {}
                (Some(value), _) => kept.set(keyword, value.clone()),
            }
        }
        for keyword in COUNTS {
            if let Some(value) = fields.get(keyword) {
                kept.set(keyword, as_count(value).map_or_else(|| value.clone(), |n| json!(n)));
            }
        }
    }

    /// Values that cannot be written are left out.
    fn constants(&mut self, fields: &Fields, kept: &mut Kept) -> Result<(), Refusal> {
        fn is_writable(value: &Value) -> bool {
            match value {
                Value::String(text) => !has_control(text),
                Value::Array(items) => items.iter().all(is_writable),
                Value::Object(fields) => fields.values().all(is_writable),
                _ => true,
            }
        }
        if let Some(value) = fields.get("const") {
            if !is_writable(value) {
                return self.refuse("const", ": it has a control character");
            }
            kept.set("const", value.clone());
        }
        if let Some(Value::Array(values)) = fields.get("enum") {
            let own: Vec<&Value> = values.iter().filter(|value| is_writable(value)).collect();
            if own.is_empty() {
                return self.refuse("enum", ": its values have control characters, or it has none");
            }
            kept.set("enum", json!(own));
        }
        Ok(())
    }

    // -- Strings.

    fn pattern(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let Some(Value::String(pattern)) = node.get("pattern") else {
            return Ok(());
        };
        match Pattern::parse(pattern) {
            Ok(Pattern { expression, unless }) => {
                kept.set("pattern", json!(expression));
                kept.and.extend(unless.iter().map(|other| json!({"pattern": other})));
                Ok(())
            }
            Err(why) => self.refuse("pattern", &format!(": {why}")),
        }
    }

    /// A format that is not known is an annotation, as the standard says.
    fn format(&mut self, fields: &Fields, kept: &mut Kept) {
        const KNOWN: [&str; 10] = [
            "date-time",
            "time",
            "date",
            "duration",
            "email",
            "hostname",
            "ipv4",
            "ipv6",
            "uuid",
            "uri",
        ];
        const NARROWED: [(&str, &str); 4] = [
            ("idn-email", "email"),
            ("idn-hostname", "hostname"),
            ("iri", "uri"),
            ("uri-template", "uri"),
        ];
        const PATTERNS: [(&str, &str); 4] = [
            ("uri-reference", RELATIVE_REFERENCE),
            ("iri-reference", RELATIVE_REFERENCE),
            ("json-pointer", "^(/([^/~]|~[01])*)*$"),
            ("relative-json-pointer", "^(0|[1-9][0-9]*)(#|(/([^/~]|~[01])*)*)$"),
        ];
        let Some(Value::String(format)) = fields.get("format") else {
            return;
        };
        let format = format.as_str();
        if KNOWN.contains(&format) {
            kept.set("format", json!(format));
        }
        if let Some((_, other)) = NARROWED.iter().find(|(name, _)| *name == format) {
            kept.set("format", json!(other));
        }
        if let Some((_, pattern)) = PATTERNS.iter().find(|(name, _)| *name == format) {
            // Beside a pattern of the schema's own.
            kept.and.push(json!({"pattern": pattern}));
        }
    }

    // -- Arrays.

    fn items(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let (prefix, rest) = node.item_keywords();
        if let Some((keyword, items)) = prefix {
            let items = self.list(node, keyword, items)?;
            kept.set("prefixItems", Value::Array(items));
        }
        if let Some((keyword, schema)) = rest {
            let items = self.within(keyword, |walk| walk.schema(&node.inner(schema)))?;
            kept.set("items", items);
        }
        Ok(())
    }

    fn list(
        &mut self,
        node: &Node<'r>,
        keyword: &str,
        schemas: &'r [Value],
    ) -> Result<Vec<Value>, Refusal> {
        self.within(keyword, |walk| {
            let each = schemas.iter().enumerate();
            each.map(|(index, schema)| {
                let part = node.inner(schema);
                walk.within(&index.to_string(), |walk| match keyword {
                    "allOf" | "anyOf" => walk.same(&part),
                    _ => walk.schema(&part),
                })
            })
            .collect()
        })
    }

    /// Those that must be there come first. With `maxContains` no others do.
    fn contains(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        const CONTAINED_MAX: u64 = 64;
        let Some(schema) = node.get("contains") else {
            return Ok(());
        };
        let contained = node.inner(schema);
        let least = node.get("minContains").and_then(as_count).unwrap_or(1);
        let most = node.get("maxContains").and_then(as_count);
        if least > CONTAINED_MAX || most.is_some_and(|most| most < least) {
            return self.refuse("contains", " with such bounds");
        }
        let wanted = self.within("contains", |walk| walk.schema(&contained))?;
        let others = match most {
            None => Value::Bool(true),
            Some(_) => any(self.exclusions(&contained)),
        };
        // Behind items that have schemas of their own, which those may not fit.
        let own = kept.fields.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
        let places = if least == 1 && most.is_none() { own.min(4) + 1 } else { 1 };
        let at = |place: usize| {
            let before = std::iter::repeat_n(Value::Bool(true), place);
            let prefix: Vec<Value> =
                before.chain(std::iter::repeat_n(wanted.clone(), least as usize)).collect();
            json!({"minItems": prefix.len(), "prefixItems": prefix, "items": others})
        };
        if least > 0 || most.is_some() {
            let ways: Vec<Value> = (0..places).map(at).collect();
            kept.ways.push(ways);
        }
        Ok(())
    }

    /// Items of few values: each at most once, in the order of the values. Of others: one at most.
    fn unique_items(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        if node.get("uniqueItems") != Some(&Value::Bool(true)) || !self.facts.may_be(node, "array")
        {
            return Ok(());
        }
        let least = kept.count("minItems").unwrap_or(0);
        let most = kept.count("maxItems").unwrap_or(u64::MAX);
        if most <= 1 || self.facts.items_differ(node, most) {
            return Ok(());
        }
        let (prefix, rest) = node.item_keywords();
        let values = match (prefix, rest) {
            (None, Some((_, schema))) => self.facts.values(&node.inner(schema)),
            _ => None,
        };
        let Some(values) = values else {
            if least > 1 {
                let why = " for two or more items that are not of an enum or of few integers";
                return self.refuse("uniqueItems", why);
            }
            kept.set("maxItems", json!(1));
            return Ok(());
        };
        if let Some((_, schema)) = rest {
            let items = node.inner(schema);
            if values.iter().all(|value| self.facts.allows(&items, value) == Some(true)) {
                kept.fields.remove("items"); // said again below
            }
        }
        let parts = values.len().min(DISTINCT_PARTS);
        let part = |i: usize| &values[i * values.len() / parts..(i + 1) * values.len() / parts];
        let mut ways = Vec::new();
        for set in 0usize..1 << parts {
            let size = u64::from(set.count_ones());
            if size < least || size > most {
                continue;
            }
            let members = (0..parts).filter(|i| set >> i & 1 == 1);
            let prefix: Vec<Value> = members.map(|i| json!({"enum": part(i)})).collect();
            ways.push(json!({"type": "array", "prefixItems": prefix, "minItems": size,
                             "maxItems": size}));
        }
        if ways.is_empty() {
            return self.refuse("uniqueItems", " for so many items");
        }
        let others = self.facts.types_but(node, "array");
        if !others.is_empty() {
            ways.push(json!({"type": others}));
        }
        kept.and.push(any(ways));
        Ok(())
    }

    // -- Objects.

    fn properties(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        if let Some(Value::Object(named)) = node.get("properties") {
            let written = self.named(node, "properties", named)?;
            kept.set("properties", Value::Object(written));
        }
        if let Some(schema) = node.get("additionalProperties") {
            let written =
                self.within("additionalProperties", |walk| walk.schema(&node.inner(schema)))?;
            kept.set("additionalProperties", written);
        }
        if let Some(required) = node.get("required") {
            kept.set("required", required.clone());
        }
        let Some(Value::Object(named)) = node.get("patternProperties") else {
            return Ok(());
        };
        let written = self.named(node, "patternProperties", named)?;
        let mut patterns: Vec<(String, Value)> = Vec::new();
        let mut given_up = false;
        for (pattern, schema) in written {
            match Pattern::single(&pattern) {
                Ok((expression, is_whole)) => {
                    patterns.push((expression, schema));
                    given_up |= !is_whole;
                }
                Err(why) => return self.refuse("patternProperties", &format!(": {why}")),
            }
        }
        self.pattern_properties(patterns, given_up, kept);
        Ok(())
    }

    fn named(
        &mut self,
        node: &Node<'r>,
        keyword: &str,
        named: &'r Fields,
    ) -> Result<Fields, Refusal> {
        self.within(keyword, |walk| {
            named
                .iter()
                .map(|(name, schema)| {
                    let written = walk.within(name, |walk| walk.schema(&node.inner(schema)))?;
                    Ok((name.clone(), written))
                })
                .collect()
        })
    }

    /// An expression that every name matches is what holds of all properties. Others that may match
    /// the same name: the first is kept, with what all of them ask for, and names of none are given
    /// up, as they may be names of those that are not kept.
    fn pattern_properties(
        &mut self,
        patterns: Vec<(String, Value)>,
        mut given_up: bool,
        kept: &mut Kept,
    ) {
        let (of_all, some): (Vec<_>, Vec<_>) =
            patterns.into_iter().partition(|(pattern, _)| self.facts.matches_all(pattern));
        let mut disjoint: Vec<(String, Value)> = Vec::new();
        for (pattern, schema) in some {
            let overlaps: Vec<usize> = (0..disjoint.len())
                .filter(|i| !self.facts.patterns_exclude(&disjoint[*i].0, &pattern))
                .collect();
            given_up |= !overlaps.is_empty();
            if overlaps.is_empty() {
                disjoint.push((pattern, schema));
                continue;
            }
            for i in overlaps {
                disjoint[i].1 = all(vec![disjoint[i].1.clone(), schema.clone()]);
            }
        }
        if given_up {
            kept.set("additionalProperties", Value::Bool(false));
        }
        if !of_all.is_empty() {
            // No property is additional then.
            let schema = all(of_all.into_iter().map(|(_, schema)| schema).collect());
            kept.and.push(json!({"additionalProperties": schema}));
            if !given_up {
                kept.fields.remove("additionalProperties");
            }
        }
        if !disjoint.is_empty() {
            kept.set("patternProperties", Value::Object(disjoint.into_iter().collect()));
        }
    }

    /// Counts above and below those of the required ones are made to say which others are there.
    fn property_counts(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let least = node.get("minProperties").and_then(as_count).unwrap_or(0);
        let most = node.get("maxProperties").and_then(as_count);
        let required = node.required();
        let named = kept.fields.get("properties").and_then(Value::as_object);
        let optional: Vec<String> = named
            .into_iter()
            .flatten()
            .filter(|(name, schema)| {
                !required.contains(&name.as_str()) && **schema != Value::Bool(false)
            })
            .map(|(name, _)| name.clone())
            .collect();
        let num_required = required.len() as u64;
        let missing = least.saturating_sub(num_required) as usize;
        if missing > 0 && !optional.is_empty() {
            if missing > optional.len() {
                return self.refuse("minProperties", " above the number of named properties");
            }
            let runs = optional.windows(missing).take(ONE_OF_PROPERTIES_MAX);
            kept.ways.push(runs.map(|run| json!({"required": run})).collect());
        } else if missing > 0 {
            // A name may come twice in an answer, which then has fewer properties than were counted.
            if missing > 1 {
                return self.refuse("minProperties", " where names are free, but for one more");
            }
            kept.set("minProperties", json!(least));
        }
        let Some(most) = most else {
            return Ok(());
        };
        if optional.is_empty() {
            kept.set("maxProperties", json!(most));
            return Ok(());
        }
        let Some(spare) = most.checked_sub(num_required) else {
            return self.refuse("maxProperties", " below the number of required properties");
        };
        let spare = (spare as usize).min(optional.len());
        let is_closed = kept.fields.get("additionalProperties") == Some(&Value::Bool(false))
            && !kept.fields.contains_key("patternProperties");
        if spare == optional.len() && is_closed {
            return Ok(());
        }
        let only = |run: &[String]| {
            let others = optional.iter().filter(|name| !run.contains(name));
            let closed: Fields = others.map(|name| (name.clone(), Value::Bool(false))).collect();
            let open = run.iter().map(|name| (name.clone(), Value::Bool(true)));
            let needed = required.iter().map(|name| (name.to_string(), Value::Bool(true)));
            let named: Fields = needed.chain(open).chain(closed).collect();
            json!({"properties": named, "additionalProperties": false})
        };
        let ways = match spare {
            0 => vec![only(&[])],
            _ => optional.windows(spare).take(ONE_OF_PROPERTIES_MAX).map(only).collect(),
        };
        kept.ways.push(ways);
        Ok(())
    }

    fn property_names(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let Some(schema) = node.get("propertyNames") else {
            return Ok(());
        };
        let names = node.inner(schema);
        if let Some(values) = self.facts.sure_values(&names) {
            let named: Fields = values
                .iter()
                .filter_map(Value::as_str)
                .map(|name| (name.to_string(), Value::Bool(true)))
                .collect();
            kept.and.push(json!({"properties": named, "additionalProperties": false}));
            return Ok(());
        }
        let pattern = match self.facts.as_pattern(&names) {
            Ok(None) => return Ok(()),
            Ok(Some(pattern)) => pattern,
            Err(why) => return self.refuse("propertyNames", &format!(": {why}")),
        };
        // Expressions that may match the same name cannot stand beside one another.
        if let Some(Value::Object(own)) = kept.fields.get_mut("patternProperties") {
            for (other, schema) in own.iter_mut() {
                if !self.facts.pattern_within(other, &pattern) {
                    *schema = Value::Bool(false);
                }
            }
            kept.set("additionalProperties", Value::Bool(false));
            if let Some(Value::Object(named)) = kept.fields.get_mut("properties") {
                for (name, schema) in named.iter_mut() {
                    if self.facts.pattern_matches(&pattern, name) != Some(true) {
                        *schema = Value::Bool(false);
                    }
                }
            }
            return Ok(());
        }
        kept.and.push(json!({"patternProperties": {pattern: true}, "additionalProperties": false}));
        Ok(())
    }

    /// A property is not there, or what it asks for is.
    fn dependencies(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
            let Some(Value::Object(named)) = node.get(keyword) else {
                continue;
            };
            for (name, asked) in named {
                let asked = match asked {
                    Value::Array(_) => json!({"required": asked}),
                    Value::String(_) => json!({"required": [asked]}),
                    schema => self.within(keyword, |walk| {
                        walk.within(name, |walk| walk.same(&node.inner(schema)))
                    })?,
                };
                if node.required().contains(&name.as_str()) {
                    kept.ways.push(vec![asked]);
                } else {
                    kept.ways.push(vec![asked, json!({"properties": {name: false}})]);
                }
            }
        }
        Ok(())
    }

    /// As if no property or item were looked at but by this schema itself and by what holds of it
    /// in any case.
    fn unevaluated(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        if let Some(schema) = node.get("unevaluatedProperties") {
            let written =
                self.within("unevaluatedProperties", |walk| walk.schema(&node.inner(schema)))?;
            let seen = self.facts.evaluated(node);
            if !seen.all_properties && written != Value::Bool(true) {
                let known = |names: &[String]| -> Fields {
                    names.iter().map(|name| (name.clone(), Value::Bool(true))).collect()
                };
                kept.and.push(json!({"properties": known(&seen.properties),
                    "patternProperties": known(&seen.patterns), "additionalProperties": written}));
            }
        }
        if let Some(schema) = node.get("unevaluatedItems") {
            let written =
                self.within("unevaluatedItems", |walk| walk.schema(&node.inner(schema)))?;
            let seen = self.facts.evaluated(node);
            if !seen.all_items && written != Value::Bool(true) {
                kept.and.push(json!({"prefixItems": vec![true; seen.num_items], "items": written}));
            }
        }
        Ok(())
    }

    // -- Schemas of the same value.

    fn references(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(reference) = node.get(keyword) else {
                continue;
            };
            if keyword == "$dynamicRef" && !self.is_static(reference.as_str().unwrap_or_default()) {
                return self.refuse(keyword, ": where it leads depends on what refers to it");
            }
            let Some(target) = node.target(keyword) else {
                let what = reference.as_str().unwrap_or("it");
                return self.refuse(keyword, &format!(": {what} is nothing within the schema"));
            };
            let key: *const Value = target.schema;
            if !self.is_joined || self.copying.contains(&key) {
                kept.and.push(Value::Object(
                    self.reference(target, reference.as_str().unwrap_or_default()),
                ));
                continue;
            }
            self.copying.push(key);
            let written = self.same(&target)?;
            self.copying.pop();
            kept.and.push(written);
        }
        Ok(())
    }

    /// Whether a dynamic reference can lead to one place only.
    fn is_static(&self, reference: &str) -> bool {
        let name = reference.split_once('#').map_or("", |(_, name)| name);
        let num_anchors = self.dynamic_anchors.iter().filter(|anchor| *anchor == name).count();
        name.is_empty() || name.starts_with('/') || num_anchors == 1
    }

    fn reference(&mut self, target: Node<'r>, reference: &str) -> Fields {
        let key: *const Value = target.schema;
        let before = self.names.len();
        let next = self.num_names;
        let name = self.names.entry(key).or_insert_with(|| format!("{next}")).clone();
        if self.names.len() > before {
            self.num_names += 1;
            let place = match reference.strip_prefix("#/") {
                Some(pointer) => pointer.split('/').map(str::to_string).collect(),
                None => vec![reference.to_string()],
            };
            self.wanted.push(Wanted { name: name.clone(), node: target, place });
        }
        Fields::from_iter([("$ref".to_string(), json!(format!("#/$defs/{name}")))])
    }

    fn all_and_any_of(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        if let Some(Value::Array(schemas)) = node.get("allOf") {
            let is_joined = self.is_joined;
            self.is_joined |= schemas.len() > 1;
            let written = self.list(node, "allOf", schemas)?;
            self.is_joined = is_joined;
            kept.and.extend(written);
        }
        if let Some(Value::Array(schemas)) = node.get("anyOf") {
            let written = self.list(node, "anyOf", schemas)?;
            kept.and.push(any(written));
        }
        Ok(())
    }

    /// Each branch, without what another one may allow as well.
    fn one_of(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let Some(Value::Array(schemas)) = node.get("oneOf") else {
            return Ok(());
        };
        let branches: Vec<Node<'r>> = schemas.iter().map(|schema| node.inner(schema)).collect();
        let mut written = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            let others: Vec<&Node<'r>> = branches
                .iter()
                .enumerate()
                .filter(|(other, node)| *other != index && !self.facts.exclude(branch, node))
                .map(|(_, node)| node)
                .collect();
            let is_joined = self.is_joined;
            self.is_joined |= !others.is_empty();
            let kept_branch = self.within("oneOf", |walk| {
                walk.within(&index.to_string(), |walk| walk.same(branch))
            })?;
            self.is_joined = is_joined;
            if let Some(values) = self.facts.values(branch).filter(|_| !others.is_empty()) {
                let own: Vec<Value> = values
                    .into_iter()
                    .filter(|value| {
                        others.iter().all(|other| self.facts.allows(other, value) == Some(false))
                    })
                    .collect();
                if !own.is_empty() {
                    written.push(all(vec![kept_branch, json!({"enum": own})]));
                    continue;
                }
            }
            let mut parts = vec![kept_branch];
            let each = (EXCLUSIONS_MAX as f64).powf(1.0 / others.len().max(1) as f64) as usize;
            for other in others {
                parts.push(any(self.exclusions_within(branch, other, each)));
            }
            written.push(all(parts));
        }
        let one = any(written);
        if one == Value::Bool(false) {
            return self.refuse("oneOf", ": nothing tells its branches apart");
        }
        kept.and.push(one);
        Ok(())
    }

    fn not(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let Some(schema) = node.get("not") else {
            return Ok(());
        };
        let ways = self.exclusions_within(node, &node.inner(schema), EXCLUSIONS_MAX);
        if ways.is_empty() {
            return self.refuse("not", " for this schema");
        }
        kept.ways.push(ways);
        Ok(())
    }

    /// `if` and `then`, or not `if` and `else`; where neither can be said, `then` and `else`.
    fn conditions(&mut self, node: &Node<'r>, kept: &mut Kept) -> Result<(), Refusal> {
        let Some(condition) = node.get("if") else {
            return Ok(());
        };
        self.is_joined = true; // until the schema is whole
        let mut branch = |keyword: &str| match node.get(keyword) {
            None => Ok(Value::Bool(true)),
            Some(schema) => self.within(keyword, |walk| walk.same(&node.inner(schema))),
        };
        let (then, otherwise) = (branch("then")?, branch("else")?);
        if then == Value::Bool(true) && otherwise == Value::Bool(true) {
            return Ok(());
        }
        let condition = node.inner(condition);
        let mut ways = Vec::new();
        if then != Value::Bool(false) {
            let holds = self.within("if", |walk| walk.same(&condition))?;
            ways.push(all(vec![holds, then.clone()]));
        }
        for exclusion in self.exclusions_within(node, &condition, EXCLUSIONS_MAX) {
            ways.push(all(vec![exclusion, otherwise.clone()]));
        }
        if ways.is_empty() {
            ways.push(all(vec![then, otherwise]));
        }
        ways.retain(|way| *way != Value::Bool(false));
        if ways.is_empty() {
            return self.refuse("if", " for this schema");
        }
        kept.ways.push(ways);
        Ok(())
    }
}

fn dynamic_anchors(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("$dynamicAnchor").and_then(Value::as_str).map(str::to_string);
            own.into_iter().chain(fields.values().flat_map(dynamic_anchors)).collect()
        }
        Value::Array(items) => items.iter().flat_map(dynamic_anchors).collect(),
        _ => vec![],
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_string).collect()
}

/// A path, without a scheme or a host's name.
const RELATIVE_REFERENCE: &str = "^([A-Za-z0-9._~!$&'()*+,;=@/-]|%[0-9A-Fa-f]{2})*\
    ([?]([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?\
    (#([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$";
