// Runs in the page, between names.js and locate.js: whether an element can be acted on, and if not why not, in words;
// and what of an action is done by a script. `why` may pass, `wrong` will not.

const nearest = {block: 'nearest', inline: 'nearest', behavior: 'instant'};
const middle = {block: 'center', inline: 'center', behavior: 'instant'};

// Where on an element an action goes: its middle as far as it can be seen, or a place counted from its corner.
function spot(element, position) {
  const rects = element.getClientRects();
  if (!rects.length) return {why: ['it has no place on the page']};
  if (position) {
    const box = element.getBoundingClientRect(), [left, top] = position;
    if (left > box.width || top > box.height) return {why: [`it is ${Math.round(box.width)}x${Math.round(box.height)} pixels large only`]};
    return {x: box.left + left, y: box.top + top};
  }
  const box = rects[0];
  const left = Math.max(0, box.left), right = Math.min(innerWidth, box.right);
  const top = Math.max(0, box.top), bottom = Math.min(innerHeight, box.bottom);
  if (left >= right || top >= bottom) return {why: ['it is outside of the visible page']};
  return {x: Math.floor((left + right) / 2), y: Math.floor((top + bottom) / 2)};
}
// Why a pointer would not reach an element there.
function hit(element, position) {
  const {x, y, why} = spot(element, position);
  if (why) return why;
  let at = document.elementFromPoint(x, y);
  while (at && at.shadowRoot) {
    const inner = at.shadowRoot.elementFromPoint(x, y);
    if (!inner || inner === at) break;
    at = inner;
  }
  if (!at) return ['it is outside of the visible page'];
  return inside(at, element) ? null : [html(at), ' covers it'];
}
// Brings a place of an element into sight.
function reveal(element, position) {
  element.scrollIntoView(nearest);
  if (!hit(element, position)) return;
  element.scrollIntoView(middle);
  const {x, y} = spot(element, position);
  if (position && x !== undefined && (x < 0 || y < 0 || x >= innerWidth || y >= innerHeight)) {
    scrollBy({left: x - innerWidth / 2, top: y - innerHeight / 2, behavior: 'instant'});
  }
}
const box = element => { const {x, y, width, height} = element.getBoundingClientRect(); return [x, y, width, height].join(); };
async function reachable(element, position) {
  reveal(element, position);
  await frame();
  // A page that has just come settles within a few frames: no need to ask again for that.
  const end = performance.now() + 300;
  let before, now = box(element);
  do {
    before = now;
    await frame();
    if (!element.isConnected) return {why: ['it left the page']};
    now = box(element);
  } while (now !== before && performance.now() < end);
  if (now !== before) return {why: ['it is moving']};
  const why = hit(element, position);
  if (why) return {why};
  const point = spot(element, position);
  // An option is chosen and a file's field refuses: the driver's own click knows that, a mouse does not.
  const own = element.localName === 'option' || element.localName === 'input' && element.type === 'file';
  const ready = {element, own, point: [Math.round(point.x), Math.round(point.y)]};
  if (!position) return ready;
  // WebDriver counts from the middle of what can be seen.
  const centre = spot(element);
  return {...ready, at: [Math.round(point.x - (centre.x ?? 0)), Math.round(point.y - (centre.y ?? 0))]};
}
const changed = element => {
  element.dispatchEvent(new Event('input', {bubbles: true, composed: true}));
  element.dispatchEvent(new Event('change', {bubbles: true}));
};
// The control that a label is for.
const controlOf = element => element.localName === 'label' && element.control || element;

async function prepare(element, query) {
  const at = query.position;
  switch (query.then) {
    case 'frame':
      return ['iframe', 'frame', 'object', 'embed'].includes(element.localName) ? {element} : {wrong: [html(element), ' is not a frame']};
    case 'scroll':
      element.scrollIntoView(middle);
      await frame();
      return {element};
    case 'hover': return reachable(element, at);
    case 'upload': return upload(element, query.files);
    case 'check': return check(element, query.on, query.look);
  }
  element = query.then === 'type' || query.then === 'focus' ? controlOf(element) : element;
  if (query.then !== 'focus' && !enabled(element)) return {why: ['it is disabled']};
  switch (query.then) {
    case 'click': return reachable(element, at);
    case 'choose': return choose(element, query.options);
    case 'type': {
      const done = typeable(element, query);
      if (done) return done;
    }
  }
  element.scrollIntoView(nearest);
  element.focus();
  if (query.then === 'focus') return {element};
  await new Promise(done => setTimeout(done)); // what the page does on focus may move the caret
  return select(element, query.append);
}

