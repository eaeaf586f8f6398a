"""What a template may be: Jinja2 with conditions, plain loops and a few filters. The rest is refused before rendering.

A template only names facts. It reads no attribute, calls nothing, sets nothing, and its own text holds neither numbers
nor what makes a date or an address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sono.manifests.errors import UserError, did_you_mean
from sono.manifests.schemas import BIOMETRY

from .guard import wording_fault

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

FACT_OF: Mapping[str, str] = {
    **{name: name for name in ("plane", "ga_days", "trimester", "structures", "structure", "laterality")},
    **{name: name for name in ("presentation", "findings", *BIOMETRY)},
    "ga": "ga_days",
    "article": "ga_days",
}
"""The names that templates see, and the fact of ``Facts.known`` that each is made of."""

FILTERS: Mapping[str, int] = {
    **dict.fromkeys(("first", "last", "length", "lower", "upper", "capitalize", "int"), 0),
    **{"join": 1, "round": 1, "replace": 2},
}
"""The filters that templates may use, and how many arguments each takes. Only ``join`` makes much out of little."""

TESTS = ("defined", "undefined")

_DEEPEST = 40  # nested nodes; Python compiles what comes of 90

_NODES = frozenset(
    ("Template", "Output", "TemplateData", "Name", "Const", "Filter", "Test", "If", "CondExpr", "Not", "And", "Or")
) | {"Compare", "Operand", "Concat", "For", "Getitem", "Slice", "Neg"}


class Content(NamedTuple):
    """What a template reads and says.

    Attributes:
        needs: the facts (names of ``Facts.known``) without which it cannot render.
        uses: every name it reads, of ``FACT_OF``.
        own_text: everything it can put into a sentence itself.
    """

    needs: frozenset[str]
    uses: frozenset[str]
    own_text: str


def checked(text: str, where: str, names: Collection[str]) -> Content:
    """What the template ``text`` reads and says, if it may be rendered.

    Args:
        where: the file to name in errors.
        names: of ``FACT_OF``, those that it may read.

    Raises:
        UserError: it is not; the text names the line.
    """
    import jinja2
    from jinja2 import nodes

    try:
        tree = environment().parse(text)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"line {error.lineno} is not a valid template: {error.message}", where=where, fix="correct that line"
        ) from error
    except ValueError:
        raise UserError("a number in the template is too large", where=where, fix="write no numbers") from None
    except RecursionError:
        raise _too_deep(where) from None
    read: dict[str, bool] = {}
    own: list[str] = []
    for node, parents in _walk(tree):
        if len(parents) > _DEEPEST:
            raise _too_deep(where)
        fault = _fault(node, parents, names)
        if fault:
            raise UserError(f"line {node.lineno}: {fault[0]}", where=where, fix=fault[1])
        if isinstance(node, nodes.Name) and node.name in names:
            tested = isinstance(parents[-1], nodes.Test)
            read[node.name] = read.get(node.name, True) and not tested
        if isinstance(node, nodes.TemplateData):
            own.append(node.data)
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            own.append(node.value)
    needs = frozenset(FACT_OF[name] for name, needed in read.items() if needed)
    own += ["A", "An"] if "article" in read else []
    return Content(needs, frozenset(read), " ".join(own))


def environment() -> SandboxedEnvironment:
    """Where templates are read and rendered: a sandbox without globals, with only ``FILTERS`` and ``TESTS``."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    sandbox = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    sandbox.globals.clear()
    sandbox.filters = {name: sandbox.filters[name] for name in FILTERS}
    sandbox.tests = {name: sandbox.tests[name] for name in TESTS}
    return sandbox


def one_of(kind: str, names: Collection[str]) -> str:
    """A remedy for a name that resembles none."""
    return f"the {kind} are {', '.join(sorted(names))}"


def _too_deep(where: str) -> UserError:
    return UserError("the template is nested too deeply", where=where, fix="write it more plainly")


