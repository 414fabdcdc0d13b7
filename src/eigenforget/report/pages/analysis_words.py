"""The paper's first observation in words, as far as the numbers of an analysis go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eigenforget.core.text import joined
from eigenforget.report.figures.analysis_series import (
    HEADLINE_INDICATOR,
    INDICATORS,
    SETS,
    AnalysisRecords,
    Contrast,
    Nearness,
    contrast,
    read_number,
)
from eigenforget.report.table import number, signed


class LayerFinding(NamedTuple):
    """What one layer says; `tone` is a class of the page's style."""

    layer: str
    says: Nearness
    headline: str
    sentences: tuple[str, ...]
    gap: float

    @property
    def tone(self) -> str:
        """Good where the paper's observation holds, bad where it is the other way round."""
        return {"nearer": "good", "farther": "bad"}.get(self.says, "")


class AnalysisWords(NamedTuple):
    """A summary, and what each layer says, first to last."""

    summary: tuple[str, ...]
    findings: tuple[LayerFinding, ...]


_HEADLINES: dict[Nearness, str] = {
    "nearer": "unseen data lies nearer to the retain set",
    "farther": "unseen data lies farther from the retain set",
    "same": "no signal",
    "": "alignment not measured",
}
LIMITS = (
    "Retrained models come from other random draws than the original. So a difference that is no "
    "larger than those among retrained models counts as none here. With few retrained models the "
    "band is wide, so “no signal” does not prove that there is none.",
    "Each band covers 95 %, and there are many numbers: about one in twenty lies outside by chance."
    " Trust several numbers that agree, not a single one.",
    "Numbers are averages over samples and directions. They do not say that any single sample was"
    " memorised, nor that it can be recovered.",
    "A layer at which the models do not differ shows no forgetting and cannot measure it: even a"
    " model that forgot nothing passes there.",
    "Samples of the retain set are measured against directions and neighbours that they define"
    " themselves, so they look nearer than they are. Held-out samples of retained classes are the"
    " fair comparison.",
    "CKA gives most weight to a few large directions, and it rises if samples are fewer than"
    " directions.",
    "A map shows two of many directions. Samples that overlap there may be far apart in the"
    " others.",
)


def analysis_words(found: AnalysisRecords) -> AnalysisWords:
    """What the records of an analysis say."""
    findings = tuple(_finding(found, layer) for layer in found.layers())
    return AnalysisWords(tuple(_summary(found, findings)), findings)


def _summary(found: AnalysisRecords, findings: Sequence[LayerFinding]) -> list[str]:
    count, every = len(found.oracles), len(findings)
    who = "the retrained model" if count == 1 else f"the {count} retrained models"
    nearer, farther, same = (
        [f for f in findings if f.says == says] for says in ("nearer", "farther", "same")
    )
    said = []
    if nearer:
        most = max(nearer, key=lambda f: abs(f.gap))
        said.append(
            f"The paper's observation holds at {_of(len(nearer), every)}: the forget set lies"
            f" nearer to the retain set in {who}, which never saw it, than in the original, which"
            f" did. It shows{' most' if len(nearer) > 1 else ''} at {most.layer}, where alignment"
            f" differs by {signed(most.gap)}."
        )
    if farther:
        most = max(farther, key=lambda f: abs(f.gap))
        said.append(
            f"At {_of(len(farther), every)} it is the other way round, unlike in the paper: data"
            f" that was never seen lies farther away, most at {most.layer} ({signed(most.gap)})."
        )
    silent = [f.layer for f in same]
    if silent and not nearer and not farther:
        said.append(
            "Alignment carries no signal for this request. At no layer where it was measured does"
            " the original differ from the retrained models by enough to count, and by more than"
            " they differ from each other."
        )
    elif silent:
        said.append(f"At {joined(silent)} alignment carries no signal.")
    beyond = [n for n in silent if any(c.says in ("nearer", "farther") for c in _all(found, n))]
    if beyond:
        said.append(
            f"Numbers other than alignment do differ at {joined(beyond)}; they are named below."
        )
    return [*said, *_of_samples(found, findings[0].layer)]


