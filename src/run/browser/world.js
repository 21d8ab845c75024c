// Runs in the page, after all others: how they are asked from outside. An argument comes as a text, with a number in
// the place of each element, and so does a result: texts cost little on their way, and trees of values much.

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
function unpack(text, elements) {
  return JSON.parse(text, (key, value) => value && typeof value === 'object' && ELEMENT in value ? elements[value[ELEMENT]] : value);
}
// The result as a text, its elements, and the window of each that is a frame.
async function pack(result) {
  const elements = [];
  const text = JSON.stringify(await result, (key, value) => value instanceof Node ? {[ELEMENT]: elements.push(value) - 1} : value);
  const windows = elements.map(one => ['iframe', 'frame', 'object', 'embed'].includes(tag(one)) ? one.contentWindow ?? null : null);
  return [text ?? 'null', elements, windows];
}
// What a screen reader calls an element.
const describe = element => {
  cache = {};
  return [role(element), name(element)];
};
// The frames of the document, and how each can be named.
const FRAMES = 8;
const frames = () => [...all(document, 'iframe,frame')].slice(0, FRAMES)
  .map(element => ({element, title: attr(element, 'title'), id: attr(element, 'id'), name: attr(element, 'name')}));
return {locate, frames, tree, describe, received, through, get, call, all, turn, frame, unpack, pack};
