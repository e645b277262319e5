"""Queries to a real PostgreSQL server that checks passwords."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import tracemalloc
from pathlib import Path

import psycopg
import pytest

from tunesmith.data import sql
from tunesmith.data.sources import SqlOptions
from tunesmith.data.sql import run_query
from tunesmith.errors import DataError, TunesmithError, UserError

pytestmark = pytest.mark.services

PASSWORD = "a p@ss:word/"
QUOTED_PASSWORD = "a%20p%40ss%3Aword%2F"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def find_binary(name):
    found = shutil.which(name) or next((str(folder / name) for folder in reversed(BINARIES)), None)
    if found is None:
        pytest.skip(f"there is no {name} on this machine")
    return found


@pytest.fixture(scope="module")
def port():
    """The port of a server that runs as a user of its own where we are root, whom PostgreSQL refuses."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-postgresql-"))
    (folder / "password").write_text(PASSWORD)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    if user is not None:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    data, options = folder / "data", f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    initdb = [find_binary("initdb"), "-D", data, "-U", "shop", "-A", "scram-sha-256", "--pwfile", folder / "password"]
    pg_ctl = [find_binary("pg_ctl"), "-D", data, "-w"]
    run = {"user": user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL, "timeout": 60}
    try:
        subprocess.run([*initdb, "-E", "UTF8"], **run)
        subprocess.run([*pg_ctl, "-l", folder / "log", "-o", options, "start"], **run)
        try:
            fill(port)
            yield port
        finally:
            subprocess.run([*pg_ctl, "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(folder)


def fill(port):
    with psycopg.connect(host="127.0.0.1", port=port, user="shop", password=PASSWORD, dbname="postgres") as connection:
        connection.execute(
            """create table kinds as select 1::smallint as small, 1.50::numeric as price, 2.00::numeric as whole,
               'NaN'::float8 as none, date '2024-01-02' as day, timestamptz '2024-01-02 03:04:05+00' as at,
               true as seen, 'é'::varchar(3) as text, array['a', 'b'] as list, '{"a": 1}'::jsonb as object,
               '12345678-1234-5678-1234-567812345678'::uuid as id, null::int as nothing, '\\x6162'::bytea as bytes"""
        )
        connection.execute(
            "create table numbers as select n, repeat('x', 500) || n as text from generate_series(1, 20000) as n"
        )
        connection.execute("create role nobody login password 'nothing'")


@pytest.fixture
def ask(tmp_path, port):
    def run(query, login=f"shop:{QUOTED_PASSWORD}", database="postgres"):
        environ = {"SHOP": f"postgresql://{login}@127.0.0.1:{port}/{database}"}
        path, _ = run_query(SqlOptions(connection="SHOP", query=query), tmp_path / "sql", environ)
        return path

    return run


def test_every_type_with_a_canonical_one_becomes_it(ask):
    assert json.loads(ask("select * from kinds").read_text()) == {
        "small": 1, "price": 1.5, "whole": 2, "none": None, "day": "2024-01-02", "at": "2024-01-02T03:04:05+00:00",
        "seen": True, "text": "é", "list": ["a", "b"], "object": {"a": 1}, "bytes": "ab",
        "id": "12345678-1234-5678-1234-567812345678", "nothing": None,
    }  # fmt: skip


def test_signs_of_sql_are_no_parameters(ask):
    query = (
        "select n::text || ':x' as a, '50 %' as b, to_char(now(), 'HH24:MI') <> '%s' as c from numbers where n % 7 = 0"
    )
    row = json.loads(ask(f"{query} and text like '%7'").read_text().splitlines()[0])
    assert (row["a"][-2:], row["b"], row["c"]) == (":x", "50 %", True)


def test_rows_are_streamed(ask, monkeypatch):
    ask("select 1 as n")
    monkeypatch.setattr(sql, "BATCH_ROWS", 500)
    tracemalloc.start()
    path = ask("select * from numbers order by n desc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2
    with path.open() as lines:
        assert json.loads(next(lines))["n"] == 20_000


def test_rows_without_an_order_are_the_same_file_whatever_order_they_come_in(ask):
    first = ask("select * from numbers where n < 900")
    assert ask("select * from (select * from numbers order by n desc) as a where n < 900") == first


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select * from number", r'relation "number" does not exist.*sql\.query'),
        ("select * frm numbers", r"syntax error at or near"),
        (
            "with a as (delete from numbers returning n) select * from a",
            "must not contain data-modifying",
        ),
        ("select * into copy from numbers", "read-only|not allowed|cursor"),
        ("select 1 / (n - 10000) as n from numbers order by n", "division by zero"),
        ("select n from numbers where n < 0", "gives no rows"),
        ("select n, n from numbers", "two columns 'n'"),
    ],
)
def test_a_query_that_cannot_be_used_is_refused(ask, query, expected):
    with pytest.raises(DataError, match=expected):
        ask(query)


@pytest.mark.parametrize(
    ("login", "database", "query", "expected"),
    [
        ("shop:wrong", "postgres", "select 1 as n", "refused: .*password authentication failed.*Check the user"),
        ("other:wrong", "postgres", "select 1 as n", "refused: .*Check the user, the password"),
        (f"shop:{QUOTED_PASSWORD}", "shop", "select 1 as n", 'refused: .*database "shop" does not exist'),
        ("shop", "postgres", "select 1 as n", "refused: .*password"),
        ("nobody:nothing", "postgres", "select * from numbers", "permission denied for table numbers.*user's rights"),
    ],
)
def test_who_is_not_let_in_is_told_what_to_check_and_no_secret(ask, login, database, query, expected):
    with pytest.raises(DataError, match=expected) as caught:
        ask(query, login, database)
    assert not {"wrong", "nothing", PASSWORD, QUOTED_PASSWORD} & set(str(caught.value).split())


def test_a_server_that_goes_away_is_no_mistake_of_the_user(ask):
    query = "select pg_terminate_backend(pg_backend_pid())::text as gone, n from numbers"
    with pytest.raises(TunesmithError, match="the connection was lost") as caught:
        ask(query)
    assert not isinstance(caught.value, UserError)
