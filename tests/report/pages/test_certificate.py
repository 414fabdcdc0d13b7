"""The certificate: what it takes and refuses, all that it has to show, nothing that breaks out of
it, and one page of paper.
"""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from eigenforget.cli import main
from eigenforget.evaluation.records import LEFT_ALONE, NON_CLAIMS
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import (
    Outcome,
    RecordError,
    RunRecord,
    chained,
    read,
    read_folder,
    seal,
    write,
)
from eigenforget.record.signing import fingerprint, make_key, read_public_key
from eigenforget.report.escaping import flattened
from eigenforget.report.pages.certificate import clipped, render_certificate
from eigenforget.report.pages.certificate_fit import SIZES, Content, height, type_size
from tests.report_toys import made, score

BAD = '</style><script>document.title="owned"</script>&"\u202e\n\x00'
DIGESTS = [f"sha256:{i:064x}" for i in range(10)]
BEFORE, AFTER, DATA, SPLIT, FILE = DIGESTS[1:6]
NAMES = (
    "forget_accuracy",
    "retain_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
    "rmia_auc",
)
CLAIMS = (
    "It classifies 0.1000 of the forgotten training samples correctly.",
    "The request forgets 12 training samples and retains 90.",
)

_BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def unlearned(**changes: Any) -> RunRecord:
    """A sealed unlearn record."""
    job = {
        "request": {"spec": "by_ids(ids=('p7', 'p9'))"},
        "data": {"spec": "digits()"},
        "method": {"spec": "scrub(alpha=0.1)", "guarantee": "empirical"},
        "sizes": {"forget": 12, "retain": 90},
        "role": "unlearned",
        **changes.pop("job", {}),
    }
    inputs = {
        "input_model": BEFORE,
        "data": DATA,
        "split": SPLIT,
        "file:original.safetensors": FILE,
    }
    record = RunRecord(
        "unlearn",
        "gone",
        "2026-11-24T13:00:00Z",
        job=job,
        inputs=inputs,
        environment={"eigenforget": "0.1.0"},
        outcome=Outcome("ok", 3.0, outputs={"model": AFTER}),
        non_claims=(*NON_CLAIMS, LEFT_ALONE),
    )
    return seal(replace(record, **changes), None)


def measured(role: Any = "unlearned", **changes: Any) -> list[RunRecord]:
    """Sealed records of an original, three retrained models and the one that was unlearned."""

    def of(name: str, role: Any, model: str, value: float, **fields: Any) -> RunRecord:
        inputs = {"checked_model": model, "data": DATA, "split": SPLIT}
        return made(
            name,
            role,
            # All of them know their training data alike.
            [score(n, min(value, 0.52) if n == "retain_accuracy" else value) for n in NAMES],
            inputs=inputs,
            claims=CLAIMS,
            non_claims=NON_CLAIMS,
            **fields,
        )

    last = of("measured", role, AFTER, 0.512, job={"request": {"spec": "by_class(label=3)"}})
    oracles = [of(f"oracle {i}", "oracle", DIGESTS[6 + i], 0.5 + 0.01 * i) for i in range(3)]
    return list(
        chained([of("original", "original", BEFORE, 0.9), *oracles, replace(last, **changes)])
    )


def texts(html: str, heading: str) -> list[str]:
    """The items of the list below a heading, as text."""
    part = html.split(f'id="{heading}"')[1].split("</ul>")[0]
    return [
        re.sub(r"&#39;|&#34;", "'", item) for item in re.findall(r"<li>(.*?)</li>", part, re.DOTALL)
    ]


def test_an_unlearn_record_alone() -> None:
    record = unlearned()
    html = render_certificate(record)
    said = (
        "12 to forget, 90 retained",
        "digits()",
        "scrub(alpha=0.1)",
        "empirical",
        "2026-11-24T13:00:00Z",
        "eigenforget 0.1.0",
    )
    shown = (
        BEFORE,
        AFTER,
        DATA,
        SPLIT,
        FILE,
        "original.safetensors",
        str(record.digest),
        "no signature beside it",
        "record.verify",
    )
    for text in (*said, *shown):
        assert text in html, text
    assert texts(html, "not-claimed") == [*NON_CLAIMS, LEFT_ALONE]
    assert (
        len(texts(html, "claimed")) == 2
        and "Nothing was measured in this run" in texts(html, "claimed")[1]
    )
    assert "What was measured" not in html and "p7" in html, "the record names these ids"


