"""Records: canonical text and digests against hashlib, every damaged byte noticed, the chain, the
checker without torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eigenforget
from eigenforget.record import (
    Outcome,
    RecordError,
    RunRecord,
    ScoreRow,
    canonical,
    in_force,
    read,
    read_chain,
    read_folder,
    record_from_json,
    score_row,
    seal,
    tip,
    to_json,
    value_digest,
    write,
    write_text,
)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def made(name: str = "müda", **changes: Any) -> RunRecord:
    record = RunRecord(
        kind="evaluate",
        name=name,
        role="unlearned",
        created="2026-11-24T13:00:00Z",
        job={"method": {"spec": "muda(lr=0.1)"}, "seed": 0, "fractions": (0.1, 1e-7)},
        inputs={"data": A},
        environment={"device": "cpu"},
        outcome=Outcome("ok", 5.5, cost={"steps": 12}, outputs={"model": B}),
        scores=(
            ScoreRow("da", 0.981, "share", "reference", (0.0, 1.0), 0.97, 0.99),
            ScoreRow("mia_auc", None, "AUC", "reference", (0.0, None), reason="no finite loss"),
        ),
        claims=("Measured on this data.",),
        non_claims=("Other seeds.",),
    )
    return replace(record, **changes)


def chain(
    folder: Path, records: list[RunRecord], names: list[str] | None = None
) -> list[RunRecord]:
    """Seals the records one after the other and writes them under these file names."""
    folder.mkdir(exist_ok=True)
    sealed: list[RunRecord] = []
    for i, record in enumerate(records):
        sealed.append(seal(record, sealed[-1].digest if sealed else None))
        write(sealed[-1], folder / (names[i] if names else f"{i}.json"))
    return sealed


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(RecordError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# --- canonical text and digest ---


def test_canonical_text_is_sorted_compact_raw_unicode_and_shortest_floats() -> None:
    value = {"b": [1, 2.5, 1e-7, 1e16, 0.1, -0.0, True, None], "ä": 'é\n"', "Z": {}, "a": ()}
    assert (
        canonical(value)
        == '{"Z":{},"a":[],"b":[1,2.5,1e-07,1e+16,0.1,-0.0,true,null],"ä":"é\\n\\""}'
    )


@pytest.mark.parametrize(
    "bad",
    [float("nan"), float("inf"), -float("inf"), {1: 2}, {"a": {None: 1}}, {1}, "\ud800", b"x"],
)
def test_canonical_refuses_what_json_cannot_hold(bad: Any) -> None:
    assert "not plain JSON" in refusal(canonical, {"deep": [bad]})


def test_digests_of_known_texts() -> None:
    # Published digest of the two bytes {}.
    assert (
        value_digest({})
        == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    assert (
        value_digest({"b": 1, "a": "é"})
        == "sha256:" + hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()
    )


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_JSON)
def test_canonical_text_reads_back_as_the_value_and_does_not_know_key_order(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {k: turned(item[k]) for k in reversed(item)}
        return [turned(v) for v in item] if isinstance(item, list) else item

    text = canonical(value)
    back = json.loads(text)
    assert back == value and canonical(back) == text and canonical(turned(value)) == text


# --- one file ---


def test_seal_write_read_round_trip(tmp_path: Path) -> None:
    sealed = seal(made(), A)
    path = write(sealed, tmp_path / "r.json")
    assert read(path) == sealed and sealed.previous == A
    assert sealed.job["fractions"] == [
        0.1,
        1e-7,
    ]  # plain JSON types: equal before and after the disk
    content = json.loads(path.read_text(encoding="utf-8"))
    told = content.pop("digest")
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert told == sealed.digest == "sha256:" + hashlib.sha256(body).hexdigest()
    assert path.read_bytes().endswith(b"}\n") and sorted(tmp_path.iterdir()) == [path]


def test_digest_depends_on_content_and_predecessor_only() -> None:
    first = seal(made())
    assert seal(first) == first == seal(made()) and seal(made(), A).digest != first.digest
    assert seal(made(name="muda")).digest != first.digest


def test_every_changed_byte_and_every_kind_of_cut_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    content = path.read_bytes()
    assert len(content) > 800
    damaged = [
        content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(len(content))
    ]
    damaged += [
        content[:i] for i in (*range(0, len(content), 29), len(content) - 2, len(content) - 1)
    ]
    damaged += [content + b"\n", content + content, b" " + content, b"\xef\xbb\xbf" + content]
    for blob in damaged:
        path.write_bytes(blob)
        assert refusal(read, path).startswith(f"{path}: ")
    path.write_bytes(content)
    assert read(path).name == "müda"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"not json", b"\xff\xfe", b"[]", b"null", b"3", b"{}", b"[" * 100_000]
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert refusal(read, path).startswith(f"{path}: ")
    assert "cannot be read" in refusal(read, tmp_path / "absent.json")


def test_the_same_content_in_another_spelling_is_refused(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    value = json.loads(path.read_bytes())
    for text in (
        json.dumps(value),
        canonical(value),
        canonical(value).replace('"seed":0', '"seed":0,"seed":0') + "\n",
    ):
        path.write_text(text, encoding="utf-8")
        assert "not in canonical form" in refusal(read, path)


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    good = path.read_text(encoding="utf-8")
    for number in ("NaN", "Infinity", "1e999"):
        for old in ('"value":0.981', '"seed":0'):
            assert old in good
            path.write_text(good.replace(old, old.split(":")[0] + ":" + number), encoding="utf-8")
            assert refusal(read, path).startswith(f"{path}: ")


def test_write_does_not_replace_and_does_not_take_unsealed_records(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    before = path.read_bytes()
    assert (
        "exists already" in refusal(write, seal(made("other")), path)
        and path.read_bytes() == before
    )
    new = tmp_path / "new.json"
    for record in (made(), replace(seal(made()), name="changed after sealing")):
        assert "must be sealed" in refusal(write, record, new) and not new.exists()
    write(seal(made("other")), path, overwrite=True)
    assert read(path).name == "other"


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    path = write_text(tmp_path / "r.json", "old")

    def fail(*args: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises((RecordError, KeyboardInterrupt)) as caught:
            write_text(path, "new")
    assert (
        isinstance(caught.value, KeyboardInterrupt)
        or str(caught.value) == f"{path}: cannot be written: No space left on device"
    )
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert "cannot be written" in refusal(write_text, tmp_path / "absent" / "r.json", "new")


# --- the schema ---


def test_json_and_back() -> None:
    sealed = seal(made(), A)
    assert record_from_json(to_json(sealed)) == sealed
    assert to_json(sealed)["scores"][1] == {
        "name": "mia_auc",
        "value": None,
        "unit": "AUC",
        "better": "reference",
        "range": [0.0, None],
        "low": None,
        "high": None,
        "reason": "no finite loss",
    }


def test_score_row_opens_infinite_ends() -> None:
    ends = {"range": (0.0, float("inf")), "low": 0.4, "high": 0.6}
    score = SimpleNamespace(
        name="kl",
        value=0.5,
        unit="nats",
        better="lower",
        reason="",
        trace="both",
        about=None,
        **ends,
    )
    assert score_row(score) == ScoreRow(
        "kl", 0.5, "nats", "lower", (0.0, None), 0.4, 0.6, trace="both"
    )


# Path into the JSON, the value put there ("-" deletes the field), and words of the message.
WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    (("created",), "-", "missing field 'created'"),
    (("scores", 0, "unit"), "-", "scores[0]: missing field 'unit'"),
    (("extra\nline",), 1, "unknown field 'extra\\nline'"),
    (("outcome", "extra"), 1, "outcome: unknown field 'extra'"),
    (("schema",), "eigenforget.record/2", "'eigenforget.record/2'"),
    (("kind",), "guess", "kind must be one of train, unlearn, evaluate, got 'guess'"),
    (("name",), " ", "name must be a non-empty text"),
    (("role",), "boss", "role must be one of original, oracle, unlearned, control, got 'boss'"),
    (("role",), None, "role is set in evaluate records"),
    (("kind",), "train", "role is set in evaluate records"),
    (("created",), "2026-02-30T00:00:00Z", "a date that exists"),
    (("created",), "2026-11-24 13:00", "a UTC time"),
    (("job",), [], "job must be an object"),
    (("job", "corrects"), "abc", "job.corrects must be a digest"),
    (("inputs", "da\nta"), "md5:1", "inputs['da\\nta'] must be a digest"),
    (("outcome", "status"), "fine", "outcome.status must be one of ok, refused, failed"),
    (("outcome", "status"), "refused", "must say why the run was refused"),
    (("outcome", "seconds"), True, "outcome.seconds must be a finite number, got True"),
    (("outcome", "seconds"), -1.0, "at least 0, got -1.0"),
    (("scores",), {}, "scores must be a list"),
    (("scores", 0, "value"), "0.9", "scores[0].value must be a finite number, got '0.9'"),
    (("scores", 0, "value"), None, "scores[0]: a score without a value needs a reason ('da')"),
    (("scores", 0, "better"), "big", "one of higher, lower, reference"),
    (("scores", 0, "range"), [0.0], "must be [low, high], got 1 values"),
    (("scores", 0, "range"), [1.0, 0.0], "the range of 'da' runs from 1.0 down to 0.0"),
    (("scores", 0, "low"), 0.995, "the interval of 'da' runs from 0.995 down to 0.99"),
    (("scores", 1, "name"), "da", "'da' appears more than once"),
    (("claims",), [""], "claims[0] must be a non-empty text"),
    (("previous",), "sha256:" + "A" * 64, "previous must be a digest"),
]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    WRONG,
    ids=[f"{'.'.join(map(str, w[0]))}-{i}" for i, w in enumerate(WRONG)],
)
def test_a_wrong_field_is_refused_in_one_line(
    place: tuple[Any, ...], value: Any, words: str
) -> None:
    body = json.loads(canonical(to_json(seal(made()))))
    holder = body
    for step in place[:-1]:
        holder = holder[step]
    if value == "-":
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    assert words in refusal(record_from_json, body)


# --- the chain ---


def test_order_comes_from_the_chain_and_not_from_file_names(tmp_path: Path) -> None:
    names = ["c.json", "a.json", "d.json", "b.json"]
    sealed = chain(tmp_path, [made(f"m{i}") for i in range(4)], names)
    (tmp_path / "notes.txt").write_text("not a record")
    (tmp_path / "._a.json").write_text("not a record")
    assert [r.name for r in read_folder(tmp_path)] == ["m0", "m1", "m2", "m3"]
    assert read_chain([tmp_path / n for n in sorted(names)]) == sealed


def test_tip_is_what_the_next_record_follows(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    assert tip(folder) is None
    folder.mkdir()
    (folder / "._hidden.json").write_text("")
    assert tip(folder) is None
    sealed = chain(folder, [made("m0"), made("m1")], ["z.json", "a.json"])
    assert tip(folder) == sealed[1].digest
    write(seal(made("m2"), tip(folder)), folder / "b.json")
    assert [r.name for r in read_folder(folder)] == ["m0", "m1", "m2"]
    assert "not a folder" in refusal(tip, folder / "a.json") and "holds no records" in refusal(
        read_folder, tmp_path
    )


@pytest.mark.parametrize("lost", [0, 1])
def test_a_missing_predecessor_is_named(tmp_path: Path, lost: int) -> None:
    sealed = chain(tmp_path, [made(f"m{i}") for i in range(3)])
    (tmp_path / f"{lost}.json").unlink()
    message = refusal(read_folder, tmp_path)
    assert (
        message
        == f"{tmp_path / f'{lost + 1}.json'}: its previous record {str(sealed[lost].digest)[:19]}… is missing"
    )


def test_forks_and_repeated_records_are_named(tmp_path: Path) -> None:
    sealed = chain(tmp_path, [made("m0"), made("m1")])
    other = write(seal(made("m2"), sealed[0].digest), tmp_path / "fork.json")
    assert refusal(read_folder, tmp_path).startswith(
        f"{other}: has the same previous record as {tmp_path / '1.json'}"
    )
    other.unlink()
    second = write(seal(made("m3")), tmp_path / "second.json")
    assert "both begin a chain" in refusal(read_folder, tmp_path)
    second.unlink()
    copy = write_text(tmp_path / "copy.json", (tmp_path / "1.json").read_text(encoding="utf-8"))
    assert (
        refusal(read_folder, tmp_path)
        == f"{copy.parent / 'copy.json'}: the same record as {tmp_path / '1.json'}"
    )


def test_a_name_is_evaluated_once_unless_corrected(tmp_path: Path) -> None:
    first = seal(made("m"))
    again = chain(tmp_path / "twice", [made("m"), made("m", created="2026-11-24T14:00:00Z")])
    assert "evaluates 'm' as" in refusal(read_folder, tmp_path / "twice") and again[0] == first
    better = made("m", job={"corrects": first.digest})
    records = chain(tmp_path / "corrected", [made("m"), made("n"), better])
    assert read_folder(tmp_path / "corrected") == records
    assert [r.name for r in in_force(records)] == ["n", "m"] and in_force(records)[1] is records[2]
    trained = made("m", kind="train", role=None)
    assert (
        len(chain(tmp_path / "kinds", [trained, made("m")]))
        == len(read_folder(tmp_path / "kinds"))
        == 2
    )
    chain(tmp_path / "wrong", [made("n"), better])
    assert "is not an earlier record of the chain" in refusal(read_folder, tmp_path / "wrong")


# --- python -m eigenforget.record.verify ---

# Python runs a module of this name at its start: from then on only the standard library and
# eigenforget can be imported.
_ONLY_STDLIB = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"eigenforget"}:
            raise ImportError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Only())
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs this Python with arguments where nothing outside the standard library can be imported."""
    start = tmp_path_factory.mktemp("start")
    (start / "sitecustomize.py").write_text(_ONLY_STDLIB)
    source = Path(eigenforget.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(start), str(source)])}

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, args)], env=env, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.parametrize("name", ["torch", "numpy", "pydantic", "rich"])
def test_the_bare_python_is_bare(bare: Any, name: str) -> None:
    assert f"{name} is blocked" in bare("-c", f"import {name}").stderr


