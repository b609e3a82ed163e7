//! Schemas of values that another schema surely does not allow: of each keyword, those that it
//! forbids, where that can be said.

use crate::schema_facts::{all, any, as_count, type_of, Node, TYPES};
use crate::schema_pattern::{self as pattern, Pattern};
use crate::schema_rewrite::Rewriter;
use serde_json::{json, Value};

/// Of schemas within the excluded one.
const DEPTH_MAX: u32 = 6;

/// Ways of excluding one schema within another.
const INNER_MAX: usize = 4;

impl<'r> Rewriter<'r> {
    /// Of values of `base` alone: ways that it excludes itself are left out.
    pub fn exclusions_within(
        &mut self,
        base: &Node<'r>,
        node: &Node<'r>,
        most: usize,
    ) -> Vec<Value> {
        let mut ways = self.exclusions(node);
        ways.extend(self.other_properties(base, node));
        ways.retain(|way| Node::written(way).is_none_or(|way| !self.facts.exclude(&way, base)));
        ways.truncate(most);
        ways
    }

    /// Properties of `base` that `node` does not know, where it knows all.
    fn other_properties(&mut self, base: &Node<'r>, node: &Node<'r>) -> Vec<Value> {
        let known: Vec<String> = self.facts.evaluated(base).properties;
        let mut ways = Vec::new();
        for part in self.facts.parts(node) {
            let is_closed = part.bound("additionalProperties") == Some(&Value::Bool(false));
            if is_closed && part.get("patternProperties").is_none() {
                let own = part.bound("properties");
                let others =
                    known.iter().filter(|name| own.and_then(|own| own.get(*name)).is_none());
                ways.extend(others.map(|name| json!({"type": "object", "required": [name]})));
            }
        }
        ways
    }

    /// Every value of each fails `node`.
    pub fn exclusions(&mut self, node: &Node<'r>) -> Vec<Value> {
        if self.exclusion_depth >= DEPTH_MAX || self.facts.write_one().is_err() {
            return vec![];
        }
        self.exclusion_depth += 1;
        let mut ways = Vec::new();
        match node.schema {
            Value::Bool(false) => ways.push(Value::Bool(true)),
            Value::Object(_) => {
                self.of_types(node, &mut ways);
                self.of_required(node, &mut ways);
                self.of_constants(node, &mut ways);
                self.of_properties(node, &mut ways);
                self.of_counts(node, &mut ways);
                self.of_pattern(node, &mut ways);
                self.of_items(node, &mut ways);
                self.of_applicators(node, &mut ways);
            }
            _ => {}
        }
        self.exclusion_depth -= 1;
        ways.retain(|way| *way != Value::Bool(false));
        ways
    }

    fn inner(&mut self, node: &Node<'r>) -> Value {
        let mut ways = self.exclusions(node);
        ways.truncate(INNER_MAX);
        any(ways)
    }

    fn of_types(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        let named: Vec<&str> = match node.bound("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        // Numbers that are no integers cannot be said.
        let is_named =
            |name: &str| named.contains(&name) || (name == "number" && named.contains(&"integer"));
        let others: Vec<&str> = TYPES.into_iter().filter(|name| !is_named(name)).collect();
        if !others.is_empty() {
            ways.push(json!({ "type": others }));
        }
    }

    fn of_constants(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        let values: &[Value] = match (node.bound("const"), node.bound("enum")) {
            (Some(value), _) => std::slice::from_ref(value),
            (None, Some(Value::Array(values))) => values,
            _ => return,
        };
        let others = TYPES.into_iter().filter(|name| values.iter().all(|v| type_of(v) != *name));
        let others: Vec<&str> = others.collect();
        if !others.is_empty() {
            ways.push(json!({ "type": others }));
        }
        let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        if let Some(pattern) = pattern::none_of(&texts).filter(|_| !texts.is_empty()) {
            ways.push(json!({"type": "string", "pattern": pattern}));
        }
        let flags: Vec<bool> = values.iter().filter_map(Value::as_bool).collect();
        if let [flag] = flags.as_slice() {
            ways.push(json!({ "const": !flag }));
        }
        let mut numbers: Vec<&Value> = values.iter().filter(|value| value.is_number()).collect();
        numbers.sort_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
        if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
            ways.push(json!({"type": "number", "exclusiveMaximum": first}));
            ways.push(json!({"type": "number", "exclusiveMinimum": last}));
        }
    }

