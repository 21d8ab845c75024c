//! XPath 1.0 expressions, which are parsed and checked when a file is loaded, so that their evaluation cannot fail
//! later.

use std::fmt;
use std::sync::Arc;

use xpath_eval::{
    Axis, Expr, FilterExpr, FunctionCall, LocationPath, PathExpr, PrimaryExpr, parse as parse_expression,
};

use super::reader::{Reader, cut};
use crate::diagnostic::{Span, nearest};

/// Maximum length of an expression, in bytes.
const LONGEST: usize = 1000;
/// Maximum nesting of an expression, which determines the recursion depth of parsing and evaluation.
const DEEPEST: usize = 50;

/// Functions of XPath 1.0 (section 4), with the minimum and maximum number of arguments and the result type.
const FUNCTIONS: [(&str, usize, usize, XPathResultType); 27] = [
    ("last", 0, 0, XPathResultType::Number),
    ("position", 0, 0, XPathResultType::Number),
    ("count", 1, 1, XPathResultType::Number),
    ("id", 1, 1, XPathResultType::Nodes),
    ("local-name", 0, 1, XPathResultType::Text),
    ("namespace-uri", 0, 1, XPathResultType::Text),
    ("name", 0, 1, XPathResultType::Text),
    ("string", 0, 1, XPathResultType::Text),
    ("concat", 2, usize::MAX, XPathResultType::Text),
    ("starts-with", 2, 2, XPathResultType::Boolean),
    ("contains", 2, 2, XPathResultType::Boolean),
    ("substring-before", 2, 2, XPathResultType::Text),
    ("substring-after", 2, 2, XPathResultType::Text),
    ("substring", 2, 3, XPathResultType::Text),
    ("string-length", 0, 1, XPathResultType::Number),
    ("normalize-space", 0, 1, XPathResultType::Text),
    ("translate", 3, 3, XPathResultType::Text),
    ("boolean", 1, 1, XPathResultType::Boolean),
    ("not", 1, 1, XPathResultType::Boolean),
    ("true", 0, 0, XPathResultType::Boolean),
    ("false", 0, 0, XPathResultType::Boolean),
    ("lang", 1, 1, XPathResultType::Boolean),
    ("number", 0, 1, XPathResultType::Number),
    ("sum", 1, 1, XPathResultType::Number),
    ("floor", 1, 1, XPathResultType::Number),
    ("ceiling", 1, 1, XPathResultType::Number),
    ("round", 1, 1, XPathResultType::Number),
];

/// Result type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XPathResultType {
    /// Nodes, each represented by its text.
    Nodes,
    /// Text.
    Text,
    /// Number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// XPath expression.
#[derive(Clone)]
pub struct XPath {
    text: String,
    expression: Arc<Expr>,
    gives: XPathResultType,
}

impl PartialEq for XPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for XPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XPath({:?})", self.text)
    }
}

impl XPath {
    /// Parses an expression. The error describes the problem.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        if nesting(text) > DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST} levels"));
        }
        let expression = parse_expression(text).map_err(|error| {
            let before = text.get(..error.position).map_or(0, |before| before.chars().count());
            format!("wrong from character {} on: {}", before + 1, error.message)
        })?;
        let gives = look(&expression, DEEPEST)?;
        Ok(Self { text: text.to_owned(), expression: Arc::new(expression), gives })
    }

    /// Returns the text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the parsed expression.
    pub fn expression(&self) -> &Expr {
        &self.expression
    }

    /// Returns the result type of the expression.
    pub fn gives(&self) -> XPathResultType {
        self.gives
    }
}

/// Reads an expression with the span `span`.
pub fn read(r: &mut Reader, text: &str, span: Span) -> Option<XPath> {
    if text.contains("${") {
        r.fail(span, "`${…}` in an XPath is not supported yet");
        return None;
    }
    match XPath::parse(text) {
        Ok(path) => Some(path),
        Err(problem) => {
            r.fail(span, format!("`{}` is not an XPath 1.0 expression: {problem}", cut(text)));
            None
        }
    }
}

/// Returns the nesting depth of brackets, including those in string literals.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Checks an expression for errors that would otherwise occur during evaluation, and returns its result type.
fn look(expression: &Expr, depth: usize) -> Result<XPathResultType, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("it has more than {DEEPEST} parts in a row or within each other"));
    };
    let both = |a: &Expr, b: &Expr| look(a, depth).and_then(|_| look(b, depth));
    Ok(match expression {
        Expr::Or(a, b) | Expr::And(a, b) | Expr::Equality(a, _, b) | Expr::Relational(a, _, b) => {
            both(a, b)?;
            XPathResultType::Boolean
        }
        Expr::Additive(a, _, b) => both(a, b).map(|_| XPathResultType::Number)?,
        Expr::Multiplicative(a, _, b) => both(a, b).map(|_| XPathResultType::Number)?,
        Expr::Negate(a) => look(a, depth).map(|_| XPathResultType::Number)?,
        Expr::Union(a, b) => {
            if (look(a, depth)?, look(b, depth)?) != (XPathResultType::Nodes, XPathResultType::Nodes) {
                return Err("`|` joins nodes, but one side is not a node set".to_owned());
            }
            XPathResultType::Nodes
        }
        Expr::Path(PathExpr::Location(path)) => location(path, depth)?,
        Expr::Path(PathExpr::Filter(filter)) => self::filter(filter, depth)?,
        Expr::Path(PathExpr::FilterLocation(first, path)) => {
            if filter(first, depth)? != XPathResultType::Nodes {
                return Err("the expression before `/` is not a node set".to_owned());
            }
            location(path, depth)?
        }
    })
}

