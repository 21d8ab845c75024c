//! A document in the data model of XPath 1.0 (section 5): a flat arena with a limit on work.
//!
//! The evaluator reads everything from the tree, so the tree counts the cost of an expression. The only way to stop an
//! evaluation is to unwind with [`Spent`].

use std::cell::Cell;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

use xpath_eval::{ExpandedName, Node, NodeKind};

/// Marker for "no node".
pub const NONE: u32 = u32::MAX;
/// Id of the document node.
pub const ROOT: u32 = 0;

/// Namespace of `xml:lang` and `xml:id`.
pub const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// Maximum number of nodes in a document.
const MOST_NODES: usize = 500_000;
/// Maximum nesting depth of elements.
const DEEPEST: u32 = 1000;
/// Maximum work of one expression; a unit is about one visited node.
const WORK: u64 = 10_000_000;
/// Maximum time of one expression.
const PATIENCE: Duration = Duration::from_secs(5);

/// Panic payload with which an evaluation unwinds when it exceeds its limits.
pub struct Spent;

/// A document tree.
pub struct Tree {
    items: Vec<Item>,
    /// Namespaces of prefixes, each as first declared in the document.
    pub prefixes: Vec<(String, String)>,
    /// Whether attributes named `id` are ids.
    is_html: bool,
    deepest: u32,
    left: Cell<u64>,
    until: Cell<Instant>,
}

struct Item {
    what: What,
    parent: u32,
    previous: u32,
    next: u32,
    first: u32,
    last: u32,
    depth: u32,
    /// Position in document order.
    order: u32,
}

/// Content of a node.
pub enum What {
    /// The document.
    Document,
    /// An element.
    Element {
        /// Name of the element.
        name: Name,
        /// Attributes without namespace declarations.
        attributes: Vec<(Name, String)>,
    },
    /// Text.
    Text(String),
    /// A comment.
    Comment(String),
    /// A processing instruction with its target and content.
    Instruction(String, String),
}

/// Name of an element or attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// Namespace URI. `None` for names without a namespace and for HTML elements.
    pub namespace: Option<String>,
    /// Whether the name was written with a prefix.
    pub has_prefix: bool,
    /// Local name without the prefix.
    pub local: String,
}

impl Name {
    /// Creates a name without a namespace.
    pub fn plain(local: impl Into<String>) -> Self {
        Self { namespace: None, has_prefix: false, local: local.into() }
    }
}

impl Tree {
    /// Creates an empty document.
    pub fn new(is_html: bool) -> Self {
        let mut tree = Self {
            items: Vec::new(),
            prefixes: Vec::new(),
            is_html,
            deepest: 0,
            left: Cell::new(WORK),
            until: Cell::new(Instant::now()),
        };
        tree.add(What::Document);
        tree
    }

    /// Adds a detached node.
    pub fn add(&mut self, what: What) -> u32 {
        let id = u32::try_from(self.items.len()).unwrap_or(NONE);
        let (parent, previous, next, first, last) = (NONE, NONE, NONE, NONE, NONE);
        self.items.push(Item { what, parent, previous, next, first, last, depth: 0, order: 0 });
        id
    }

    /// Returns a description of the limit that the document exceeds, if any.
    pub fn too_much(&self) -> Option<String> {
        if self.items.len() > MOST_NODES {
            return Some(format!("it has more than {MOST_NODES} nodes"));
        }
        (self.deepest > DEEPEST).then(|| format!("its elements are nested deeper than {DEEPEST} levels"))
    }

    fn item(&self, id: u32) -> &Item {
        &self.items[id as usize]
    }

    fn item_mut(&mut self, id: u32) -> &mut Item {
        &mut self.items[id as usize]
    }

    /// Returns the content of a node for modification.
    pub fn what_mut(&mut self, id: u32) -> &mut What {
        &mut self.item_mut(id).what
    }

    /// Returns the parent of a node, or `None` if the node is detached.
    pub fn parent(&self, id: u32) -> Option<u32> {
        Some(self.item(id).parent).filter(|parent| *parent != NONE)
    }

