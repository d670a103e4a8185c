"""Pages that are written by hand but for the part between two marks."""

from pathlib import Path


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """
    Replace what stands between two marks.

    :param page: its marks and all else stay
    :param begin: first mark
    :param end: second mark
    :param text: what goes between them, on lines of its own
    """
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}")
