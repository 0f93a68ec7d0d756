// The pool of one Node.js driver or query builder, named by the first argument: three connections for sixteen workers that read, fail,
// roll back and read again. With `write` as second argument they write, too; with `read` a write is refused and the connection goes
// back to the pool whole.
const assert = require('assert');
const [kind, mode] = process.argv.slice(2);
const [WORKERS, ROUNDS, writes] = [16, 5, mode === 'write'];
const CHANGE = 'UPDATE orders SET total = total + 1 WHERE id = 1';
const ssl = process.env.PGSSLMODE === 'disable' ? false : true;
const { PGHOST: host, PGPORT: port, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = process.env;
const refused = { code: '42501', message: /guard rails/ };

// `query` runs a text with parameters on any connection, `transaction` runs a function with a `query` of its own on one.
const work = async (query, transaction) => {
  const worker = async (id) => {
    for (let n = 0; n < ROUNDS; n++) {
      assert.strictEqual((await query('SELECT $1::int + 1 AS n', [id]))[0].n, id + 1);
      await assert.rejects(query('SELECT 1/0'), { code: '22012' });
      await assert.rejects(
        transaction(async (inner) => {
          assert.strictEqual((await inner('SELECT count(*)::int AS n FROM orders'))[0].n >= 1, true);
          if (writes) await inner(CHANGE);
          await inner('SELECT 1/0');
        }),
        { code: '22012' },
      );
      if (writes) {
        await transaction(async (inner) => { await inner(CHANGE); });
      } else {
        await assert.rejects(query(CHANGE), refused);
        await assert.rejects(transaction((inner) => inner(CHANGE)), refused);
      }
    }
  };
  await Promise.all([...Array(WORKERS).keys()].map(worker));
};

const kinds = {
  async pg() {
    const { Pool } = require('pg');
    const pool = new Pool({ ssl, max: 3 });
    const on = (client) => async (text, values) => (await client.query(text, values)).rows;
    await work(on(pool), async (run) => {
      const client = await pool.connect();
      try {
        await client.query('BEGIN');
        await run(on(client));
        await client.query('COMMIT');
      } catch (error) {
        await client.query('ROLLBACK');
        throw error;
      } finally {
        client.release();
      }
    });
    await pool.end();
  },
  async postgres() {
    const sql = require('postgres')({ host, port, user, password, database, ssl: ssl && { rejectUnauthorized: true }, max: 3 });
    await work((text, values) => sql.unsafe(text, values), (run) => sql.begin((inner) => run((text, values) => inner.unsafe(text, values))));
    await sql`SELECT generate_series(1, 1000) AS n`.cursor(100, (rows) => assert.strictEqual(rows.length, 100));
    await sql.end();
  },
  async knex() {
    const knex = require('knex')({ client: 'pg', connection: { host, port, user, password, database, ssl }, pool: { min: 0, max: 3 } });
    // Its placeholders are its own.
    const on = (runner) => async (text, values) => (await runner.raw(text.replace('$1', '?'), values ?? [])).rows;
    await work(on(knex), (run) => knex.transaction((inner) => run(on(inner))));
    await knex.destroy();
  },
  async typeorm() {
    const { DataSource } = require('typeorm');
    const source = new DataSource({ type: 'postgres', host, port: Number(port), username: user, password, database, ssl, extra: { max: 3 }, installExtensions: false });
    await source.initialize();
    // It gives the rows of a SELECT, and rows and count of what changes them.
    await work((text, values) => source.query(text, values), (run) => source.transaction((inner) => run((text, values) => inner.query(text, values))));
    await source.destroy();
  },
  async sequelize() {
    const { Sequelize } = require('sequelize');
    const sequelize = new Sequelize(database, user, password, { host, port, dialect: 'postgres', logging: false, pool: { max: 3, min: 0 }, dialectOptions: { ssl } });
    const on = (transaction) => async (text, bind) => {
      try {
        return (await sequelize.query(text, { bind, transaction }))[0];
      } catch (error) {
        throw error.original ?? error;
      }
    };
    await sequelize.authenticate();
    await work(on(), (run) => sequelize.transaction((inner) => run(on(inner))));
    await sequelize.close();
  },
};
kinds[kind]().catch((error) => { console.error(error); process.exit(1); });
