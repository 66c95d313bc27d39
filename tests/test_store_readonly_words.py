"""The lexer of PostgreSQL's statements: it finds every name that the server finds, or refuses."""

from __future__ import annotations

import random

import psycopg
import pytest
from postgres import Postgres
from sqlalchemy.engine import make_url

from store.readonly import QueryError
from store.readonly_functions import POSTGRESQL
from store.readonly_words import words_of


def called(sql: str) -> set[str]:
    return set(words_of(sql, frozenset()).callable)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT a(1), b (2), c\n(3), d/* x */(4), e -- y\n (5)", {"a", "b", "c", "d", "e"}),
        ('SELECT Ab(1), "Ab"(1), "a""b"(1), x.y, x."Z", x . w', {"ab", "Ab", 'a"b', "y", "Z", "w"}),
        ("SELECT 'a(1)', \"b(1)\", 'c''d(1)' -- e(1)\n/* f(1) */", set()),
        ("SELECT (x).f, (ARRAY[1])[1].g, 1.h, $1", None),
        ("SELECT 1, ('x'::text).f, a[1:2]", {"f"}),
        ("SELECT 1::int4(2), a$b(1), _c(1), d1(1), é(1)", {"int4", "a$b", "_c", "d1", "é"}),
    ],
)
def test_a_name_before_a_parenthesis_or_after_a_dot_may_be_called(sql: str, names: set[str] | None) -> None:
    if names is None:
        with pytest.raises(QueryError, match="'\\$' outside of a text"):
            called(sql)
    else:
        assert called(sql) == names


@pytest.mark.parametrize(
    "sql",
    [
        *("SELECT E'a'", "SELECT e'\\''", "SELECT n'a'", "SELECT b'1'", "SELECT X'ff'", "SELECT U&'a'", 'SELECT u&"a"'),
        *("SELECT $$a$$", "SELECT $a$a$a$", "SELECT 'a", 'SELECT "a', "SELECT /* a", "SELECT /* /* */ */ 1", "SELECT \x0b1"),
        *("SELECT TREAT(1 AS f)", "SELECT treat\n(1 AS f)", "SELECT GRÖSSE(1)", "SELECT 1 AS \u0130"),
        *("SELECT 1; SELECT 2", "SELECT 1;;SELECT 2", "SELECT :a", f"SELECT {'a' * 64}"),
    ],
)
def test_what_two_readers_might_read_in_two_ways_is_refused(sql: str) -> None:
    with pytest.raises(QueryError):
        words_of(sql, frozenset())


def test_parameters_are_numbered_and_casts_slices_and_texts_are_none() -> None:
    words = words_of("SELECT :b::text, ':c', x[1:2], :a + :b -- :d\n;", frozenset(("a", "b")))
    assert words.sql == "SELECT $1::text, ':c', x[1:2], $2 + $1 -- :d\n;"
    assert words.parameters == ("b", "a")


PIECES = (
    *(
        "'",
        "'",
        "''",
        '"',
        '""',
        "--",
        "/*",
        "*/",
        "\n",
        "\r",
        " ",
        "\\",
        "$",
        "$$",
        "$a$",
        "E'",
        "e'",
        "U&'",
        'U&"',
        "N'",
        "&",
    ),
    *(
        "version()",
        "version()",
        "version ()",
        "('x'::text)",
        ".",
        "version",
        ",",
        "1",
        "a",
        "(",
        ")",
        "::",
        ":",
        "; ",
        "é",
        "\\'",
    ),
)


def test_the_server_calls_no_function_that_the_lexer_has_not_seen(postgres: Postgres) -> None:
    """Pieces at random, many of which are SQL: where the lexer sees no version(), the server does not call it."""
    assert "version" not in POSTGRESQL
    url = postgres.url("words")
    at, draw, answered, unseen = make_url(url), random.Random(7), 0, 0
    with psycopg.connect(host=str(at.query["host"]), user="postgres", dbname=at.database, autocommit=True) as connection:
        for _ in range(6_000):
            middle = "".join(draw.choices(PIECES, k=draw.randint(1, 6)))
            first, last = draw.choice(("", "1, ", "'")), draw.choice(("", " version()", "'", "*/ 1", "\n1"))
            sql = f"SELECT {first}{middle}{last}"
            try:
                words = words_of(sql, frozenset())
            except QueryError:
                continue
            if "version" in words.callable:
                continue
            unseen += 1
            connection.execute("BEGIN READ ONLY")
            done = connection.pgconn.exec_params(f"DECLARE c CURSOR FOR {words.sql}".encode(), [])
            if done.status == psycopg.pq.ExecStatus.COMMAND_OK:
                answered += 1
                assert "PostgreSQL" not in str(connection.execute("FETCH ALL FROM c").fetchall()), sql
            connection.execute("ROLLBACK")
    postgres.drop(url)
    assert unseen > 300
    assert answered > 100
