// The pages of tests/actionability with Playwright, and as scenario files for wachta by hand.
//
// usage: node actionability.mjs playwright FOLDER CHROMIUM ROUNDS [ARGUMENT...]
//          FOLDER is what install.sh has filled; prints one line of JSON for each page: its verdict, the median of the
//          times in milliseconds, each of them, and what Playwright said. WACHTA_ONLY names the pages, separated by commas.
//        node actionability.mjs scenarios FOLDER SHARES
//          writes the pages as so many scenarios into FOLDER (those that need a fresh window one by one), prints the
//          variable that they need, and serves the pages until its input ends.

import {cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {createRequire} from 'node:module';
import {dirname, extname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = join(dirname(fileURLToPath(import.meta.url)), '../../tests/actionability');
const only = process.env.WACHTA_ONLY?.split(',');
const rows = JSON.parse(readFileSync(join(here, 'table.json'), 'utf8')).filter(row => !only || only.some(one => row.page.includes(one)));

// How long the last step may take where it must fail, and any step where it must not.
const SHORT = 2000, LONG = 5000;

function serve() {
  const types = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript'};
  const server = createServer((request, response) => {
    const path = new URL(request.url, 'http://localhost').pathname, file = join(here, 'site', path);
    if (!types[extname(path)] || !existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, {'content-type': types[extname(path)]}).end(readFileSync(file));
  });
  return new Promise(done => server.listen(0, '127.0.0.1', () => done({server, url: `http://127.0.0.1:${server.address().port}`})));
}

// Rows as one scenario, as tests/boundary/actionability.rs makes it. JSON is YAML.
function scenario(id, rows) {
  const steps = rows.flatMap(({page, steps, right}) => {
    const acts = right.verdict === 'failed' ? [...steps.slice(0, -1), {...steps.at(-1), timeout: `${SHORT}ms`}] : steps;
    const look = {expect: {element: {testid: 'result'}, text: right.result}, timeout: '5s'};
    return [{goto: `/${page}.html`, timeout: '30s'}, ...acts, look]
      .map((step, index) => ({...step, name: `${page} ${index}`, continue: true}));
  });
  return {scenario: `Actionability ${id}`, id, timeout: '10m', base_url: '${env.SITE_URL}', steps};
}

async function scenarios(folder, shares) {
  mkdirSync(folder, {recursive: true});
  cpSync(join(here, 'files'), join(folder, 'files'), {recursive: true});
  const write = (id, rows) => rows.length && writeFileSync(join(folder, `${id}.yaml`), JSON.stringify(scenario(id, rows), null, 1) + '\n');
  const together = rows.filter(row => !row.alone);
  for (let share = 0; share < shares; share++) write(`share-${share + 1}`, together.filter((_, index) => index % shares === share));
  for (const row of rows.filter(row => row.alone)) write(row.page, [row]);
  const {server, url} = await serve();
  console.log(`SITE_URL=${url}`);
  process.stdin.resume().on('end', () => server.close()).on('close', () => server.closeAllConnections());
}

// A locator of the scenario language as Playwright's users write it.
function find(scope, locator) {
  const [[how, name]] = Object.entries(locator);
  switch (how) {
    case 'text': return scope.getByText(name, {exact: true});
    case 'label': return scope.getByLabel(name, {exact: true});
    case 'testid': return scope.getByTestId(name);
    case 'css': return scope.locator(name);
    default: return scope.getByRole(how, {name, exact: true});
  }
}

async function act(page, step, timeout) {
  const [[action, value]] = Object.entries(step);
  const scope = step.within_frame ? page.frameLocator(`[title="${step.within_frame.title}"]`) : page;
  const target = () => find(scope, value);
  switch (action) {
    case 'click': return target().click({timeout, button: step.button || 'left'});
    case 'double_click': return target().dblclick({timeout});
    case 'hover': return target().hover({timeout});
    case 'check': return target().check({timeout});
    case 'fill': return target().fill(step.with, {timeout});
    case 'select': return target().selectOption([step.option].flat().map(label => ({label})), {timeout});
    case 'press': return find(scope, step.into).press(value, {timeout});
    case 'drag': return target().dragTo(find(scope, step.to), {timeout});
    case 'scroll': return value.by ? page.mouse.wheel(0, parseInt(value.by, 10)) : target().scrollIntoViewIfNeeded({timeout});
    case 'upload': {
      const [chooser] = await Promise.all([page.waitForEvent('filechooser', {timeout}), target().click({timeout})]);
      return chooser.setFiles(join(here, step.file));
    }
    default: throw new Error(`no such action: ${action}`);
  }
}

const resultOf = page => page.getByTestId('result').textContent({timeout: 1000}).catch(() => null);

// Runs a row once: its verdict, the milliseconds that its steps took with the look at what has happened, and why it failed.
async function run(browser, url, {page: name, steps, right}) {
  const context = await browser.newContext({viewport: {width: 1280, height: 800}});
  let page = await context.newPage();
  await page.goto(`${url}/${name}.html`, {waitUntil: 'domcontentloaded'});
  const began = performance.now();
  let why = '';
  try {
    for (const [index, step] of steps.entries()) {
      // The window is there before the click that opens it ends, or a little later.
      if (step.window) page = context.pages()[1] || await context.waitForEvent('page');
      else await act(page, step, right.verdict === 'failed' && index === steps.length - 1 ? SHORT : LONG);
    }
  } catch (error) {
    why = reason(error.message);
  }
  const wanted = result => right.verdict === 'failed' ? result !== null : result === right.result;
  let result;
  for (const end = performance.now() + (why ? 0 : SHORT); ;) {
    result = await resultOf(page);
    if (wanted(result) || performance.now() > end) break;
    await new Promise(done => setTimeout(done, 10));
  }
  const ms = performance.now() - began;
  await context.close();
  return {verdict: why ? 'failed' : 'passed', result, ms: Math.round(ms), why};
}

// What did not hold when Playwright looked last, by its log; else the first line of its message.
function reason(message) {
  const lines = message.replace(/\u001b\[\d+m/g, '').split('\n').map(line => line.replace(/^[\s\d×-]*/, '').trim()).filter(Boolean);
  const said = lines.filter(line => /intercepts pointer|is not (visible|stable|enabled|editable)|is inert|outside of the viewport|did not find/.test(line));
  return said.at(-1) || (/^locator.*Timeout/.test(lines[0]) ? 'no element is found' : lines[0]);
}

async function playwright(folder, executablePath, rounds, args) {
  const python = readdirSync(join(folder, 'venv/lib')).find(name => name.startsWith('python'));
  const driver = resolve(folder, 'venv/lib', python, 'site-packages/playwright/driver/package/index.js');
  const {chromium} = createRequire(import.meta.url)(driver);
  const {server, url} = await serve();
  const browser = await chromium.launch({executablePath, args});
  for (const row of rows) {
    // Those that must fail spend their time waiting, so all rounds of one are run at once.
    const runs = [], all = Array.from({length: rounds});
    if (row.right.verdict === 'failed') runs.push(...await Promise.all(all.map(() => run(browser, url, row))));
    else for (const _ of all) runs.push(await run(browser, url, row));
    const times = runs.map(({ms}) => ms).sort((one, other) => one - other);
    const [{verdict, result, why}] = runs;
    const steady = runs.every(one => one.verdict === verdict && one.result === result);
    console.log(JSON.stringify({page: row.page, verdict, result, ms: times[times.length >> 1], times, steady, why}));
  }
  await browser.close();
  server.close();
  server.closeAllConnections();
}

const [mode, folder, executable, rounds, ...args] = process.argv.slice(2);
if (mode === 'scenarios' && Number(executable) > 0) await scenarios(folder, Number(executable));
else if (mode === 'playwright' && Number(rounds) > 0) await playwright(folder, executable, Number(rounds), args);
else {
  console.error('usage: actionability.mjs playwright FOLDER CHROMIUM ROUNDS [ARGUMENT...] | scenarios FOLDER SHARES');
  process.exitCode = 2;
}
