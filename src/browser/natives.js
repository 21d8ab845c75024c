// Runs before the other scripts, in the isolated world: accessors for DOM nodes that work whatever the page calls its
// form fields. In every world, `form.matches` returns a field of that name before the form's own property, and the same
// applies to a document and its images. Therefore nodes that may be a form or document are only accessed with the
// functions in this file, which use the browser's own accessors.

const own = (type, key) => Object.getOwnPropertyDescriptor(type.prototype, key);
const asked = (type, key) => { const {get} = own(type, key); return node => get.call(node); };
const called = (type, key) => { const {value} = own(type, key); return (node, ...given) => value.apply(node, given); };
const of = (type, key) => { const {value} = own(type, key); return (node, one) => value.call(node, one); };

const typeOf = asked(Node, 'nodeType'), parent = asked(Node, 'parentElement'), textOf = asked(Node, 'textContent');
const nodesIn = asked(Node, 'childNodes'), isConnected = asked(Node, 'isConnected');
const rootOf = of(Node, 'getRootNode'), holds = of(Node, 'contains');
const tag = asked(Element, 'localName'), spaceOf = asked(Element, 'namespaceURI'), shadowOf = asked(Element, 'shadowRoot');
const slotOf = asked(Element, 'assignedSlot'), childrenIn = asked(Element, 'children'), firstIn = asked(Element, 'firstElementChild');
const attr = of(Element, 'getAttribute'), has = of(Element, 'hasAttribute'), is = of(Element, 'matches'), closest = of(Element, 'closest');
const canBeSeen = of(Element, 'checkVisibility'), boxOf = of(Element, 'getBoundingClientRect'), rectsOf = of(Element, 'getClientRects');
const hostOf = root => typeOf(root) === 11 && root.host || null;
const HTML = 'http://www.w3.org/1999/xhtml';
const isForm = node => typeOf(node) === 1 && tag(node) === 'form' && spaceOf(node) === HTML;

// Returns a property of a node. For a form or document, uses the accessor of its prototype.
function get(node, key) {
  if (typeOf(node) !== 9 && !isForm(node)) return node[key];
  for (let kind = (isForm(node) ? HTMLFormElement : Document).prototype; kind; kind = Object.getPrototypeOf(kind)) {
    const found = Object.getOwnPropertyDescriptor(kind, key);
    if (found) return found.get ? found.get.call(node) : found.value;
  }
}
const call = (node, key, ...given) => get(node, key).apply(node, given);
const all = (root, selector) => call(root, 'querySelectorAll', selector), first = (root, selector) => call(root, 'querySelector', selector);
const innerTextOf = element => get(element, 'innerText');
const hasValue = element => !isForm(element) && 'value' in element;

// `turn` waits for a task of the page, `frame` for a painted frame. Where scripts are forbidden, timers do not fire but
// frames are painted; a page that is not painted has no frames, but timers.
const turn = () => new Promise(done => {
  setTimeout(done);
  requestAnimationFrame(() => requestAnimationFrame(done));
});
const frame = () => new Promise(done => {
  requestAnimationFrame(() => done(true));
  setTimeout(() => done(false), 250);
});
