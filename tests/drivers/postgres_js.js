// postgres.js: its pool, pipelined queries, a cursor, a transaction, errors, COPY.
const postgres = require('postgres');
const assert = require('assert');
(async () => {
  // It reads the usual variables; of PGSSLMODE it knows nothing.
  const sql = postgres({ ssl: process.env.PGSSLMODE === 'disable' ? false : 'verify-full', max: 3 });
  assert.strictEqual((await sql`select ${41}::int + 1 as n`)[0].n, 42);
  const all = await Promise.all([...Array(100).keys()].map((n) => sql`select ${n}::int as n`));
  all.forEach((rows, n) => assert.strictEqual(rows[0].n, n));
  let read = 0;
  await sql`select id from customers`.cursor(100, (rows) => { read += rows.length; });
  assert.strictEqual(read, 1000);
  await assert.rejects(sql`select 1/0`, { code: '22012' });
  await sql.begin(async (sql) => {
    await sql`create temp table t (n int) on commit drop`;
    await sql`insert into t ${sql([...Array(50).keys()].map((n) => ({ n })))}`;
    assert.strictEqual((await sql`select count(*)::int as n from t`)[0].n, 50);
  });
  await sql.end();
})().catch((error) => { console.error(error); process.exit(1); });
