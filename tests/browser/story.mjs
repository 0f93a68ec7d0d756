// The story of two people in a browser (chromium, driven by playwright-core): ask, approve, connect with psql, be ended. Each page is
// looked at by axe, light and dark, wide and at 390 pixels. It prints one line of JSON with what it measured, and fails by an exception.
//
// Argument: the folder with node_modules, where the pictures go too. Standard input: JSON with `url`, `psql` (a folder), `script` (a text
// that would be one), and the tokens of `ana`, `lena` and `olga`, who may administer and read the log.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { open } from './driver.mjs';

const [home] = process.argv.slice(2);
const given = JSON.parse(readFileSync(0, 'utf8'));
const { browser, complaints, seen, person, look, WIDE, PHONE } = await open(home, [new URL(given.url).origin]);

async function signIn(page, token) {
  await page.goto(`${given.url}/signin`);
  await page.getByLabel('Your token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL('**/mine**');
}

// Moves on with the keyboard alone until an element has the focus.
async function tabTo(page, selector) {
  for (let step = 0; step < 120; step += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`the keyboard does not reach ${selector} on ${page.url()}`);
}

const ana = await person(WIDE);
const lena = await person(PHONE);
await ana.goto(`${given.url}/mine`);
await look(ana, 'signin');
await signIn(ana, given.ana);
await signIn(lena, given.lena);
await look(ana, 'mine');
await look(lena, 'decide-empty');

// Ana asks, with the keyboard alone; her reason is a script.
const [ask] = await ana.locator('a[href^="/ask"][href*="read-write"]').all();
await ask.focus();
await ana.keyboard.press('Enter');
await ana.waitForURL('**/ask**');
await look(ana, 'ask');
await tabTo(ana, '[name="reason"]');
await ana.keyboard.type(given.script);
await tabTo(ana, 'main form button');
await ana.keyboard.press('Enter');
await ana.waitForURL('**/requests/rq_*');
const request = new URL(ana.url()).pathname;
await look(ana, 'request-waits');

// Lena decides on her phone.
await lena.goto(`${given.url}/decide`);
await look(lena, 'decide');
await lena.locator(`a[href="${request}"]`).first().click();
await lena.waitForURL(`**${request}`);
await look(lena, 'request-decide');
assert.ok((await lena.locator('main').innerText()).includes(given.script), 'the reason stands there as it was typed');
const began = performance.now();
await lena.getByRole('button', { name: 'Approve', exact: true }).click();
await ana.getByRole('link', { name: 'Connect' }).first().waitFor();
const approved = performance.now() - began;
await look(lena, 'request-approved');

// Ana connects as the card says.
await ana.getByRole('link', { name: 'Connect' }).first().click();
await ana.waitForURL('**/grants/gr_*');
const grant = new URL(ana.url()).pathname;
await look(ana, 'grant');
await ana.locator(`form[action="${grant}/login"] button`).first().click();
await ana.getByText('The secret is shown only now.').waitFor();
await look(ana, 'card');
const command = await ana.locator('#snippet-0').innerText();
const environment = { ...process.env, PATH: `${given.psql}:${process.env.PATH}` };
const shell = (line, more = {}) => promisify(execFile)('sh', ['-c', line], { env: { ...environment, ...more } });
const { stdout } = await shell(`${command} -XAtc 'SELECT 40 + 2'`);
assert.equal(stdout.trim(), '42');
const running = shell(`${command} -XAtc 'SELECT pg_sleep(120)'`).catch((error) => error);
do await ana.goto(`${given.url}${grant}`); while (!(await ana.getByText('runs a statement').first().isVisible()));
await look(ana, 'grant-open');
await ana.goto(`${given.url}/live`);
await look(ana, 'live');

// Olga sees it all, and what clients say of themselves is text there, too.
await shell(`${command} -XAtc "SELECT '$SCRIPT'"`, { PGAPPNAME: given.script, SCRIPT: given.script });
const olga = await person(WIDE);
await signIn(olga, given.olga);
for (const [name, path, onward] of [
  ['log', '/log', 'a[href^="/log/sessions/"]'],
  ['gate', '/gate', 'a[href^="/gate/targets/"]'],
  ['users', '/gate/users'],
  ['policies', '/gate/policies'],
]) {
  await olga.goto(`${given.url}${path}`);
  await look(olga, name);
  if (!onward) continue;
  await olga.locator(onward).first().click();
  await olga.waitForLoadState();
  await look(olga, `${name}-one`);
}
assert.equal(await olga.evaluate(() => window.executed), undefined);

// Ana gives it back, and the session ends.
await ana.goto(`${given.url}${grant}`);
await ana.locator(`form[action="${grant}/release"] button`).first().click();
const ended = await running;
assert.match(String(ended.stderr), /FATAL/);
await ana.goto(`${given.url}${grant}`);
await look(ana, 'grant-over');

// Without a script the pages work as well.
const plain = await person(WIDE, false);
await signIn(plain, given.ana);
await plain.locator('a[href^="/ask"]').first().click();
await plain.waitForURL('**/ask**');

await ana.goto(`${given.url}/mine`);
await ana.getByRole('button', { name: 'Sign out' }).click();
await ana.waitForURL('**/signin**');
await ana.goto(`${given.url}/mine`);
await ana.waitForURL('**/signin**');
await browser.close();
assert.deepEqual(complaints, []);
console.log(JSON.stringify({ pages: seen.pages, approved_ms: Math.round(approved) }));
