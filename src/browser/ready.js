// Runs in the page, between names.js and locate.js: determines whether an element is ready for an action, or why not,
// and performs the parts of actions that scripts can do. A `why` may pass by waiting, a `wrong` will not.

const nearest = {block: 'nearest', inline: 'nearest', behavior: 'instant'};
const middle = {block: 'center', inline: 'center', behavior: 'instant'};

// Returns the image of an image map area.
function pictureOf(area) {
  const map = closest(area, 'map'), called = map && (attr(map, 'name') || attr(map, 'id'));
  return called ? first(document, `img[usemap="#${CSS.escape(called)}"]`) : null;
}
function areaBox(area) {
  const picture = pictureOf(area);
  if (!picture) return [];
  const {left, top, width, height} = boxOf(picture), at = (attr(area, 'coords') || '').split(',').map(Number);
  const mean = rest => at.filter((_, index) => index % 2 === rest).reduce((sum, one) => sum + one, 0) / (at.length / 2);
  const [x, y] = {circle: () => at, default: () => [width / 2, height / 2]}[attr(area, 'shape')]?.() || [mean(0), mean(1)];
  return [{left: left + x - 1, right: left + x + 1, top: top + y - 1, bottom: top + y + 1, width: 2, height: 2}];
}
// Returns the boxes of an element, or those of its content if it has none of its own or only empty ones.
function boxesOf(element) {
  if (tag(element) === 'area') return areaBox(element);
  const filled = boxes => [...boxes].filter(box => box.width > 0 && box.height > 0);
  const own = filled(rectsOf(element));
  if (own.length) return own;
  return childrenOf(element).flatMap(node => {
    if (typeOf(node) === 1) return boxesOf(node);
    if (!fold(node.data)) return [];
    const range = call(document, 'createRange');
    range.selectNodeContents(node);
    return filled(range.getClientRects());
  });
}
// Returns the element to scroll into view for an element.
const boxed = element => tag(element) === 'area' ? pictureOf(element) || element
  : rectsOf(element).length ? element : [...childrenIn(element)].map(boxed).find(one => rectsOf(one).length) || element;

