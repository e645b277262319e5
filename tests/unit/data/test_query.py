import pytest

from tunesmith.data.query import find_query_problem, is_ordered


@pytest.mark.parametrize(
    "query",
    [
        "select text from reviews",
        " SELECT 1;\n",
        "with a as (select 1) select * from a",
        "(select 1) union (select 2)",
        "select ';delete' from \"a;b\" -- ; here\n/* ; */",
        "select $tag$ ; it's $tag$, E'it\\'s ;' from a",
        "select * from a order by id limit 10",
        "select * from (select * from a limit 3) as b order by id",
    ],
)
def test_one_statement_that_reads_is_fine(query):
    assert find_query_problem(query) is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "empty"),
        (" -- nothing\n;", "empty"),
        ("select 1; drop table a", "one statement"),
        ("delete from a", "starts with delete"),
        ("update a set b = 'select 1'", "starts with update"),
        ("select * from a limit 10", "LIMIT without ORDER BY"),
        ("select * from a order by (select 1) limit 3 offset 2; ", None),
        ("select * from (select * from a order by b) as c fetch first 3 rows only", "LIMIT without ORDER BY"),
    ],
)
def test_a_query_that_cannot_work_is_refused_by_its_text(query, expected):
    problem = find_query_problem(query)
    assert problem is None if expected is None else expected in problem


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select * from a ORDER\n BY id", True),
        ("select 'order by' from a", False),
        ("select row_number() over (order by id) from a", False),
        ("select * from a -- order by id", False),
    ],
)
def test_only_an_order_of_the_query_itself_counts(query, expected):
    assert is_ordered(query) is expected
