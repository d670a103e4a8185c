"""A file is the old one or the new one, and nothing is left of what failed."""

from pathlib import Path

import pytest

from sb3_tom.checkpoint.replacing import replaced


def test_the_new_file_is_there_at_the_end_of_the_block_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for text, before in (("one", None), ("two", "one")):
        with replaced(path) as partial:
            partial.write_text(text)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text and [found.name for found in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("begun", [False, True])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: type[BaseException], begun: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replaced(path) as partial:
        if begun:
            partial.write_text("ne")
        raise error
    assert path.read_text() == "old" and [found.name for found in tmp_path.iterdir()] == ["file"]
