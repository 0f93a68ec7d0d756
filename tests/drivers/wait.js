// One login with node-postgres, as the environment says; it may have to wait for an approval. Prints what it reads.
const { Client } = require('pg');
(async () => {
  const c = new Client({ ssl: true });
  await c.connect();
  console.log((await c.query("SELECT 'in' AS word")).rows[0].word);
  await c.end();
})().catch((error) => { console.error(error); process.exit(1); });
