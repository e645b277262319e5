"""What can be told of an SQL query from its text alone."""

from __future__ import annotations

import re

QUOTED = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'     # PostgreSQL's strings with escapes
    | '(?:[^']|'')*'                 # strings
    | "(?:[^"]|"")*"                 # names
    | \$(\w*)\$.*?\$\1\$             # PostgreSQL's dollar quotes
    | --[^\n]* | /\*.*?\*/           # comments
    """,
    re.DOTALL | re.VERBOSE,
)
INNERMOST = re.compile(r"\([^()]*\)")
ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)
LIMIT = re.compile(r"\b(limit|offset|fetch\s+(first|next))\b", re.IGNORECASE)
READING = re.compile(r"\(*\s*(select|with|values)\b", re.IGNORECASE)


def find_query_problem(query: str) -> str | None:
    """What is wrong with a query that should read rows, and do so alike each time; None where nothing is.

    Example:
        >>> find_query_problem("delete from reviews")
        'must be one SELECT (or WITH ... SELECT), which only reads; it starts with delete'
    """
    bare = _without_quoted(query).strip().rstrip(";").strip()
    if not bare:
        return "the query is empty; write a SELECT"
    if ";" in bare:
        return "must be one statement; there is a ';' in the middle"
    if not READING.match(bare):
        return f"must be one SELECT (or WITH ... SELECT), which only reads; it starts with {bare.split()[0]}"
    if LIMIT.search(_outermost(bare)) and not is_ordered(query):
        return "LIMIT without ORDER BY gives other rows each time; add an ORDER BY whose columns are unique"
    return None


def is_ordered(query: str) -> bool:
    """Whether a query itself, and not only a part of it, has an ORDER BY.

    Example:
        >>> is_ordered("select * from (select id from reviews order by id)")
        False
    """
    return ORDER_BY.search(_outermost(_without_quoted(query))) is not None


def _without_quoted(query: str) -> str:
    return QUOTED.sub(lambda found: " " if found[0].startswith(("--", "/*")) else " '' ", query)


def _outermost(query: str) -> str:
    """A query without what stands in brackets."""
    while (shorter := INNERMOST.sub(" ", query)) != query:
        query = shorter
    return query
