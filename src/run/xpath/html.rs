//! HTML parsed as in browsers (the HTML standard, section 13.2), without running scripts, so the content of `noscript`
//! is included.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use html5ever::interface::{ElemName, ElementFlags, NodeOrText, QuirksMode};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::tree_builder::{TreeBuilderOpts, TreeSink};
use html5ever::{Attribute, LocalName, Namespace, ParseOpts, QualName, local_name, ns, parse_document};

use super::tree::{Name, ROOT, Tree, What};

/// Number of bytes that are parsed between two checks of the time and the size of the tree.
const PIECE: usize = 4 << 10;

/// Parses a document. The error describes the exceeded limit.
pub fn read(text: &str, until: Instant) -> Result<Tree, String> {
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let mut parser = parse_document(Sink::new(), ParseOpts { tree_builder, ..ParseOpts::default() });
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (piece, left) = rest.split_at(end);
        parser.process(StrTendril::from(piece));
        rest = left;
        let sink = &parser.tokenizer.sink.sink;
        if let Some(problem) = sink.state.borrow().tree.too_much() {
            return Err(problem);
        }
        if Instant::now() > until {
            return Err("reading it takes too long".to_owned());
        }
    }
    let mut tree = parser.finish();
    tree.number();
    Ok(tree)
}

/// Builds the tree from the events of the parser.
struct Sink {
    state: RefCell<State>,
}

struct State {
    tree: Tree,
    /// Names of elements, for the parser.
    names: HashMap<u32, QualName>,
    /// Contents of templates, which are not part of the document.
    templates: HashMap<u32, u32>,
}

impl Sink {
    fn new() -> Self {
        let state = State { tree: Tree::new(true), names: HashMap::new(), templates: HashMap::new() };
        Self { state: RefCell::new(state) }
    }
}

/// Name of an element in the form that the parser requires.
#[derive(Debug)]
struct Named(QualName);

impl ElemName for Named {
    fn ns(&self) -> &Namespace {
        &self.0.ns
    }

    fn local_name(&self) -> &LocalName {
        &self.0.local
    }
}

fn attributes(attributes: Vec<Attribute>) -> impl Iterator<Item = (Name, String)> {
    attributes.into_iter().map(|attribute| {
        // `xlink:href` within SVG is written with its prefix.
        let local = match &attribute.name.prefix {
            Some(prefix) => format!("{prefix}:{}", &*attribute.name.local),
            None => attribute.name.local.to_string(),
        };
        (Name::plain(local), attribute.value.to_string())
    })
}

impl State {
    fn place(&mut self, parent: u32, child: NodeOrText<u32>, before: Option<u32>) {
        match child {
            NodeOrText::AppendText(text) => self.tree.insert_text(parent, &text, before),
            NodeOrText::AppendNode(id) => {
                self.tree.remove(id);
                self.tree.insert(parent, id, before);
            }
        }
    }
}

impl TreeSink for Sink {
    type Handle = u32;
    type Output = Tree;
    type ElemName<'a> = Named;

    fn finish(self) -> Tree {
        self.state.into_inner().tree
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> u32 {
        ROOT
    }

    fn elem_name<'a>(&'a self, target: &'a u32) -> Named {
        let state = self.state.borrow();
        Named(state.names.get(target).cloned().expect("the parser asks for names of elements only"))
    }

    fn create_element(&self, name: QualName, found: Vec<Attribute>, _: ElementFlags) -> u32 {
        let mut state = self.state.borrow_mut();
        let attributes = attributes(found).collect();
        let id = state.tree.add(What::Element { name: Name::plain(&*name.local), attributes });
        if name.ns == ns!(html) && name.local == local_name!("template") {
            let contents = state.tree.add(What::Document);
            state.templates.insert(id, contents);
        }
        state.names.insert(id, name);
        id
    }

    fn create_comment(&self, text: StrTendril) -> u32 {
        self.state.borrow_mut().tree.add(What::Comment(text.to_string()))
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> u32 {
        self.state.borrow_mut().tree.add(What::Instruction(target.to_string(), data.to_string()))
    }

    fn append(&self, parent: &u32, child: NodeOrText<u32>) {
        self.state.borrow_mut().place(*parent, child, None);
    }

    fn append_based_on_parent_node(&self, element: &u32, previous: &u32, child: NodeOrText<u32>) {
        let parent = self.state.borrow().tree.parent(*element);
        match parent {
            Some(_) => self.append_before_sibling(element, child),
            None => self.append(previous, child),
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &u32) -> u32 {
        let state = self.state.borrow();
        *state.templates.get(target).expect("the parser asks for contents of templates only")
    }

    fn same_node(&self, x: &u32, y: &u32) -> bool {
        x == y
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &u32, child: NodeOrText<u32>) {
        let mut state = self.state.borrow_mut();
        // The node is removed first, because it may be the previous sibling itself.
        if let NodeOrText::AppendNode(id) = &child {
            state.tree.remove(*id);
        }
        if let Some(parent) = state.tree.parent(*sibling) {
            state.place(parent, child, Some(*sibling));
        }
    }

    fn add_attrs_if_missing(&self, target: &u32, found: Vec<Attribute>) {
        let mut state = self.state.borrow_mut();
        if let What::Element { attributes: there, .. } = state.tree.what_mut(*target) {
            for (name, value) in attributes(found) {
                if !there.iter().any(|(known, _)| *known == name) {
                    there.push((name, value));
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &u32) {
        self.state.borrow_mut().tree.remove(*target);
    }

    fn reparent_children(&self, node: &u32, new_parent: &u32) {
        let mut state = self.state.borrow_mut();
        let mut moved = Vec::new();
        while let Some(last) = state.tree.last(*node) {
            state.tree.remove(last);
            moved.push(last);
        }
        for id in moved.into_iter().rev() {
            state.tree.insert(*new_parent, id, None);
        }
    }
}
