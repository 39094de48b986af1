"""Exports and imports by the command line."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.harness import ended, serving


def test_tasks_of_a_running_server_are_moved_to_another_folder(tmp_path: Path) -> None:
    file, copy = tmp_path / "tasks.ndjson", tmp_path / "copy"
    with serving(tmp_path / "data", "--start-paused") as server:
        ids = {server.push(f"http://127.0.0.1:9/{number}") for number in range(3)}

        written = ended("export", file, "--data-dir", tmp_path / "data")
        piped = ended("export", "--data-dir", tmp_path / "data")

    assert (written.returncode, written.stdout, written.stderr) == (0, "", "3 tasks exported\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert without_statistics(piped.stdout) == without_statistics(file.read_text())
    imported = ended("import", "--data-dir", copy, given=piped.stdout)
    assert (imported.returncode, imported.stderr) == (0, "3 tasks imported\n")
    with serving(copy) as server:  # its pause came along
        assert server.ids("waiting") == ids


def without_statistics(export: str) -> list[str]:
    """Return the lines after the first that do not depend on when a minute ends."""
    return [line for line in export.splitlines()[1:] if not line.startswith('{"type":"minute"')]


def test_import_of_a_file_that_was_cut_is_one_line_and_leaves_no_store(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        server.stop()
    content = ended("export", "--data-dir", tmp_path / "data").stdout

    result = ended("import", "--data-dir", tmp_path / "copy", given=content[:-5])

    assert result.returncode == 1
    assert result.stderr.startswith("poussetaches: line ")
    assert not (tmp_path / "copy" / "tasks.db").exists()
