"""A placeholder in place of an image: a PNG that shows the word PLACEHOLDER. Pure."""

import struct
import zlib

WORD = "PLACEHOLDER"
LETTERS = {  # rows of 5 dots, the highest bit at the left
    "P": (30, 17, 17, 30, 16, 16, 16),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "R": (30, 17, 17, 30, 20, 18, 17),
}
WIDTH, HEIGHT, STEP = 5, 7, 6  # dots of a letter, and from one letter to the next
SIDE_LEAST, SIDE_MOST, SIDE = 96, 1536, 512  # pixels
COLOURS = bytes((232, 232, 232, 96, 96, 96))  # the ground, and the word
INDEXED = 3  # the kind of PNG


def size_of(text: str) -> tuple[int, int]:
    """Return width and height from a request's "1024x768", within bounds; otherwise a square."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() for side in sides):
        return SIDE, SIDE
    width, height = (min(max(int(side[:6]), SIDE_LEAST), SIDE_MOST) for side in sides)
    return width, height


def placeholder(width: int, height: int) -> bytes:
    """Return the PNG.

    Args:
        width: Pixels, `SIDE_LEAST` or more.
        height: Likewise.
    """
    dots = STEP * len(WORD) - 1
    scale = max(width * 3 // 4 // dots, 1)
    left, top = (width - dots * scale) // 2, (height - HEIGHT * scale) // 2
    ground, lines = bytes(width), []
    for row in range(HEIGHT):
        line = bytearray(width)
        for number, letter in enumerate(WORD):
            for dot in range(WIDTH):
                if LETTERS[letter][row] >> (WIDTH - 1 - dot) & 1:
                    at = left + (number * STEP + dot) * scale
                    line[at : at + scale] = b"\1" * scale
        lines += [bytes(line)] * scale
    rows = [ground] * top + lines + [ground] * (height - top - len(lines))
    head = struct.pack(">IIBBBBB", width, height, 8, INDEXED, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    parts = (b"IHDR", head), (b"PLTE", COLOURS), (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in parts)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
