"""A pytest plugin (-p named): names the running test in each statement that psycopg sends. With SEEDED=N it changes the N-th SELECT
that a test executes, and writes its test and its text to the file SEEDED_FILE."""
import json
import os
from urllib.parse import quote

import psycopg
import pytest

running = None
left = int(os.environ.get("SEEDED") or 0)


def seeded(sql):
    """Returns the text, or another one that gives the same rows if it is the statement that is to be changed."""
    global left
    if running is None or not sql.startswith("SELECT"):
        return sql
    left -= 1
    if left != 0:
        return sql
    with open(os.environ["SEEDED_FILE"], "w") as file:
        json.dump({"test": running, "sql": sql}, file)
    return "WITH seeded AS (SELECT 1) " + sql


def commented(sql, doubled):
    comment = "/*test='" + quote(running or "", safe="") + "'*/"
    return sql + " " + (comment.replace("%", "%%") if doubled else comment)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    global running
    running = item.nodeid
    yield
    running = None


execute = psycopg.Cursor.execute


def named(self, query, params=None, **more):
    if isinstance(query, str) and running is not None and "/*" not in query:
        query = commented(seeded(query), params is not None)
    return execute(self, query, params, **more)


# Below SQLAlchemy, whose own tests look at the text that it sends.
psycopg.Cursor.execute = named
