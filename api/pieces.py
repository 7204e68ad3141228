"""Lines in, the same text in larger pieces out: each piece of a streamed answer costs a way to a thread and back."""

from collections.abc import Iterable, Iterator

PIECE = 1 << 16  # characters, at least, of all pieces but the last


def in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """The lines, many of them joined at a time."""
    piece: list[str] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= PIECE:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)
