// Runs in the page, ahead of other scripts: what a screen reader calls an element, its role and its name.
// Sources: https://www.w3.org/TR/accname-1.2/ and https://www.w3.org/TR/html-aam-1.0/. Names of open shadow roots are
// looked into. Where the texts leave a choice it is Chromium's, so that names are those that its own tools show.

const fold = text => (text || '').replace(/[\ue000-\uf8ff]/g, '').replace(/\s+/g, ' ').trim();
const parentOf = node => node.assignedSlot || node.parentElement || (node.getRootNode() || {}).host || null;
const inside = (node, ancestor) => {
  for (; node; node = parentOf(node)) if (node === ancestor) return true;
  return false;
};

// Whether an element has its place in what is rendered; those with `display: contents` have none of their own.
function rendered(element) {
  if (element.checkVisibility()) return true;
  if (getComputedStyle(element).display !== 'contents') return false;
  const parent = parentOf(element);
  return !parent || rendered(parent);
}
function shown(element) {
  const list = (element.localName === 'option' || element.localName === 'optgroup') && element.closest('select');
  if (list) return shown(list);
  return rendered(element) && getComputedStyle(element).visibility === 'visible';
}
const hiddenFromTree = element => {
  for (let node = element; node; node = parentOf(node)) if (node.getAttribute('aria-hidden') === 'true' || node.inert) return true;
  return false;
};

function byIds(element, attribute) {
  const root = element.getRootNode();
  return (element.getAttribute(attribute) || '').split(/\s+/).filter(Boolean)
    .map(id => root.getElementById ? root.getElementById(id) : document.getElementById(id)).filter(Boolean);
}
// Which elements `aria-owns` has moved, by root; forgotten with each question, since pages change.
const moved = new Map();
function ownerOf(element) {
  const root = element.getRootNode();
  let owners = moved.get(root);
  if (!owners) {
    moved.set(root, owners = new Map());
    for (const owner of root.querySelectorAll ? root.querySelectorAll('[aria-owns]') : []) {
      for (const other of byIds(owner, 'aria-owns')) if (!owners.has(other) && !other.contains(owner)) owners.set(other, owner);
    }
  }
  return owners.get(element);
}
// The nodes in an element as they are rendered: slots filled, shadow roots entered, owned ones moved.
function childrenOf(element) {
  const given = element.localName === 'slot' ? element.assignedNodes() : [];
  const nodes = given.length ? given : element.shadowRoot ? element.shadowRoot.childNodes : element.childNodes;
  const own = [...nodes].filter(node => node.nodeType === 3 || (node.nodeType === 1 && (ownerOf(node) || element) === element));
  const owned = element.hasAttribute('aria-owns') ? byIds(element, 'aria-owns').filter(other => ownerOf(other) === element && !own.includes(other)) : [];
  return own.concat(owned);
}

// Roles: the first known one of the `role` attribute, else what HTML-AAM gives the native element; none is ''.
const ROLES = new Set(('alert alertdialog application article banner blockquote button caption cell checkbox code columnheader '
  + 'combobox comment complementary contentinfo definition deletion dialog document emphasis feed figure form generic grid gridcell '
  + 'group heading img insertion link list listbox listitem log main mark marquee math menu menubar menuitem menuitemcheckbox '
  + 'menuitemradio meter navigation none note option paragraph progressbar radio radiogroup region row rowgroup rowheader '
  + 'scrollbar search searchbox sectionfooter sectionheader separator slider spinbutton status strong subscript suggestion superscript '
  + 'switch tab table tablist tabpanel term textbox time timer toolbar tooltip tree treegrid treeitem').split(' '));
