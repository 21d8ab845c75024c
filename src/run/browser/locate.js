// Runs in the page, after names.js: finds elements as their users know them. Called with {queries}; returns one
// answer for each. Nothing is left behind in the page. What is for people to read goes back in pieces and
// uncut: texts are masked first, and cut where that is done.

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

function visible(element) {
  if (element.localName === 'option' || element.localName === 'optgroup') return !!element.closest('select') && visible(element.closest('select'));
  if (!shown(element)) return false;
  const box = element.getBoundingClientRect();
  if (box.width > 0 && box.height > 0) return true;
  if (getComputedStyle(element).display !== 'contents') return false;
  return [...element.childNodes].some(node => node.nodeType === 1 ? visible(node) : node.nodeType === 3 && !!fold(node.data));
}

// The texts by which a query knows an element; none: it is not of this kind.
const LABELABLE = 'input:not([type=hidden]),select,textarea,button,meter,output,progress,[contenteditable],[role],[aria-label],[aria-labelledby]';
const NAMES = {
  role: (element, query) => role(element) === (SYNONYMS[query.role] || query.role) ? [name(element)] : null,
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
    const seen = near ? fold(element.innerText) : plain;
    return seen && seen !== plain ? [plain, seen] : [plain];
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
  try {
    if (!of) return bySelector(query).map(element => ({element, names: []}));
  } catch (error) {
    throw {wrong: [`${query.kind} `, {text: query.value}, ` cannot be used: ${error.name}`]};
  }
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
  if (query.kind === 'text') kept = kept.filter(element => !kept.some(other => other !== element && inside(other, element)));
  if (query.kind === 'role') kept = kept.filter(element => !hiddenFromTree(element));
  return kept;
}
// What a query means: all matches, those that can be seen, and which alternatives were needed. `nth` counts what is seen.
function resolve(query, accepts, used) {
  let found = [], all, seen;
  if ('choose' in query) query.accept = accepts[query.choose];
  const outer = query.within && resolve(query.within, accepts, used).all;
  const held = element => !outer || outer.some(one => one !== element && inside(element, one));
  if (query.any) {
    const tried = query.any.map(one => () => {
      const needed = {};
      const result = resolve(one, accepts, needed);
      return {found: result.found, all: result.all.filter(held), seen: result.seen.filter(held), needed};
    });
    let first = null, index = -1, chosen = null;
    for (const [at, resolveIt] of tried.entries()) {
      const result = resolveIt();
      first = first || result;
      if (result.seen.length || (query.unseen && result.all.length)) { chosen = result; index = at; break; }
    }
    if (chosen) Object.assign(used, chosen.needed);
    if (index > 0) used[query.id] = index;
    ({found, all, seen} = chosen || first);
  } else {
    found = candidates(query).filter(({element}) => held(element));
    all = matches(query, found);
    seen = all.filter(visible);
  }
  if (query.nth) {
    const few = seen.length;
    all = seen = seen.slice(query.nth - 1, query.nth);
    return {found, all, seen, few, outer};
  }
  return {found, all, seen, outer};
}
// The names among which a query chooses, and those of the queries in it.
function ask(query, names) {
  if ('choose' in query) {
    const known = candidates(query).filter(({element}) => query.unseen || visible(element)).flatMap(one => one.names);
    names[query.choose] = [...new Set(known)].slice(0, 5000);
  }
  if (query.within) ask(query.within, names);
  for (const one of query.any || []) ask(one, names);
  return names;
}

// For people.
const LONGEST = 4000;
const long = value => value.length > LONGEST ? value.slice(0, LONGEST) : value;
function show(element) {
  const what = role(element);
  const attributes = ['id', 'class', 'type', 'name', 'href'].filter(one => element.getAttribute(one))
    .map(one => [one, long(element.getAttribute(one))]);
  return {tag: element.localName, role: what, name: what ? long(name(element)) : '', attributes};
}
const html = element => ({element: {...show(element), role: ''}});
const PLURALS = {listbox: 'listboxes', combobox: 'comboboxes', checkbox: 'checkboxes', textbox: 'textboxes', searchbox: 'searchboxes', switch: 'switches'};
function near(query, {found, few, outer}) {
  const notes = [];
  if (outer && !outer.length) return [['what it is in is not there']];
  if (query.nth && few) notes.push([`${few} ${few === 1 ? 'element matches' : 'elements match'}`]);
  if (query.any) return few ? notes : near(query.any[0], {found});
  const wanted = query.accept || [];
  if (!NAMES[query.kind] || few) return notes;
  const list = (what, names) => {
    const known = [...new Set(names.filter(Boolean))];
    if (!names.length) notes.push([`no ${what[0]}`]);
    else notes.push([`${names.length} ${names.length === 1 ? what[0] : what[1]}: `, {texts: known.slice(0, 8).map(long), more: known.length > 8}]);
  };
  const seen = found.filter(({element}) => visible(element));
  if (query.kind === 'role') {
    list([query.role, PLURALS[query.role] || query.role + 's'], seen.filter(({element}) => !hiddenFromTree(element)).map(({names}) => names[0]));
    const others = everything().filter(element => { const is = role(element); return is && is !== query.role && wanted.includes(name(element)) && visible(element); });
    for (const element of others.slice(0, 3)) notes.push(['but ', {element: show(element)}]);
  } else if (query.kind === 'text') {
    const some = seen.filter(({names}) => names.some(one => wanted.some(part => one.toLowerCase().includes(part.toLowerCase()))));
    const inner = some.filter(({element}) => !some.some(other => other.element !== element && inside(other.element, element)));
    for (const {element, names} of inner.slice(0, 3)) notes.push(['nearly: ', {text: long(names[names.length - 1])}, ' in ', html(element)]);
  } else {
    const words = {label: ['label', 'labels'], placeholder: ['placeholder', 'placeholders'], alt: ['alternative text', 'alternative texts'],
      title: ['title', 'titles'], testid: ['test id', 'test ids']}[query.kind];
    list(words, seen.flatMap(({names}) => names));
  }
  return notes;
}

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
  moved.clear();
  if (query.kind === 'page') return {url: document.URL, title: document.title};
  if (query.kind === 'elsewhere') return {};
  if (query.ask) return {names: ask(query, [])};
  const used = {}, meant = resolve(query, query.accepts || [], used), {all, seen} = meant;
  const result = {attached: all.length, visible: seen.length, shown: seen.slice(0, 5).map(show), used};
  if (!seen.length) {
    result.near = near(query, meant);
    if (all.length) result.hidden = show(all[0]);
  }
  // Some things can be asked of what is not shown, such as a <meta> or the field of an upload.
  const pick = seen.length === 1 ? seen[0] : !seen.length && all.length === 1 && query.unseen ? all[0] : null;
  if (query.then && pick) Object.assign(result, await prepare(pick, query));
  if (query.facts && pick) result.facts = facts(pick, query.facts);
  return result;
}

return (async ({queries}) => {
  const answers = [];
  for (const query of queries) {
    try {
      answers.push(await answer(query));
    } catch (error) {
      if (!error.wrong) throw error;
      answers.push(error);
    }
  }
  return answers;
})(arguments[0]);