// Returns the element that a pointer hits at a point, searching open shadow roots too.
function met(x, y) {
  let at = call(document, 'elementFromPoint', x, y);
  while (at && shadowOf(at)) {
    const inner = shadowOf(at).elementFromPoint(x, y);
    if (!inner || inner === at) break;
    at = inner;
  }
  return at;
}
// Returns whether an action on one element also applies to the other, because it is inside it, its label or its image.
function belongs(at, element) {
  if (inside(at, element)) return true;
  const label = closest(at, 'label');
  return !!label && label.control === element || tag(element) === 'area' && pictureOf(element) === at;
}
// Returns whether something inside an element would handle a click by itself.
const TAKERS = 'a[href],button,input,select,textarea,summary,[role=button],[role=link],[role=checkbox],[role=tab],iframe';
function taken(at, element) {
  for (let node = at; node && node !== element; node = parentOf(node)) if (is(node, TAKERS) && node !== element.control) return true;
  return false;
}
const OUTSIDE = ['it is outside of the visible page'];
function cover(at, element) {
  if (!at) return OUTSIDE;
  if (getComputedStyle(element).pointerEvents === 'none') return ['its style keeps the pointer from it: pointer-events: none'];
  return [html(at), ' covers it'];
}
// Returns the point of an element at which an action is performed: an offset from its corner, or the middle of its
// visible part. Another point is used if something in the middle would handle the click by itself. If a pointer cannot
// reach the element, returns the cause.
const PLACES = [[.5, .5], [.25, .5], [.75, .5], [.1, .5], [.9, .5], [.5, .2], [.5, .8], [.03, .5], [.97, .5]];
function aim(element, position) {
  const reach = (x, y) => {
    const at = met(x, y);
    return at && belongs(at, element) ? {x, y, taken: taken(at, element)} : {why: cover(at, element)};
  };
  if (position) {
    const box = boxOf(element), [left, top] = position;
    if (left > box.width || top > box.height) return {why: [`it is only ${Math.round(box.width)}x${Math.round(box.height)} pixels large`]};
    return reach(box.left + left, box.top + top);
  }
  const boxes = boxesOf(element).slice(0, 8);
  if (!boxes.length) return {why: ['it is not rendered']};
  let second = null, why = null;
  for (const box of boxes) {
    const left = Math.max(0, box.left), right = Math.min(innerWidth, box.right);
    const top = Math.max(0, box.top), bottom = Math.min(innerHeight, box.bottom);
    if (left >= right || top >= bottom) {
      why = why || OUTSIDE;
      continue;
    }
    for (const [across, down] of PLACES) {
      const found = reach(Math.floor(left + (right - left) * across), Math.floor(top + (bottom - top) * down));
      if (found.why) {
        why = why || found.why;
        if (across === .5 && down === .5) break;
      } else if (!found.taken) return found;
      second = second || !found.why && found;
    }
    if (second || rectsOf(element).length) break;
  }
  return second || {why};
}
// Scrolls a point of an element into view.
function reveal(element, position) {
  const seen = boxed(element);
  call(seen, 'scrollIntoView', nearest);
  if (!aim(element, position).why) return;
  call(seen, 'scrollIntoView', middle);
  if (!position) return;
  const box = boxOf(element), [x, y] = [box.left + position[0], box.top + position[1]];
  if (x < 0 || y < 0 || x >= innerWidth || y >= innerHeight) {
    scrollBy({left: x - innerWidth / 2, top: y - innerHeight / 2, behavior: 'instant'});
  }
}
const box = element => { const {x, y, width, height} = boxOf(boxed(element)); return [x, y, width, height].join(); };
async function reachable(element, position) {
  reveal(element, position);
  await frame();
  // A page that was just loaded settles within a few frames, which should not require another query.
  const end = performance.now() + 300;
  // A frame must be painted between two measurements, because animations move with each frame.
  let before, now = box(element), rests;
  do {
    before = now;
    const painted = await frame();
    if (!isConnected(element)) return {why: ['it was removed from the page']};
    now = box(element);
    rests = now === before && (painted || get(document, 'visibilityState') !== 'visible');
  } while (!rests && performance.now() < end);
  if (!rests) return {why: [now !== before ? 'it is moving' : 'the page is not rendered']};
  const {x, y, why} = aim(element, position);
  if (why) return {why};
  // The driver's own click can choose an option and reject a file field, unlike a mouse.
  const own = tag(element) === 'option' || tag(element) === 'input' && element.type === 'file';
  watchFor(own ? null : element);
  // Whether the point differs from the one that the driver's own click would use.
  const [first] = [...rectsOf(element)];
  const at = met(x, y);
  const odd = tag(element) === 'area' || !first || !first.width || !first.height || !inside(at, element) || !!taken(at, element) || !isMiddle(first, x, y);
  const ready = {element, own, odd, point: [Math.round(x), Math.round(y)]};
  // WebDriver uses offsets from the middle of the visible part.
  return position ? {...ready, at: [Math.round(x - middleOf(first)[0]), Math.round(y - middleOf(first)[1])]} : ready;
}
// Returns the point of an element without checking whether it is covered or moving.
async function forced(element, position) {
  call(boxed(element), 'scrollIntoView', middle);
  await frame();
  if (!isConnected(element)) return {why: ['it was removed from the page']};
  const [first] = boxesOf(element);
  if (!first) return {why: ['it is not rendered']};
  const [x, y] = position ? [first.left + position[0], first.top + position[1]] : middleOf(first);
  if (x < 0 || y < 0 || x >= innerWidth || y >= innerHeight) return {why: OUTSIDE};
  watchFor(element);
  const ready = {element, own: false, odd: true, point: [Math.round(x), Math.round(y)]};
  return position ? {...ready, at: [Math.round(x - middleOf(first)[0]), Math.round(y - middleOf(first)[1])]} : ready;
}
const middleOf = box => box ? [(Math.max(0, box.left) + Math.min(innerWidth, box.right)) / 2, (Math.max(0, box.top) + Math.min(innerHeight, box.bottom)) / 2] : [0, 0];
const isMiddle = (box, x, y) => Math.abs(middleOf(box)[0] - x) < 2 && Math.abs(middleOf(box)[1] - y) < 2;