def _of_samples(found: AnalysisRecords, layer: str) -> list[str]:
    """What the samples and the retrained models leave unsaid."""
    said, sets = [], found.sets(layer)
    if "test_retain" not in sets:
        said.append(
            "There are no held-out samples. So a difference cannot be told from one that any data"
            " would show, and distances to neighbours have no unit."
        )
    elif "test_forget" not in sets:
        said.append(
            "The request forgets no class as a whole. Retained samples of the same classes give the"
            " models the same feature directions, so no large difference is to be expected, and"
            " there are no held-out samples of forgotten classes."
        )
    if len(found.oracles) == 1:
        said.append(
            "One retrained model makes no band: it is unknown how far retrained models differ from"
            " each other."
        )
    return said


def _all(found: AnalysisRecords, layer: str) -> list[Contrast]:
    return [found.contrast(layer, "forget", indicator) for indicator in INDICATORS.values()]


def _of(count: int, every: int) -> str:
    if every == 1:
        return "the layer that was measured"
    return f"all {every} layers" if count == every else f"{count} of {every} layers"


def _finding(found: AnalysisRecords, layer: str) -> LayerFinding:
    main = found.contrast(layer, "forget", HEADLINE_INDICATOR)
    if not main.says:
        reason = f"{main.reason[:1].upper()}{main.reason[1:]}."
        return LayerFinding(layer, "", _HEADLINES[""], (reason,), 0.0)
    k = read_number(found.original, layer, "k")
    sentences = (
        f"Alignment (DA at k = {k}) of the forget set with the retain set is"
        f" {number(main.original or 0.0)} in the original, which saw both, and {_retrained(main)},"
        f" which saw the retain set only{_consequence(main)}.",
        _held_out(found, layer, main),
        _control(found, layer, main),
        _share(found, layer),
        _distance(found, layer),
        _similar(found, layer),
        _others(found, layer, main),
    )
    said = tuple(text for text in sentences if text)
    return LayerFinding(layer, main.says, _HEADLINES[main.says], said, main.gap)


def _retrained(value: Contrast) -> str:
    if len(value.retrained) == 1:
        return f"{number(value.mean)} in the retrained model"
    text = f"{number(value.mean)} on average in the retrained models"
    if value.band is None:
        return text
    return f"{text} (one more retrained model is expected within {number(value.band.half)} of that)"


def _consequence(value: Contrast) -> str:
    if value.says == "same":
        return ": too near each other to tell, so alignment carries no signal here"
    where = "nearer to" if value.says == "nearer" else "farther from"
    return f": data that was never seen lies {where} the retain set"


def _held_out(found: AnalysisRecords, layer: str, main: Contrast) -> str:
    """Whether it is about the class or the samples: no model saw the held-out samples."""
    if "test_forget" not in found.sets(layer):
        return ""
    held_out = found.contrast(layer, "test_forget", HEADLINE_INDICATOR)
    if not held_out.says or held_out.original is None:
        return ""
    text = (
        "For held-out samples of the forgotten classes, which no model saw, it is"
        f" {number(held_out.original)} and {number(held_out.mean)}"
    )
    if main.says == "same":
        return f"{text}."
    if held_out.says == main.says:
        return (
            f"{text}: the same difference. So the directions that only the original has belong to"
            " the classes, not only to the samples."
        )
    return (
        f"{text}, so these samples do not show the difference: it is about the samples that were"
        " trained on, not about their classes."
    )


def _control(found: AnalysisRecords, layer: str, main: Contrast) -> str:
    """What differs in held-out samples of retained classes too is not about the forget set."""
    value = found.contrast(layer, "test_retain", HEADLINE_INDICATOR)
    if main.says == "same" or value.says != main.says or value.original is None:
        return ""
    return (
        "Held-out samples of retained classes differ in the same way,"
        f" {number(value.original)} and {number(value.mean)}, so not all of this is about the"
        " forget set."
    )