def _walk(
    node: nodes.Node, parents: tuple[nodes.Node, ...] = ()
) -> Iterator[tuple[nodes.Node, tuple[nodes.Node, ...]]]:
    yield node, parents
    for child in node.iter_child_nodes():
        yield from _walk(child, (*parents, node))


def _fault(node: nodes.Node, parents: tuple[nodes.Node, ...], names: Collection[str]) -> tuple[str, str] | None:
    """What is wrong with one node of a template, and what to do. Unknown kinds of nodes are refused."""
    from jinja2 import nodes

    match node:
        case nodes.Name():
            return _name_fault(node, parents, names)
        case nodes.Getattr(node=nodes.Name(name="loop"), attr="first" | "last"):
            return None
        case nodes.Getattr():
            return "reads an attribute", "only loop.first and loop.last can be read"
        case nodes.Getitem(arg=nodes.Const(value=int()) | nodes.Neg() | nodes.Slice()):
            return None
        case nodes.Getitem():
            return "reads an item by something other than its position", "write structures[0]"
        case nodes.Call():
            return "calls something", "templates can only name facts and use filters"
        case nodes.Filter():
            return _filter_fault(node)
        case nodes.Test() if node.name not in TESTS or not isinstance(node.node, nodes.Name):
            return "tests something other than whether a name is known", "write NAME is defined"
        case nodes.For() if node.recursive or any(isinstance(parent, nodes.For) for parent in parents):
            return "has a loop in a loop", "write one loop"
        case nodes.For() if not _is_list(node.iter):
            return "loops over something other than a list", "loop over structures, findings or a slice of them"
        case nodes.TemplateData(data=str(text)) | nodes.Const(value=str(text)):
            fault = wording_fault(text.replace("\n", " "))
            return (f"its own text cannot be used: it {fault}", "correct that line") if fault else None
    kind = type(node).__name__
    return None if kind in _NODES else (f"uses {kind.lower()}", "templates have only if, for, variables and filters")


def _name_fault(node: nodes.Name, parents: tuple[nodes.Node, ...], names: Collection[str]) -> tuple[str, str] | None:
    from jinja2 import nodes

    if node.ctx != "load":
        return (f"gives {node.name!r} another meaning", "take another name") if node.name in FACT_OF else None
    looped = {
        target.name for parent in parents if isinstance(parent, nodes.For) for target in parent.find_all(nodes.Name)
        if target.ctx == "store"
    }  # fmt: skip
    if node.name in names or node.name in looped or (node.name == "loop" and isinstance(parents[-1], nodes.Getattr)):
        return None
    return f"undefined name {node.name!r}", did_you_mean(node.name, names) or one_of("names", names)


def _filter_fault(node: nodes.Filter) -> tuple[str, str] | None:
    from jinja2 import nodes

    if node.name not in FILTERS:
        return f"unknown filter {node.name!r}", did_you_mean(node.name, FILTERS) or one_of("filters", FILTERS)
    if len(node.args) > FILTERS[node.name] or node.kwargs or node.dyn_args or node.dyn_kwargs:
        return f"filter {node.name!r} has too many arguments", f"it takes at most {FILTERS[node.name]}, without names"
    if node.name == "replace" and not all(
        isinstance(argument, nodes.Const) and isinstance(argument.value, str) and len(argument.value) == 1
        for argument in node.args
    ):
        return "replaces more than single characters", 'write replace(".", ",")'
    # one join of a join, or with a join, is short; forty of them fill any memory
    if node.name == "join" and not (
        node.node is not None and _is_list(node.node) and all(isinstance(each, nodes.Const) for each in node.args)
    ):
        return "joins something other than a list", 'write structures | join(", ")'
    return None


def _is_list(node: nodes.Node) -> bool:
    """Whether the node is a name, or a slice of one: of a length that the facts decide."""
    from jinja2 import nodes

    match node:
        case nodes.Name():
            return True
        case nodes.Getitem(node=nodes.Name(), arg=nodes.Slice()):
            return True
    return False
