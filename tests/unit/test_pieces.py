"""Lines joined for the way to the client: the same text, and never a whole batch of it in memory."""

from collections.abc import Iterator
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from api.pieces import PIECE, in_pieces


@given(st.lists(st.text(max_size=9)), st.integers(1, PIECE // 2))
def test_the_text_is_the_same_in_fewer_pieces(lines: list[str], width: int) -> None:
    lines = [line + "x" * width for line in lines]
    pieces = list(in_pieces(lines))
    assert "".join(pieces) == "".join(lines)
    assert all(len(piece) >= PIECE for piece in pieces[:-1])
    assert all(len(piece) < PIECE + width + 9 for piece in pieces)


def test_a_piece_is_sent_before_the_lines_have_an_end() -> None:
    """A night of a million jobs read into memory before its first byte is sent."""
    asked = 0

    def lines() -> Iterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield "x" * 999 + "\n"

    assert len(list(islice(in_pieces(lines()), 3))) == 3
    assert asked <= 3 * PIECE / 1000 + 3
