from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionactor._cursors import Created, Cursor, Order, Updated, decode, encode
from sessionactor._errors import InvalidValueError

NUMBERS = st.integers(min_value=-(2**63 - 1), max_value=2**63 - 1)
CURSORS = st.builds(Created, NUMBERS, st.text()) | st.builds(
    Updated, st.text(), NUMBERS, st.none() | NUMBERS, NUMBERS
)


@given(CURSORS)
def test_a_cursor_comes_back_whatever_its_length(cursor: Cursor) -> None:
    order: Order = "created" if isinstance(cursor, Created) else "updated"
    assert decode(encode(cursor), order) == cursor


@given(CURSORS, st.data())
def test_a_cursor_that_was_cut_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = encode(cursor)
    cut = text[: data.draw(st.integers(min_value=0, max_value=len(text) - 1))]
    with pytest.raises(InvalidValueError, match="not a cursor"):
        decode(cut, "created")
