"""Asks for a sync and waits until it has happened, for a minute at most.

DATABASE_URL=postgresql://my_app@localhost/app python3 wait.py CONNECTION_ID
"""

import os
import sys
import time
from uuid import UUID

import psycopg

STATUS = """
    SELECT COALESCE(last_success_started_at > %s, false), state, last_error
    FROM feather.sync_status WHERE connection_id = %s
"""


def sync(db: psycopg.Connection, connection_id: UUID) -> None:
    with db.transaction():
        db.execute("SELECT feather.enqueue(%s)", (connection_id,))
        (asked_at,) = db.execute("SELECT clock_timestamp()").fetchone()
    for _ in range(120):
        served, state, error = db.execute(STATUS, (asked_at, connection_id)).fetchone()
        if served:
            return
        if state == "dead":
            raise RuntimeError(f"{connection_id} was given up: {error}")
        time.sleep(0.5)
    raise TimeoutError(f"{connection_id} is still {state}: {error}")


if __name__ == "__main__":
    # Each look is a transaction of its own: none stays open while waiting.
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        sync(db, UUID(sys.argv[1]))
