// Runs in the page, after names.js and ready.js: finds elements by user-facing properties. Leaves nothing behind in the
// page. Texts for users are returned in pieces and in full, because they are masked before they are truncated.

// Time limit for searching the page. When it is exceeded, the number of elements is thrown.
let until = Infinity;
function hurry() {
  if (performance.now() > until) throw {slow: all(document, '*').length};
}

// Returns all elements in document order, with those of open shadow roots after their host.
function everything() {
  if (everywhere().length === 1) return [...all(document, '*')];
  const found = [];
  const walk = root => {
    for (const element of all(root, '*')) {
      found.push(element);
      if (shadowOf(element)) walk(shadowOf(element));
    }
  };
  walk(document);
  return found;
}
function select(selector) {
  all(document, selector); // an invalid selector throws here, also on an empty page
  return everywhere().length === 1 ? [...all(document, selector)] : everything().filter(element => is(element, selector));
}

function visible(element) {
  if (tag(element) === 'option' || tag(element) === 'optgroup') return !!closest(element, 'select') && visible(closest(element, 'select'));
  if (tag(element) === 'area') return !!pictureOf(element) && visible(pictureOf(element));
  if (!shown(element)) return false;
  const box = boxOf(element);
  if (box.width > 0 && box.height > 0) return true;
  // An element without a box, or with an empty box and visible overflow, is visible if its content is.
  const {display, overflow} = getComputedStyle(element);
  if (display !== 'contents' && overflow !== 'visible') return false;
  return [...nodesIn(element)].some(node => typeOf(node) === 1 ? visible(node) : display === 'contents' && typeOf(node) === 3 && !!fold(node.data));
}

// Returns whether a name matches a query: one of several texts, or a text that contains, starts or ends with a part.
const squeeze = text => text.replace(SHAPELESS, '').replace(/\s+/g, ' ');
function fits(query, name) {
  if (query.accept) return query.accept.includes(name);
  if (!query.part) return true;
  const {contains, starts, ends} = query.part;
  return contains !== undefined ? name.includes(contains) : starts !== undefined ? name.startsWith(starts) : name.endsWith(ends);
}
// Returns the words that every matching name must contain. An empty or missing list means that nothing is known about
// the name.
function wordsOf(query) {
  const texts = query.accept || (query.part ? Object.values(query.part) : []);
  return texts.length === 1 ? texts[0].toLowerCase().split(' ').filter(Boolean) : null;
}

