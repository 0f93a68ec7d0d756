// Pages that a test has opened, in chromium: it says which by lines of JSON on standard input, and each is answered by a line with what is
// wrong. Wrong is what a text of somebody else could make of a page: a script that runs, a dialog, anything that the page's policy had to
// stop, an element or attribute that the gate's pages do not have, a question to another origin. It ends with its input.
//
// Arguments: the folder with node_modules, the console's address. Orders:
// {do: 'texts', texts}                      the texts to look for from now on
// {do: 'person', who, token}                somebody signs in
// {do: 'open', who, paths, follow}          pages are opened, and with `follow` those behind them (`rel=next`)
// {do: 'send', who, forms}                  forms ({path, fields}) are sent, as pages of the console send them
// {do: 'control'}                           the texts stand raw on pages of a server of this program: how many of them does it notice?
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [home, url] = process.argv.slice(2);
const { chromium } = createRequire(join(home, 'node_modules/'))('playwright-core');
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });

// Tabs of a person: the gate makes a page while the browser reads another.
const TABS = 3;
// More pages than a list of this test has.
const MOST_PAGES = 200;
const ELEMENTS = 'html head meta title link script noscript body main header nav section div span p a h1 h2 h3 strong em small code pre ul ol li dl dt dd table caption thead tbody tr th td form fieldset legend label input textarea select option datalist button details summary time svg path'.split(' ');
const ATTRIBUTES = 'lang charset name content rel href src defer class id tabindex role hidden type value placeholder required maxlength min max autocomplete spellcheck inputmode for method action formaction selected checked disabled readonly rows open datetime title scope viewbox d list download'.split(' ');
const PREFIXES = ['data-', 'aria-'];

let texts = [];
let policy;
let faults = [];
const people = new Map();

// In every frame, before anything of the page.
function watch() {
  for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => window.tell('a script ran');
  document.addEventListener('securitypolicyviolation', (event) => window.tell(`the policy stopped ${event.effectiveDirective} ${event.blockedURI}`));
}

