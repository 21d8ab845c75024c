// Writes what happened to a page into its element with role status: the top page's, where the page is in a frame.
let before = '', times = 0;

// Says that something happened. With its event also whether a script made it, and how many times.
function done(text, event) {
  if (event && !event.isTrusted) text += ' by a script';
  times = event && text === before ? times + 1 : 1;
  before = text;
  show(times > 1 ? `${text} ${times} times` : text);
}
function show(text) {
  if (top === self) document.querySelector('output').textContent = text;
  else top.postMessage(text, '*');
}
addEventListener('message', ({data}) => show(data));
