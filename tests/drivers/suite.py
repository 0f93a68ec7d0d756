"""A suite for reports on runs, beside the plugin of docs/runs.md as conftest.py. SEEDED changes one statement of one test."""
import os

import psycopg
import pytest
from conftest import CommentedCursor


@pytest.fixture(scope="module")
def shop():
    with psycopg.connect("", autocommit=True, cursor_factory=CommentedCursor) as connection:
        yield connection


def test_customers(shop):
    assert shop.execute("SELECT count(*) FROM customers;").fetchone()[0] > 0


@pytest.mark.parametrize("number, text", [(1, "plain")], ids=["1, 'it''s 100%'"])
def test_card(shop, number, text):
    assert shop.execute("SELECT %s::text || %s::text", [number, text]).fetchone() == ("1plain",)


def test_order(shop):
    order = " ORDER BY total" if os.environ.get("SEEDED") else ""
    shop.execute("SELECT total FROM orders WHERE id = %s" + order, [7])


def test_error(shop):
    with pytest.raises(psycopg.errors.DivisionByZero):
        shop.execute("SELECT 1/0")