// What a page shows, and what stands there that no page of the gate has.
function read([elements, attributes, prefixes]) {
  const strange = [];
  for (const element of document.querySelectorAll('*')) {
    const name = element.localName;
    if (!elements.includes(name) || (name === 'script' && !element.src)) strange.push(`<${name}>`);
    for (const { name: attribute, value } of element.attributes) {
      const known = attributes.includes(attribute.toLowerCase()) || prefixes.some((prefix) => attribute.startsWith(prefix));
      const address = ['href', 'src', 'action', 'formaction'].includes(attribute);
      const own = /^(#|\/(?!\/)|data:image\/svg\+xml,)/.test(value);
      if (!known || (address && !own)) strange.push(`<${name} ${attribute}="${value}">`);
    }
  }
  return { strange, text: document.body?.innerText ?? '' };
}

async function context(origin, told) {
  const made = await browser.newContext();
  const outside = (address) => address.origin !== origin && address.protocol !== 'data:';
  await made.route(outside, (route) => route.abort());
  await made.exposeBinding('tell', ({ page }, what) => told(`${page.url()}: ${what}`));
  await made.addInitScript(watch);
  made.on('page', (page) => {
    page.setDefaultTimeout(20_000);
    page.on('dialog', (dialog) => { told(`${page.url()}: a dialog`); dialog.dismiss().catch(() => {}); });
    page.on('request', (request) => { if (outside(new URL(request.url()))) told(`${page.url()} asks ${request.url()}`); });
    page.on('pageerror', (error) => told(`${page.url()}: ${error}`));
  });
  return made;
}

const looked = async (page) => page.evaluate(read, [ELEMENTS, ATTRIBUTES, PREFIXES]);

// Notes what is wrong with the page in a tab, and which of the texts it shows.
async function look(page, shown) {
  const { strange, text } = await looked(page);
  faults.push(...strange.map((what) => `${page.url()}: ${what}`));
  texts.forEach((wanted, number) => { if (text.includes(wanted)) shown.add(number); });
}

async function goto(page, address) {
  const response = await page.goto(address, { waitUntil: 'domcontentloaded' });
  policy ??= response.headers()['content-security-policy'];
}

// Does something with each item, in all tabs of a person.
async function inTabs(who, items, each) {
  const left = [...items];
  await Promise.all(people.get(who).map(async (page) => { while (left.length) await each(page, left.shift()); }));
}

const orders = {
  texts(order) { ({ texts } = order); },

  async person({ who, token }) {
    const made = await context(new URL(url).origin, (what) => faults.push(what));
    const tabs = await Promise.all(Array.from({ length: TABS }, () => made.newPage()));
    people.set(who, tabs);
    await goto(tabs[0], `${url}/signin`);
    await tabs[0].getByLabel('Your token').fill(token);
    await tabs[0].getByRole('button', { name: 'Sign in', exact: true }).click();
    await tabs[0].waitForURL('**/mine**');
    // A form is sent from a page of the console.
    for (const tab of tabs) await goto(tab, `${url}/requests`);
  },

  async open({ who, paths, follow }) {
    const shown = new Set();
    let pages = 0;
    await inTabs(who, paths, async (page, path) => {
      for (let next = `${url}${path}`; next && pages < MOST_PAGES * paths.length; pages += 1) {
        await goto(page, next);
        await look(page, shown);
        next = follow && await page.evaluate(() => document.querySelector('a[rel=next]')?.href);
      }
    });
    return { pages, shown: [...shown] };
  },

  async send({ who, forms }) {
    const shown = new Set();
    await inTabs(who, forms, async (page, { path, fields }) => {
      const loaded = page.waitForEvent('domcontentloaded');
      await page.evaluate(([action, values]) => {
        const form = Object.assign(document.createElement('form'), { method: 'post', action });
        for (const [name, value] of Object.entries(values)) form.append(Object.assign(document.createElement('textarea'), { name, value }));
        document.body.append(form);
        form.submit();
      }, [path, fields]);
      await loaded;
      await look(page, shown);
    });
    return { pages: forms.length, shown: [...shown] };
  },

  // Without the policy scripts run; with it they are stopped; the elements are there in either case. A harmless text is not noticed.
  async control() {
    const bare = (text) => `<!doctype html><body><main><input value="${text}"><input value='${text}'><p>${text}</p><textarea>${text}</textarea></main>`;
    const all = ['harmless', ...texts];
    const server = createServer((request, response) => {
      const asked = new URL(request.url, 'http://control');
      response.setHeader('content-type', 'text/html; charset=utf-8');
      if (asked.searchParams.has('policy')) response.setHeader('content-security-policy', policy);
      response.end(bare(all[Number(asked.pathname.slice(1))] ?? ''));
    });
    await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
    const origin = `http://127.0.0.1:${server.address().port}`;
    const kinds = { ran: /a script ran|a dialog/, stopped: /the policy stopped/, asked: / asks / };
    const found = { ran: 0, stopped: 0, asked: 0, strange: 0, noticed: 0 };
    let told = [];
    const tab = await (await context(origin, (what) => told.push(what))).newPage();
    for (const [number] of all.entries()) {
      told = [];
      let strange = 0;
      for (const address of [`${origin}/${number}`, `${origin}/${number}?policy`]) {
        // A text may lead elsewhere at once, which nobody answers.
        await tab.goto(address, { waitUntil: 'load' }).catch((error) => told.push(`${error}`));
        strange += (await looked(tab).catch(() => ({ strange: ['gone'] }))).strange.length;
      }
      const noticed = strange > 0 || told.length > 0;
      if (number === 0 && noticed) throw new Error(`a harmless text is noticed: ${told}`);
      for (const [kind, pattern] of Object.entries(kinds)) found[kind] += Number(told.some((what) => pattern.test(what)));
      found.strange += Number(strange > 0);
      found.noticed += Number(noticed);
    }
    server.closeAllConnections();
    server.close();
    return found;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  const answer = await orders[order.do](order);
  console.log(JSON.stringify({ ...answer, faults }));
  faults = [];
}
await browser.close();
process.exit(0);
