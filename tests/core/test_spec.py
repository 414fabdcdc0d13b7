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
    "backdoored": "inner=digits()",
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
        ("muda(kk=9)", "no field 'kk'.*its fields: alternations, w_da"),
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
    scrub = parse('scrub(recipe="cifar10-resnet18")', METHODS, "method")
    assert scrub == type(scrub)(**type(scrub).recipes["cifar10-resnet18"]) != type(scrub)()
    assert parse('scrub(recipe="cifar10-resnet18", lr=0.25)', METHODS, "method").lr == 0.25
    assert type(scrub)(recipe="cifar10-resnet18") == scrub
    assert parse(spell(scrub), METHODS, "method") == scrub
    with pytest.raises(
        EigenforgetError, match="scrub has no recipe 'x'; its recipes: cifar10-resnet18"
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
