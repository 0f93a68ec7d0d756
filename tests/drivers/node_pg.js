// node-postgres: simple and prepared queries, notifications, errors, many at once.
const { Client } = require('pg');
const assert = require('assert');
(async () => {
  const c = new Client({ ssl: process.env.PGSSLMODE !== 'disable' });
  await c.connect();
  assert.strictEqual((await c.query('select $1::int + 1 as n', [41])).rows[0].n, 42);
  for (let n = 0; n < 10; n++) {
    const q = { name: 'named', text: 'select $1::int as n', values: [n] };
    assert.strictEqual((await c.query(q)).rows[0].n, n);
  }
  await assert.rejects(c.query('select 1/0'), { code: '22012' });
  const all = await Promise.all([...Array(200).keys()].map((n) => c.query('select $1::int as n', [n])));
  all.forEach((r, n) => assert.strictEqual(r.rows[0].n, n));
  const note = new Promise((resolve) => c.on('notification', resolve));
  await c.query('listen tide');
  await c.query("notify tide, 'high'");
  assert.strictEqual((await note).payload, 'high');
  assert.strictEqual((await c.query("select repeat('x', 3000000) as s")).rows[0].s.length, 3000000);
  await c.end();
})().catch((error) => { console.error(error); process.exit(1); });
