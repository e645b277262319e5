import json
import sqlite3
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest

from tunesmith.data import sql
from tunesmith.data.sources import SqlOptions
from tunesmith.data.sql import run_query
from tunesmith.errors import DataError, TunesmithError, UserError


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "shop 1.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table reviews (id integer, text text, stars real, note)")
        rows = [(2, "bad é", 1.0, None), (1, "good: 100%", 4.5, "x"), (3, "so-so", None, 7)]
        connection.executemany("insert into reviews values (?, ?, ?, ?)", rows)
    connection.close()
    return path


def run(tmp_path, query, connection="SHOP", environ=None):
    path, sha256 = run_query(SqlOptions(connection=connection, query=query), tmp_path / "sql", environ or {})
    assert path.name == f"{sha256[:32]}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_keep_the_order_of_the_query_and_sql_its_own_signs(tmp_path, database):
    environ = {"SHOP": f"sqlite:///{database}"}
    query = "select id, text as \"the:text\", ':x' as c from reviews where text like '%%' or id = 1 order by id desc"
    assert run(tmp_path, query, environ=environ) == [
        {"id": 3, "the:text": "so-so", "c": ":x"},
        {"id": 2, "the:text": "bad é", "c": ":x"},
        {"id": 1, "the:text": "good: 100%", "c": ":x"},
    ]


def test_rows_without_an_order_are_sorted_also_on_the_disk(tmp_path, database, monkeypatch):
    url = f"sqlite:///{database}"
    expected = run(tmp_path, "select * from reviews", url)
    assert [row["id"] for row in expected] == [1, 2, 3]
    monkeypatch.setattr(sql, "SORT_BYTES", 1)
    monkeypatch.setattr(sql, "BATCH_ROWS", 1)
    with sqlite3.connect(database) as connection:
        connection.execute("create table other as select * from reviews order by text")
    connection.close()
    assert run(tmp_path, "select * from other", url) == expected
    assert len(list((tmp_path / "sql").iterdir())) == 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select * from review", "the query fails: no such table: review. Correct the source's sql.query"),
        ("select text from reviews where", "the query fails: incomplete input"),
        ("select id, text as id from reviews", "two columns 'id'. Name each with AS"),
        ("select * from reviews where id > 9", "the query gives no rows"),
        ("select 9e999 as n", r"row 1, column 'n': inf is no number"),
        ("select x'ff' as b", r"row 1, column 'b' holds bytes, which is neither text nor a number.*CAST"),
        ("with a as (select 1) delete from reviews", "the query fails: attempt to write a readonly database"),
    ],
)
def test_a_query_that_cannot_be_used_is_refused(tmp_path, database, query, expected):
    with pytest.raises(DataError, match=f"sql sqlite:///.*{expected}"):
        run(tmp_path, query, f"sqlite:///{database}")
    assert not list((tmp_path / "sql").iterdir())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "the environment variable SHOP is not set.*postgresql://"),
        ({"SHOP": "secret nonsense"}, "the URL in SHOP cannot be read"),
        (
            {"SHOP": "mysql://me:secret@host/db"},
            "the URL in SHOP starts with mysql://; known are sqlite and postgresql",
        ),
        ({"SHOP": "sqlite:////nowhere/a.db"}, "there is no such database file"),
    ],
)
def test_a_connection_that_cannot_be_used_is_refused_without_its_secrets(tmp_path, environ, expected):
    with pytest.raises(DataError, match=expected) as caught:
        run(tmp_path, "select 1", environ=environ)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_no_mistake_of_the_user(tmp_path):
    environ = {"SHOP": "postgresql://me:secret@127.0.0.1:9/db"}
    with pytest.raises(
        TunesmithError, match=r"sql postgresql.*@127\.0\.0\.1:9/db: cannot connect: .*server runs"
    ) as caught:
        run(tmp_path, "select 1", environ=environ)
    assert not isinstance(caught.value, UserError)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(DataError, match=r"driver psycopg is not installed. Run `pip install 'psycopg\[binary\]'`"):
        run(tmp_path, "select 1", "postgresql://me@127.0.0.1/db")


def test_what_a_list_of_a_database_holds_is_made_plain_too():
    values = [[Decimal("1.5"), None, Decimal(2)], [date(2026, 1, 2)], [[UUID(int=1)], [float("nan")]]]
    plain = [sql._plain(value, "n", 1, "sql") for value in values]
    assert plain == [[1.5, None, 2], ["2026-01-02"], [["00000000-0000-0000-0000-000000000001"], [None]]]
    with pytest.raises(DataError, match=r"row 1, column 'n' holds bytes"):
        sql._plain([[b"\xff"]], "n", 1, "sql")
