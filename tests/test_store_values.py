"""Values as columns: any text comes back as it was, and is shown by one rule; no NaN is a number or JSON."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text as sql
from test_store_fakes import make_journal, make_problems, make_spec, make_step, new_database, rows, saved

from search.packing import rounded
from search.types import GREEDY, Extend, Extension, Row, Until
from store import queries, schema
from store.database import Database
from store.runs import begin_run
from store.values import (
    LONG,
    TEXT_LIMIT,
    clean,
    clean_or_none,
    dumps,
    exact_text,
    finite,
    pack_ids,
    plain_text,
    stored_text,
    unpack_ids,
    view,
)

TEXTS = st.text(alphabet=st.characters(), max_size=30) | st.text("\x00\ud800\udfff\ufffd\uffffab🙂", max_size=2 * LONG)
RANDOM = random.Random(0)
KINDS = {
    "empty": "",
    "plain": "so 2 + 2 = 4.\n\n",
    "umlauts": "héllo ẞ 日本",
    "nul": "a\x00b",
    "only nul": "\x00",
    "a lone surrogate": "x\ud800y\udfff",
    "a surrogate pair, apart": "\ud83d\ude42",
    "the replacement itself": "\ufffd fine",
    "the last of the plane": "\uffff\ufffe\U0010ffff",
    "emoji": "🙂👩‍👩‍👧" * 3,
    "just short": "z" * (LONG - 1),
    "long": "z" * LONG,
    "long words": "therefore the answer is 42, since 6 times 7 is 42. " * 40,
    "long noise": "".join(chr(RANDOM.randrange(0x20, 0x2FFF)) for _ in range(3 * LONG)),
    "long with nul": "therefore " * LONG + "\x00",
    "long noise with surrogates": "".join(chr(RANDOM.randrange(0xD800, 0xE000)) for _ in range(3 * LONG)),
    "the limit": "z" * TEXT_LIMIT,
    "one over the limit": "z" * TEXT_LIMIT + "\x00",
    "ten megabytes": "".join(RANDOM.choices("abcdefgh \n", k=1000)) * 10_000,
}


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


@given(TEXTS)
def test_any_text_becomes_storable_by_one_rule(text: str) -> None:
    stored = view(text)
    stored.text.encode()
    assert "\x00" not in stored.text
    assert len(stored.text) == len(text)
    assert stored.lossy == (stored.text != text)
    assert clean(text) == clean_or_none(text) == stored.text
    for new, old in zip(stored.text, text, strict=True):
        assert new == old or (new == "\ufffd" and (old == "\x00" or "\ud800" <= old <= "\udfff"))


@given(TEXTS, st.booleans())
def test_any_text_comes_back_from_its_columns(text: str, compress: bool) -> None:
    stored = stored_text(text, compress)
    assert exact_text(stored.text, stored.text_zlib) == text
    assert plain_text(stored.text, stored.text_zlib) == view(text).text
    assert stored.text is None or view(stored.text).text == stored.text, "the column cannot hold it"
    assert compress or stored.text is not None, "PostgreSQL compresses by itself"
    assert (stored.text_zlib is None) or compress or stored.text_lossy


def test_no_text_is_an_empty_one() -> None:
    assert (exact_text(None, None), clean_or_none(None)) == ("", None)


def test_every_kind_of_text_comes_back_exactly_and_looks_the_same_on_both_databases(db: Database) -> None:
    texts = list(KINDS.values())
    request = Extend(tuple(Row(str(i), i, (1,), 9) for i in range(len(texts))), Until.END, GREEDY)
    with make_journal(db, begin_run(db, make_spec(), make_problems(1), {})) as journal:
        journal.answered(1, request, Extension(tuple(rounded([make_step(text) for text in texts]))))
        saved(journal)
    shown = {int(row.path): row.text for row in queries.tree(db, 1)}
    found = sorted(rows(db, schema.candidate), key=lambda row: int(row["path"]))
    for (kind, text), row in zip(KINDS.items(), found, strict=True):
        seen = view(text)
        # not compared in the assert: pytest would write out ten megabytes
        same = exact_text(row["text"], row["text_zlib"]) == text
        assert same, f"{kind}: not as it was generated"
        same = plain_text(row["text"], row["text_zlib"]) == seen.text == shown[int(row["path"])]
        assert same, f"{kind}: not as it is shown"
        assert (row["text_lossy"], row["text_truncated"]) == (seen.lossy, seen.truncated), kind
        assert db.is_sqlite or row["text"] is not None, kind
    compressed = {kind for kind, row in zip(KINDS, found, strict=True) if row["text"] is None}
    long = {kind for kind, text in KINDS.items() if len(text) >= LONG} - {"long noise"}
    assert compressed == (long if db.is_sqlite else set())
    if db.is_sqlite:  # what people write in SQL
        with db.read() as connection:
            asked = connection.execute(sql("SELECT path, plain_text(text, text_zlib), length(text_zlib) FROM candidate"))
            by_hand = {int(path): (plain, size) for path, plain, size in asked}
        same = {path: plain for path, (plain, _) in by_hand.items()} == shown
        assert same
        assert by_hand[list(KINDS).index("ten megabytes")][1] < 100_000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_number_and_no_json(bad: float) -> None:
    assert finite(bad) is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"x": [bad]})


def test_json_is_canonical_and_ascii() -> None:
    assert dumps({"b": 1.5, "a": ["é", None]}) == '{"a":["\\u00e9",null],"b":1.5}'
    assert finite(-0.5) == -0.5


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9))
def test_ids_of_a_prompt_come_back(ids: list[int]) -> None:
    blob = pack_ids(ids)
    assert (unpack_ids(blob), len(blob)) == (tuple(ids), 4 * len(ids))
    assert pack_ids([1, -2]) == b"\x01\x00\x00\x00\xfe\xff\xff\xff"
