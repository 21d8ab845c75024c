// Runs in the page, after natives.js: computes the role and accessible name of elements. Sources:
// https://www.w3.org/TR/accname-1.2/ and https://www.w3.org/TR/html-aam-1.0/. Open shadow roots are included. Where the
// specifications leave a choice, it follows Chromium, so that names are those shown by its developer tools.

// Normalizes a text: white space becomes one space, and invisible characters are removed: soft hyphens, joiners,
// directional marks, and the private characters of icon fonts.
const PLAIN = /^[!-~]+(?: [!-~]+)*$/;
const SHAPELESS = /[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ue000-\uf8ff]/g;
const fold = text => !text || PLAIN.test(text) ? text || '' : text.replace(SHAPELESS, '').replace(/\s+/g, ' ').trim();
const parentOf = node => slotOf(node) || parent(node) || hostOf(rootOf(node));
const inside = (node, ancestor) => {
  for (; node; node = parentOf(node)) if (node === ancestor) return true;
  return false;
};

// Returns whether an element is rendered. Elements with `display: contents` have no box of their own.
function rendered(element) {
  if (canBeSeen(element)) return true;
  if (getComputedStyle(element).display !== 'contents') return false;
  const parent = parentOf(element);
  return !parent || rendered(parent);
}
const VISIBLE = {visibilityProperty: true};
function shown(element) {
  const list = (tag(element) === 'option' || tag(element) === 'optgroup') && closest(element, 'select');
  if (list) return shown(list);
  return canBeSeen(element, VISIBLE) || rendered(element) && getComputedStyle(element).visibility === 'visible';
}
const hiddenFromTree = element => {
  if (!hides()) return false;
  for (let node = element; node; node = parentOf(node)) if (attr(node, 'aria-hidden') === 'true' || get(node, 'inert')) return true;
  return false;
};

// Results for the whole document during one query. Reset with the next query, because pages change.
let cache = {};
const once = (what, find) => cache[what] ??= find();
// Whether anything is hidden from screen readers.
const hides = () => once('hides', () => everywhere().some(root => !!first(root, '[aria-hidden=true],[inert]'))) === true;
// Returns the roots that are searched: the document and its open shadow roots.
const HOSTLESS = ':not(a,b,br,button,caption,col,dd,dl,dt,em,hr,i,iframe,img,input,label,li,link,meta,ol,option,path,pre,script,select,strong,style,'
  + 'svg,table,tbody,td,textarea,tfoot,th,thead,tr,ul,use)';
const everywhere = () => once('everywhere', () => {
  const roots = [], walk = root => {
    roots.push(root);
    for (const element of all(root, HOSTLESS)) if (shadowOf(element)) walk(shadowOf(element));
  };
  walk(document);
  return roots;
});

function byIds(element, attribute) {
  const root = rootOf(element);
  const ids = attr(element, attribute);
  if (!ids) return [];
  const within = typeOf(root) === 1 ? document : root;
  return ids.split(/\s+/).filter(Boolean).map(id => call(within, 'getElementById', id)).filter(Boolean);
}
// Returns the owner of an element that was moved with `aria-owns`, using a map per root.
function ownerOf(element) {
  const root = rootOf(element), moved = once('moved', () => new Map());
  let owners = moved.get(root);
  if (!owners) {
    moved.set(root, owners = new Map());
    for (const owner of all(root, '[aria-owns]')) {
      for (const other of byIds(owner, 'aria-owns')) if (!owners.has(other) && !holds(other, owner)) owners.set(other, owner);
    }
  }
  return owners.get(element);
}
// Returns the child nodes of an element as rendered: slots filled, shadow roots entered, owned elements moved.
function childrenOf(element) {
  const given = tag(element) === 'slot' ? element.assignedNodes() : [];
  const nodes = given.length ? given : nodesIn(shadowOf(element) || element);
  const own = [...nodes].filter(node => typeOf(node) === 3 || (typeOf(node) === 1 && (ownerOf(node) || element) === element));
  const owned = has(element, 'aria-owns') ? byIds(element, 'aria-owns').filter(other => ownerOf(other) === element && !own.includes(other)) : [];
  return own.concat(owned);
}

// Roles: the first known one of the `role` attribute, otherwise that of HTML-AAM for the native element. '' means that
// there is no role.
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

const said = element => fold(attr(element, 'aria-label'));
const focusable = element => has(element, 'tabindex') || get(element, 'tabIndex') >= 0;
const named = element => !!(said(element) || byIds(element, 'aria-labelledby').length || attr(element, 'title'));
// Returns whether an element keeps its role although it is marked as presentational.
const meant = element => focusable(element) || GLOBAL.some(one => has(element, 'aria-' + one));

