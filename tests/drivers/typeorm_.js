// TypeORM: it makes its tables, saves, finds, and runs a transaction.
require('reflect-metadata');
const { DataSource, EntitySchema } = require('typeorm');
const assert = require('assert');
const Note = new EntitySchema({
  name: 'Note', tableName: 'typeorm_notes',
  columns: { id: { type: Number, primary: true, generated: true }, words: { type: String } },
});
(async () => {
  const source = new DataSource({
    type: 'postgres', host: process.env.PGHOST, port: Number(process.env.PGPORT), username: process.env.PGUSER, password: process.env.PGPASSWORD,
    database: process.env.PGDATABASE, ssl: process.env.PGSSLMODE === 'disable' ? false : true,
    entities: [Note], synchronize: true, dropSchema: false, installExtensions: false,
  });
  await source.initialize();
  try {
    const notes = source.getRepository(Note);
    await notes.save([...Array(100).keys()].map((n) => ({ words: `note ${n}` })));
    await assert.rejects(source.transaction(async (manager) => {
      await manager.save(Note, { words: 'never' });
      await manager.query('select 1/0');
    }), { code: '22012' });
    assert.strictEqual(await notes.count(), 100);
    assert.strictEqual((await notes.findOneByOrFail({ words: 'note 7' })).words, 'note 7');
  } finally {
    await source.query('drop table typeorm_notes');
    await source.destroy();
  }
})().catch((error) => { console.error(error); process.exit(1); });
