// What the stories share: a browser, people in it, and what is wrong with a page. What is wrong is gathered in `complaints`.
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

// Starts chromium. `home` is the folder with node_modules, where the pictures go too; `origins` are the console's and others that people
// are sent to; `may` adds one. What these ask elsewhere is not asked; the console's own pages may ask nobody.
export async function open(home, origins) {
  const require = createRequire(join(home, 'node_modules/'));
  const { chromium } = require('playwright-core');
  const axe = readFileSync(require.resolve('axe-core'), 'utf8');
  const pictures = join(home, 'pictures');
  mkdirSync(pictures, { recursive: true });
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const complaints = [];
  const seen = { pages: 0 };

  // A person with a browser of their own.
  async function person(viewport = WIDE, script = true) {
    const context = await browser.newContext({ viewport, javaScriptEnabled: script });
    const outside = (url) => !origins.includes(url.origin) && url.protocol !== 'data:';
    await context.route(outside, (route) => route.abort());
    const page = await context.newPage();
    const own = () => new URL(page.url()).origin === origins[0];
    page.setDefaultTimeout(20_000);
    page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error}`));
    page.on('dialog', (dialog) => { complaints.push(`${page.url()}: a dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on('console', (said) => { if (own() && said.type() === 'error' && !/status of 4\d\d/.test(said.text())) complaints.push(`${page.url()}: ${said.text()}`); });
    page.on('request', (request) => {
      if (own() && outside(new URL(request.url()))) complaints.push(`${page.url()} asks ${request.url()}`);
    });
    return page;
  }

  // Looks at a page in both colour schemes and at both widths. axe comes from the debugger's side: the page's policy forbids it.
  async function look(page, name) {
    const before = page.viewportSize();
    for (const viewport of [WIDE, PHONE]) {
      await page.setViewportSize(viewport);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (wider > 0) complaints.push(`${name} is ${wider} pixels too wide at ${viewport.width}`);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
        for (const { id, nodes } of violations) complaints.push(`${name}, ${colorScheme}, ${viewport.width}: ${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
        await page.screenshot({ path: join(pictures, `${name}-${colorScheme}-${viewport.width}.png`), fullPage: true });
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize(before);
    seen.pages += 1;
  }
  const may = (url) => origins.push(url.origin);
  return { browser, complaints, seen, person, look, may, WIDE, PHONE };
}
