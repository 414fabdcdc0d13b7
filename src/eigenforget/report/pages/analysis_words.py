"""The paper's first observation in words, as far as the numbers of an analysis go and no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eigenforget.report.pages.analysis_series import (
    MAIN,
    SETS,
    SIGN,
    Beside,
    Models,
    Says,
    beside,
    judged,
    layers,
    number,
    sets,
)
from eigenforget.report.table import number as shown
from eigenforget.report.table import signed


class Finding(NamedTuple):
    """What one layer says. tone: a class of the page's style."""

    layer: str
    says: Says
    tone: str
    headline: str
    sentences: tuple[str, ...]
    gap: float


class Words(NamedTuple):
    summary: tuple[str, ...]
    findings: tuple[Finding, ...]


_HEADLINES: dict[Says, str] = {
    "nearer": "unseen data lies nearer to the kept features",
    "farther": "unseen data lies farther from the kept features",
    "same": "no signal",
    "": "alignment not measured",
}
_TONES: dict[Says, str] = {"nearer": "good", "farther": "bad", "same": "", "": ""}
LIMITS = (
    "Retrained models come from other random draws than the original. A difference within what they differ among themselves is called no"
    " difference here, and with few retrained models that band is wide: no signal is not proof that there is none.",
    "Each band is one of 95 %, and there are many numbers: about one in twenty lies outside by chance. Trust what several numbers say, not a"
    " single one.",
    "Numbers are averages over samples and directions. They do not say that any single sample was memorised, nor that it can be recovered.",
    "A layer at which the models do not differ is no sign of forgetting, and no measure for it: there even a model that forgot nothing passes.",
    "Kept training samples define the directions and the neighbours that they are measured against, so they look nearer than they are. Held-out"
    " kept samples are the fair comparison.",
    "CKA weighs few large directions most, and it rises where samples are fewer than directions.",
    "A map shows two of many directions. Samples that lie on each other there may be far apart in the others.",
)


def words(found: Models) -> Words:
    """A summary, and what each layer says, first to last."""
    findings = tuple(_finding(found, layer) for layer in layers(found))
    return Words(tuple(_summary(found, findings)), findings)


def _summary(found: Models, findings: Sequence[Finding]) -> list[str]:
    count = len(found.oracles)
    who = "the retrained model" if count == 1 else f"the {count} retrained models"
    nearer, farther = ([f for f in findings if f.says == says] for says in ("nearer", "farther"))
    said = []
    if nearer:
        most = max(nearer, key=lambda f: abs(f.gap))
        said.append(
            f"The paper's observation holds at {_of(len(nearer), len(findings))}: the forgotten data lies nearer to the features of the kept"
            f" data in {who}, which never saw it, than in the original, which did. It shows{' most' if len(nearer) > 1 else ''} at"
            f" {most.layer}, where alignment differs by {signed(most.gap)}."
        )
    if farther:
        most = max(farther, key=lambda f: abs(f.gap))
        said.append(
            f"At {_of(len(farther), len(findings))} it is the other way round, unlike in the paper: the data that was never seen lies"
            f" farther away, most at {most.layer} ({signed(most.gap)})."
        )
    silent = [f.layer for f in findings if f.says == "same"]
    if silent and not nearer and not farther:
        said.append(
            "Alignment carries no signal for this request: at none of the layers where it was measured does the original differ from the"
            " retrained models by more than these differ from each other, and by enough to count."
        )
    elif silent:
        said.append(f"At {', '.join(silent)} alignment carries no signal.")
    beyond = [
        layer
        for layer in silent
        if any(value.says in ("nearer", "farther") for value in _all(found, layer))
    ]
    if beyond:
        said.append(
            f"Other numbers than alignment do differ at {', '.join(beyond)}; they are named below."
        )
    if "test_forget" not in sets(found, findings[0].layer):
        said.append(
            "The request forgets no class as a whole. Kept samples of the same classes give the models the same feature directions, so no"
            " large difference is to be expected, and there are no held-out samples of forgotten classes."
        )
    if count == 1:
        said.append(
            "One retrained model makes no band: how far retrained models differ among each other is not known here."
        )
    return said


def _all(found: Models, layer: str) -> list[Beside]:
    return [beside(found, layer, "forget", sign) for sign in SIGN.values()]


def _of(count: int, every: int) -> str:
    if every == 1:
        return "the layer that was measured"
    return f"all {every} layers" if count == every else f"{count} of {every} layers"


def _finding(found: Models, layer: str) -> Finding:
    main = beside(found, layer, "forget", SIGN[MAIN])
    k = number(found.original, layer, "k")
    if main.says == "":
        return Finding(
            layer, "", "", _HEADLINES[""], (f"{main.reason[:1].upper()}{main.reason[1:]}.",), 0.0
        )
    said = [
        f"Alignment (DA at k = {k}) of the forgotten training data with the kept training data is {shown(main.original or 0.0)} in the"
        f" original, which saw both, and {_retrained(main)}, which saw the kept data only{_consequence(main)}."
    ]
    more = (
        _held_out(found, layer, main),
        _control(found, layer, main),
        _share(found, layer),
        _distance(found, layer),
        _similar(found, layer),
        _others(found, layer, main),
    )
    said += [text for text in more if text]
    return Finding(
        layer, main.says, _TONES[main.says], _HEADLINES[main.says], tuple(said), main.gap
    )