    /// Returns the last child of a node.
    pub fn last(&self, id: u32) -> Option<u32> {
        Some(self.item(id).last).filter(|last| *last != NONE)
    }

    /// Returns the previous sibling of a node.
    pub fn previous(&self, id: u32) -> Option<u32> {
        Some(self.item(id).previous).filter(|previous| *previous != NONE)
    }

    /// Inserts a detached node into `parent`, before the given child or at the end.
    pub fn insert(&mut self, parent: u32, id: u32, before: Option<u32>) {
        let next = before.unwrap_or(NONE);
        let previous = match before {
            Some(before) => self.item(before).previous,
            None => self.item(parent).last,
        };
        let depth = self.item(parent).depth + 1;
        self.deepest = self.deepest.max(depth);
        let item = self.item_mut(id);
        (item.parent, item.previous, item.next, item.depth) = (parent, previous, next, depth);
        match previous {
            NONE => self.item_mut(parent).first = id,
            previous => self.item_mut(previous).next = id,
        }
        match next {
            NONE => self.item_mut(parent).last = id,
            next => self.item_mut(next).previous = id,
        }
    }

    /// Detaches a node with all its descendants.
    pub fn remove(&mut self, id: u32) {
        let Item { parent, previous, next, .. } = *self.item(id);
        if parent == NONE {
            return;
        }
        match previous {
            NONE => self.item_mut(parent).first = next,
            previous => self.item_mut(previous).next = next,
        }
        match next {
            NONE => self.item_mut(parent).last = previous,
            next => self.item_mut(next).previous = previous,
        }
        let item = self.item_mut(id);
        (item.parent, item.previous, item.next) = (NONE, NONE, NONE);
    }

    /// Inserts text before the given child or at the end, and joins it with an adjacent text node.
    pub fn insert_text(&mut self, parent: u32, text: &str, before: Option<u32>) {
        let neighbour = match before {
            Some(before) => self.previous(before),
            None => self.last(parent),
        };
        if let Some(neighbour) = neighbour
            && let What::Text(there) = self.what_mut(neighbour)
        {
            there.push_str(text);
            return;
        }
        let id = self.add(What::Text(text.to_owned()));
        self.insert(parent, id, before);
    }

    /// Numbers the nodes of the complete document in document order.
    pub fn number(&mut self) {
        let (mut at, mut order) = (ROOT, 0);
        'down: loop {
            self.item_mut(at).order = order;
            order += 1;
            if self.item(at).first != NONE {
                at = self.item(at).first;
                continue;
            }
            loop {
                if self.item(at).next != NONE {
                    at = self.item(at).next;
                    continue 'down;
                }
                match self.parent(at) {
                    Some(parent) => at = parent,
                    None => return,
                }
            }
        }
    }

    /// Returns the document node for an evaluation and resets the limits on work and time.
    pub fn start(&self) -> Place<'_> {
        self.left.set(WORK);
        self.until.set(Instant::now() + PATIENCE);
        Place { tree: self, id: ROOT, attribute: None }
    }

    fn spend(&self, work: u64) {
        match self.left.get().checked_sub(work) {
            Some(left) => self.left.set(left),
            None => std::panic::resume_unwind(Box::new(Spent)),
        }
    }
}

/// A node of a tree, or an attribute of one.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    tree: &'a Tree,
    id: u32,
    /// Position of the attribute in its element. `None` for the node itself.
    attribute: Option<u32>,
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.attribute) == (other.id, other.attribute)
    }
}

impl Eq for Place<'_> {}

impl<'a> Place<'a> {
    fn what(self) -> &'a What {
        &self.tree.item(self.id).what
    }

    fn of_attribute(self) -> Option<&'a (Name, String)> {
        match (self.what(), self.attribute) {
            (What::Element { attributes, .. }, Some(at)) => attributes.get(at as usize),
            _ => None,
        }
    }

    fn name(self) -> Option<&'a Name> {
        match (self.what(), self.attribute) {
            (_, Some(_)) => self.of_attribute().map(|(name, _)| name),
            (What::Element { name, .. }, None) => Some(name),
            _ => None,
        }
    }
}