def test_an_evaluate_record_alone_has_scores_and_no_bands() -> None:
    record = measured()[-1]
    html = render_certificate(record)
    assert (
        html.count("<td>0.512</td>") == len(NAMES)
        and "No bands:" in html
        and texts(html, "claimed") == list(CLAIMS)
    )
    assert (
        re.search(r"<dt>Model before</dt><dd>not in this record</dd>", html)
        and AFTER in html
        and BEFORE not in html
    )
    assert re.search(r"<dt>Samples</dt><dd>not in this record</dd>", html) and re.search(
        r"<dt>Method</dt><dd>not in this record</dd>", html
    )
    empty = seal(replace(record, scores=(), claims=(), non_claims=(), digest=None), None)
    html = render_certificate(empty)
    assert (
        texts(html, "claimed") == ["The record states nothing."]
        and "no proof that no trace is left" in texts(html, "not-claimed")[0]
    )


@pytest.mark.parametrize("of_unlearn", [True, False])
def test_with_the_models_measured_beside_it_there_are_bands_and_checks(of_unlearn: bool) -> None:
    beside = measured()
    record = unlearned() if of_unlearn else beside[-1]
    html = render_certificate(record, evaluated=beside)
    # mean 0.51, s = 0.01: half = 4.3027 · 0.01 · √(4/3) = 0.0497.
    in_band = r"<td>in</td><td>[^<]*</td><td>0.460 to 0.560</td>"
    assert len(re.findall(in_band, html)) == len(NAMES) and "No bands" not in html
    assert (
        "By the rules of the report: measured: like a retrained model (forgot: yes, kept: yes"
        in html
    )
    assert "EF016 A kind of measure is missing (warning)" in html and "notes EF002" in html
    assert "<h1>Deletion certificate: " in html
    assert (
        BEFORE in html
        and set(CLAIMS) < {*texts(html, "claimed"), ""}
        and set(NON_CLAIMS) <= set(texts(html, "not-claimed"))
    )
    assert (f"From the evaluate record <code>{beside[-1].digest}" in html) == of_unlearn


def test_without_two_retrained_models_there_is_no_band() -> None:
    beside = measured()
    html = render_certificate(beside[-1], evaluated=[beside[0], beside[1], beside[-1]])
    assert "No bands:" in html and "0.460 to" not in html


def test_the_title_says_what_the_verdict_is() -> None:
    still = measured()[:-1]
    traced = [score(n, 0.9 if n == "lp_forget" else 0.512) for n in NAMES]
    beside = list(chained([*still, replace(measured()[-1], scores=tuple(traced))]))
    html = render_certificate(beside[-1], evaluated=beside)
    assert "<h1>Deletion not shown (still remembers): measured</h1>" in html
    assert "<h1>Deletion, not judged: " in render_certificate(unlearned())
    proven = {"spec": "certified_head()", "guarantee": "certified"}
    html = render_certificate(unlearned(job={"method": proven}))
    assert "<h1>Deletion certificate: " in html


def test_an_evaluate_record_is_judged_beside_the_records_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "records"
    for number, record in enumerate(measured()):
        write(record, folder / f"{number:02d}.json")
    main(["certificate", str(folder / "04.json"), "--out", str(tmp_path / "c.html")])
    assert "from the records in" in " ".join(capsys.readouterr().out.split())
    assert "like a retrained model" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_the_same_bytes_each_time() -> None:
    assert render_certificate(unlearned(), evaluated=measured()) == render_certificate(
        unlearned(), evaluated=measured()
    )


def test_a_score_that_does_not_apply_says_why() -> None:
    record = measured(scores=(score("da", None),))[-1]
    assert '<td colspan="5">not applicable: not measured</td>' in render_certificate(record)


