"""Figures made a trace at a time: choices, and what is the same for all of them."""

from __future__ import annotations

from eigenforget.report.figures.drawing import Axis
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.style import ORIGINAL


def test_traces_axes_and_marks_are_in_their_plots() -> None:
    panels = Panels(["a", "b"], height=100, columns=3)
    panels.add(1, "a name that is too long " * 3, ([0], [1]), ORIGINAL)
    panels.axes(1, Axis("x"), Axis("y"))
    panels.mark(1, 5, "here")
    fig = panels.figure()
    assert fig.columns == 2 and fig.choices == () and [p.title for p in fig.plots] == ["a", "b"]
    assert not fig.plots[0].traces and len(fig.plots[1].traces[0].name) == 44
    assert fig.plots[1].x.title == "x" and fig.plots[1].shapes[0].x == (5, 5)


def test_each_choice_has_its_plots_and_what_is_the_same_is_there_once() -> None:
    choices = {"one": "First", "two": "Second"}
    panels = Panels(["same", "own"], height=100, columns=2, choices=choices)
    panels.add(0, "all", ([0], [0]), ORIGINAL)
    for i, choice in enumerate(choices):
        panels.add(1, "model", ([i], [i]), ORIGINAL, choice=choice)
    panels.title(1, "other", choice="two")
    fig = panels.figure()
    assert list(fig.choices) == ["First", "Second"]
    assert [(p.title, p.choice) for p in fig.plots] == [("same", None), ("own", 0), ("other", 1)]
    assert [list(p.traces[0].x) for p in fig.plots[1:]] == [[0], [1]]


def test_a_single_choice_is_none() -> None:
    panels = Panels(["a"], height=100, columns=1, choices={"one": "First"})
    panels.add(0, "model", ([0], [0]), ORIGINAL, choice="one")
    fig = panels.figure()
    assert fig.choices == () and fig.plots[0].choice is None and len(fig.plots[0].traces) == 1
