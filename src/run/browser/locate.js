// Runs in the page: finds elements as their users know them and says whether they can be acted on.
// Called with {queries: […]}; returns one answer for each. Nothing is left behind in the page.

const fold = text => (text || '').replace(/[\ue000-\uf8ff]/g, '').replace(/\s+/g, ' ').trim();
const frame = () => new Promise(done => {
  requestAnimationFrame(done);
  setTimeout(done, 250); // a page that is not painted has no frames
});

// All elements in document order, those of open shadow roots after their host.
function everything() {
  const found = [];
  const walk = root => {
    for (const element of root.querySelectorAll('*')) {
      found.push(element);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  return found;
}
const parentOf = node => node.assignedSlot || node.parentElement || (node.getRootNode() || {}).host || null;
const within = (node, ancestor) => {
  for (; node; node = parentOf(node)) if (node === ancestor) return true;
  return false;
};

function visible(element) {
  if (element.localName === 'option') return !!element.closest('select') && visible(element.closest('select'));
  if (!element.checkVisibility({visibilityProperty: true})) return false;
  const box = element.getBoundingClientRect();
  if (box.width > 0 && box.height > 0) return true;
  if (getComputedStyle(element).display !== 'contents') return false;
  return [...element.childNodes].some(node => node.nodeType === 1 ? visible(node) : node.nodeType === 3 && !!fold(node.data));
}
const hiddenFromTree = element => {
  for (let node = element; node; node = parentOf(node)) if (node.getAttribute('aria-hidden') === 'true' || node.inert) return true;
  return false;
};

// Roles: the `role` attribute, else what HTML-AAM gives the native element.
const SYNONYMS = {image: 'img', presentation: '', none: '', directory: 'list'};
const TAGS = {
  button: 'button', summary: 'button', textarea: 'textbox', option: 'option', optgroup: 'group', h1: 'heading', h2: 'heading',
  h3: 'heading', h4: 'heading', h5: 'heading', h6: 'heading', ul: 'list', ol: 'list', menu: 'list', li: 'listitem',
  table: 'table', tr: 'row', td: 'cell', thead: 'rowgroup', tbody: 'rowgroup', tfoot: 'rowgroup', nav: 'navigation',
  main: 'main', aside: 'complementary', article: 'article', dialog: 'dialog', progress: 'progressbar', meter: 'meter',
  output: 'status', hr: 'separator', fieldset: 'group', details: 'group', p: 'paragraph', figure: 'figure', form: 'form',
  search: 'search', blockquote: 'blockquote', code: 'code', em: 'emphasis', strong: 'strong', dfn: 'term', time: 'time', math: 'math',
};
const INPUTS = {
  button: 'button', submit: 'button', reset: 'button', image: 'button', checkbox: 'checkbox', radio: 'radio', range: 'slider',
  number: 'spinbutton', search: 'searchbox', text: 'textbox', email: 'textbox', tel: 'textbox', url: 'textbox',
};
function role(element) {
  for (const word of (element.getAttribute('role') || '').toLowerCase().split(/\s+/)) {
    if (word) return word in SYNONYMS ? SYNONYMS[word] : word;
  }
  const tag = element.localName;
  switch (tag) {
    case 'a': case 'area': return element.hasAttribute('href') ? 'link' : '';
    case 'input': {
      const found = INPUTS[element.type] || '';
      return element.hasAttribute('list') && (found === 'textbox' || found === 'searchbox') ? 'combobox' : found;
    }
    case 'select': return element.multiple || element.size > 1 ? 'listbox' : 'combobox';
    case 'img': return element.getAttribute('alt') === '' && !element.title ? '' : 'img';
    case 'th': return element.scope === 'row' ? 'rowheader' : 'columnheader';
    case 'header': return element.closest('article,aside,main,nav,section') ? '' : 'banner';
    case 'footer': return element.closest('article,aside,main,nav,section') ? '' : 'contentinfo';
    case 'section': return element.hasAttribute('aria-label') || element.hasAttribute('aria-labelledby') ? 'region' : '';
    default: return TAGS[tag] || '';
  }
}

// Accessible names: the part of https://www.w3.org/TR/accname-1.2/ that pages use.
const FROM_CONTENT = new Set(['button', 'cell', 'checkbox', 'columnheader', 'gridcell', 'heading', 'link', 'menuitem',
  'menuitemcheckbox', 'menuitemradio', 'option', 'radio', 'row', 'rowheader', 'switch', 'tab', 'tooltip', 'treeitem']);
const byIds = (element, ids) => ids.split(/\s+/).filter(Boolean).map(id => {
  const root = element.getRootNode();
  return root.getElementById ? root.getElementById(id) : document.getElementById(id);
}).filter(Boolean);

function labelTexts(element) {
  const texts = [];
  const by = byIds(element, element.getAttribute('aria-labelledby') || '');
  if (by.length) texts.push(fold(by.map(other => text(other, new Set([element]), true)).join(' ')));
  if (fold(element.getAttribute('aria-label'))) texts.push(fold(element.getAttribute('aria-label')));
  for (const label of element.labels || []) texts.push(fold(content(label, new Set([element]))));
  return texts.filter(Boolean);
}
function name(element) {
  const by = byIds(element, element.getAttribute('aria-labelledby') || '');
  if (by.length) {
    const joined = fold(by.map(other => text(other, new Set(), true)).join(' '));
    if (joined) return joined;
  }
  return fold(own(element, new Set(), FROM_CONTENT.has(role(element))));
}
// A name without aria-labelledby.
function own(element, seen, useContent) {
  const said = fold(element.getAttribute('aria-label'));
  if (said) return said;
  const tag = element.localName;
  const labels = [...(element.labels || [])].filter(label => !seen.has(label));
  if (labels.length) {
    const joined = fold(labels.map(label => content(label, new Set([...seen, element]))).join(' '));
    if (joined) return joined;
  }
  if (tag === 'input') {
    if (['button', 'submit', 'reset'].includes(element.type)) {
      const value = fold(element.value) || {submit: 'Submit', reset: 'Reset'}[element.type];
      if (value) return value;
    }
    if (element.type === 'image') return fold(element.alt) || fold(element.value) || fold(element.title) || 'Submit';
  }
  if ((tag === 'img' || tag === 'area') && element.hasAttribute('alt')) return fold(element.alt) || fold(element.title);
  const child = {fieldset: 'legend', table: 'caption', figure: 'figcaption', svg: 'title'}[tag];
  if (child) {
    const found = [...element.children].find(other => other.localName === child);
    if (found) return fold(content(found, seen));
  }
  if (useContent) {
    const inner = fold(content(element, seen));
    if (inner) return inner;
  }
  return fold(element.getAttribute('title')) || fold(element.getAttribute('placeholder')) || fold(element.getAttribute('aria-placeholder'));
}
// What an element adds to the name of one around it, or that refers to it.
function text(element, seen, referred) {
  if (seen.has(element)) return '';
  seen.add(element);
  if (!referred && (element.getAttribute('aria-hidden') === 'true' || !element.checkVisibility({visibilityProperty: true}))) return '';
  const what = role(element);
  if (!referred && !fold(element.getAttribute('aria-label'))) {
    if (element.localName === 'select') return [...element.selectedOptions].map(option => option.label).join(' ');
    if (what === 'textbox' || what === 'searchbox' || what === 'slider' || what === 'spinbutton') {
      return 'value' in element ? element.value : element.textContent;
    }
  }
  return own(element, seen, true);
}
function content(element, seen) {
  seen.add(element);
  let result = styled(element, '::before');
  const nodes = element.localName === 'slot' && element.assignedNodes().length ? element.assignedNodes()
    : element.shadowRoot ? element.shadowRoot.childNodes : element.childNodes;
  for (const node of nodes) {
    if (node.nodeType === 3) result += node.data;
    else if (node.nodeType === 1 && !['script', 'style', 'template', 'noscript'].includes(node.localName)) {
      const inline = getComputedStyle(node).display.startsWith('inline') && node.localName !== 'br';
      const part = node.localName === 'slot' ? content(node, seen) : text(node, seen, false);
      result += inline ? part : ' ' + part + ' ';
    }
  }
  return result + styled(element, '::after');
}
function styled(element, which) {
  const value = getComputedStyle(element, which).content;
  return value && value.startsWith('"') ? value.slice(1, -1) : '';
}

// The texts by which a query knows an element; none: it is not of this kind.
const LABELABLE = 'input:not([type=hidden]),select,textarea,button,meter,output,progress,[contenteditable],[role],[aria-label],[aria-labelledby]';
const NAMES = {
  role: (element, query) => role(element) === query.role ? [name(element)] : null,
  label: element => element.matches(LABELABLE) ? labelTexts(element) : null,
  placeholder: element => element.hasAttribute('placeholder') ? [fold(element.getAttribute('placeholder'))] : null,
  alt: element => element.hasAttribute('alt') ? [fold(element.getAttribute('alt'))] : null,
  title: element => element.hasAttribute('title') ? [fold(element.getAttribute('title'))] : null,
  testid: element => element.hasAttribute('data-testid') ? [fold(element.getAttribute('data-testid'))] : null,
  text: (element, query) => {
    if (['script', 'style', 'template', 'noscript', 'head', 'title', 'html'].includes(element.localName)) return null;
    if (element.localName === 'input') return ['button', 'submit', 'reset'].includes(element.type) ? [fold(element.value)] : null;
    const raw = element.textContent;
    if (!raw || raw.length > 20000) return null;
    const plain = fold(raw);
    if (!plain) return null;
    // What is shown differs by styles and hidden parts; asking for it is dear, so it is asked where it may matter.
    const low = plain.toLowerCase();
    const near = !query.accept || query.accept.some(wanted => wanted.toLowerCase().split(' ').every(word => low.includes(word)));
    const shown = near ? fold(element.innerText) : plain;
    return shown && shown !== plain ? [plain, shown] : [plain];
  },
};

function bySelector(query) {
  if (query.kind === 'xpath') {
    const result = document.evaluate(query.value, document, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
    return Array.from({length: result.snapshotLength}, (_, index) => result.snapshotItem(index)).filter(node => node.nodeType === 1);
  }
  if (query.kind === 'id') return everything().filter(element => element.id === query.value);
  document.querySelector(query.value); // an invalid selector throws here, also on an empty page
  return everything().filter(element => element.matches(query.value));
}
function candidates(query) {
  const of = NAMES[query.kind];
  if (!of) return bySelector(query).map(element => ({element, names: []}));
  const found = [];
  for (const element of everything()) {
    const names = of(element, query);
    if (names) found.push({element, names});
  }
  return found;
}
function matches(query, found) {
  let kept = found;
  if (NAMES[query.kind] && query.accept) kept = found.filter(({names}) => names.some(one => query.accept.includes(one)));
  kept = kept.map(({element}) => element);
  if (query.kind === 'text') kept = kept.filter(element => !kept.some(other => other !== element && within(other, element)));
  if (query.kind === 'role') kept = kept.filter(element => !hiddenFromTree(element));
  return kept;
}

// For people.
const short = (value, length) => value.length > length ? value.slice(0, length) + '…' : value;
function html(element) {
  const attributes = ['id', 'class', 'type', 'name', 'href'].filter(one => element.getAttribute(one))
    .map(one => ` ${one}="${short(element.getAttribute(one), 30)}"`).join('');
  return `<${element.localName}${attributes}>`;
}
function show(element) {
  const what = role(element), called = what ? name(element) : '';
  return what ? `${what}${called ? ' ' + JSON.stringify(short(called, 60)) : ''} ${html(element)}` : html(element);
}
const PLURALS = {listbox: 'listboxes', combobox: 'comboboxes', checkbox: 'checkboxes', textbox: 'textboxes', searchbox: 'searchboxes', switch: 'switches'};
function near(query, found) {
  const notes = [];
  const wanted = query.accept || [];
  if (!NAMES[query.kind]) return notes;
  const list = (what, names) => {
    const known = [...new Set(names.filter(Boolean))];
    if (!names.length) notes.push(`no ${what[0]}`);
    else notes.push(`${names.length} ${names.length === 1 ? what[0] : what[1]}: ${known.slice(0, 8).map(one => JSON.stringify(short(one, 60))).join(', ')}${known.length > 8 ? ', …' : ''}`);
  };
  const seen = found.filter(({element}) => visible(element));
  if (query.kind === 'role') {
    list([query.role, PLURALS[query.role] || query.role + 's'], seen.filter(({element}) => !hiddenFromTree(element)).map(({names}) => names[0]));
    const others = everything().filter(element => { const is = role(element); return is && is !== query.role && wanted.includes(name(element)) && visible(element); });
    for (const element of others.slice(0, 3)) notes.push(`but ${show(element)}`);
  } else if (query.kind === 'text') {
    const some = seen.filter(({names}) => names.some(one => wanted.some(part => one.toLowerCase().includes(part.toLowerCase()))));
    const inner = some.filter(({element}) => !some.some(other => other.element !== element && within(other.element, element)));
    for (const {element, names} of inner.slice(0, 3)) notes.push(`nearly: ${JSON.stringify(short(names[names.length - 1], 80))} in ${html(element)}`);
  } else {
    const words = {label: ['label', 'labels'], placeholder: ['placeholder', 'placeholders'], alt: ['alternative text', 'alternative texts'],
      title: ['title', 'titles'], testid: ['test id', 'test ids']}[query.kind];
    list(words, seen.flatMap(({names}) => names));
  }
  return notes;
}

// Whether an element can be acted on; why not yet, in words.
function hit(element) {
  const box = element.getClientRects()[0];
  if (!box) return 'it has no place on the page';
  const left = Math.max(0, box.left), right = Math.min(innerWidth, box.right);
  const top = Math.max(0, box.top), bottom = Math.min(innerHeight, box.bottom);
  if (left >= right || top >= bottom) return 'it is outside of the visible page';
  const x = Math.floor((left + right) / 2), y = Math.floor((top + bottom) / 2);
  let at = document.elementFromPoint(x, y);
  while (at && at.shadowRoot) {
    const inner = at.shadowRoot.elementFromPoint(x, y);
    if (!inner || inner === at) break;
    at = inner;
  }
  if (!at) return 'it is outside of the visible page';
  return within(at, element) ? null : `${html(at)} covers it`;
}
const enabled = element => {
  if (element.matches(':disabled')) return false;
  for (let node = element; node; node = parentOf(node)) if (node.getAttribute('aria-disabled') === 'true') return false;
  return true;
};
const box = element => { const {x, y, width, height} = element.getBoundingClientRect(); return [x, y, width, height].join(); };
const changed = element => {
  element.dispatchEvent(new Event('input', {bubbles: true, composed: true}));
  element.dispatchEvent(new Event('change', {bubbles: true}));
};

// Fields that a locale or a picker stands before: their value is set as a script of a framework would see it.
const PICKED = ['date', 'time', 'datetime-local', 'month', 'week', 'color', 'range'];

async function prepare(element, query) {
  if (query.then !== 'focus' && !enabled(element)) return {why: 'it is disabled'};
  if (query.then === 'click') {
    element.scrollIntoView({block: 'nearest', inline: 'nearest', behavior: 'instant'});
    if (hit(element)) element.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
    await frame();
    const first = box(element);
    await frame();
    if (!element.isConnected) return {why: 'it left the page'};
    if (box(element) !== first) return {why: 'it is moving'};
    const why = hit(element);
    return why ? {why} : {element};
  }
  if (query.then === 'choose') return choose(element, query.options);
  if (query.then === 'type') {
    const area = element.localName === 'textarea', input = element.localName === 'input';
    if (!area && !input && !element.isContentEditable) return {wrong: `${html(element)} is not a field that can be filled`};
    if (input && ['checkbox', 'radio', 'file', 'button', 'submit', 'reset', 'image', 'hidden'].includes(element.type)) {
      return {wrong: `${html(element)} is not a field that can be filled`};
    }
    if (element.readOnly || element.getAttribute('aria-readonly') === 'true') return {why: 'it is read-only'};
    if (input && PICKED.includes(element.type)) {
      element.focus();
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(element, query.text);
      if (element.value !== query.text && element.type !== 'color') {
        return {wrong: `a field of type ${element.type} does not take ${JSON.stringify(query.text)}`};
      }
      changed(element);
      return {done: true};
    }
  }
  element.scrollIntoView({block: 'nearest', inline: 'nearest', behavior: 'instant'});
  element.focus();
  if (query.then === 'focus') return {element};
  await frame(); // what the page does on focus may move the caret
  let empty;
  if ('value' in element) {
    element.select();
    empty = element.value === '';
  } else {
    getSelection().selectAllChildren(element);
    empty = element.textContent === '';
  }
  return {element, empty};
}
function choose(element, wanted) {
  if (element.localName !== 'select') return {wrong: `${html(element)} is not a <select> list`};
  if (wanted.length > 1 && !element.multiple) return {wrong: 'the list takes one option only'};
  const options = [...element.options], chosen = [];
  for (const {text, value} of wanted) {
    const option = options.find(one => value === undefined ? fold(one.label) === fold(text) || fold(one.text) === fold(text) : one.value === value);
    const shown = value === undefined ? JSON.stringify(text) : `of value ${JSON.stringify(value)}`;
    if (!option) {
      const has = options.slice(0, 10).map(one => JSON.stringify(value === undefined ? short(fold(one.label), 40) : one.value)).join(', ');
      return {why: `it has no option ${shown}, but ${has || 'none at all'}${options.length > 10 ? ', …' : ''}`};
    }
    if (option.disabled || option.closest('optgroup:disabled')) return {why: `its option ${shown} is disabled`};
    chosen.push(option);
  }
  element.focus();
  for (const option of options) {
    const on = chosen.includes(option);
    if (option.selected !== on) option.selected = on;
  }
  changed(element);
  return {done: true};
}

const checked = element => 'checked' in element ? element.checked && !element.indeterminate
  : element.getAttribute('aria-checked') === 'true' || element.getAttribute('aria-pressed') === 'true';
function facts(element, attributes) {
  const root = element.getRootNode();
  return {
    text: fold(element.innerText !== undefined ? element.innerText : element.textContent),
    value: 'value' in element && element.localName !== 'li' ? String(element.value) : null,
    checked: checked(element),
    enabled: enabled(element),
    focused: root.activeElement === element,
    attributes: Object.fromEntries(attributes.map(one => [one, element.getAttribute(one)])),
  };
}

async function answer(query) {
  if (query.kind === 'page') return {url: document.URL, title: document.title};
  let found, all;
  try {
    found = candidates(query);
    if (query.ask) {
      const names = found.filter(({element}) => visible(element)).flatMap(({names}) => names);
      return {names: [...new Set(names)].slice(0, 5000)};
    }
    all = matches(query, found);
  } catch (error) {
    return {wrong: `${query.kind} ${JSON.stringify(query.value || '')} cannot be used: ${error.message}`};
  }
  const seen = all.filter(visible);
  const result = {attached: all.length, visible: seen.length, shown: seen.slice(0, 5).map(show)};
  if (!seen.length) {
    result.near = near(query, found);
    if (all.length) result.hidden = show(all[0]);
  }
  if (query.then && seen.length === 1) Object.assign(result, await prepare(seen[0], query));
  if (query.facts) {
    // An attribute or a value can also be read of what is not shown, such as a <meta>.
    const pick = seen.length === 1 ? seen[0] : !seen.length && all.length === 1 && query.unseen ? all[0] : null;
    if (pick) result.facts = facts(pick, query.facts);
  }
  return result;
}

return (async queries => {
  const answers = [];
  for (const query of queries) answers.push(await answer(query));
  return answers;
})(arguments[0].queries);
