"""Registries: the choices of one kind, such as all methods, with those of other packages and files.

A package that holds things of one kind has one line for each in its registry:

    METHODS: Registry[type] = Registry(
        "method", "eigenforget.methods", [MUDA, SCRUB], requires=("name", "needs"), wrap=...
    )

The registry is a sequence of classes: its own, then those that installed packages declare as entry
points of the group. `METHODS.parse("muda(k=9)")` gives an instance. In place of a name,
`python(path="mine.py:Mine")` names a class or a bare function in the user's own file; fields follow
the path. `METRICS.kind(text)` finds a metric, or another class that is not a dataclass.
"""

from __future__ import annotations

import ast
import copyreg
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar, overload

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import imported, note_path, of_entry_point, path_of
from eigenforget.core.text import displayed, listed

_Kind = TypeVar("_Kind", bound=type, covariant=True)


class Registry(Sequence[_Kind]):
    """The choices of one kind: a sequence of classes with a `name`.

    Args:
        what: What one of them is called in messages, such as "method".
        group: Group of entry points by which installed packages add theirs; "" for none.
        own: The classes of this package.
        requires: Attributes that each class must have.
        wrap: Makes a class of a bare function of the user's; see `from_function`. None: a function
            is no choice.
    """

    def __init__(
        self,
        what: str,
        group: str = "",
        own: Iterable[_Kind] = (),
        *,
        requires: Sequence[str] = ("name",),
        wrap: Callable[[Callable[..., Any]], _Kind] | None = None,
    ) -> None:
        self.what, self.group, self.own = what, group, tuple(own)
        self._requires, self._wrap = tuple(requires), wrap

    @functools.cached_property
    def _known(self) -> tuple[_Kind, ...]:
        found = list(self.own)
        for point in entry_points(group=self.group) if self.group else ():
            kind: _Kind = of_entry_point(point, self.what)
            where = f"entry point {point.value!r}"
            self._check(kind, where)
            name = spec.name_of(kind)
            if name in map(spec.name_of, found):
                raise EigenforgetError(
                    f"{where} takes the {self.what} name {name!r}, which is in use"
                )
            found.append(kind)
        return tuple(found)

    @overload
    def __getitem__(self, index: int) -> _Kind: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Kind]: ...
    def __getitem__(self, index: int | slice) -> _Kind | Sequence[_Kind]:
        return self._known[index]

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<{self.what}: {listed(map(spec.name_of, self), 100)}>"

    def get(self, name: str) -> _Kind:
        """The class of this name.

        Raises:
            EigenforgetError: There is none; the message lists the names.
        """
        return typing.cast("_Kind", spec.kind_of_name(name, self, what=self.what))

    def parse(self, text: str, nested: Sequence[type] = ()) -> Any:
        """The instance that a spec spells, as `spec.parse` reads it.

        Raises:
            EigenforgetError: The name or a field is unknown, or a value does not fit.
        """
        return spec.parse(text, self, self.what, nested)

    def kind(self, text: str) -> _Kind:
        """The class that `name`, `name()` or `python(path="mine.py:Mine")` names, without fields.

        Raises:
            EigenforgetError: There is none, or fields are given.
        """
        name, fields = spec.call_of(text, what=self.what)
        if name == "python":
            path = fields.pop("path", "")
            kind = self.at(ast.literal_eval(path) if isinstance(path, ast.Constant) else "")
        else:
            kind = self.get(name)
        if fields:
            raise EigenforgetError(f"{self.what} {displayed(text)}: {name} has no fields")
        return kind

    def at(self, path: str) -> _Kind:
        """The class at a path such as "mine.py:Mine"; a function there is made one.

        Raises:
            EigenforgetError: There is nothing, or what is there is no such kind.
        """
        found, where = imported(path, self.what), f"{self.what} {displayed(path)}"
        if inspect.isfunction(found) and self._wrap is not None:
            if (self._wrap, found) not in _WRAPPED:
                try:
                    _WRAPPED[self._wrap, found] = self._wrap(found)
                except EigenforgetError as error:
                    raise EigenforgetError(f"{where}: {error}") from None
            kind: _Kind = _WRAPPED[self._wrap, found]
        else:
            self._check(found, where)
            kind = found
        if kind not in self._known:  # those have a name
            note_path(kind, path)
            copyreg.pickle(kind, functools.partial(_by_path, what=self.what, wrap=self._wrap))
        return kind

    def _check(self, kind: Any, where: str) -> None:
        lacking = [name for name in self._requires if not hasattr(kind, name)]
        if lacking or not inspect.isclass(kind):
            needed = f"it lacks {listed(lacking)}" if lacking else "it is no class"
            raise EigenforgetError(f"{where} is no {self.what}: {needed}")


_WRAPPED: dict[tuple[Callable[..., Any], Callable[..., Any]], Any] = {}
"""The class that a registry's `wrap` made of a function, by both of them."""


def _by_path(value: Any, *, what: str, wrap: Callable[..., Any] | None) -> tuple[Any, ...]:
    """How an instance of a class in the user's file is pickled: other processes run the file."""
    return _unfilled, (path_of(type(value)), what, wrap), vars(value)


def _unfilled(path: str, what: str, wrap: Callable[..., Any] | None) -> Any:
    kind: Any = Registry[Any](what, wrap=wrap).at(path)
    return object.__new__(kind)


def from_function(
    function: Callable[..., Any], *, call: str, given: Sequence[str], **attributes: Any
) -> type:
    """A configured class that calls a bare function: how a registry's `wrap` is written.

    Args:
        function: Takes what is given by position; its keyword-only parameters become the fields.
        call: The method of the class that calls it, such as "__call__" or "load".
        given: Names of what the method is given, such as ("task",).
        attributes: Class attributes, such as needs=(); `name` is the function's own name.

    Raises:
        EigenforgetError: The function cannot be called with that.
    """
    parameters = inspect.signature(function).parameters.values()
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    try:
        inspect.signature(function).bind(*given, **{p.name: None for p in options})
    except TypeError as error:
        raise EigenforgetError(
            f"{function.__name__} is called as {function.__name__}({', '.join(given)}): {error}; "
            f"settings stand after a star, as in {function.__name__}({', '.join(given)}, *, x=1.0)"
        ) from None
    hints = _type_hints(function)

    def run(self: Any, *values: Any, **named: Any) -> Any:
        values = (*values, *(named[name] for name in given[len(values) :]))
        return function(*values, **{p.name: getattr(self, p.name) for p in options})

    members = {"name": function.__name__, **attributes}
    annotations = dict.fromkeys(members, ClassVar[Any]) | {
        p.name: hints.get(p.name, Any) for p in options
    }
    defaults = {p.name: p.default for p in options if p.default is not p.empty}
    about = {
        "__annotations__": annotations,
        "__doc__": function.__doc__ or f"The function {function.__name__}.",
        "__module__": function.__module__,
    }
    return spec.configured(type(function.__name__, (), {**members, **defaults, **about, call: run}))


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's parameters; none where names in them are not to be found."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # as of imports for type checkers alone
        return {}