def test_what_is_not_claimed_is_as_large_as_what_is() -> None:
    html = render_certificate(unlearned(), evaluated=measured())
    css = html.split("<style>")[1].split("</style>")[0]
    block = html.split('<div class="said">')[1].split("</div>")[0]
    assert re.findall(r'<section aria-labelledby="([\w-]+)"><h2 id="\1">', block) == [
        "claimed",
        "not-claimed",
    ]
    assert "style=" not in block and not re.search(r'class="', block), (
        "no part has a style of its own"
    )
    columns = re.findall(r"\.said \{[^}]*grid-template-columns: ([^;]+);", css)
    assert columns == ["1fr 1fr", "1fr", "1fr 1fr"], (
        "equal on screens and paper, one below the other on a phone"
    )
    sizes = re.findall(r"([^{}]*)\{[^}]*font-size: ([\d.]+\w+)", css)
    assert [size for where, size in sizes if ".said" in where] == ["1em"] and not any(
        "claimed" in where for where, _ in sizes
    )


def test_every_non_claim_is_whole_however_long() -> None:
    long = "No claim " + "that goes on and on " * 50
    said = texts(render_certificate(unlearned(non_claims=(*NON_CLAIMS, long))), "not-claimed")
    assert said[-1] == long.strip() and len(said) == len(NON_CLAIMS) + 1
    with pytest.raises(
        RecordError,
        match=r"record 'gone': 20000 characters of non-claims, which a certificate has to show whole, do not fit",
    ):
        render_certificate(unlearned(non_claims=("x" * 20000,)))


def test_claims_are_cut_with_a_count() -> None:
    said = texts(
        render_certificate(
            measured(claims=tuple(f"claim {i} " + "x" * 500 for i in range(30)))[-1]
        ),
        "claimed",
    )
    assert (
        len(said) == 9
        and said[-1] == "22 more, in the record."
        and all(len(s) < 200 and "complete in the record" in s for s in said[:-1])
    )


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (unlearned(kind="train"), "is a train record"),
        (
            unlearned(outcome=Outcome("refused", 0.0, "needs classes")),
            "the run was refused and made no model",
        ),
        (unlearned(outcome=Outcome("failed", 0.0, "NaN")), "the run was failed and made no model"),
        (unlearned(job={"role": "control"}), "is of a negative control"),
        (unlearned(job={"role": BAD}), "is of no unlearned model"),
        (measured("control")[-1], "is of a negative control"),
        (measured()[0], "is of the original"),
        (measured()[1], "is of a retrained model"),
        (replace(unlearned(), digest=None), "is not sealed"),
        (
            unlearned(job={"sizes": {"forget": "many", "retain": 1}}),
            "job.sizes.forget must be a whole number from 0, got 'many'",
        ),
    ],
)
def test_a_certificate_of_nothing_is_an_error(record: RunRecord, words: str) -> None:
    with pytest.raises(RecordError, match=re.escape(words)) as raised:
        render_certificate(record)
    assert "\n" not in str(raised.value)


def test_records_measured_together_must_hold_this_model() -> None:
    beside = measured()
    for record, others, words in (
        (
            unlearned(outcome=Outcome("ok", 1.0, outputs={"model": DIGESTS[9]})),
            beside,
            "no evaluate record is about the model",
        ),
        (unlearned(outcome=Outcome("ok", 1.0)), beside, "no digest of it"),
        (beside[-1], beside[:-1], "is not among the records that were measured together"),
        (unlearned(), measured("control"), "is about the same model, as control"),
        (unlearned(inputs={"split": DIGESTS[9]}), beside, "another split"),
        (unlearned(), [unlearned()], "no evaluate record is among the records"),
    ):
        with pytest.raises(RecordError, match=words):
            render_certificate(record, evaluated=others)


def hostile(text: str) -> tuple[RunRecord, list[RunRecord]]:
    """The text wherever a record may have it; names are one line, as no record has others."""
    line = flattened(text)
    job = {
        "request": {"spec": text},
        "data": {"spec": text},
        "method": {"spec": text, "guarantee": text},
        "ids": text,
    }
    record = unlearned(
        name=line, job=job, non_claims=(*NON_CLAIMS, text[:300]), environment={"eigenforget": text}
    )
    record = seal(
        replace(
            record,
            inputs={**record.inputs, **{f"file:{line}{i}": FILE for i in range(9)}},
            digest=None,
        ),
        None,
    )
    scores = (score("da", 0.5), replace(score("nmi", None), reason=text))
    return record, measured(
        name=line, claims=(text,) * 3 + tuple(f"{i}{text}" for i in range(9)), scores=scores
    )