// Records which element receives the pointer events after an element was targeted; the first event decides.
let aimed = null, got = null, listens = false;
function watchFor(element) {
  [aimed, got] = [element, null];
  if (listens) return;
  listens = true;
  const note = event => {
    const at = event.composedPath()[0];
    if (!event.isTrusted || !aimed || got || !(at instanceof Element)) return;
    got = belongs(at, aimed) || !isConnected(aimed) ? {} : {other: at};
  };
  for (const kind of ['pointerdown', 'mousedown', 'click', 'auxclick', 'contextmenu']) addEventListener(kind, note, {capture: true, passive: true});
}
// Returns nothing if no event was observed.
function received() {
  aimed = null;
  return got && (got.other ? {seen: true, other: show(got.other)} : {seen: true});
}

// Converts a point of a frame's page to one of the surrounding page, considering scale, zoom and rotation of the frame,
// or returns why a pointer cannot reach it. Sizes and centers of boxes are read from the layout, directions from the
// styles.
function through(element, [x, y]) {
  let turned = new DOMMatrix();
  for (let node = element; node; node = parentOf(node)) {
    const {rotate, scale, transform} = getComputedStyle(node);
    const own = new DOMMatrix();
    if (rotate && rotate !== 'none') own.multiplySelf(new DOMMatrix(/^[xyz\d.-]+ /.test(rotate) ? 'none' : `rotate(${rotate})`));
    if (scale && scale !== 'none') own.multiplySelf(new DOMMatrix(`scale(${scale.split(' ').slice(0, 2).join()})`));
    if (transform && transform !== 'none') own.multiplySelf(new DOMMatrix(transform));
    turned = own.multiply(turned);
  }
  const zoom = element.currentCSSZoom || 1, style = getComputedStyle(element), box = boxOf(element);
  const width = element.offsetWidth * zoom, height = element.offsetHeight * zoom;
  const near = (one, other) => Math.abs(one - other) <= 2 + other / 50;
  const {a, b, c, d} = turned;
  if (!near(Math.abs(a * width) + Math.abs(c * height), box.width) || !near(Math.abs(b * width) + Math.abs(d * height), box.height)) {
    return {why: ['it is in a frame with a 3D transform']};
  }
  const right = (element.clientLeft + parseFloat(style.paddingLeft) + x) * zoom - width / 2;
  const down = (element.clientTop + parseFloat(style.paddingTop) + y) * zoom - height / 2;
  const [left, top] = [box.x + box.width / 2 + a * right + c * down, box.y + box.height / 2 + b * right + d * down];
  const at = met(left, top);
  if (!at || !inside(at, element)) return {why: at ? [html(at), ' covers its frame'] : OUTSIDE};
  watchFor(element);
  return {point: [Math.round(left), Math.round(top)]};
}

const changed = element => {
  call(element, 'dispatchEvent', new Event('input', {bubbles: true, composed: true}));
  call(element, 'dispatchEvent', new Event('change', {bubbles: true}));
};
// Returns the control of a label, or the element itself.
const controlOf = element => tag(element) === 'label' && get(element, 'control') || element;