def _similar(found: AnalysisRecords, layer: str) -> str:
    """CKA on the forget set: original with retrained models, beside these among each other."""
    original, *others = (read_number(r, layer, "cka", "oracle", "forget") for r in found.all)
    known = [v for v in others if v is not None]
    if original is None or not known or len(known) < len(others):
        return ""
    value = contrast(original, known, toward=1, span=(0.0, 1.0), pairs=True)
    text = (
        f"On the forget set CKA is {number(original)} between the original and retrained models,"
        f" and {number(value.mean)} among retrained models"
    )
    # The mean over two retrained models is one and the same number, which makes no band.
    if value.band is None:
        return f"{text}."
    if value.says == "nearer":
        return f"{text}: their features differ by more than those of retrained models do."
    return f"{text}{_if_same(value)}."


def _share(found: AnalysisRecords, layer: str) -> str:
    value = found.contrast(layer, "forget", INDICATORS["share"])
    if not value.says or value.original is None:
        return ""
    return (
        f"Half of the forget set's samples have at least {value.original:.0%} of their energy in"
        f" the retain set's k directions in the original, and {value.mean:.0%} in retrained"
        f" models{_if_same(value)}."
    )


def _distance(found: AnalysisRecords, layer: str) -> str:
    value = found.contrast(layer, "forget", INDICATORS["neighbours"])
    if not value.says or value.original is None:
        return ""
    return (
        f"They lie {value.original:.2f} times as far from their nearest samples of the retain set"
        f" as held-out samples of retained classes do in the original, and {value.mean:.2f} times"
        f" in retrained models{_if_same(value)}."
    )


def _if_same(value: Contrast) -> str:
    return ", which is no difference" if value.says == "same" else ""


def _others(found: AnalysisRecords, layer: str, main: Contrast) -> str:
    """The other indicators that say something else than the headline."""
    told: dict[Nearness, list[str]] = {"nearer": [], "farther": [], "same": [], "": []}
    for indicator in INDICATORS.values():
        if indicator is not HEADLINE_INDICATOR:
            told[found.contrast(layer, "forget", indicator).says].append(indicator.label)
    texts: dict[Nearness, str] = {
        "nearer": "nearer where it was not seen",
        "farther": "farther where it was not seen",
        "same": "no difference",
    }
    other = [
        f"{words}: {', '.join(told[says])}"
        for says, words in texts.items()
        if says != main.says and told[says]
    ]
    if not other:
        return "All other numbers that were measured say the same."
    return f"Other numbers disagree ({'; '.join(other)})."


def layers_line(found: AnalysisRecords) -> str:
    """Which layers were measured, and how they were chosen."""
    widths = [
        f"{name} ({read_number(found.original, name, 'width')} features)" for name in found.layers()
    ]
    how = ""
    if found.original.job.get("layers_chosen") == "automatically":
        how = (
            " They were chosen automatically, evenly over the depth of the model; --layer and"
            " --also-layer choose others."
        )
    return f"Layers, first to last: {', '.join(widths)}.{how}"


def samples_line(found: AnalysisRecords) -> str:
    """How many samples each set has, and how many of them the costly numbers use."""
    layer, told, fewer = found.layers()[0], [], False
    for name in found.sets(layer):
        every, drawn = (
            read_number(found.original, layer, which, name) for which in ("samples", "drawn")
        )
        fewer |= drawn != every
        told.append(f"{SETS[name]} {every}" + (f" ({drawn} drawn)" if drawn != every else ""))
    drawing = (
        " Distances, CKA and maps use the drawn samples, the same ones for every model; alignment,"
        " spectra, ranks, angles and shares use all samples."
        if fewer
        else " The maps show at most 300 samples of the retain set and 150 of each other set."
    )
    return (
        f"Samples: {', '.join(told)}.{drawing} Feature maps of convolutions are averaged over"
        " space, other outputs flattened."
    )