function role(element) {
  const words = attr(element, 'role');
  for (const word of words ? words.toLowerCase().split(/\s+/).filter(Boolean) : []) {
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
// Returns whether an element is part of a list or table that is marked as presentational.
const WHOLES = {li: 'ul,ol,menu', tr: 'table', td: 'table', th: 'table', tbody: 'table', thead: 'table', tfoot: 'table', caption: 'table'};
function partOfNothing(element) {
  const whole = WHOLES[tag(element)];
  if (!whole || meant(element)) return false;
  const list = tag(element) === 'li' ? parent(element) : closest(element, whole);
  return !!list && is(list, whole) && has(list, 'role') && role(list) === '';
}
function nativeRole(element) {
  const what = tag(element);
  switch (what) {
    case 'a': case 'area':
      return has(element, 'href') || has(element, 'xlink:href') ? 'link' : '';
    case 'aside':
      return parent(element) && closest(parent(element), 'article,aside,nav,section') && !named(element) ? '' : 'complementary';
    case 'footer': case 'header':
      return closest(element, SECTIONS) ? '' : what === 'header' ? 'banner' : 'contentinfo';
    case 'form':
      return named(element) ? 'form' : '';
    case 'img':
      return attr(element, 'alt') === '' && !meant(element) && !get(element, 'title') ? '' : 'img';
    case 'input': {
      const found = INPUTS[get(element, 'type')] || '';
      return has(element, 'list') && ['email', 'search', 'tel', 'text', 'url'].includes(get(element, 'type')) ? 'combobox' : found;
    }
    case 'li':
      return parent(element) && is(parent(element), 'ul,ol,menu,[role=list]') || hostOf(rootOf(element)) ? 'listitem' : '';
    case 'section':
      return named(element) ? 'region' : '';
    case 'select':
      return element.multiple || element.size > 1 ? 'listbox' : 'combobox';
    case 'summary':
      return parent(element) && tag(parent(element)) === 'details' ? 'button' : '';
    case 'td': case 'th': {
      const table = closest(element, TABLES);
      if (!table) return '';
      if (what === 'th') return header(element);
      return ['grid', 'treegrid'].includes(attr(table, 'role')) ? 'gridcell' : 'cell';
    }
    default: return TAGS[what] || '';
  }
}
// Returns whether a <th> is a row or column header, by its scope or by its neighbors.
function header(element) {
  const scope = element.scope;
  if (scope === 'row' || scope === 'rowgroup') return 'rowheader';
  if (scope === 'col' || scope === 'colgroup') return 'columnheader';
  const beside = [element.previousElementSibling, element.nextElementSibling].filter(Boolean);
  const data = beside.filter(cell => tag(cell) === 'td' && fold(textOf(cell)));
  const heads = beside.some(cell => tag(cell) === 'th' && fold(textOf(cell)));
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
// Returns the name of an element referenced as a label. If it is hidden itself, all of its content is included.
function refer(other, how, labelledby) {
  const seen = labelledby ? new Set() : new Set([...how.seen, how.origin]);
  const deep = !shown(other) || hiddenFromTree(other);
  return compute(other, {origin: how.origin, seen, labelledby: labelledby || how.labelledby, deep, referred: true});
}
// Computes the text alternative of one element (accname-1.2, section 4.3.2; the letters are its steps).
function compute(element, how) {
  const part = {...how, root: false, referred: false};
  // A
  if (!how.root && !how.referred && !how.deep && (attr(element, 'aria-hidden') === 'true' || !shown(element))) return '';
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
  const alone = ['listbox', 'combobox', 'textbox', 'searchbox', 'spinbutton', 'slider'].includes(what) || tag(element) === 'iframe';
  if (how.root ? FROM_CONTENT.has(what) : !alone) {
    const inner = content(element, part);
    if (fold(inner)) return inner;
  }
  // I
  const tip = fold(attr(element, 'title')) || fold(attr(element, 'placeholder')) || fold(attr(element, 'aria-placeholder'));
  return tip ? ` ${tip} ` : '';
}
// Returns the value of a control embedded in the label of another one, or null if the element is not such a control or
// has no value.
function embedded(element, what, how) {
  if (what === 'textbox' || what === 'searchbox' || (what === 'combobox' && tag(element) === 'input')) {
    if (get(element, 'type') === 'password') return '';
    return fold(hasValue(element) ? element.value : textOf(element)) || null;
  }
  if (what === 'combobox' || what === 'listbox') {
    if (tag(element) === 'select') return [...element.selectedOptions].map(option => fold(option.label)).join(' ');
    const lists = [element, ...byIds(element, 'aria-controls'), ...byIds(element, 'aria-owns')];
    const chosen = lists.flatMap(list => [...all(list, '[role=option]')]).filter(one => attr(one, 'aria-selected') === 'true' || attr(one, 'aria-checked') === 'true');
    if (chosen.length) return chosen.map(one => compute(one, {...how, referred: true})).join(' ');
    if (what === 'listbox') return '';
    return fold(textOf(element)) || null;
  }
  if (RANGES.has(what)) {
    return fold(attr(element, 'aria-valuetext')) || fold(attr(element, 'aria-valuenow'))
      || (hasValue(element) && ['string', 'number'].includes(typeof element.value) ? String(element.value) : null);
  }
  return null;
}
const childTagged = (element, what) => [...childrenIn(element)].find(other => tag(other) === what);
// Returns the name that HTML or SVG markup gives to an element.
function fromMarkup(element, how) {
  const what = tag(element);
  const labels = [...(get(element, 'labels') || [])].filter(label => !how.seen.has(label));
  if (labels.length) {
    const joined = fold(labels.map(label => refer(label, how, false)).join(' '));
    if (joined) return joined;
  }
  if (spaceOf(element) === SVG) {
    const title = childTagged(element, 'title');
    return title ? fold(textOf(title)) : fold(attr(element, 'xlink:title'));
  }
  switch (what) {
    case 'input':
      if (['button', 'submit', 'reset'].includes(get(element, 'type'))) return fold(get(element, 'value')) || {submit: 'Submit', reset: 'Reset'}[get(element, 'type')] || '';
      return get(element, 'type') === 'image' ? fold(element.alt) || fold(get(element, 'value')) || fold(get(element, 'title')) || 'Submit' : '';
    case 'img': case 'area': return fold(attr(element, 'alt'));
    case 'fieldset': case 'table': case 'figure': {
      const title = childTagged(element, {fieldset: 'legend', table: 'caption', figure: 'figcaption'}[what]);
      return title ? fold(refer(title, how, false)) : '';
    }
    case 'option': case 'optgroup': return fold(attr(element, 'label'));
    default: return alternative(getComputedStyle(element).content) || '';
  }
}
function content(element, how) {
  let result = generated(element, '::before');
  for (const node of childrenOf(element)) {
    if (typeOf(node) === 3) result += node.data;
    else if (tag(node) === 'br') result += ' ';
    else if (!NO_TEXT.has(tag(node)) && !(spaceOf(node) === SVG && tag(node) === 'title')) {
      const display = getComputedStyle(node).display;
      const text = compute(node, how);
      result += display.startsWith('inline') || display === 'contents' ? text : ` ${text} `;
    }
  }
  return result + generated(element, '::after');
}
// Returns the alternative text of a CSS `content`: `"→" / "next"`.
const alternative = value => {
  const found = /\/\s*"((?:[^"\\]|\\.)*)"\s*$/.exec(value || '');
  return found ? found[1].replace(/\\(.)/g, '$1') : null;
};
function generated(element, which) {
  const style = getComputedStyle(element, which), value = style.content;
  if (!value || value === 'none' || value === 'normal' || style.display === 'none' || style.visibility === 'hidden') return '';
  const told = alternative(value) ?? (value.match(/"(?:[^"\\]|\\.)*"|attr\([^)]*\)/g) || [])
    .map(one => one[0] === '"' ? one.slice(1, -1).replace(/\\(.)/g, '$1') : attr(element, one.slice(5, -1).trim()) || '').join('');
  return style.display.startsWith('inline') ? told : ` ${told} `;
}
// Returns every text that labels an element.
function labelTexts(element) {
  const how = {origin: element, seen: new Set()};
  const by = byIds(element, 'aria-labelledby').map(other => refer(other, how, true)).join(' ');
  return [by, said(element), ...[...(get(element, 'labels') || [])].map(label => refer(label, how, false))].map(fold).filter(Boolean);
}

// States as perceived by users.
const checked = element => tag(element) === 'input' ? element.checked && !element.indeterminate
  : attr(element, 'aria-checked') === 'true' || attr(element, 'aria-pressed') === 'true';
const enabled = element => {
  if (is(element, ':disabled')) return false;
  for (let node = element; node; node = parentOf(node)) if (attr(node, 'aria-disabled') === 'true') return false;
  return true;
};
