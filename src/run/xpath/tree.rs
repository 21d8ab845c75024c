//! A document as XPath sees it (XPath 1.0, section 5): a flat arena, and a budget of work.
//!
//! The evaluator asks the tree for everything, so it is the tree that counts what an expression costs. There is no other
//! way to stop it than to unwind, with [`Spent`].

use std::cell::Cell;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

use xpath_eval::{ExpandedName, Node, NodeKind};

/// No node.
pub const NONE: u32 = u32::MAX;
/// The document itself.
pub const ROOT: u32 = 0;

/// The most nodes that a document may have.
const MOST_NODES: usize = 500_000;
/// The deepest that elements may stand in each other.
const DEEPEST: u32 = 1000;
/// The work that one expression may cost: a unit is about one node looked at.
const WORK: u64 = 10_000_000;
/// The time that one expression may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an evaluation unwinds with when it has cost too much.
pub struct Spent;

/// A document.
pub struct Tree {
    items: Vec<Item>,
    /// Prefixes of namespaces, as the document declares them first.
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

/// What a node is.
pub enum What {
    /// The document.
    Document,
    /// An element.
    Element {
        /// Its name.
        name: Name,
        /// Its attributes, without declarations of namespaces.
        attributes: Vec<(Name, String)>,
    },
    /// Text.
    Text(String),
    /// A comment.
    Comment(String),
    /// A processing instruction: its target and its content.
    Instruction(String, String),
}

/// The name of an element or an attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// The namespace; none also for elements of HTML.
    pub namespace: Option<String>,
    /// Whether it was written with a prefix.
    pub has_prefix: bool,
    /// The name without its prefix.
    pub local: String,
}

impl Name {
    /// A name in no namespace.
    pub fn plain(local: impl Into<String>) -> Self {
        Self { namespace: None, has_prefix: false, local: local.into() }
    }
}

impl Tree {
    /// A document with nothing in it.
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

    /// A new node that stands nowhere yet.
    pub fn add(&mut self, what: What) -> u32 {
        let id = u32::try_from(self.items.len()).unwrap_or(NONE);
        let (parent, previous, next, first, last) = (NONE, NONE, NONE, NONE, NONE);
        self.items.push(Item { what, parent, previous, next, first, last, depth: 0, order: 0 });
        id
    }

    /// What is too much about it, if anything is.
    pub fn too_much(&self) -> Option<String> {
        if self.items.len() > MOST_NODES {
            return Some(format!("it has more than {MOST_NODES} nodes"));
        }
        (self.deepest > DEEPEST).then(|| format!("its elements stand in each other deeper than {DEEPEST} levels"))
    }

    fn item(&self, id: u32) -> &Item {
        &self.items[id as usize]
    }

    fn item_mut(&mut self, id: u32) -> &mut Item {
        &mut self.items[id as usize]
    }

    /// What a node is.
    pub fn what_mut(&mut self, id: u32) -> &mut What {
        &mut self.item_mut(id).what
    }

    /// Where a node stands; none: nowhere.
    pub fn parent(&self, id: u32) -> Option<u32> {
        Some(self.item(id).parent).filter(|parent| *parent != NONE)
    }

    /// The last node within another.
    pub fn last(&self, id: u32) -> Option<u32> {
        Some(self.item(id).last).filter(|last| *last != NONE)
    }

    /// The node before another.
    pub fn previous(&self, id: u32) -> Option<u32> {
        Some(self.item(id).previous).filter(|previous| *previous != NONE)
    }

    /// Puts a node that stands nowhere into another, before one that is there or at the end.
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

    /// Takes a node, with all that is in it, from where it stands.
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

    /// Puts a text at the end of a node, or before another in it; joined with a text that stands there.
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

    /// Numbers the nodes in the order of the document, which is then complete.
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

    /// The document, to be asked about; what it is asked costs from now on.
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
    /// Which attribute of it.
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

    /// A name without a prefix is also that of an element in the default namespace: what is written the same is meant.
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

    /// Two sets of nodes are compared each with each, of which the tree only hears once for each of the first set: the
    /// rest is bounded by the clock.
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
            name.local == "id" && (is_plain || name.namespace.as_deref() == Some(super::XML_NAMESPACE))
        })
    }
}