const SYNONYMS = {image: 'img', presentation: 'none', directory: 'list'};
const TAGS = {
  address: 'group', article: 'article', blockquote: 'blockquote', button: 'button', caption: 'caption', code: 'code', datalist: 'listbox',
  dd: 'definition', del: 'deletion', details: 'group', dfn: 'term', dialog: 'dialog', dt: 'term', em: 'emphasis', fieldset: 'group',
  figure: 'figure', h1: 'heading', h2: 'heading', h3: 'heading', h4: 'heading', h5: 'heading', h6: 'heading', hgroup: 'group',
  hr: 'separator', html: 'document', ins: 'insertion', main: 'main', mark: 'mark', math: 'math', menu: 'list', meter: 'meter',
  nav: 'navigation', ol: 'list', optgroup: 'group', option: 'option', output: 'status', p: 'paragraph', progress: 'progressbar',
  s: 'deletion', search: 'search', strong: 'strong', sub: 'subscript', sup: 'superscript', svg: 'img', table: 'table', tbody: 'rowgroup',
  textarea: 'textbox', tfoot: 'rowgroup', thead: 'rowgroup', time: 'time', tr: 'row', ul: 'list',
};
const INPUTS = {
  button: 'button', checkbox: 'checkbox', email: 'textbox', file: 'button', image: 'button', number: 'spinbutton', password: 'textbox',
  radio: 'radio', range: 'slider', reset: 'button', search: 'searchbox', submit: 'button', tel: 'textbox', text: 'textbox', url: 'textbox',
};
const GLOBAL = ['atomic', 'busy', 'controls', 'current', 'describedby', 'details', 'flowto', 'keyshortcuts', 'label', 'labelledby',
  'live', 'owns', 'relevant', 'roledescription'];
const SECTIONS = 'article,aside,main,nav,section,[role=article],[role=complementary],[role=main],[role=navigation],[role=region]';
const TABLES = 'table,[role=table],[role=grid],[role=treegrid]';

const said = element => fold(element.getAttribute('aria-label'));
const focusable = element => element.hasAttribute('tabindex') || element.tabIndex >= 0;
const named = element => !!(said(element) || byIds(element, 'aria-labelledby').length || element.getAttribute('title'));
// Whether an element's word that it is of no meaning does not count.
const meant = element => focusable(element) || GLOBAL.some(one => element.hasAttribute('aria-' + one));

function role(element) {
  for (const word of (element.getAttribute('role') || '').toLowerCase().split(/\s+/).filter(Boolean)) {
    const known = SYNONYMS[word] || word;
    if (!ROLES.has(known) && !/^(doc|graphics)-[a-z]/.test(known)) continue;
    if ((known === 'form' || known === 'region') && !named(element)) continue;
    if (known === 'none') {
      if (meant(element)) break;
      return '';
    }
    return known === 'generic' ? '' : known;
  }
  const found = nativeRole(element);
  return found && partOfNothing(element) ? '' : found;
}
// Whether it is a part of a list or table that was said to be none.
function partOfNothing(element) {
  const whole = {li: 'ul,ol,menu', tr: 'table', td: 'table', th: 'table', tbody: 'table', thead: 'table', tfoot: 'table', caption: 'table'}[element.localName];
  if (!whole || meant(element)) return false;
  const list = element.localName === 'li' ? element.parentElement : element.closest(whole);
  return !!list && list.matches(whole) && list.hasAttribute('role') && role(list) === '';
}
function nativeRole(element) {
  const tag = element.localName;
  switch (tag) {
    case 'a': case 'area':
      return element.hasAttribute('href') || element.hasAttribute('xlink:href') ? 'link' : '';
    case 'aside':
      return element.parentElement && element.parentElement.closest('article,aside,nav,section') && !named(element) ? '' : 'complementary';
    case 'footer': case 'header':
      return element.closest(SECTIONS) ? '' : tag === 'header' ? 'banner' : 'contentinfo';
    case 'form':
      return named(element) ? 'form' : '';
    case 'img':
      return element.getAttribute('alt') === '' && !meant(element) && !element.title ? '' : 'img';
    case 'input': {
      const found = INPUTS[element.type] || '';
      return element.hasAttribute('list') && ['email', 'search', 'tel', 'text', 'url'].includes(element.type) ? 'combobox' : found;
    }
    case 'li':
      return element.parentElement && element.parentElement.matches('ul,ol,menu,[role=list]') || element.getRootNode().host ? 'listitem' : '';
    case 'section':
      return named(element) ? 'region' : '';
    case 'select':
      return element.multiple || element.size > 1 ? 'listbox' : 'combobox';
    case 'summary':
      return element.parentElement && element.parentElement.localName === 'details' ? 'button' : '';
    case 'td': case 'th': {
      const table = element.closest(TABLES);
      if (!table) return '';
      if (tag === 'th') return header(element);
      return ['grid', 'treegrid'].includes(table.getAttribute('role')) ? 'gridcell' : 'cell';
    }
    default: return TAGS[tag] || '';
  }
}
// What a <th> heads: what it says, else what its neighbours are.
function header(element) {
  const scope = element.scope;
  if (scope === 'row' || scope === 'rowgroup') return 'rowheader';
  if (scope === 'col' || scope === 'colgroup') return 'columnheader';
  const beside = [element.previousElementSibling, element.nextElementSibling].filter(Boolean);
  const data = beside.filter(cell => cell.localName === 'td' && fold(cell.textContent));
  const heads = beside.some(cell => cell.localName === 'th' && fold(cell.textContent));
  return data.length && (data.length === 2 || !heads) ? 'rowheader' : 'columnheader';
}

