"""Counts, sizes, times and names as text."""


def printable(text: str) -> str:
    """`text` with what a terminal would obey, or cannot show, as backslash escapes.

    Names of files may hold escape sequences, line ends, and bytes that are no text.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def counted(count: float, thing: str, things: str | None = None) -> str:
    """`1 image`, `2 images`; `things` is a plural that does not end in s alone: `2 copies`."""
    number = f"{count:g}" if isinstance(count, float) else f"{count}"
    return f"{number} {thing if count == 1 else things or thing + 's'}"


def millions(count: int | None) -> str:
    """`11.39 M`."""
    return "-" if count is None else f"{count / 1e6:.2f} M"


def billions(count: int | None) -> str:
    """`49.55 G`."""
    return "-" if count is None else f"{count / 1e9:.2f} G"


def megabytes(count: int | None) -> str:
    """`45.6 MB`."""
    return "-" if count is None else f"{count / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """`1:05:00`, `4:05`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
