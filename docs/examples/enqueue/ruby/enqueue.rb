# Signs somebody up and asks for a sync of their connection: both, or neither.
#
# DATABASE_URL=postgresql://my_app@localhost/app ruby enqueue.rb CONNECTION_ID [--fail]
require "pg"

def sign_up(db, email, connection_id, fail:)
  db.transaction do
    db.exec_params("INSERT INTO my_app.signups (email, connection_id) VALUES ($1, $2)", [email, connection_id])
    db.exec_params("SELECT feather.enqueue($1)", [connection_id])
    raise "failing, as asked" if fail
  end
end

db = PG.connect(ENV.fetch("DATABASE_URL"))
begin
  sign_up(db, "ada@example.com", ARGV.first, fail: ARGV.last == "--fail")
ensure
  db.close
end
