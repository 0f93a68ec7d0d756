// knex: its schema builder, queries, a transaction with a savepoint, a stream.
const assert = require('assert');
const ssl = process.env.PGSSLMODE === 'disable' ? false : true;
const knex = require('knex')({
  client: 'pg',
  connection: { host: process.env.PGHOST, port: process.env.PGPORT, user: process.env.PGUSER, password: process.env.PGPASSWORD, database: process.env.PGDATABASE, ssl },
  pool: { min: 1, max: 3 },
});
(async () => {
  await knex.schema.dropTableIfExists('knex_notes');
  await knex.schema.createTable('knex_notes', (table) => { table.increments('id'); table.string('words'); });
  try {
    await knex.batchInsert('knex_notes', [...Array(200).keys()].map((n) => ({ words: `note ${n}` })), 50);
    await knex.transaction(async (outer) => {
      await outer('knex_notes').where({ words: 'note 7' }).update({ words: "it's 7" });
      await assert.rejects(outer.transaction((inner) => inner.raw('select 1/0')), { code: '22012' });
    });
    assert.strictEqual((await knex('knex_notes').where('words', "it's 7")).length, 1);
    let read = 0;
    for await (const row of knex('customers').select('id').stream()) read += row.id > 0 ? 1 : 0;
    assert.strictEqual(read, 1000);
    assert(await knex.schema.hasTable('customers'));
  } finally {
    await knex.schema.dropTable('knex_notes');
    await knex.destroy();
  }
})().catch((error) => { console.error(error); process.exit(1); });