def test_markup_stays_text_and_what_cannot_be_printed_is_gone() -> None:
    record, beside = hostile(BAD)
    html = render_certificate(record, evaluated=beside, signature=BAD)
    assert (
        "<script" not in html and html.count("</style>") == 1 and html.count("&lt;/style&gt;") >= 10
    )
    assert "\u202e" not in html and "\x00" not in html and "\ufffd" in html
    assert "default-src 'none'" in html


@pytest.mark.parametrize(("text", "kept"), [("a" * 500, 60), ("W" * 500, 35), ("漢" * 500, 33)])
def test_a_text_is_cut_at_a_width(text: str, kept: int) -> None:
    assert clipped(text, 35.0) == f"{text[:kept]}… (500 characters, complete in the record)"
    assert clipped(text[:kept], 35.0) == text[:kept] and clipped(" a\n b ") == "a b"


def test_more_text_takes_a_smaller_type_and_too_much_has_none() -> None:
    sizes = [
        type_size(Content([("name", "value")] * 8, ["text"], 10, ([], ["x" * 100] * n)))
        for n in range(60)
    ]
    fitting = [s for s in sizes if s is not None]
    assert (
        fitting == sorted(fitting, reverse=True)
        and set(fitting) == set(SIZES)
        and sizes[len(fitting) :] == [None] * (60 - len(fitting))
    )
    one = Content([], [], 0, ([], []))
    assert height(one._replace(rows=1), 8.0) - height(one, 8.0) == pytest.approx(1.25 * 1.25 * 8.0)
    assert height(one._replace(columns=(["a"] * 3, ["a"])), 8.0) == height(
        one._replace(columns=(["a"], ["a"] * 3)), 8.0
    )


def pages(html: str, folder: Path) -> int:
    (folder / "c.html").write_text(html, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-pdf-header-footer",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command = [
        str(_BROWSER),
        *flags,
        f"--print-to-pdf={folder / 'c.pdf'}",
        (folder / "c.html").as_uri(),
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=900)
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", (folder / "c.pdf").read_bytes()))


@pytest.mark.skipif(_BROWSER is None, reason="no Chromium to print the page with")
@pytest.mark.parametrize("text", ["", "W", "漢", "Wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww "])
def test_it_is_one_page_of_paper(text: str, tmp_path: Path) -> None:
    record, beside = hostile(text * 3000) if text else (unlearned(), measured())
    assert pages(render_certificate(record, evaluated=beside, signature=text * 500), tmp_path) == 1


@pytest.mark.skipif(_BROWSER is None, reason="no Chromium to print the page with")
def test_the_largest_page_that_is_not_an_error_is_one_page(tmp_path: Path) -> None:
    def html(n: int) -> str:
        return render_certificate(
            unlearned(non_claims=("a claim that no one makes of anything " * n,)),
            evaluated=measured(),
        )

    most = 1
    while most < 1000:
        try:
            html(most + 1)
        except RecordError:
            break
        most += 1
    assert (
        30 < most < 1000
        and f"font-size: {SIZES[-1]}pt" in html(most)
        and pages(html(most), tmp_path) == 1
    )
    assert (
        pages(html(most).replace(f"font-size: {SIZES[-1]}pt", "font-size: 12pt"), tmp_path) > 1
    ), "pages are counted"


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def refused(*argv: object) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert ended.value.code == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """original → unlearned, by a method and by a control, and their evaluation in results."""
    folder = tmp_path_factory.mktemp("certified")
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    np.savez(
        folder / "d.npz", x=(rng.normal(size=(120, 6)) + 3 * np.eye(6)[y]).astype(np.float32), y=y
    )
    job = (
        "--data",
        f'npz(path="{folder / "d.npz"}")',
        "--model",
        "mlp(hidden=(16, 8))",
        "--recipe",
        "recipe(epochs=8, batch_size=16, lr=0.05)",
    )
    original = folder / "original.safetensors"
    run("train", *job, "--out", original)
    for name, method in (("gone", "finetune(epochs=1)"), ("mask", "head_mask()")):
        run(
            "unlearn",
            original,
            "--forget",
            "by_class(label=1)",
            "--method",
            method,
            "--out",
            folder / f"{name}.safetensors",
        )
    models = (folder / "gone.safetensors", folder / "mask.safetensors")
    run(
        "evaluate",
        *models,
        "--original",
        original,
        "--forget",
        "by_class(label=1)",
        "--skip",
        "relearning",
        "--out",
        folder / "results",
    )
    return folder