fn location(path: &LocationPath, depth: usize) -> Result<XPathResultType, String> {
    for step in &path.steps {
        if step.axis == Axis::Namespace {
            return Err("the axis `namespace` is not supported".to_owned());
        }
        step.predicates.iter().try_for_each(|predicate| look(predicate, depth).map(drop))?;
    }
    Ok(XPathResultType::Nodes)
}

fn filter(filter: &FilterExpr, depth: usize) -> Result<XPathResultType, String> {
    let gives = match &filter.primary {
        PrimaryExpr::Variable(name) => return Err(format!("unknown variable `${}`", name.local)),
        PrimaryExpr::Parenthesized(inner) => look(inner, depth)?,
        PrimaryExpr::Literal(_) => XPathResultType::Text,
        PrimaryExpr::Number(_) => XPathResultType::Number,
        PrimaryExpr::Function(call) => function(call, depth)?,
    };
    if !filter.predicates.is_empty() && gives != XPathResultType::Nodes {
        return Err("the expression before `[` is not a node set".to_owned());
    }
    filter.predicates.iter().try_for_each(|predicate| look(predicate, depth).map(drop))?;
    Ok(gives)
}

fn function(call: &FunctionCall, depth: usize) -> Result<XPathResultType, String> {
    let name = match &call.name.prefix {
        Some(prefix) => format!("{prefix}:{}", call.name.local),
        None => call.name.local.clone(),
    };
    let Some((_, least, most, gives)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
        let near = nearest(&name, FUNCTIONS.iter().map(|(known, ..)| *known));
        let near = near.map(|near| format!(", did you mean `{near}()`?")).unwrap_or_default();
        return Err(format!("unknown function `{name}()`{near}"));
    };
    let given = call.args.len();
    if !(*least..=*most).contains(&given) {
        let wanted = if least == most { least.to_string() } else { format!("{least} or more") };
        let noun = if wanted == "1" { "argument" } else { "arguments" };
        return Err(format!("`{name}()` takes {wanted} {noun}, not {given}"));
    }
    for argument in &call.args {
        let found = look(argument, depth)?;
        let is_of_nodes = matches!(name.as_str(), "count" | "sum" | "local-name" | "namespace-uri" | "name");
        if is_of_nodes && found != XPathResultType::Nodes {
            return Err(format!("`{name}()` needs a node set as its argument"));
        }
    }
    Ok(*gives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_looked_through() {
        let check = |text: &str, expected: Result<XPathResultType, &str>| {
            let found = XPath::parse(text).map(|path| path.gives());
            assert_eq!(found, expected.map_err(ToOwned::to_owned), "{text}");
        };
        check("//h1", Ok(XPathResultType::Nodes));
        check("/html/head/meta[@name = 'robots']/@content", Ok(XPathResultType::Nodes));
        check("(//a)[last()]", Ok(XPathResultType::Nodes));
        check("id('x')/p | //q", Ok(XPathResultType::Nodes));
        check("count(//li)", Ok(XPathResultType::Number));
        check("-1 + 2 * 3", Ok(XPathResultType::Number));
        check("normalize-space(//h1)", Ok(XPathResultType::Text));
        check("'a'", Ok(XPathResultType::Text));
        check("//a and not(//b)", Ok(XPathResultType::Boolean));
        check("//soap:Body/*", Ok(XPathResultType::Nodes));
        check("//a[", Err("wrong from character 5 on: unexpected end of input, expected an expression"));
        check("", Err("wrong from character 1 on: empty expression"));
        check("cuont(//li)", Err("unknown function `cuont()`, did you mean `count()`?"));
        check("//a[matches(., 'x')]", Err("unknown function `matches()`"));
        check("count()", Err("`count()` takes 1 argument, not 0"));
        check("count('a')", Err("`count()` needs a node set as its argument"));
        check("concat('a')", Err("`concat()` takes 2 or more arguments, not 1"));
        check("$x", Err("unknown variable `$x`"));
        check("namespace::*", Err("the axis `namespace` is not supported"));
        check("'a' | //b", Err("`|` joins nodes, but one side is not a node set"));
        check("string(//a)[1]", Err("the expression before `[` is not a node set"));
        check("true()/a", Err("the expression before `/` is not a node set"));
    }

    #[test]
    fn no_expression_is_too_deep_to_be_looked_through() {
        for text in [
            "(".repeat(900),
            format!("{}1{}", "(".repeat(60), ")".repeat(60)),
            format!("//a{}", "[b".repeat(300)),
            format!("1{}", "+1".repeat(400)),
            format!("{}1", "-".repeat(900)),
            format!("a{}", "|a".repeat(450)),
            "a".repeat(1001),
        ] {
            assert!(XPath::parse(&text).is_err(), "{text}");
        }
        assert!(XPath::parse(&format!("1{}", "+1".repeat(40))).is_ok());
        assert!(XPath::parse(&"/a".repeat(400)).is_ok());
    }
}