// Names.
const FROM_CONTENT = new Set(['button', 'cell', 'checkbox', 'columnheader', 'gridcell', 'heading', 'link', 'menuitem',
  'menuitemcheckbox', 'menuitemradio', 'option', 'radio', 'row', 'rowheader', 'switch', 'tab', 'tooltip', 'treeitem']);
const NO_TEXT = new Set(['script', 'style', 'template', 'noscript', 'datalist', 'head', 'metadata', 'desc', 'defs']);
const RANGES = new Set(['slider', 'spinbutton', 'progressbar', 'meter', 'scrollbar']);
const SVG = 'http://www.w3.org/2000/svg';

function name(element) {
  return fold(compute(element, {origin: element, seen: new Set(), root: true}));
}
// The name of what an element is labelled by: itself, even where it is hidden, and then all that is in it.
function refer(other, how, labelledby) {
  const seen = labelledby ? new Set() : new Set([...how.seen, how.origin]);
  const deep = !shown(other) || hiddenFromTree(other);
  return compute(other, {origin: how.origin, seen, labelledby: labelledby || how.labelledby, deep, referred: true});
}
// The text alternative of one element (accname-1.2, section 4.3.2; letters are its steps).
function compute(element, how) {
  const part = {...how, root: false, referred: false};
  // A
  if (!how.root && !how.referred && !how.deep && (element.getAttribute('aria-hidden') === 'true' || !shown(element))) return '';
  if (how.seen.has(element)) return '';
  // B
  if (!how.labelledby) {
    const joined = byIds(element, 'aria-labelledby').map(other => refer(other, how, true)).join(' ');
    if (fold(joined)) return ` ${joined} `;
  }
  how.seen.add(element);
  const what = role(element);
  // C
  if (!how.root && element !== how.origin) {
    const value = embedded(element, what, part);
    if (value !== null) return ` ${value} `;
  }
  // D
  if (said(element)) return ` ${said(element)} `;
  // E
  const native = fromMarkup(element, part);
  if (native) return ` ${native} `;
  // F, H
  const alone = ['listbox', 'combobox', 'textbox', 'searchbox', 'spinbutton', 'slider'].includes(what) || element.localName === 'iframe';
  if (how.root ? FROM_CONTENT.has(what) : !alone) {
    const inner = content(element, part);
    if (fold(inner)) return inner;
  }
  // I
  const tip = fold(element.getAttribute('title')) || fold(element.getAttribute('placeholder')) || fold(element.getAttribute('aria-placeholder'));
  return tip ? ` ${tip} ` : '';
}
// The value of a control in the middle of a label of another one; null: it is none, or has none.
function embedded(element, what, how) {
  if (what === 'textbox' || what === 'searchbox' || (what === 'combobox' && element.localName === 'input')) {
    if (element.type === 'password') return '';
    return fold('value' in element ? element.value : element.textContent) || null;
  }
  if (what === 'combobox' || what === 'listbox') {
    if (element.localName === 'select') return [...element.selectedOptions].map(option => fold(option.label)).join(' ');
    const lists = [element, ...byIds(element, 'aria-controls'), ...byIds(element, 'aria-owns')];
    const chosen = lists.flatMap(list => [...list.querySelectorAll('[role=option]')]).filter(one => one.getAttribute('aria-selected') === 'true' || one.getAttribute('aria-checked') === 'true');
    if (chosen.length) return chosen.map(one => compute(one, {...how, referred: true})).join(' ');
    if (what === 'listbox') return '';
    return fold(element.textContent) || null;
  }
  if (RANGES.has(what)) {
    return fold(element.getAttribute('aria-valuetext')) || fold(element.getAttribute('aria-valuenow'))
      || (typeof element.value === 'string' || typeof element.value === 'number' ? String(element.value) : null);
  }
  return null;
}
const childTagged = (element, tag) => [...element.children].find(other => other.localName === tag);
// What HTML and SVG say is the name of an element.
function fromMarkup(element, how) {
  const tag = element.localName;
  const labels = [...(element.labels || [])].filter(label => !how.seen.has(label));
  if (labels.length) {
    const joined = fold(labels.map(label => refer(label, how, false)).join(' '));
    if (joined) return joined;
  }
  if (element.namespaceURI === SVG) {
    const title = childTagged(element, 'title');
    return title ? fold(title.textContent) : fold(element.getAttribute('xlink:title'));
  }
  switch (tag) {
    case 'input':
      if (['button', 'submit', 'reset'].includes(element.type)) return fold(element.value) || {submit: 'Submit', reset: 'Reset'}[element.type] || '';
      return element.type === 'image' ? fold(element.alt) || fold(element.value) || fold(element.title) || 'Submit' : '';
    case 'img': case 'area': return fold(element.getAttribute('alt'));
    case 'fieldset': case 'table': case 'figure': {
      const title = childTagged(element, {fieldset: 'legend', table: 'caption', figure: 'figcaption'}[tag]);
      return title ? fold(refer(title, how, false)) : '';
    }
    case 'option': case 'optgroup': return fold(element.getAttribute('label'));
    default: return alternative(getComputedStyle(element).content) || '';
  }
}
function content(element, how) {
  let result = generated(element, '::before');
  for (const node of childrenOf(element)) {
    if (node.nodeType === 3) result += node.data;
    else if (node.localName === 'br') result += ' ';
    else if (!NO_TEXT.has(node.localName) && !(node.namespaceURI === SVG && node.localName === 'title')) {
      const display = getComputedStyle(node).display;
      const text = compute(node, how);
      result += display.startsWith('inline') || display === 'contents' ? text : ` ${text} `;
    }
  }
  return result + generated(element, '::after');
}
// The alternative text of a CSS `content`: `"→" / "next"`.
const alternative = value => {
  const found = /\/\s*"((?:[^"\\]|\\.)*)"\s*$/.exec(value || '');
  return found ? found[1].replace(/\\(.)/g, '$1') : null;
};
function generated(element, which) {
  const style = getComputedStyle(element, which), value = style.content;
  if (!value || value === 'none' || value === 'normal' || style.display === 'none' || style.visibility === 'hidden') return '';
  const told = alternative(value) ?? (value.match(/"(?:[^"\\]|\\.)*"|attr\([^)]*\)/g) || [])
    .map(one => one[0] === '"' ? one.slice(1, -1).replace(/\\(.)/g, '$1') : element.getAttribute(one.slice(5, -1).trim()) || '').join('');
  return style.display.startsWith('inline') ? told : ` ${told} `;
}
// Every text that labels an element.
function labelTexts(element) {
  const how = {origin: element, seen: new Set()};
  const by = byIds(element, 'aria-labelledby').map(other => refer(other, how, true)).join(' ');
  return [by, said(element), ...[...(element.labels || [])].map(label => refer(label, how, false))].map(fold).filter(Boolean);
}

// States, as people read them.
const checked = element => 'checked' in element && element.localName === 'input' ? element.checked && !element.indeterminate
  : element.getAttribute('aria-checked') === 'true' || element.getAttribute('aria-pressed') === 'true';
const enabled = element => {
  if (element.matches(':disabled')) return false;
  for (let node = element; node; node = parentOf(node)) if (node.getAttribute('aria-disabled') === 'true') return false;
  return true;
};
