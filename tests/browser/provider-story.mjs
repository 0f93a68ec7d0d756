// The story of people who sign in at an OpenID provider: in a browser, by a link to a page, not at all, and for a terminal with a code.
// It prints one line of JSON, and fails by an exception.
//
// Argument: the folder with node_modules, where the pictures go too. Standard input: JSON with `url` (the console), `issuer`, and
// `tidegate` (the program).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { open } from './driver.mjs';

const [home] = process.argv.slice(2);
const given = JSON.parse(readFileSync(0, 'utf8'));
const host = new URL(given.issuer).host;
const { browser, complaints, seen, person, look, may } = await open(home, [new URL(given.url).origin, given.issuer]);

// On the provider's own pages: who somebody is, and that the gate may know it.
async function enter(page, name) {
  await page.locator('[name="login"]').fill(name);
  await page.locator('[name="password"]').fill('any');
  await page.locator('button[type="submit"]').click();
  await page.locator('button', { hasText: 'Continue' }).click();
}

async function toProvider(page) {
  await page.getByRole('link', { name: `Sign in at ${host}` }).click();
  await page.waitForURL(`${given.issuer}/interaction/**`);
}

// Ana opens a page, and is on it when she is back.
const ana = await person();
await ana.goto(`${given.url}/log?text=orders`);
await ana.waitForURL('**/signin?next=**');
await look(ana, 'signin-provider');
await toProvider(ana);
await enter(ana, 'ana@example.com');
await ana.waitForURL(`${given.url}/log?text=orders`);
assert.ok((await ana.locator('body').innerText()).includes('id:ana@example.com'), 'the page says who she is');
await ana.goto(`${given.url}/mine`);
await ana.getByRole('button', { name: 'Sign out' }).click();
await ana.waitForURL('**/signin**');

// The address that the provider sent the browser back to is good once, and for nobody else.
const eve = await person();
let returned;
eve.on('request', (request) => { if (request.url().includes('/signin/callback/')) returned = request.url(); });
await eve.goto(`${given.url}/signin`);
await toProvider(eve);
await enter(eve, 'eve@example.com');
await eve.waitForURL('**/mine**');
for (const page of [eve, await person()]) {
  const answer = await page.goto(returned);
  assert.equal(answer.status(), 403);
  assert.ok((await page.locator('main').innerText()).includes('was not begun in this browser'));
}

// A person who is refused, or breaks off, reads why on a page of the gate.
for (const [name, step, status, words] of [
  ['unverified', (page) => enter(page, 'unverified@example.com'), 401, 'lets nobody in'],
  ['cancelled', (page) => page.getByRole('link', { name: 'Cancel' }).click(), 403, 'refuses: access_denied'],
]) {
  const page = await person();
  await page.goto(`${given.url}/signin`);
  await toProvider(page);
  const answered = page.waitForResponse((response) => response.url().includes('/signin/callback/'));
  await step(page);
  assert.equal((await answered).status(), status);
  await page.locator('[role="alert"]').waitFor();
  assert.ok((await page.locator('main').innerText()).includes(words), words);
  await look(page, `signin-${name}`);
  await page.goto(`${given.url}/mine`);
  await page.waitForURL('**/signin**');
}

// A terminal is let in by the browser of its own machine, which brings it a code.
const folder = mkdtempSync(join(tmpdir(), 'tidegate-terminal-'));
const environment = { PATH: process.env.PATH, HOME: folder, XDG_CONFIG_HOME: folder };
const run = (...args) => spawn(given.tidegate, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
// A login that has begun: the address that it shows, and the code.
async function login(way) {
  const program = run('login', way, '--control', given.url);
  let told = '';
  for await (const line of createInterface({ input: program.stderr })) {
    told += `${line}\n`;
    const [, address, code] = line.match(/Open (\S+) (?:and|in).* the code (\S+)/) ?? [];
    const ended = async () => assert.equal(program.exitCode ?? (await once(program, 'exit'))[0], 0, told);
    if (address) return { address, code, ended };
  }
  throw new Error(told);
}
async function whoami() {
  let said = '';
  for await (const part of run('whoami').stdout) said += part;
  return said;
}

const here = await login('--browser');
may(new URL(`http://127.0.0.1:${new URL(here.address).searchParams.get('port')}`));
await eve.goto(here.address);
assert.ok((await eve.locator('main').innerText()).includes(here.code), 'both show one code');
await look(eve, 'terminal');
await eve.getByRole('button', { name: 'Let it in' }).click();
await eve.getByText('Go back to the terminal.').waitFor();
await here.ended();
assert.ok((await whoami()).includes('id:eve@example.com'));

// Another shows an address and a code; a browser anywhere lets it in.
const { address, code, ended } = await login('--sign-in');
assert.ok(address.startsWith(given.issuer), address);
const phone = await person();
await phone.goto(address);
assert.ok((await phone.locator('body').innerText()).replaceAll('-', '').includes(code.replaceAll('-', '')), 'both show one code');
await phone.locator('button[type="submit"]').first().click();
await enter(phone, 'lena@example.com');
await phone.getByText('Sign-in Success').waitFor();
await ended();
assert.ok((await whoami()).includes('id:lena@example.com'));
rmSync(folder, { recursive: true });

await browser.close();
assert.deepEqual(complaints, []);
console.log(JSON.stringify({ pages: seen.pages }));
