// Sequelize: it makes its table, creates, finds, and runs a transaction.
const { Sequelize, DataTypes } = require('sequelize');
const assert = require('assert');
const ssl = process.env.PGSSLMODE === 'disable' ? undefined : true;
const sequelize = new Sequelize(process.env.PGDATABASE, process.env.PGUSER, process.env.PGPASSWORD, {
  host: process.env.PGHOST, port: process.env.PGPORT, dialect: 'postgres', logging: false, dialectOptions: ssl ? { ssl } : {}, pool: { max: 3 },
});
(async () => {
  const Note = sequelize.define('sequelize_note', { words: DataTypes.STRING });
  await Note.sync({ force: true });
  try {
    await Note.bulkCreate([...Array(100).keys()].map((n) => ({ words: `note ${n}` })));
    await assert.rejects(sequelize.transaction(async (transaction) => {
      await Note.create({ words: 'never' }, { transaction });
      await sequelize.query('select 1/0', { transaction });
    }));
    assert.strictEqual(await Note.count(), 100);
    assert.strictEqual((await Note.findOne({ where: { words: 'note 7' } })).words, 'note 7');
  } finally {
    await Note.drop();
    await sequelize.close();
  }
})().catch((error) => { console.error(error); process.exit(1); });