def _retrained(value: Beside) -> str:
    if len(value.retrained) == 1:
        return f"{shown(value.mean)} in the retrained model"
    text = f"{shown(value.mean)} on average in the retrained models"
    return (
        text
        if value.band is None
        else f"{text} (one more of them would be expected within {shown(value.band.half)} of that)"
    )


def _consequence(value: Beside) -> str:
    if value.says == "same":
        return ": too near each other to tell, so alignment carries no signal here"
    where = "nearer to" if value.says == "nearer" else "farther from"
    return f": the data lies {where} the kept features where it was never seen"


def _held_out(found: Models, layer: str, main: Beside) -> str:
    """Whether it is about the class or about the samples: held-out samples of forgotten classes
    were seen by no model.
    """
    if "test_forget" not in sets(found, layer):
        return ""
    held = beside(found, layer, "test_forget", SIGN[MAIN])
    if held.says == "" or held.original is None:
        return ""
    text = f"Held-out samples of the forgotten classes, which no model saw, stand at {shown(held.original)} and {shown(held.mean)}"
    if main.says == "same":
        return f"{text}."
    if held.says == main.says:
        return f"{text}: the same difference, so what the original holds of its own are directions of the classes, not only of the samples."
    return f"{text}, where the models do not differ in that way: the difference is about the samples that were trained on, not their classes."


def _control(found: Models, layer: str, main: Beside) -> str:
    """Held-out kept samples: what differs there too is not about the forgotten data."""
    kept = beside(found, layer, "test_retain", SIGN[MAIN])
    if main.says == "same" or kept.says != main.says or kept.original is None:
        return ""
    return (
        f"Held-out kept samples differ in the same way, {shown(kept.original)} and {shown(kept.mean)}, so not all of this is about the"
        " forgotten data."
    )


def _similar(found: Models, layer: str) -> str:
    """CKA on the forgotten samples: original with retrained models, beside retrained models among
    each other.
    """
    original, *others = (number(r, layer, "cka", "oracle", "forget") for r in found.all)
    known = [v for v in others if v is not None]
    if original is None or not known or len(known) < len(others):
        return ""
    value = judged(original, known, toward=1, span=(0.0, 1.0), pairs=True)
    among = shown(value.mean)
    text = f"On these samples CKA is {shown(original)} between the original and retrained models, and {among} among retrained models"
    # The mean over two retrained models is one and the same number, which makes no band.
    if value.band is None:
        return f"{text}."
    return f"{text}{': their features differ by more than those of retrained models do' if value.says == 'nearer' else _if_same(value)}."


def _share(found: Models, layer: str) -> str:
    value = beside(found, layer, "forget", SIGN["share"])
    if value.says == "" or value.original is None:
        return ""
    return (
        f"Half of the forgotten samples have at least {value.original:.0%} of their energy in the k kept directions in the original, and"
        f" {value.mean:.0%} in retrained models{_if_same(value)}."
    )


def _distance(found: Models, layer: str) -> str:
    value = beside(found, layer, "forget", SIGN["neighbours"])
    if value.says == "" or value.original is None:
        return ""
    return (
        f"They lie {value.original:.2f} times as far from their nearest kept training samples as held-out kept samples do in the original,"
        f" and {value.mean:.2f} times in retrained models{_if_same(value)}."
    )


def _if_same(value: Beside) -> str:
    return ", which is no difference" if value.says == "same" else ""


def _others(found: Models, layer: str, main: Beside) -> str:
    """The other numbers that say something else than the main one."""
    told: dict[Says, list[str]] = {"nearer": [], "farther": [], "same": [], "": []}
    for sign in SIGN.values():
        if sign.name != MAIN:
            told[beside(found, layer, "forget", sign).says].append(sign.label)
    texts: dict[Says, str] = {
        "nearer": "nearer where it was not seen",
        "farther": "farther where it was not seen",
        "same": "no difference",
    }
    other = [
        f"{texts[says]}: {', '.join(told[says])}"
        for says in texts
        if says != main.says and told[says]
    ]
    return (
        f"Other numbers say otherwise — {'; '.join(other)}."
        if other
        else "All other numbers that were measured say the same."
    )


def settings_line(found: Models) -> str:
    """Which layers these are, and who chose them."""
    names = layers(found)
    widths = [f"{name} ({number(found.original, name, 'width')} features)" for name in names]
    how = ""
    if found.original.job.get("layers_chosen") == "automatically":
        how = " They were chosen automatically, evenly over the depth of the model; --layer and --also-layer choose others."
    return f"Layers, first to last: {', '.join(widths)}.{how}"


def samples_line(found: Models) -> str:
    """How many samples of each set there are, and how many of them the costly numbers saw."""
    layer = layers(found)[0]
    told = []
    for name in sets(found, layer):
        every, drawn = (
            number(found.original, layer, which, name) for which in ("samples", "drawn")
        )
        told.append(f"{every} {SETS[name]}" + (f" ({drawn} drawn)" if drawn != every else ""))
    fewer = (
        " Distances, CKA and maps are of the drawn samples, the same in every model; alignment, spectra, ranks, angles and shares are of all."
        if "drawn)" in "".join(told)
        else " The maps show at most 300 kept and 150 of each forgotten set."
    )
    return f"Sets: {', '.join(told)}.{fewer} Feature maps of convolutions are averaged over space, other outputs flattened."
