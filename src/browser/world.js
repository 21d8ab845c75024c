// Runs in the page, after all other scripts: their interface to the agent. Arguments and results are passed as text,
// with a number in place of each element, because texts are cheap to transfer, unlike trees of values.

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
function unpack(text, elements) {
  return JSON.parse(text, (key, value) => value && typeof value === 'object' && ELEMENT in value ? elements[value[ELEMENT]] : value);
}
// Returns the result as text, its elements, and the window of each element that is a frame.
async function pack(result) {
  const elements = [];
  const text = JSON.stringify(await result, (key, value) => value instanceof Node ? {[ELEMENT]: elements.push(value) - 1} : value);
  const windows = elements.map(one => ['iframe', 'frame', 'object', 'embed'].includes(tag(one)) ? one.contentWindow ?? null : null);
  return [text ?? 'null', elements, windows];
}
// Returns the role and the accessible name of an element.
const describe = element => {
  cache = {};
  return [role(element), name(element)];
};
// Returns the first frames of the document with their title, id and name.
const FRAMES = 8;
const frames = () => [...all(document, 'iframe,frame')].slice(0, FRAMES)
  .map(element => ({element, title: attr(element, 'title'), id: attr(element, 'id'), name: attr(element, 'name')}));
// Returns the current document as markup.
function source() {
  const kind = document.doctype;
  return (kind ? new XMLSerializer().serializeToString(kind) + '\n' : '') + (get(document, 'documentElement')?.outerHTML ?? '');
}
// Scrolls the page, or the largest scrollable part of it, by most of its visible height. Returns whether it moved.
function scrollOn() {
  const parts = [get(document, 'scrollingElement') || get(document, 'documentElement'), ...all(document, '*')].filter(one => one && get(one, 'scrollHeight') > get(one, 'clientHeight') + 1
    && (one === get(document, 'scrollingElement') || ['auto', 'scroll', 'overlay'].includes(getComputedStyle(one).overflowY)));
  const size = one => one.clientWidth * one.clientHeight;
  for (const part of parts.sort((one, other) => size(other) - size(one)).slice(0, 5)) {
    const before = get(part, 'scrollTop');
    call(part, 'scrollBy', {top: Math.max(50, get(part, 'clientHeight') * .8), behavior: 'instant'});
    if (get(part, 'scrollTop') > before) return frame().then(() => true);
  }
  return frame().then(() => false);
}
return {locate, frames, tree, describe, received, through, insert, source, scrollOn, get, call, all, turn, frame, unpack, pack};