// Returns the document of a frame if it has the same origin.
function sameOf(element) {
  try { return element.contentDocument; } catch { return null; }
}
async function prepare(element, query) {
  const at = query.position;
  switch (query.then) {
    case 'frame':
      return ['iframe', 'frame', 'object', 'embed'].includes(tag(element)) ? {element, same: !!sameOf(element)} : {wrong: [html(element), ' is not a frame']};
    case 'scroll':
      call(element, 'scrollIntoView', middle);
      await frame();
      return {element};
    case 'hover':
      if (query.unselect) getSelection()?.removeAllRanges();
      return reachable(element, at);
    case 'upload': return upload(element, query.files, query.chooser);
    case 'check': return check(element, query.on, query.look);
  }
  if (query.then === 'focus') element = controlOf(element);
  if (query.then === 'type' || query.then === 'compare') element = fieldOf(element);
  if (query.then === 'compare') return compare(element, query);
  if (query.then !== 'focus' && !enabled(element)) return {why: ['it is disabled']};
  switch (query.then) {
    case 'click': return query.force ? forced(element, at) : reachable(element, at);
    case 'choose': return choose(element, query);
    case 'type': {
      const done = await typeable(element, query);
      if (done) return done;
    }
  }
  call(element, 'scrollIntoView', nearest);
  if (query.then === 'type' && !closest(element, EDITORS)) {
    const {left, right, top, bottom} = boxOf(element);
    if (right <= 0 || bottom <= 0 || left >= innerWidth || top >= innerHeight) return {why: OUTSIDE};
  }
  call(element, 'focus');
  if (query.then === 'focus') return {element};
  await turn(); // the page may move the caret on focus
  if (closest(element, EDITORS)) return {element, editor: true, origin: location.origin};
  const ready = selectText(element, query.append);
  if (query.text && isPasted(query.text)) return insert(query.text) ? {...ready, pasted: true} : {why: ['it does not accept pasted text']};
  return ready;
}

// Editors that render their text themselves and read input from a small invisible field or directly from the keyboard.
const EDITORS = '.CodeMirror,.cm-editor,.monaco-editor,.ace_editor', EDITOR_LINES = '.CodeMirror-line,.cm-line,.view-line,.ace_line';
const NO_FIELDS = ['checkbox', 'radio', 'file', 'button', 'submit', 'reset', 'image', 'hidden'];
const takesText = element => tag(element) === 'textarea' || tag(element) === 'input' && !NO_FIELDS.includes(get(element, 'type'))
  || get(element, 'isContentEditable') || !!element.editContext;
// Returns the field for an element: the element itself, the control of a label, or the only field inside it.
function fieldOf(element) {
  const control = controlOf(element);
  if (takesText(control)) return control;
  const within = [control, shadowOf(control)].filter(Boolean).flatMap(root => [...all(root, 'textarea,input,[contenteditable],.native-edit-context')]).filter(takesText);
  const outermost = within.filter(one => !within.some(other => other !== one && holds(other, one)));
  return outermost.length === 1 ? outermost[0] : control;
}
const isLocked = element => !!get(element, 'readOnly') || attr(element, 'aria-readonly') === 'true';
// Returns the content of a field as displayed.
function standing(element) {
  const editor = closest(element, EDITORS);
  if (!editor) return hasValue(element) ? String(element.value) : innerTextOf(element);
  const lines = [...all(editor, EDITOR_LINES)].sort((one, other) => boxOf(one).top - boxOf(other).top);
  return lines.map(textOf).join('\n');
}
const flat = text => fold(text.replace(/[\u200b\ufeff]/g, ''));
const lined = text => text.replace(/\r\n?/g, '\n');
// Returns whether a field contains the typed text. An editor renders only a part of a long text.
function holdsText(element, {text, append}) {
  const is = standing(element), kind = tag(element) === 'input' ? get(element, 'type') : '';
  if (closest(element, EDITORS)) return append ? flat(is).endsWith(flat(text)) || !!flat(is) : flat(is) === flat(text) || !!flat(is) && flat(text).length > 1000 && flat(text).includes(flat(is));
  if (!hasValue(element)) return append ? flat(is).endsWith(flat(text)) : flat(is) === flat(text);
  if (append) return lined(is).endsWith(lined(text));
  if (kind === 'number') return is === text || is !== '' && Number(is) === Number(text);
  if (kind === 'email' || kind === 'url') return is === text.trim();
  return lined(is) === lined(text);
}
function compare(element, query) {
  if (!takesText(element)) return {done: true, same: true};
  const same = holdsText(element, query);
  return {done: true, same, stands: get(element, 'type') === 'password' ? null : long(standing(element))};
}
// Inserts a text at the caret as if pasted. Editors read it from the event, other fields get it from the browser.
function insert(text) {
  let at = get(document, 'activeElement');
  while (at && shadowOf(at) && shadowOf(at).activeElement) at = shadowOf(at).activeElement;
  if (!at) return false;
  if (!hasValue(at)) {
    const data = new DataTransfer();
    data.setData('text/plain', text);
    if (!call(at, 'dispatchEvent', new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true, composed: true}))) return true;
  }
  return call(document, 'execCommand', 'insertText', false, text);
}
// Texts are inserted as a whole if they are long or contain characters that no key produces: a tab, which as a key
// would leave the field, and characters that join or vary others.
const KEYED = 500;
const isPasted = text => text.length > KEYED || /[\t\u200d\ufe00-\ufe0f]/.test(text);

