"""Signs somebody up and asks for a sync of their connection: both, or neither.

DATABASE_URL=postgresql://my_app@localhost/app python3 enqueue.py CONNECTION_ID [--fail]
"""

import os
import sys
from uuid import UUID

import psycopg


def sign_up(db: psycopg.Connection, email: str, connection_id: UUID, fail: bool) -> None:
    with db.transaction():
        db.execute(
            "INSERT INTO my_app.signups (email, connection_id) VALUES (%s, %s)",
            (email, connection_id),
        )
        db.execute("SELECT feather.enqueue(%s)", (connection_id,))
        if fail:
            raise RuntimeError("failing, as asked")


if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"]) as db:
        sign_up(db, "ada@example.com", UUID(sys.argv[1]), sys.argv[-1] == "--fail")
