"""Specs: one spelling on the command line, in records and in Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import as_json, describe, from_json, parse, spell
from eigenforget.data import DATASETS
from eigenforget.methods import METHODS, MUDA
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS, ByClass, ByIds
from eigenforget.training.recipe import RECIPES

ALL = [(kind, group) for group in (DATASETS, METHODS, MODELS, REQUESTS, RECIPES) for kind in group]
REQUIRED = {
    "by_class": "label=1",
    "by_rows": "rows=(1,)",
    "npz": "path='x.npz'",
    "fashion_mnist": "root='x'",
    "image_folder": "path='x'",
    "by_subclass": "value='x'",
    "by_group": "group='x'",
    "where": "column='x', value=1",
    "ranked": "path='x.csv', n=1",
    "by_memorisation": "path='x.csv', n=1",
    "worst_case": "path='x.csv', n=1",
    "union": "requests=(by_class(label=1),)",
    "difference": "of=by_class(label=1), without=at_random(n=1)",
    "table": "path='x.csv', label='y'",
    "text": "path='x.csv', text='t', label='y'",
    "hf_dataset": "path='x', image='i'",
    "image_table": "path='x'",
    "backdoored": "inner=digits()",
    "confused": "inner=digits()",
    "long_tailed": "n=10",
}


@pytest.mark.parametrize(("kind", "group"), ALL, ids=lambda v: getattr(v, "name", ""))
def test_every_spec_round_trips_and_explains_its_fields(kind: type, group: list[type]) -> None:
    value = parse(f"{kind.name}({REQUIRED.get(kind.name, '')})", group, "spec")
    assert type(value) is kind
    assert parse(spell(value), group, "spec") == value
    assert from_json(as_json(value), group, "spec") == value
    for field, _, _, description in describe(kind):
        assert description, f"{kind.name}.{field} has no description"


@given(
    st.integers(1, 50), st.floats(0, 10), st.sampled_from(["auto", "masked", "self", "self_soft"])
)
def test_spelling_is_exact(alternations: int, w_da: float, target: str) -> None:
    value = MUDA(alternations=alternations, w_da=w_da, target=target)  # type: ignore[arg-type]
    assert parse(spell(value), METHODS, "method") == value


def test_spelling_shows_what_differs_from_the_defaults() -> None:
    assert spell(MUDA()) == "muda()"
    assert spell(MUDA(k=9)) == "muda(k=9)"
    assert parse("muda", METHODS, "method") == MUDA()
    assert parse("by_class(label=(1, 2))", REQUESTS, "request") == ByClass(label=(1, 2))
    assert parse('by_ids(ids=("a", "b"))', REQUESTS, "request") == ByIds(ids=("a", "b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mudda()", "unknown method 'mudda' \\(did you mean muda\\?\\); choose from: .*finetune"),
        ("muda(kk=9)", "no field 'kk'.*its fields: alternations, steps"),
        ("muda(k='9')", "k: .*valid integer.*got '9'"),
        ("muda(w_da=-1)", "w_da: .*greater than or equal to 0.*got -1"),
        ("muda(target='x')", "target: .*'auto', 'masked', 'masked_label', 'self' or 'self_soft'"),
        ("muda(9)", "fields are given by name"),
        ("muda(k=1, k=2)", "each field is given once"),
        ("muda(k=os.system('x'))", "not of the form|not a literal"),
        ("muda(k=__import__('os'))", "fields are given by name"),
        ("muda(k=nine)", "'nine' is not a literal"),
        ("muda(", "not of the form"),
        ("", "not of the form"),
        ("muda.x(k=1)", "not of the form"),
    ],
)
def test_wrong_specs_are_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message) as caught:
        parse(text, METHODS, "method")
    assert "\n" not in str(caught.value)


def test_recipes_stand_for_published_settings() -> None:
    scrub = parse('scrub(recipe="cifar10-resnet18-scrub")', METHODS, "method")
    assert scrub == type(scrub)(**type(scrub).recipes["cifar10-resnet18-scrub"]) != type(scrub)()
    assert parse('scrub(recipe="cifar10-resnet18-scrub", lr=0.25)', METHODS, "method").lr == 0.25
    assert type(scrub)(recipe="cifar10-resnet18-scrub") == scrub
    assert parse(spell(scrub), METHODS, "method") == scrub
    with pytest.raises(
        EigenforgetError,
        match="scrub has no recipe 'x'; its recipes: cifar10-allcnn-scrub, cifar10-resnet18-scrub",
    ):
        parse('scrub(recipe="x")', METHODS, "method")
    for kind in METHODS:
        for fields in getattr(kind, "recipes", {}).values():
            kind(**fields)


def test_direct_construction_is_validated_too() -> None:
    for wrong, message in (
        ({"forget_lr": 0.0}, "^muda: forget_lr: .*got 0.0$"),
        ({"forgot_lr": 0.1}, "^muda has no field 'forgot_lr' .did you mean forget_lr"),
        ({"recipe": "x"}, "^muda has no recipe 'x'"),
    ):
        with pytest.raises(EigenforgetError, match=message):
            MUDA(**wrong)
    with pytest.raises(EigenforgetError, match=r"^muda: fields are given by name"):
        MUDA(9)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        MUDA().k = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("muda(k=" + "1" * 400 + ")", "k: .* more than 64 bits"),
        ("muda(k=" + "1" * 5000 + ")", "muda.*not of the form"),
        ("muda(k=0x" + "f" * 5000 + ")", "a huge int of 20000 bits"),
        ("muda(w_da=1e999)", "w_da: inf is no finite number"),
        ("muda(w_da=" + "1" * 400 + ")", "w_da: .* more than 64 bits"),
        ("muda(target='\\x00')", "target: .*NUL"),
        ("muda(target='\\ud800')", "target: .*surrogate"),
        ("muda(target='" + "a" * 5000 + "')", "target: .*5002 characters"),
        ("x" * 5000 + "()", "unknown method .*5002 characters.*choose from"),
        ("muda(" + "y" * 5000 + "=1)", "has no field .*5002 characters.*its fields"),
        ("muda(alternations=1000000000000)", "alternations: .*less than or equal to 1000000000"),
        ("muda(alternations=True)", "alternations: .*integer.*True"),
        ("masked(inner=" * 500 + "muda()" + ")" * 500, "masked"),
        ("masked(inner=" * 60 + "muda()" + ")" * 60, "nested more than 50 levels"),
        ("muda(k=" + "-" * 3000 + "1)", "muda"),
        ("muda(k=" + "1+" * 3000 + "1)", "muda"),
        ("muda(k=x" + "[0]" * 2000 + ")", "muda"),
        ("muda(k=\x00)", "not of the form"),
        ("python(path=0x" + "f" * 5000 + ")", "needs path=.*a huge int"),
        ("python(path=())", "needs path='file.py:Name'"),
        ("not_(layers=(" + "1," * 900 + "))", "layers.0: .*got 1; .*900 problems in all"),
        ("muda(recipe=())", "has no recipe \\(\\)"),
    ],
    ids=range(22),
)
def test_hostile_specs_are_one_short_line(text: str, words: str) -> None:
    with pytest.raises(EigenforgetError, match=words) as caught:
        parse(text, METHODS, "method")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_no_field_holds_what_no_record_can_hold() -> None:
    for kind, fields in (
        (MUDA, {"w_da": float("inf")}),
        (MUDA, {"k": 10**5000}),
        (ByIds, {"ids": ("a", "b\0")}),
        (ByIds, {"ids": ("\ud800",)}),
        (ByClass, {"label": (1, 2**64)}),
    ):
        with pytest.raises(EigenforgetError, match=next(iter(fields))):
            kind(**fields)