// Fields with a picker or locale-dependent format. Their value is set in a way that frameworks detect.
const PICKED = ['date', 'time', 'datetime-local', 'month', 'week', 'color', 'range'];
async function typeable(element, query) {
  const input = tag(element) === 'input';
  if (!takesText(element)) return {wrong: [html(element), ' is not a field that can be filled']};
  if (input && query.text.includes('\n')) return {wrong: [html(element), ' has one line and takes no line break; `press: Enter` is a step of its own']};
  if (isLocked(element)) {
    // Some fields are read-only until they get the focus.
    call(element, 'scrollIntoView', nearest);
    call(element, 'focus');
    await turn();
    if (isLocked(element)) return {why: ['it is read-only']};
  }
  if (!input || !PICKED.includes(get(element, 'type'))) return null;
  if (query.append) return {wrong: [`nothing can be added to a field of type ${get(element, 'type')}`]};
  const wanted = get(element, 'type') === 'datetime-local' ? query.text.replace(' ', 'T') : query.text;
  call(element, 'scrollIntoView', nearest);
  call(element, 'focus');
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(element, wanted);
  const same = {color: () => get(element, 'value') === wanted.toLowerCase() || wanted === '', range: () => Number(get(element, 'value')) === Number(wanted) || wanted === ''}[get(element, 'type')];
  if (!(same ? same() : get(element, 'value') === wanted || Date.parse('2000-01-01T' + get(element, 'value')) === Date.parse('2000-01-01T' + wanted))) {
    return {wrong: [`a field of type ${get(element, 'type')} does not take `, {text: query.text}]};
  }
  changed(element);
  return {done: true};
}
// Selects the text to overwrite, or moves the caret to its end. In a shadow root, the driver moves the caret again.
function selectText(element, append) {
  const ready = caret(element, append);
  ready.password = get(element, 'type') === 'password';
  ready.origin = location.origin;
  return {...ready, shadow: rootOf(element) !== document};
}
function caret(element, append) {
  if (hasValue(element)) {
    if (!append) {
      element.select();
      return {element, empty: get(element, 'value') === ''};
    }
    try {
      element.setSelectionRange(get(element, 'value').length, get(element, 'value').length);
      return {element, caret: true};
    } catch {
      return {element, caret: false}; // number and e-mail fields: the End key moves the caret
    }
  }
  const selection = typeOf(rootOf(element)) === 11 && rootOf(element).getSelection ? rootOf(element).getSelection() : getSelection();
  selection.selectAllChildren(element);
  if (append) selection.collapseToEnd();
  return {element, empty: textOf(element) === '' && !first(element, 'img,table,hr'), caret: true};
}

