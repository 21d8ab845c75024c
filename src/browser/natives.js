// Runs ahead of the other scripts, in a world of its own: what the DOM says of a node, whatever the page calls its
// fields. A form answers `form.matches` with its field of that name before it answers for itself, and so does a
// document with its images, in every world. Hence nothing is asked of a node that may be one of these but by the
// functions here, which take the browser's own.

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

// What a node says under a name; a form and a document are asked by the functions of their kind.
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

// A turn of the page's own work, and a frame that it paints. Where scripts are forbidden there are no timers, but
// frames; a page that is not painted has no frames, but timers.
const turn = () => new Promise(done => {
  setTimeout(done);
  requestAnimationFrame(() => requestAnimationFrame(done));
});
const frame = () => new Promise(done => {
  requestAnimationFrame(() => done(true));
  setTimeout(() => done(false), 250);
});
