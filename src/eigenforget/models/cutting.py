"""A model in two parts: what comes before the layers that train, and those from there on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.models.features import called_with, find_head, in_eval_mode, note_head
from eigenforget.models.initialisation import NORMS

if TYPE_CHECKING:  # it takes a tenth of a second to load
    from torch.fx import Graph, Node


_UNTRACED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


class CutModel(NamedTuple):
    """Two modules with a model's layers: `later(earlier(x))` is the model of x.

    Both hold all of them, under the same names, and run some.

    Attributes:
        earlier: Inputs to the tensor at the cut. Nothing that it runs trains.
        later: That tensor to logits.
        sample_bytes: What that tensor takes for each sample.
    """

    earlier: nn.Module
    later: nn.Module
    sample_bytes: int


def cut_model(model: nn.Module, trains: Callable[[str], bool], inputs: Tensor) -> CutModel | None:
    """Cut a model where a single tensor passes, as late as nothing before it trains.

    Batch norms have to keep their statistics while the parts are used. The parts are compared with
    the whole on the inputs, to the bit, in eval mode and in training.

    Args:
        model: A classifier; it stays as it is.
        trains: Whether the parameter of this name trains.
        inputs: A few samples [B, ...].

    Returns:
        None where torch.fx cannot follow the model, there is no such place, or the parts give
        something else, as where numbers are drawn before the cut.
    """
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):  # noqa: SLF001
        return None  # they would see the symbols of a trace
    try:
        parts = _parts(model, trains)
        cut = None if parts is None else _agreed(model, *parts, inputs)
        return None if parts is None or cut is None else CutModel(*parts, cut.nbytes // len(cut))
    except _UNTRACED:  # the code of a model decides how it fails on a symbol
        return None


def _parts(model: nn.Module, trains: Callable[[str], bool]) -> tuple[_Part, _Part] | None:
    from torch import fx

    # A trace leaves tensors that the code makes on what it traces.
    nodes = list(fx.Tracer().trace(copy.deepcopy(model)).nodes)
    cut = _last_cut(nodes, _first_that_trains(model, nodes, trains))
    if cut is None:
        return None
    before, after = fx.Graph(), fx.Graph()
    before.output(_copied(before, nodes[: cut + 1], {})[nodes[cut]])
    _copied(after, nodes[cut + 1 :], {nodes[cut]: after.placeholder("inputs")})
    return _Part(model, before), _Part(model, after)


class _Part(nn.Module):
    """The layers of a model, called as a graph says."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        super().__init__()
        for name, module in model.named_children():
            self.add_module(name, module)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.graph = graph
        self._whole = [model]  # in a list, where it is no child
        note_head(self, find_head(model)[0])

    def train(self, mode: bool = True) -> _Part:
        """Let the model set the modes: it may keep some layers in eval mode."""
        self.training = mode
        self._whole[0].train(mode)
        return self

    def forward(self, inputs: Tensor) -> Any:
        from torch.fx import Interpreter

        return Interpreter(self, graph=self.graph).run(inputs)


def _first_that_trains(
    model: nn.Module, nodes: Sequence[Node], trains: Callable[[str], bool]
) -> int:
    """The first node that uses a parameter that trains."""
    moving = {id(p) for name, p in model.named_parameters() if p.requires_grad and trains(name)}

    def uses(node: Node) -> bool:
        if node.op == "call_module":
            own = model.get_submodule(str(node.target)).parameters()
            return any(id(p) in moving for p in own)
        if node.op == "get_attr":
            module, _, name = str(node.target).rpartition(".")
            return id(getattr(model.get_submodule(module), name)) in moving
        return False

    return next((i for i, node in enumerate(nodes) if uses(node)), 0)


def _last_cut(nodes: Sequence[Node], end: int) -> int | None:
    """The last node before `end` after which none of the earlier ones is used."""
    number = {node: i for i, node in enumerate(nodes)}
    last_use = [max((number[user] for user in node.users), default=i) for node, i in number.items()]
    reached = [0, *itertools.accumulate(last_use, max)]  # of all nodes before each
    cuts = [i for i in range(end) if reached[i] <= i and nodes[i].op.startswith("call_")]
    return cuts[-1] if cuts else None


def _copied(graph: Graph, nodes: Sequence[Node], known: dict[Node, Node]) -> dict[Node, Node]:
    """The nodes in another graph, by the node that each is a copy of."""
    for node in nodes:
        known[node] = graph.node_copy(node, known.__getitem__)
    return known


def _agreed(
    model: nn.Module, earlier: nn.Module, later: nn.Module, inputs: Tensor
) -> Tensor | None:
    """What passes the cut, if the parts give what the model gives and the first draws nothing."""
    for training in (False, True):
        with _mode(model, training), torch.no_grad(), seeds.torch_state_kept(inputs.device):
            cut, again = (called_with(earlier, inputs) for _ in range(2))
            found = []
            for part, given in ((model, inputs), (later, cut)):
                seeds.seed_torch(0, inputs.device)
                found.append(called_with(part, given))
        for one, other in ((cut, again), found):
            if not (isinstance(one, Tensor) and torch.equal(one, other)):
                return None
    return cast(Tensor, cut)


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Eval mode, or training with the statistics of batch norms kept."""
    with in_eval_mode(model):
        for module in model.modules():
            module.training = training and not isinstance(module, NORMS)
        yield
