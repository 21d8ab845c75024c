// Runs in the page, after names.js: returns the accessibility tree as lines of text. Texts are not truncated, because a
// part of a secret would not be masked; a text that is too long is omitted entirely.

const LINES = 2000, BYTES = 200000, TEXT = 4000, PATIENCE = 1500;
let lines, bytes, full, end;
function line(depth, text) {
  if (full) return;
  if (lines.length >= LINES || bytes + text.length > BYTES || performance.now() > end) {
    full = true;
    lines.push('(and more)');
    return;
  }
  bytes += text.length + 2 * depth;
  lines.push('  '.repeat(depth) + text);
}
const quoted = text => text.length > TEXT ? `(a text of ${text.length} characters)` : JSON.stringify(text);
const INPUT_VALUES = new Set(['textbox', 'searchbox', 'combobox', 'spinbutton', 'slider', 'progressbar', 'meter', 'scrollbar']);
function states(element, what) {
  const told = [];
  const aria = one => attr(element, 'aria-' + one);
  if (what === 'heading') told.push(`level=${aria('level') || /^h([1-6])$/.exec(tag(element))?.[1] || 2}`);
  if (['checkbox', 'radio', 'switch', 'menuitemcheckbox', 'menuitemradio'].includes(what)) {
    told.push(get(element, 'indeterminate') || aria('checked') === 'mixed' ? 'checked=mixed' : checked(element) ? 'checked' : 'unchecked');
  }
  if (aria('pressed') !== null) told.push(`pressed=${aria('pressed')}`);
  if (aria('selected') === 'true' || (tag(element) === 'option' && element.selected)) told.push('selected');
  if (!enabled(element)) told.push('disabled');
  if (get(element, 'readOnly')) told.push('readonly');
  if (get(element, 'required') || aria('required') === 'true') told.push('required');
  if (aria('invalid') && aria('invalid') !== 'false') told.push('invalid');
  const open = aria('expanded') ?? (tag(element) === 'summary' ? String(parent(element).open === true) : null);
  if (open !== null) told.push(open === 'true' ? 'expanded' : 'collapsed');
  if (get(rootOf(element), 'activeElement') === element && tag(element) !== 'body') told.push('focused');
  if (INPUT_VALUES.has(what)) {
    const value = embedded(element, what, {origin: null, seen: new Set()});
    if (get(element, 'type') === 'password') told.push(get(element, 'value') ? 'value=(hidden)' : '');
    else if (value) told.push(`value=${quoted(fold(value))}`);
  }
  const shown = told.filter(Boolean);
  return shown.length ? ` [${shown.join(', ')}]` : '';
}
function walk(node, depth, told) {
  if (full) return;
  if (typeOf(node) === 3) {
    const text = fold(node.data);
    if (text && !told) line(depth, `text ${quoted(text)}`);
    return;
  }
  if (NO_TEXT.has(tag(node)) || attr(node, 'aria-hidden') === 'true' || get(node, 'inert')) return;
  const box = tag(node) === 'option' || tag(node) === 'optgroup' || getComputedStyle(node).display === 'contents' || rendered(node);
  if (!box) return;
  const seen = shown(node), what = role(node);
  if (tag(node) === 'iframe' || tag(node) === 'frame') {
    if (!seen) return;
    let inner = null;
    try { inner = node.contentDocument; } catch { /* of another origin */ }
    line(depth, `iframe ${quoted(name(node))}${inner ? '' : ' (of another origin)'}`);
    const body = inner && get(inner, 'body');
    if (body) walk(body, depth + 1, false);
    return;
  }
  let below = depth, spoken = told;
  if (seen && what && what !== 'document') {
    const called = name(node);
    line(depth, `${what}${called ? ' ' + quoted(called) : ''}${states(node, what)}`);
    below = depth + 1;
    spoken = FROM_CONTENT.has(what) && !!called ? true : ['textbox', 'searchbox', 'img'].includes(what);
  }
  for (const child of childrenOf(node)) if (typeOf(child) !== 3 || seen) walk(child, below, spoken);
}
function tree() {
  [lines, bytes, full, end] = [[], 0, false, performance.now() + PATIENCE];
  cache = {};
  line(0, `document ${quoted(get(document, 'title'))}`);
  const body = get(document, 'body');
  if (body) walk(body, 1, false);
  return lines.join('\n') + '\n';
}