async function choose(element, query) {
  element = controlOf(element);
  if (tag(element) === 'select') return chooseNative(element, query.options);
  const what = role(element);
  if (what === 'listbox') return chooseIn(element, element, query);
  if (what !== 'combobox' && attr(element, 'aria-haspopup') !== 'listbox') return {wrong: [html(element), ' is no list to select from']};
  const shown = fold(innerTextOf(element) ?? '');
  if (!query.opened && query.options.length === 1 && shown && shown === fold(query.options[0].text ?? '')) return {done: true};
  const list = listOf(element);
  if (list) return chooseIn(list, element, query);
  if (query.picked) return shownAs(element, query);
  if (query.opened) return {why: ['its list does not open']};
  openBefore = lists(element);
  const ready = await reachable(element);
  return ready.element ? {...ready, opens: true} : ready;
}
// Lists that were open before a combobox was clicked.
let openBefore = [];
const lists = element => [...all(rootOf(element), '[role=listbox]')].filter(visible);
// Returns the open list of a combobox: one that it references or contains, or the only one that has appeared.
function listOf(element) {
  const inside = [...byIds(element, 'aria-controls'), ...byIds(element, 'aria-owns'), element].flatMap(one => [one, ...all(one, '[role=listbox]')]);
  const named = inside.find(one => role(one) === 'listbox' && visible(one));
  if (named || attr(element, 'aria-expanded') !== 'true') return named || null;
  const open = lists(element), come = open.filter(one => !openBefore.includes(one));
  return come.length === 1 ? come[0] : open.length === 1 ? open[0] : null;
}
const isChosen = option => attr(option, 'aria-selected') === 'true' || attr(option, 'aria-checked') === 'true';
const isWanted = (option, {text, value}) => value === undefined ? fold(name(option)) === fold(text) : [attr(option, 'data-value'), attr(option, 'value'), attr(option, 'id')].includes(value);
const optionsOf = list => [list, ...byIds(list, 'aria-owns')].flatMap(one => [...all(one, '[role=option]'), ...(role(one) === 'option' ? [one] : [])]).filter(visible);
const told = ({text, value}) => value === undefined ? [{text}] : ['of value ', {text: value}];
// Returns the next click that a list needs, or `done` if it needs none. In a list with multiple selection, exactly the
// requested options are chosen.
async function chooseIn(list, element, query) {
  const options = optionsOf(list), many = attr(list, 'aria-multiselectable') === 'true';
  if (query.options.length > 1 && !many) return {wrong: ['the list accepts only one option']};
  const meant = query.options.map(one => options.find(option => isWanted(option, one)));
  const missing = meant.findIndex(one => !one);
  if (missing >= 0) {
    if (query.picked) return shownAs(element, query);
    const has = options.slice(0, 10).map(one => long(fold(name(one))));
    return {why: ['it has no option ', ...told(query.options[missing]), ', but ', has.length ? {texts: has, more: options.length > 10} : 'none at all']};
  }
  const off = meant.findIndex(one => !enabled(one));
  if (off >= 0) return {why: ['its option ', ...told(query.options[off]), ' is disabled']};
  const wrong = many ? options.find(one => isChosen(one) !== meant.includes(one)) : !query.picked || isChosen(meant[0]) ? null : meant[0];
  if (!many && !query.picked) {
    if (isChosen(meant[0]) && element === list) return {done: true};
    return reachable(meant[0]);
  }
  if (!wrong) return {done: true};
  // Lists without selection attributes cannot be verified.
  if (!many && !options.some(one => has(one, 'aria-selected') || has(one, 'aria-checked'))) return {done: true};
  if (many) return reachable(wrong);
  return element === list ? {why: ['its option ', ...told(query.options[0]), ' was clicked but is not selected']} : shownAs(element, query);
}
// Verifies that a combobox shows the chosen option.
function shownAs(element, query) {
  const shown = fold(hasValue(element) ? String(element.value) : innerTextOf(element) ?? textOf(element));
  const wanted = query.options[0];
  if (wanted.value !== undefined || shown.includes(fold(wanted.text))) return {done: true};
  return {why: ['it shows ', {text: long(shown)}, ' and not ', {text: wanted.text}, ', which was selected']};
}
function chooseNative(element, wanted) {
  if (wanted.length > 1 && !element.multiple) return {wrong: ['the list accepts only one option']};
  const options = [...element.options], chosen = [];
  for (const {text, value} of wanted) {
    const option = options.find(one => value === undefined ? fold(one.label) === fold(text) || fold(one.text) === fold(text) : one.value === value);
    const shown = told({text, value});
    if (!option) {
      const has = options.slice(0, 10).map(one => long(value === undefined ? fold(one.label) : one.value));
      return {why: ['it has no option ', ...shown, ', but ', has.length ? {texts: has, more: options.length > 10} : 'none at all']};
    }
    if (option.disabled || closest(option, 'optgroup:disabled')) return {why: ['its option ', ...shown, ' is disabled']};
    chosen.push(option);
  }
  call(element, 'focus');
  for (const option of options) {
    const on = chosen.includes(option);
    if (option.selected !== on) option.selected = on;
  }
  changed(element);
  return {done: true};
}