    fn of_counts(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        for (keyword, other, kind) in [
            ("minLength", "maxLength", "string"),
            ("minItems", "maxItems", "array"),
            ("minProperties", "maxProperties", "object"),
        ] {
            let bound = node.bound(keyword).and_then(as_count);
            if let Some(below) = bound.and_then(|bound| bound.checked_sub(1)) {
                ways.push(json!({"type": kind, other: below}));
            }
            if let Some(bound) = node.bound(other).and_then(as_count).filter(|_| kind != "object") {
                ways.push(json!({"type": kind, keyword: bound + 1}));
            }
        }
        for (keyword, exclusive, opposite, exclusive_opposite) in [
            ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
            ("maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
        ] {
            if let Some(bound) = node.bound(keyword) {
                ways.push(json!({"type": "number", exclusive_opposite: bound}));
            }
            if let Some(bound) = node.bound(exclusive).filter(|bound| bound.is_number()) {
                ways.push(json!({"type": "number", opposite: bound}));
            }
        }
    }

    fn of_pattern(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        let pattern = node.bound("pattern").and_then(Value::as_str);
        let Some(others) = pattern.and_then(Pattern::at_most).and_then(|p| pattern::complement(&p))
        else {
            return;
        };
        let mut parts = vec![json!({"type": "string"})];
        parts.extend(others.into_iter().map(|other| json!({ "pattern": other })));
        ways.push(all(parts));
    }

    fn of_items(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        if let (None, Some((_, schema))) = node.item_keywords() {
            if node.bound("items").is_some() {
                let first = self.inner(&node.inner(schema));
                if first != Value::Bool(false) {
                    ways.push(json!({"type": "array", "prefixItems": [first], "minItems": 1}));
                }
            }
        }
        if let Some(schema) = node.bound("contains") {
            if node.get("minContains").is_none() {
                let items = self.inner(&node.inner(schema));
                ways.push(json!({"type": "array", "items": items}));
            }
        }
    }

    fn of_required(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        if node.bound("required").is_some() {
            for name in node.required() {
                ways.push(json!({"type": "object", "properties": {name: false}}));
            }
        }
        for keyword in ["dependentRequired", "dependencies"] {
            for (name, asked) in node.fields(keyword) {
                for other in asked.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    ways.push(json!({"type": "object", "required": [name],
                                     "properties": {other: false}}));
                }
            }
        }
    }

    fn of_properties(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        for (name, schema) in node.fields("properties") {
            let other = self.inner(&node.inner(schema));
            if other != Value::Bool(false) {
                ways.push(json!({"type": "object", "required": [name],
                                 "properties": {name: other}}));
            }
        }
    }

    fn of_applicators(&mut self, node: &Node<'r>, ways: &mut Vec<Value>) {
        if let Some(target) = node.target("$ref") {
            ways.extend(self.exclusions(&target));
        }
        for schema in node.list("allOf") {
            ways.extend(self.exclusions(&node.inner(schema)));
        }
        for keyword in ["anyOf", "oneOf"] {
            let branches = node.list(keyword);
            if branches.is_empty() {
                continue;
            }
            let each = branches.iter().map(|branch| self.exclusions(&node.inner(branch)));
            let each: Vec<Vec<Value>> = each.collect();
            ways.extend(self.multiply(&[], each).into_iter().map(all));
        }
        if let Some(schema) = node.bound("not") {
            ways.extend(self.attempt(&node.inner(schema)));
        }
        if let Some(condition) = node.bound("if") {
            let condition = node.inner(condition);
            if let Some(schema) = node.bound("then") {
                let then = self.inner(&node.inner(schema));
                if then != Value::Bool(false) {
                    ways.extend(self.attempt(&condition).map(|holds| all(vec![holds, then])));
                }
            }
            if let Some(schema) = node.bound("else") {
                let otherwise = self.inner(&node.inner(schema));
                ways.push(all(vec![self.inner(&condition), otherwise]));
            }
        }
    }
}
