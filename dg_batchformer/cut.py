"""A network cut in two after a module: its output is kept, and what follows is trained."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from torch import fx, nn

from dg_batchformer.errors import InputError, first_line, unknown


class Parts(NamedTuple):
    """Both parts of a network; the `state_dict` keys of each are those of the network."""

    before: nn.Module
    after: nn.Module


def cut(network: nn.Module, path: str) -> Parts:
    """The parts of a network before and after the end of its module `path`, such as layer2 or blocks.4.

    Raises InputError if there is no such module, or if what follows needs more than its output, as inside of a residual
    block.
    """
    known = [name for name, _ in network.named_modules() if name and name.count(".") < 2]
    if path not in dict(network.named_modules()) or not path:
        raise InputError(unknown("module of the backbone", path, known))
    arguments = inspect.signature(network.forward).parameters.values()
    optional = {one.name: one.default for one in arguments if one.default is not one.empty}
    try:
        graph = Ancestors(path).trace(network, optional)
    except Exception as error:  # any error of the network's own code under tracing
        raise InputError(f"the backbone cannot be cut after {path}: {first_line(error)}") from error
    (*_, last) = [None, *(node for node in graph.nodes if (node.op, node.target) == ("call_module", path))]
    if last is None:
        raise InputError(f"the backbone cannot be cut after {path}: the network does not call this module")
    return Parts(fx.GraphModule(network, _before(graph, last)), fx.GraphModule(network, _after(graph, last, path)))


class Ancestors(fx.Tracer):
    """Traces a network and the modules that contain `path`; all others stay calls of modules."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.path.startswith(f"{module_qualified_name}.")


def _before(graph: fx.Graph, last: fx.Node) -> fx.Graph:
    own = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copies[node] = own.node_copy(node, copies.__getitem__)
        if node is last:
            break
    own.output(copies[last])
    own.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    return own


def _after(graph: fx.Graph, last: fx.Node, path: str) -> fx.Graph:
    own = fx.Graph()
    copies: dict[Any, fx.Node] = {last: own.placeholder("maps")}
    is_after = False
    for node in graph.nodes:
        if is_after or node.op == "get_attr":
            try:
                copies[node] = own.node_copy(node, copies.__getitem__)
            except KeyError as error:
                raise InputError(
                    f"the backbone cannot be cut after {path}: what follows needs more than its output; "
                    "expected the end of a stage or block"
                ) from error
        is_after |= node is last
    own.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    return own
