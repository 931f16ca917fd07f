"""Files of texts: both forms say the same, and what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh import texts_file
from mesh.errors import MeshError

HEAD = "text_id,source,instrument_ids,published_at,known_at,text\n"
GOOD = (
    '{"text_id": "1", "source": "wire", "instrument_ids": ["A"], "published_at": "2009-07-01T12:00:00Z", "text": "x"}\n'
)


def test_json_lines_and_csv_say_the_same(tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text(
        '{"text_id": "1", "source": "wire", "instrument_ids": ["A", "B"], "published_at": '
        '"2009-07-01T08:30:00.25-04:00", "known_at": "2009-07-01T12:31:00Z", "text": "Profit, up \\"12%\\""}\n\n'
        '{"text_id": "2", "source": "blog", "instrument_ids": ["A"], '
        '"published_at": "2009-07-02T12:00:00Z", "text": "x"}\n'
    )
    table.write_text(
        f'{HEAD}1,wire,A B,2009-07-01T08:30:00.25-04:00,2009-07-01T12:31:00Z,"Profit, up ""12%"""\n'
        "2,blog,A,2009-07-02T12:00:00Z,,x\n"
    )
    found = texts_file.read(lines)
    assert found == texts_file.read(table)
    assert found[0].ts_event_ns == 1_246_451_400_250_000_000
    assert found[0].known_at_ns == 1_246_451_460_000_000_000
    assert found[1].known_at_ns == found[1].ts_event_ns  # known when it was published, unless it says more


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", GOOD, "is neither .jsonl nor .csv"),
        ("a.jsonl", GOOD + "{\n", "a.jsonl, line 2: no JSON"),
        ("a.jsonl", GOOD + "[]\n", "line 2: [] is no object"),
        ("a.jsonl", GOOD.replace('"text":', '"words":'), "line 1: unknown field 'words'; fields are text_id, "),
        ("a.jsonl", GOOD.replace('"source": "wire", ', ""), "line 1: no source"),
        ("a.jsonl", GOOD.replace("12:00:00Z", "12:00:00"), "line 1: published_at: '2009-07-01T12:00:00' is no moment"),
        ("a.jsonl", GOOD.replace('"2009-07-01T12:00:00Z"', "20090701"), "line 1: published_at: 20090701 is no moment"),
        ("a.jsonl", GOOD.replace('["A"]', '"A"'), "line 1: instrument_ids is 'A'"),
        ("a.jsonl", GOOD.replace('["A"]', "[]"), "line 1: instrument_ids: "),
        ("a.jsonl", GOOD.replace('"wire"', '"The Wire"'), "line 1: source: "),
        ("a.jsonl", GOOD.replace('"1"', "1"), "line 1: "),
        ("a.csv", f"{HEAD}1,wire,A,2009-07-02T12:00:00Z,2009-07-01T12:00:00Z,x\n", "line 2: times: known_at_ns cannot"),
        ("a.csv", f"{HEAD}1,wire,A\n", "line 2: not as many values"),
        ("a.csv", f'{HEAD}1,wire,A,2009-07-02T12:00:00Z,,"x" y\n', "line 2: "),
        ("a.csv", f"{HEAD}1,wire,A,2009-07-02T12:00:00Z,,\n", "line 2: no text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, name: str, content: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(MeshError) as caught:
        texts_file.read(path)
    assert problem in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="No such file"):
        texts_file.read(tmp_path / "none.jsonl")
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + "1,wire,A,2009-07-02T12:00:00Z,,für\n".encode("latin-1"))
    with pytest.raises(MeshError, match="is no UTF-8"):
        texts_file.read(tmp_path / "latin.csv")