impl<'a> Node<'a> for Place<'a> {
    fn kind(self) -> NodeKind {
        match (self.what(), self.attribute) {
            (_, Some(_)) => NodeKind::Attribute,
            (What::Document, _) => NodeKind::Root,
            (What::Element { .. }, _) => NodeKind::Element,
            (What::Text(_), _) => NodeKind::Text,
            (What::Comment(_), _) => NodeKind::Comment,
            (What::Instruction(..), _) => NodeKind::ProcessingInstruction,
        }
    }

    fn parent(self) -> Option<Self> {
        self.tree.spend(1);
        match self.attribute {
            Some(_) => Some(Self { attribute: None, ..self }),
            None => self.tree.parent(self.id).map(|id| Self { id, ..self }),
        }
    }

    fn children(self) -> impl Iterator<Item = Self> + 'a {
        let first = if self.attribute.is_some() { NONE } else { self.tree.item(self.id).first };
        let real = |id: u32| (id != NONE).then_some(id);
        std::iter::successors(real(first), move |id| real(self.tree.item(*id).next)).map(move |id| {
            self.tree.spend(1);
            Self { id, ..self }
        })
    }

    fn attributes(self) -> impl Iterator<Item = Self> + 'a {
        let count = match (self.what(), self.attribute) {
            (What::Element { attributes, .. }, None) => u32::try_from(attributes.len()).unwrap_or(0),
            _ => 0,
        };
        self.tree.spend(1 + u64::from(count));
        (0..count).map(move |at| Self { attribute: Some(at), ..self })
    }

    fn namespaces(self) -> impl Iterator<Item = Self> + 'a {
        std::iter::empty()
    }

    fn expanded_name(self) -> Option<ExpandedName> {
        if let (What::Instruction(target, _), None) = (self.what(), self.attribute) {
            return Some(ExpandedName { namespace_uri: None, local_name: target.clone() });
        }
        let name = self.name()?;
        self.tree.spend(1 + name.local.len() as u64 / 16);
        Some(ExpandedName { namespace_uri: name.namespace.clone(), local_name: name.local.clone() })
    }

    /// Compares the expanded name. A name without a prefix also matches an element in the default namespace, because
    /// users expect names to match as they are written.
    fn has_expanded_name(self, namespace: Option<&str>, local: &str) -> bool {
        self.name().is_some_and(|name| {
            name.local == local
                && match namespace {
                    Some(_) => name.namespace.as_deref() == namespace,
                    None => !name.has_prefix,
                }
        })
    }

    fn string_value(self) -> String {
        if let Some((_, value)) = self.of_attribute() {
            self.tree.spend(1 + value.len() as u64 / 8);
            return value.clone();
        }
        match self.what() {
            What::Text(text) | What::Comment(text) | What::Instruction(_, text) => {
                self.tree.spend(1 + text.len() as u64 / 8);
                text.clone()
            }
            What::Document | What::Element { .. } => {
                let mut all = String::new();
                for inner in xpath_eval::descendant(self) {
                    if let What::Text(text) = inner.what() {
                        self.tree.spend(1 + text.len() as u64 / 8);
                        all.push_str(text);
                    }
                }
                all
            }
        }
    }

    /// Checks the time limit before each comparison. Comparing two node sets visits each pair, but the tree only counts
    /// one call per node of the first set.
    fn with_string_value<R>(self, f: impl FnOnce(&str) -> R) -> R {
        if Instant::now() > self.tree.until.get() {
            std::panic::resume_unwind(Box::new(Spent));
        }
        f(&self.string_value())
    }

    fn document_order(self, other: Self) -> Ordering {
        let key = |place: Self| (place.tree.item(place.id).order, place.attribute.map_or(0, |at| at + 1));
        key(self).cmp(&key(other))
    }

    fn is_id_attribute(self) -> bool {
        self.of_attribute().is_some_and(|(name, _)| {
            let is_plain = !name.has_prefix && self.tree.is_html;
            name.local == "id" && (is_plain || name.namespace.as_deref() == Some(XML_NAMESPACE))
        })
    }
}