// Returns whether style sheets may insert text before or after elements. A style sheet that cannot be read counts as
// one that does.
const WRITTEN = /content:[^;}]*(?:["'][^"'\\\ue000-\uf8ff]|attr\()/;
const stylesWrite = () => once('writes', () => {
  const reads = sheet => { try { return [...sheet.cssRules].some(rule => WRITTEN.test(rule.cssText)); } catch { return true; } };
  return [...get(document, 'styleSheets'), ...get(document, 'adoptedStyleSheets') || []].some(reads);
});
// Returns the elements whose name may come from more than their text, with all their ancestors.
const NAMED = '[aria-label],[aria-labelledby],[aria-owns],[aria-placeholder],[aria-valuenow],[aria-valuetext],[alt],[label],[placeholder],[title],'
  + 'input,select,textarea,meter,progress,svg,img,slot,[role=textbox],[role=combobox],[role=listbox]';
const richly = () => once('named', () => {
  const found = new Set();
  for (const label of all(document, 'label')) if (label.control) found.add(label.control);
  for (const element of all(document, NAMED)) for (let node = element; node && !found.has(node); node = parent(node)) found.add(node);
  return found;
});
// Computing names is expensive, reading texts is not. Among many elements that can only be named by their text, those
// that do not contain all words are skipped, and for an element without children, its text is the name.
const MANY = 200;
const textNames = elements => elements.length >= MANY && everywhere().length === 1 && !stylesWrite();
function sieve(elements, query) {
  const words = wordsOf(query);
  if (!words || !words.length || !textNames(elements)) return elements;
  return elements.filter(element => {
    hurry();
    if (richly().has(element)) return true;
    const text = textOf(element).toLowerCase();
    return words.every(word => text.includes(word)) || !/^[ -~]*$/.test(text) && words.every(word => squeeze(text).includes(word));
  });
}
const quickName = element => richly().has(element) || firstIn(element) || !FROM_CONTENT.has(role(element)) ? name(element) : fold(textOf(element));

// Possible roles of elements whose role depends on more than the tag.
const SPECIAL = {
  a: ['link'], area: ['link'], aside: ['complementary'], footer: ['contentinfo'], form: ['form'], header: ['banner'], img: ['img'],
  input: [...Object.values(INPUTS), 'combobox'], li: ['listitem'], section: ['region'], select: ['listbox', 'combobox'], summary: ['button'],
  td: ['cell', 'gridcell'], th: ['columnheader', 'rowheader', 'cell'],
};
function withRole(wanted) {
  const tags = [...Object.keys(TAGS).filter(one => TAGS[one] === wanted), ...Object.keys(SPECIAL).filter(one => SPECIAL[one].includes(wanted))];
  return select(['[role]', ...tags].join()).filter(element => role(element) === wanted);
}

// Texts of an element that are compared with a query, by kind of query.
const LABELABLE = 'input:not([type=hidden]),select,textarea,button,meter,output,progress,[contenteditable],[role],[aria-label],[aria-labelledby]';
const NAMES = {
  role: element => [name(element)],
  label: labelTexts,
  placeholder: element => [fold(attr(element, 'placeholder'))],
  alt: element => [fold(attr(element, 'alt'))],
  title: element => [fold(attr(element, 'title'))],
  testid: element => [fold(attr(element, 'data-testid'))],
  text: textsOf,
};
// Elements that may match a query, regardless of their name.
const KINDS = {
  role: query => withRole(SYNONYMS[query.role] || query.role),
  label: () => select(LABELABLE),
  placeholder: () => select('[placeholder]'),
  alt: () => select('[alt]'),
  title: () => select('[title]'),
  testid: () => select('[data-testid]'),
  text: () => everything().filter(element => !SILENT.has(tag(element))),
  id: query => select(`[id="${CSS.escape(query.value)}"]`),
  css: query => select(query.value),
  xpath: query => {
    const result = call(document, 'evaluate', query.value, document, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
    return Array.from({length: result.snapshotLength}, (_, index) => result.snapshotItem(index)).filter(node => typeOf(node) === 1);
  },
};
function candidates(query) {
  try {
    return KINDS[query.kind](query);
  } catch (error) {
    if (error.slow) throw error;
    throw {wrong: [`${query.kind} `, {text: query.value}, ` cannot be used: ${error.name}`]};
  }
}

// Texts. The rendered text may differ from the text content because of styles and hidden parts. It is expensive to
// compute, so it is only read where it may matter.
const SILENT = new Set(['script', 'style', 'template', 'noscript', 'head', 'title', 'html']);
const LONG = 20000;
const buttonText = element => ['button', 'submit', 'reset'].includes(element.type) ? [fold(element.value)] : [];
function textsOf(element, query) {
  if (tag(element) === 'input') return buttonText(element);
  const raw = textOf(element), plain = fold(raw);
  if (!plain) return [];
  const wanted = query.accept || (query.part ? Object.values(query.part) : null);
  const low = plain.toLowerCase();
  const near = !wanted || wanted.some(one => one.toLowerCase().split(' ').every(word => low.includes(word)));
  if (!near || plain.length > LONG && !(wanted && wanted.some(one => one.length > plain.length / 4))) return [plain];
  const seen = fold(innerTextOf(element));
  return seen && seen !== plain ? [plain, seen] : [plain];
}
// Returns the innermost elements with a matching text. Skips subtrees that do not contain all words.
function byText(query) {
  const words = wordsOf(query), found = [];
  const scan = element => {
    hurry();
    if (SILENT.has(tag(element)) && tag(element) !== 'html') return false;
    if (words) {
      const text = textOf(element).toLowerCase();
      const has = word => text.includes(word);
      if (!words.every(has) && !words.every(word => squeeze(text).includes(word))) return false;
    }
    let within = false;
    for (const child of childrenIn(element)) within = scan(child) || within;
    if (within) return true;
    if (tag(element) === 'html' || !textsOf(element, query).some(one => fits(query, one))) return false;
    return found.push(element);
  };
  for (const root of everywhere()) for (const child of get(root, 'children')) scan(child);
  for (const input of select('input')) if (buttonText(input).some(one => fits(query, one))) found.push(input);
  return inOrder(innermost(found));
}
const childrenIn2 = root => typeOf(root) === 1 ? childrenIn(root) : get(root, 'children');
function innermost(elements) {
  const around = new Set();
  for (const element of elements) for (let node = parentOf(element); node && !around.has(node); node = parentOf(node)) around.add(node);
  return elements.filter(element => !around.has(element));
}
function inOrder(elements) {
  if (elements.length < 2) return elements;
  const known = new Set(elements);
  return everything().filter(element => known.has(element));
}

function matches(query) {
  const of = NAMES[query.kind];
  if (query.kind === 'text') return byText(query);
  let kept = candidates(query);
  if (query.kind === 'role' && (query.accept || query.part)) {
    const quick = textNames(kept);
    kept = sieve(kept, query).filter(element => {
      hurry();
      return fits(query, quick ? quickName(element) : name(element));
    });
  } else if (of && (query.accept || query.part)) {
    kept = kept.filter(element => {
      hurry();
      return of(element, query).some(one => fits(query, one));
    });
  }
  if (query.kind === 'role') kept = kept.filter(element => !hiddenFromTree(element));
  return kept;
}
// Returns all elements that match a query and the visible ones among them, and adds the alternatives that were needed
// to `used`. `nth` counts visible elements.
function resolve(query, accepts, used) {
  let found, seen;
  if ('choose' in query) query.accept = accepts[query.choose];
  else if (query.accept) query.accept = query.accept.map(fold);
  if (query.part) query.part = Object.fromEntries(Object.entries(query.part).map(([how, text]) => [how, squeeze(text)]));
  const outer = query.within && resolve(query.within, accepts, used).found;
  const around = outer && new Set(outer);
  const held = element => {
    if (!around) return true;
    for (let node = parentOf(element); node; node = parentOf(node)) if (around.has(node)) return true;
    return false;
  };
  if (query.any) {
    let best = null;
    for (const [at, one] of query.any.entries()) {
      const needed = {}, result = resolve(one, accepts, needed);
      const kept = {found: result.found.filter(held), seen: result.seen.filter(held)};
      best = best || kept;
      if (kept.seen.length || (query.unseen && kept.found.length)) {
        Object.assign(used, needed);
        if (at > 0 && query.id !== undefined) used[query.id] = at;
        best = kept;
        break;
      }
    }
    ({found, seen} = best);
  } else {
    found = matches(query).filter(held);
    seen = found.filter(element => {
      hurry();
      return visible(element);
    });
  }
  if (!query.nth) return {found, seen, outer, held};
  const few = seen.length;
  found = seen = seen.slice(query.nth - 1, query.nth);
  return {found, seen, few, outer, held};
}
// Collects the names among which the agent chooses for a query and its nested queries.
const CHOICE = 8e6;
function ask(query, names) {
  if ('choose' in query) {
    const chosen = new Set(), of = NAMES[query.kind];
    let size = 0;
    const all = candidates(query), quick = query.kind === 'role' && textNames(all);
    for (const element of all) {
      hurry();
      if (!query.unseen && !visible(element)) continue;
      for (const one of quick ? [quickName(element)] : of(element, query)) {
        if (one.length <= LONG * 10) chosen.add(one);
        size += one.length;
      }
      if (size > CHOICE) throw {slow: everything().length};
    }
    names[query.choose] = [...chosen];
  }
  if (query.within) ask(query.within, names);
  for (const one of query.any || []) ask(one, names);
  return names;
}

// Descriptions for users.
const LONGEST = 4000;
const long = value => value.length > LONGEST ? value.slice(0, LONGEST) : value;
function show(element) {
  const what = role(element);
  const attributes = ['id', 'class', 'type', 'name', 'href'].filter(one => attr(element, one))
    .map(one => [one, long(attr(element, one))]);
  return {tag: tag(element), role: what, name: what ? long(name(element)) : '', attributes};
}
const html = element => ({element: {...show(element), role: ''}});
const PLURALS = {listbox: 'listboxes', combobox: 'comboboxes', checkbox: 'checkboxes', textbox: 'textboxes', searchbox: 'searchboxes', switch: 'switches'};
// Returns the difference of two names if it is small.
function little(one, other) {
  const ways = [
    ['case', text => text.toLowerCase()],
    ['a colon', text => text.replace(/\s*[:\uff1a]\s*/g, ' ').trim()],
    ['white space', text => text.replace(/\s+/g, '')],
    ['punctuation at its end', text => text.replace(/[\s*.…!?]+$/, '')],
  ];
  const alone = ways.find(([, same]) => same(one) === same(other));
  if (alone) return alone[0];
  const letters = text => text.toLowerCase().replace(/[\s:\uff1a*.…!?]+/g, '');
  return letters(one) && letters(one) === letters(other) ? 'case, white space and punctuation' : '';
}
// Returns the distance of two names, from 0: the share of letters that must be changed (Levenshtein).
function unlike(one, other) {
  const [a, b] = [one.toLowerCase().slice(0, 60), other.toLowerCase().slice(0, 60)];
  // A name that contains the expected one is closer than a part of it.
  if (a.includes(b)) return Math.min(.2, (a.length - b.length) / 200);
  if (b.includes(a)) return .25 + (b.length - a.length) / 200;
  let row = Array.from({length: b.length + 1}, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length] / Math.max(a.length, b.length, 1);
}
// Describes similar elements, the most similar first. This is only a hint, so it is limited in time and to a part of a
// large page.
const NEAR = 300, SOME = 2000;
function near(query, {few, outer, held}) {
  const notes = [], end = Math.min(until, performance.now() + NEAR);
  if (outer && !outer.length) return [['the containing element was not found']];
  if (query.nth && few) notes.push([`${few} ${few === 1 ? 'element matches' : 'elements match'}`]);
  if (query.any) return few ? notes : near(query.any[0], {held});
  const wanted = query.accept || (query.part ? Object.values(query.part) : []), of = NAMES[query.kind];
  if (!of || few) return notes;
  const some = elements => {
    const kept = [];
    for (const element of elements) {
      if (kept.length >= SOME || performance.now() > end) break;
      if (held(element) && visible(element)) kept.push(element);
    }
    return kept;
  };
  const rank = one => Math.min(1, ...wanted.map(other => little(one, other) ? 0 : unlike(one, other)));
  const list = (what, names, count) => {
    const ranks = new Map(names.filter(Boolean).map(one => [one, rank(one)]));
    const sorted = [...ranks.keys()].sort((one, other) => ranks.get(one) - ranks.get(other));
    for (const one of sorted.slice(0, 3)) {
      const how = wanted.map(other => query.part ? '' : little(one, other)).find(Boolean);
      if (how) notes.push([{text: long(one)}, ` differs only in ${how}`]);
    }
    const more = sorted.filter(one => !query.part && wanted.some(other => other && one !== other && one.includes(other)));
    if (!notes.length && more.length) notes.push([{text: long(more[0])}, ' has more than that: `contains` takes a part']);
    if (!names.length) notes.push([`no ${what[0]}`]);
    else notes.push([`${count} ${count === 1 ? what[0] : what[1]}: `, {texts: sorted.slice(0, 8).map(long), more: sorted.length > 8}]);
  };
  if (query.kind === 'role') {
    const of = candidates(query), seen = some(of).filter(element => !hiddenFromTree(element));
    const quick = textNames(of), names = seen.map(element => quick ? quickName(element) : name(element));
    list([query.role, PLURALS[query.role] || query.role + 's'], names, of.length > SOME ? of.length : seen.length);
    const others = [];
    for (const element of everything()) {
      if (others.length === 3 || performance.now() > end) break;
      const what = role(element);
      if (!what || what === query.role) continue;
      const called = name(element);
      if (called && wanted.some(other => called === other || !query.part && little(called, other)) && visible(element)) others.push(element);
    }
    for (const element of others) notes.push(['but ', {element: show(element)}]);
    if (!others.length && wanted.some(Boolean)) {
      const same = [];
      for (const element of everything()) {
        if (performance.now() > end) break;
        if (!SILENT.has(tag(element)) && textOf(element).length < 500 && wanted.includes(fold(textOf(element))) && visible(element)) same.push(element);
      }
      for (const element of innermost(same).slice(0, 2)) notes.push(['but text ', {text: long(fold(textOf(element)))}, ' in ', html(element)]);
    }
  } else if (query.kind === 'text') {
    const longest = Math.max(200, ...wanted.map(one => 4 * one.length)), kept = [];
    for (const element of wanted.some(Boolean) ? everything() : []) {
      if (performance.now() > end) break;
      if (SILENT.has(tag(element))) continue;
      const text = textOf(element).length <= longest * 10 ? textsOf(element, query).at(-1) || '' : '';
      const part = wanted.some(one => one && text.toLowerCase().includes(one.toLowerCase()));
      if (text && (part || text.length <= longest && rank(text) < 0.4) && visible(element)) kept.push({element, text});
    }
    const inner = new Set(innermost(kept.map(one => one.element)));
    const best = kept.filter(one => inner.has(one.element)).sort((one, other) => rank(one.text) - rank(other.text));
    for (const {element, text} of best.slice(0, 3)) {
      const how = wanted.map(other => query.part ? '' : little(text, other)).find(Boolean);
      notes.push(['nearly: ', {text: long(text)}, ' in ', html(element), how ? `, which differs only in ${how}` : '']);
    }
  } else {
    const words = {label: ['label', 'labels'], placeholder: ['placeholder', 'placeholders'], alt: ['alternative text', 'alternative texts'],
      title: ['title', 'titles'], testid: ['test id', 'test ids']}[query.kind];
    const names = some(candidates(query)).flatMap(element => of(element, query));
    list(words, names, names.length);
  }
  return notes;
}
// Describes the position of one of several matches: whether it is on the screen, and the closest ancestor with a name.
function where(element) {
  const box = boxOf(element);
  const on = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
  const pieces = [on ? 'on screen' : 'off screen'];
  for (let node = parentOf(element); node && tag(node) !== 'body'; node = parentOf(node)) {
    const what = role(node);
    if (!['row', 'listitem', 'article', 'region', 'dialog', 'alertdialog', 'form', 'navigation', 'group', 'tabpanel', 'menu', 'main', 'complementary', 'banner', 'contentinfo'].includes(what)) continue;
    const called = name(node) || (['listitem', 'article'].includes(what) ? fold(textOf(node)) : '');
    if (!called && !['main', 'banner', 'contentinfo'].includes(what)) continue;
    pieces.push(` in ${what} `, ...called ? [{text: long(called)}] : []);
    break;
  }
  return pieces;
}

function facts(element, attributes) {
  const root = rootOf(element);
  return {
    text: fold(innerTextOf(element) ?? textOf(element)),
    value: hasValue(element) && tag(element) !== 'li' ? String(element.value) : null,
    checked: checked(element),
    enabled: enabled(element),
    focused: get(root, 'activeElement') === element,
    attributes: Object.fromEntries(attributes.map(one => [one, attr(element, one)])),
  };
}

async function answer(query) {
  cache = {};
  if (query.kind === 'page') return {url: get(document, 'URL'), title: get(document, 'title')};
  if (query.kind === 'elsewhere') return {};
  if (query.ask) return {names: ask(query, [])};
  const used = {}, meant = resolve(query, query.accepts || [], used), {found, seen} = meant;
  const result = {attached: found.length, visible: seen.length, shown: seen.slice(0, 5).map(show), used};
  if (seen.length > 1) result.places = seen.slice(0, 5).map(where);
  if (!seen.length) {
    result.near = near(query, meant);
    if (found.length) result.hidden = show(found[0]);
  }
  // Some properties can be read from invisible elements, such as a <meta> or a file field.
  const pick = seen.length === 1 ? seen[0] : !seen.length && found.length === 1 && query.unseen ? found[0] : null;
  if (query.then && pick) Object.assign(result, await prepare(pick, query));
  if (query.facts && pick) result.facts = facts(pick, query.facts);
  return result;
}

// Finds elements and prepares one for an action. Returns one result for each query within a time limit in milliseconds.
async function locate({queries, budget}) {
  until = performance.now() + (budget || Infinity);
  const answers = [];
  for (const query of queries) {
    try {
      answers.push(await answer(query));
    } catch (error) {
      if (!error.wrong && !error.slow) throw error;
      answers.push(error);
    }
  }
  return answers;
}
