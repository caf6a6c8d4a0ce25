// Signs somebody up and asks for a sync of their connection: both, or neither.
//
// DATABASE_URL=postgresql://my_app@localhost/app node enqueue.mjs CONNECTION_ID [--fail]
import pg from "pg";

async function signUp(db, email, connectionId, fail) {
  await db.query("BEGIN");
  try {
    await db.query("INSERT INTO my_app.signups (email, connection_id) VALUES ($1, $2)", [email, connectionId]);
    await db.query("SELECT feather.enqueue($1)", [connectionId]);
    if (fail) throw new Error("failing, as asked");
    await db.query("COMMIT");
  } catch (error) {
    await db.query("ROLLBACK");
    throw error;
  }
}

const [connectionId, option] = process.argv.slice(2);
const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
try {
  await signUp(db, "ada@example.com", connectionId, option === "--fail");
} finally {
  await db.end();
}
