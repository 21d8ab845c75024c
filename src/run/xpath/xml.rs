//! XML with namespaces. Entities are not expanded except for the five predefined ones, so entity expansion attacks are
//! impossible.

use std::time::Instant;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{PrefixDeclaration, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

use super::tree::{Name, ROOT, Tree, What, XML_NAMESPACE};
use super::unread::Unread;
use crate::values::expect::cut;

/// Number of events that are read between two checks of the time.
const PIECE: usize = 512;
/// Maximum number of attributes of an element.
const MOST_ATTRIBUTES: usize = 1000;
const VERSION: XmlVersion = XmlVersion::Implicit1_0;

/// Parses a document.
pub fn read(text: &str, until: Instant) -> Result<Tree, Unread> {
    let mut reader = NsReader::from_str(text);
    let mut tree = Tree::new(false);
    let mut open = vec![ROOT];
    for count in 0_usize.. {
        if let Some(problem) = tree.too_much() {
            return Err(Unread::TooMuch(problem));
        }
        if count % PIECE == 0 && Instant::now() > until {
            return Err(Unread::TooMuch("reading it takes too long".to_owned()));
        }
        let at = *open.last().unwrap_or(&ROOT);
        let event = reader.read_event().map_err(|error| wrong(&error, reader.error_position()))?;
        match event {
            Event::Start(element) => {
                let what = start(&mut tree, &reader, &element)?;
                let id = tree.add(what);
                tree.insert(at, id, None);
                open.push(id);
            }
            Event::Empty(element) => {
                let what = start(&mut tree, &reader, &element)?;
                let id = tree.add(what);
                tree.insert(at, id, None);
            }
            Event::End(_) => drop(open.pop()),
            // There are line breaks between the declaration and the first element.
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if at == ROOT => {}
            Event::Text(text) => {
                let text = text.xml_content(VERSION).map_err(|error| wrong(&error, reader.buffer_position()))?;
                tree.insert_text(at, &text, None);
            }
            Event::CData(text) => {
                let text = text.xml_content(VERSION).map_err(|error| wrong(&error, reader.buffer_position()))?;
                tree.insert_text(at, &text, None);
            }
            Event::GeneralRef(reference) => {
                let place = reader.buffer_position();
                match reference.resolve_char_ref().map_err(|error| wrong(&error, place))? {
                    Some(c) => tree.insert_text(at, c.encode_utf8(&mut [0; 4]), None),
                    None => {
                        let name = reference.decode().map_err(|error| wrong(&error, place))?;
                        let known = resolve_predefined_entity(&name).ok_or_else(|| {
                            wrong(&format_args!("the entity `&{};` is not expanded", cut(&name, 40)), place)
                        })?;
                        tree.insert_text(at, known, None);
                    }
                }
            }
            Event::Comment(text) => {
                let text = text.decode().map_err(|error| wrong(&error, reader.buffer_position()))?;
                let id = tree.add(What::Comment(text.into_owned()));
                tree.insert(at, id, None);
            }
            Event::PI(instruction) => {
                let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (target, content) = (lossy(instruction.target()), lossy(instruction.content()));
                let id = tree.add(What::Instruction(target, content.trim_start().to_owned()));
                tree.insert(at, id, None);
            }
            Event::Decl(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
    }
    if open.len() > 1 {
        return Err(Unread::Wrong("it ends before its last element does".to_owned()));
    }
    if tree.last(ROOT).is_none() {
        return Err(Unread::Wrong("there is no element in it".to_owned()));
    }
    tree.number();
    Ok(tree)
}

fn wrong(error: &dyn std::fmt::Display, position: u64) -> Unread {
    Unread::Wrong(format!("{}, at byte {position}", cut(&error.to_string(), 120)))
}

/// Creates an element with its attributes and collects the prefixes that it declares.
fn start(tree: &mut Tree, reader: &NsReader<&[u8]>, element: &BytesStart<'_>) -> Result<What, Unread> {
    let position = reader.buffer_position();
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = |(resolved, local): (ResolveResult<'_>, quick_xml::name::LocalName<'_>), has_prefix: bool| Name {
        namespace: match resolved {
            ResolveResult::Bound(namespace) => Some(lossy(namespace.as_ref())),
            ResolveResult::Unbound | ResolveResult::Unknown(_) => None,
        },
        has_prefix,
        local: lossy(local.as_ref()),
    };
    let mut attributes = Vec::new();
    // The check for duplicate names compares each attribute with all others, which is expensive in a hostile document.
    for attribute in element.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| wrong(&error, position))?;
        if attributes.len() == MOST_ATTRIBUTES {
            return Err(Unread::TooMuch(format!("an element has more than {MOST_ATTRIBUTES} attributes")));
        }
        let value = attribute.normalized_value(VERSION).map_err(|error| wrong(&error, position))?;
        match attribute.key.as_namespace_binding() {
            Some(PrefixDeclaration::Default) => {}
            Some(PrefixDeclaration::Named(prefix)) => {
                let prefix = lossy(prefix);
                let is_known = tree.prefixes.iter().any(|(known, _)| *known == prefix);
                if !is_known && tree.prefixes.len() < MOST_ATTRIBUTES {
                    tree.prefixes.push((prefix, value.into_owned()));
                }
            }
            None => {
                let resolved = reader.resolver().resolve_attribute(attribute.key);
                attributes.push((name(resolved, attribute.key.prefix().is_some()), value.into_owned()));
            }
        }
    }
    let resolved = reader.resolver().resolve_element(element.name());
    Ok(What::Element { name: name(resolved, element.name().prefix().is_some()), attributes })
}

/// Returns the prefix that every document declares implicitly.
pub fn own_prefix() -> (String, String) {
    ("xml".to_owned(), XML_NAMESPACE.to_owned())
}