// Checkboxes: native ones, and elements with such a role.
const BOXES = ['checkbox', 'switch', 'radio', 'menuitemcheckbox', 'menuitemradio'];
async function check(element, on, look) {
  const control = controlOf(element);
  if (!BOXES.includes(role(control))) return {wrong: [html(element), ' is not a box that can be checked']};
  const half = get(control, 'indeterminate') || attr(control, 'aria-checked') === 'mixed';
  if (!half && checked(control) === on) return {done: true};
  if (look) return {why: [`it is ${half ? 'half ' : on ? 'not ' : ''}checked`]};
  if (!on && ['radio', 'menuitemradio'].includes(role(control))) return {wrong: ['a radio button cannot be unchecked, only another one be checked']};
  if (!enabled(control)) return {why: ['it is disabled']};
  // A styled checkbox is often hidden, and users click its label instead.
  let last = {why: ['it is not visible']};
  for (const one of [element, control, ...(get(control, 'labels') || [])]) {
    if (!visible(one)) continue;
    const ready = await reachable(one);
    if (ready.element) return ready;
    last = ready;
  }
  return last;
}

// Returns the file field for an element that users click to choose files: the element itself, the control of its label,
// one that it references, or the closest one.
const FILES = 'input[type=file]';
function fileInput(element) {
  const control = controlOf(element);
  if (is(control, FILES)) return control;
  const label = closest(element, 'label');
  if (label && label.control && is(label.control, FILES)) return label.control;
  const pointed = [...byIds(element, 'aria-controls'), ...byIds(element, 'aria-owns')].find(one => is(one, FILES));
  if (pointed) return pointed;
  for (let node = element; node && tag(node) !== 'body'; node = parent(node)) {
    const found = all(node, FILES);
    if (found.length) return found.length === 1 ? found[0] : null;
    if (tag(node) === 'form') break;
  }
  return null;
}
async function upload(element, files, chooser) {
  const input = fileInput(element);
  if (!input) {
    if (!chooser) return {wrong: [html(element), ' is not a field for files, and has none with it']};
    // A page may create the field when the element is clicked.
    const ready = await reachable(element);
    return ready.element ? {...ready, opens: true} : ready;
  }
  if (input.disabled) return {why: ['it is disabled']};
  if (files > 1 && !input.multiple) return {wrong: ['the field accepts only one file']};
  if (input.files.length) input.value = '';
  return {element: input};
}
