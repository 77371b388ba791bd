// node-postgres through whatever listens on the port: what it read, as JSON.
//
// Enters: argv: a configuration of `pg` as JSON, and the directory of the recipes. Leaves: JSON on
// stdout. The marks in the texts are for the tests.
"use strict";
const path = require("node:path");
const { Client, Pool } = require("pg");

const config = JSON.parse(process.argv[2]);
const recipe = (name) => require(path.join(process.argv[3], `${name}.js`));
const email = (where, who) => `SELECT email FROM users WHERE id = ${where} /* truth:${who} */`;
const numbers = Array.from({ length: 24 }, (_, i) => i + 1);

async function connection() {
  const client = await recipe("node-connect").connectAs(config, "node_person");
  const found = [];
  const read = async (...query) => found.push((await client.query(...query)).rows[0].email);
  for (let i = 1; i <= 4; i++) await read(email(i, "node_person"));
  for (let i = 5; i <= 8; i++) await read(email("$1", "node_person"), [i]);
  // Sent at once, answered in order.
  await Promise.all([9, 10, 11, 12].map((i) => read(email("$1", "node_person"), [i])));
  let code = null;
  await client.query("SELECT 1 / 0").catch((error) => (code = error.code));
  const several = await client.query(`SELECT 1 AS a; SELECT 2 AS a /* truth:node_person */`);
  await client.query("BEGIN");
  for (let i = 13; i <= 16; i++) {
    await read({ name: "node_named", text: email("$1", "node_person"), values: [i] });
  }
  await client.query("COMMIT");
  await client.end();
  return { found, code, several: several.map((one) => one.rows[0].a) };
}

async function url() {
  const { user, password, host, port, database } = config;
  const client = new Client({
    connectionString:
      `postgresql://${user}:${password}@${host}:${port}/${database}` +
      "?options=-c%20scalple.user%3Dnode_url",
  });
  await client.connect();
  const { rows } = await client.query(email("$1", "node_url"), [1]);
  await client.end();
  return rows[0].email;
}

// Four people at a time on a pool of two connections.
async function people(form, prefix) {
  const pool = new Pool({ ...config, max: 2, options: `-c scalple.user=${prefix}_service` });
  const found = await Promise.all(
    numbers.map(async (i) => {
      const who = `${prefix}_${i % 4}`;
      const work = async (client) => {
        const { rows } = await client.query(email("$1", who), [i]);
        await client.query(email(i, who));
        if (i % 6 === 0) throw new Error("on purpose");
        return rows[0].email;
      };
      return form(pool, who, work).catch((error) => error.message);
    }),
  );
  await pool.query(`SELECT count(*) FROM users /* truth:${prefix}_service */`);
  await pool.end();
  return found;
}

async function main() {
  const transactions = people(recipe("node-transaction").actingAs, "node_local");
  const checkouts = people(recipe("node-session").withUser, "node_taken");
  console.log(
    JSON.stringify({
      connection: await connection(),
      url: await url(),
      transactions: await transactions,
      checkouts: await checkouts,
    }),
  );
}

main();