def test_verify_needs_the_standard_library_only_and_tells_good_from_bad(
    bare: Any, tmp_path: Path
) -> None:
    sealed = chain(
        tmp_path, [made("m0", kind="train", role=None), made("m1")], ["b.json", "a.json"]
    )
    good = bare("-m", "eigenforget.record.verify", tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines() == [
        f"ok  {tmp_path / 'b.json'}  train  'm0'  ok  {sealed[0].digest}",
        f"ok  {tmp_path / 'a.json'}  evaluate unlearned  'm1'  ok  {sealed[1].digest}",
        f"ok  {tmp_path}  a chain of 2 records; its tip is {sealed[1].digest}",
        *(
            f"not checked  {tmp_path / name}  model {B}: no checkpoint with these weights; name its folder with --files"
            for name in ("b.json", "a.json")
        ),
    ]
    (tmp_path / "b.json").write_bytes((tmp_path / "b.json").read_bytes().replace(b"5.5", b"5.4"))
    bad = bare("-m", "eigenforget.record.verify", tmp_path, tmp_path / "absent.json")
    assert bad.returncode == 2 and bad.stdout.count("\n") == 2 and "b.json" not in bad.stdout
    first, second = bad.stderr.splitlines()
    assert first.startswith(f"error: {tmp_path / 'b.json'}: ") and second.startswith(
        f"error: {tmp_path / 'absent.json'}: "
    )


def test_verify_judges_a_folder_as_a_chain_and_a_file_alone(bare: Any, tmp_path: Path) -> None:
    chain(tmp_path, [made("m0"), made("m1")])
    (tmp_path / "0.json").unlink()
    whole = bare("-m", "eigenforget.record.verify", tmp_path)
    assert whole.returncode == 2 and whole.stderr.count("\n") == 1 and "is missing" in whole.stderr
    assert bare("-m", "eigenforget.record.verify", tmp_path / "1.json").returncode == 0
    assert bare("-m", "eigenforget.record.verify").returncode == 2
