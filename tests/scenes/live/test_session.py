"""Requests, their order and their record."""

import json
from pathlib import Path

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.live.session import EditSession, Request, branch_name, read_record


def test_requests_are_taken_once_and_in_order() -> None:
    session, woken = EditSession({}), []
    session.wake = lambda: woken.append(True)
    assert not session.due(0)
    first, second = Request("set", {"guidance_scale": 3.0}), Request("undo")
    session.ask(first)
    session.ask(second)
    assert session.due(0) and session.take(0) == [first, second]
    assert not session.due(0) and session.take(0) == [] and woken == [True, True]


def test_a_replay_asks_before_the_same_steps(tmp_path: Path) -> None:
    session = EditSession({})
    early, late = Request("set", {"localize": 0.5}), Request("undo")
    session.begin(tmp_path / "record", [(3, early), (7, late), (7, early)])
    assert session.replaying and not session.due(2) and session.take(2) == []
    assert session.due(3) and session.take(3) == [early]
    assert not session.due(6) and session.take(8) == [late, early] and not session.due(99)


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    session, path = EditSession({}), tmp_path / "run" / "session.jsonl"
    session.begin(path)
    requests = [(0, Request("set", {"tgt_prompt": "ein Bär", "t_min": 0.1})), (5, Request("undo"))]
    for step, request in requests:
        session.write_down(step, request)
    assert read_record(path) == requests
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 5]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"step": 1}',
        '{"step": 1, "action": "explode"}',
        '{"step": 1, "action": "set", "settings": {"unheard_of": 1}}',
        '{"step": "x", "action": "undo"}',
        '{"step": 1e999, "action": "undo"}',
        '{"step": 1, "action": "set", "settings": ["tgt_prompt"]}',
        '{"step": 1, "action": "set", "settings": {"guidance_scale": null}}',
        '{"step": 1, "action": "set", "settings": {"guidance_scale": NaN}}',
        '{"step": 1, "action": "set", "settings": {"localize": "all"}}',
        '{"step": 1, "action": "edit", "settings": {"tgt_prompt": null}}',
        '{"step": 1, "action": "edit", "settings": {"steps_left": 2.5}}',
        '{"step": 1, "action": "pick", "settings": {"rays": 3}}',
        "[" * 20_000,
    ],
)
def test_a_broken_record_is_refused_with_the_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_text('{"step": 0, "action": "undo"}\n' + line)
    with pytest.raises(UserError, match="line 2"):
        read_record(path)


def test_a_record_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "session.jsonl").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match=r"session\.jsonl: it is no text"):
        read_record(tmp_path / "session.jsonl")


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl"):
        read_record(tmp_path / "none.jsonl")


def test_names_of_branches() -> None:
    taken = {"a-man-in-a-red-shirt", "a-man-in-a-red-shirt-2"}
    assert branch_name("a man in a red shirt", lambda name: False) == "a-man-in-a-red-shirt"
    assert branch_name("a man in a  red shirt ", taken.__contains__) == "a-man-in-a-red-shirt-3"
    assert branch_name("../..", lambda name: False).startswith("branch-")


@pytest.mark.parametrize("word", ["word ", "狐狸", "👨‍🎨 é", "a-b ", "../", "A! "])
def test_other_words_give_other_names_that_any_file_system_takes(word: str) -> None:
    prompts = [word * 99 + end for end in ("", "x", "y", ", x", "-x", "!", "?")]
    names = [branch_name(prompt, lambda name: False) for prompt in prompts]
    assert len(set(names)) == len(prompts) and max(len(name.encode()) for name in names) < 80
    assert not any("/" in name or "." in name for name in names)
