"""How tests ask a connection: for a value, for the sentence of a refusal, and how soon it stops."""

import sqlite3
import threading
import time

import pytest


def value(db, sql, *arguments):
    return db.execute("SELECT " + sql, arguments).fetchone()[0]


def refusal(db, sql, *arguments):
    with pytest.raises(sqlite3.OperationalError) as caught:
        value(db, sql, *arguments)
    return str(caught.value)


def time_to_interrupt(db, sql, after_s, arguments=()):
    """Seconds between sqlite3_interrupt from another thread and the error; None: sql was done."""
    called = []

    def interrupt():
        time.sleep(after_s)
        called.append(time.monotonic())
        db.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        db.execute(sql, arguments).fetchall()
        return None
    except sqlite3.OperationalError as error:
        ended = time.monotonic()
        assert error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT, error
        return ended - called[0]
    finally:
        thread.join()