// Fields that a locale or a picker stands before: their value is set as a script of a framework would see it.
const PICKED = ['date', 'time', 'datetime-local', 'month', 'week', 'color', 'range'];
function typeable(element, query) {
  const area = element.localName === 'textarea', input = element.localName === 'input';
  if (!area && !input && !element.isContentEditable) return {wrong: [html(element), ' is not a field that can be filled']};
  if (input && ['checkbox', 'radio', 'file', 'button', 'submit', 'reset', 'image', 'hidden'].includes(element.type)) {
    return {wrong: [html(element), ' is not a field that can be filled']};
  }
  if (element.readOnly || element.getAttribute('aria-readonly') === 'true') return {why: ['it is read-only']};
  if (!input || !PICKED.includes(element.type)) return null;
  if (query.append) return {wrong: [`nothing can be added to a field of type ${element.type}`]};
  const wanted = element.type === 'datetime-local' ? query.text.replace(' ', 'T') : query.text;
  element.scrollIntoView(nearest);
  element.focus();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(element, wanted);
  const same = {color: () => element.value === wanted.toLowerCase() || wanted === '', range: () => Number(element.value) === Number(wanted) || wanted === ''}[element.type];
  if (!(same ? same() : element.value === wanted || Date.parse('2000-01-01T' + element.value) === Date.parse('2000-01-01T' + wanted))) {
    return {wrong: [`a field of type ${element.type} does not take `, {text: query.text}]};
  }
  changed(element);
  return {done: true};
}
// Selects what is typed over, or puts the caret behind it. In a shadow root the driver moves the caret once more.
function select(element, append) {
  const ready = caret(element, append);
  ready.password = element.type === 'password';
  ready.origin = location.origin;
  return {...ready, shadow: element.getRootNode() !== document};
}
function caret(element, append) {
  if ('value' in element) {
    if (!append) {
      element.select();
      return {element, empty: element.value === ''};
    }
    try {
      element.setSelectionRange(element.value.length, element.value.length);
      return {element, caret: true};
    } catch {
      return {element, caret: false}; // a number or an e-mail address: the key End does it
    }
  }
  const selection = element.getRootNode().getSelection ? element.getRootNode().getSelection() : getSelection();
  selection.selectAllChildren(element);
  if (append) selection.collapseToEnd();
  return {element, empty: element.textContent === '' && !element.querySelector('img,table,hr'), caret: true};
}

function choose(element, wanted) {
  element = controlOf(element);
  if (element.localName !== 'select') return {wrong: [html(element), ' is not a <select> list']};
  if (wanted.length > 1 && !element.multiple) return {wrong: ['the list takes one option only']};
  const options = [...element.options], chosen = [];
  for (const {text, value} of wanted) {
    const option = options.find(one => value === undefined ? fold(one.label) === fold(text) || fold(one.text) === fold(text) : one.value === value);
    const shown = value === undefined ? [{text}] : ['of value ', {text: value}];
    if (!option) {
      const has = options.slice(0, 10).map(one => long(value === undefined ? fold(one.label) : one.value));
      return {why: ['it has no option ', ...shown, ', but ', has.length ? {texts: has, more: options.length > 10} : 'none at all']};
    }
    if (option.disabled || option.closest('optgroup:disabled')) return {why: ['its option ', ...shown, ' is disabled']};
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

// Boxes: native ones, and those that only say they are.
const BOXES = ['checkbox', 'switch', 'radio', 'menuitemcheckbox', 'menuitemradio'];
async function check(element, on, look) {
  const control = controlOf(element);
  if (!BOXES.includes(role(control))) return {wrong: [html(element), ' is not a box that can be checked']};
  const half = control.indeterminate || control.getAttribute('aria-checked') === 'mixed';
  if (!half && checked(control) === on) return {done: true};
  if (look) return {why: [`it is ${half ? 'half ' : on ? 'not ' : ''}checked`]};
  if (!on && ['radio', 'menuitemradio'].includes(role(control))) return {wrong: ['a radio button cannot be unchecked, only another one be checked']};
  if (!enabled(control)) return {why: ['it is disabled']};
  // A box with a style of its own is often hidden: then it is its label that people click.
  let last = {why: ['it is not visible']};
  for (const one of [element, control, ...(control.labels || [])]) {
    if (!visible(one)) continue;
    const ready = await reachable(one);
    if (ready.element) return ready;
    last = ready;
  }
  return last;
}

// The field behind what people click to choose files: the element, its label's, the one in it, or the nearest.
const FILES = 'input[type=file]';
function fileInput(element) {
  const control = controlOf(element);
  if (control.matches(FILES)) return control;
  const label = element.closest('label');
  if (label && label.control && label.control.matches(FILES)) return label.control;
  const pointed = [...byIds(element, 'aria-controls'), ...byIds(element, 'aria-owns')].find(one => one.matches(FILES));
  if (pointed) return pointed;
  for (let node = element; node && node.localName !== 'body'; node = node.parentElement) {
    const found = node.querySelectorAll(FILES);
    if (found.length) return found.length === 1 ? found[0] : null;
    if (node.localName === 'form') break;
  }
  return null;
}
function upload(element, files) {
  const input = fileInput(element);
  if (!input) return {wrong: [html(element), ' is not a field for files, and has none with it']};
  if (input.disabled) return {why: ['it is disabled']};
  if (files > 1 && !input.multiple) return {wrong: ['the field takes one file only']};
  if (input.files.length) input.value = '';
  return {element: input};
}