def test_records_say_what_the_checks_and_the_certificate_need(folder: Path) -> None:
    gone, mask = (read(folder / f"{name}.json").job for name in ("gone", "mask"))
    assert (
        gone["sizes"]["forget"] + gone["sizes"]["retain"] == 80 + 16
        and gone["method"]["guarantee"] == "empirical"
    )
    assert gone["unchanged_weights"] == {
        "share": 0.0,
        "buffers": None,
        "by_content": pytest.approx(0, abs=0.1),
        "more": 0.0,
    }
    # 6·16 + 16 + 16·8 + 8 + 8·3 + 3 weights, of which head_mask changes one.
    assert (
        mask["unchanged_weights"]["share"] == pytest.approx(274 / 275)
        and mask["method"]["guarantee"] == "none: nothing is forgotten"
    )
    by_name = {r.name: r.job for r in read_folder(folder / "results" / "records")}
    told = [by_name[n].get("unchanged_weights") for n in ("original", "gone", "mask")]
    assert told == [None, gone["unchanged_weights"], mask["unchanged_weights"]]
    assert by_name["gone"]["method"] == gone["method"]


def test_weights_under_other_names_are_not_called_changed() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    assert unchanged_weights(model, after=copy.deepcopy(model)) == {
        "unchanged_weights": {"share": 1.0, "buffers": None, "more": 0.0}
    }, "too small for a look at the content"
    model[0].requires_grad_(False)
    assert (
        unchanged_weights(model, after=nn.ModuleDict({"1": copy.deepcopy(model[1])}))[
            "unchanged_weights"
        ]["share"]
        == 1.0
    ), "frozen: not asked"


def test_the_command_writes_and_refuses(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, gone = tmp_path / "certificate.html", folder / "gone.json"
    run("certificate", gone, "-o", out)
    assert (
        out.read_text(encoding="utf-8") == render_certificate(read(gone))
        and "wrote" in capsys.readouterr().out
    )
    refused("certificate", gone, "-o", out)
    assert f"{out}: exists already; use --overwrite" in capsys.readouterr().err
    run(
        "certificate", gone, "-o", out, "--evaluated", folder / "results" / "records", "--overwrite"
    )
    whole = out.read_bytes()
    assert whole.decode() == render_certificate(
        read(gone), evaluated=read_folder(folder / "results" / "records")
    )
    for record, words in {
        "original.json": "is a train record",
        "mask.json": "is of a negative control",
        "missing.json": "cannot be read",
        "results": "is a folder",
    }.items():
        path = folder / record
        refused("certificate", path, "-o", out, "--overwrite")
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and out.read_bytes() == whole, (
            "nothing is lost by an error"
        )


def test_who_signed_is_named_and_a_broken_signature_is_an_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography")
    record = shutil.copy(folder / "gone.json", tmp_path / "gone.json")
    key, public = make_key(tmp_path / "k.pem")
    run("sign", record, "--key", key)
    run("certificate", record, "-o", tmp_path / "c.html")
    assert f"Signed record: {fingerprint(read_public_key(public))}; the signature is valid" in (
        tmp_path / "c.html"
    ).read_text(encoding="utf-8")
    shutil.copy(folder / "mask.json", record)
    refused("certificate", record, "-o", tmp_path / "d.html")
    assert "signs another record" in capsys.readouterr().err and not (tmp_path / "d.html").exists()


def test_the_verdict_comes_first_then_the_picture_and_the_table() -> None:
    html = render_certificate(unlearned(), evaluated=measured())
    places = [
        html.index(word)
        for word in ("By the rules of the report", '<svg class="strip"', "What was asked and done")
    ]
    assert places == sorted(places)
    assert html.count('<svg class="strip"') == html.count('<tr><th scope="row">')
