"""Mistakes that somebody could make in a module, one at a time: mutmut's, and some of our own.

mutmut itself changes only what stands in a function without a decorator. Here each of its changes
is made wherever it fits: in constants, defaults, decorators, views and context managers, too.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import libcst as cst
from libcst.matchers import Assign, Call, Name, matches
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

Changes = Callable[[cst.CSTNode], Iterable[cst.CSTNode]]
NOTHING = cst.Tuple([], lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


class Mutant(NamedTuple):
    """A module with one mistake, and the lines of the statement that has it."""

    text: str
    diff: str
    lines: range


def _without_statement(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Forget to do, to refuse or to answer."""
    if isinstance(node, cst.Expr | cst.Raise | cst.Del | cst.AugAssign):
        yield cst.Pass()
    nothing = Name("None") | Name("False")  # mypy tells these from no answer, callers do not
    if isinstance(node, cst.Return) and node.value and not matches(node.value, nothing):
        yield node.with_changes(value=None)


def _other_condition(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Decide the other way round, or forget a part of what decides."""
    if isinstance(node, cst.If | cst.While | cst.CompIf | cst.IfExp):
        test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))
    if isinstance(node, cst.BooleanOperation):
        yield from (node.left, node.right)


def _without_decorator(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Forget what wraps a function or a class."""
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        for place in range(len(node.decorators)):
            rest = [*node.decorators[:place], *node.decorators[place + 1 :]]
            yield node.with_changes(decorators=rest)


def _never(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Catch nothing, go through nothing."""
    if isinstance(node, cst.ExceptHandler) and node.type:
        yield node.with_changes(type=NOTHING, whitespace_after_except=cst.SimpleWhitespace(" "))
    if isinstance(node, cst.For | cst.CompFor):
        yield node.with_changes(iter=NOTHING)


def _one_less(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Err on the other side of a bound: mutmut adds one."""
    if isinstance(node, cst.Integer):
        less = node.evaluated_value - 1
        number = cst.Integer(str(abs(less)))
        yield cst.UnaryOperation(cst.Minus(), number) if less < 0 else number


OURS: tuple[Changes, ...] = (
    _without_statement,
    _other_condition,
    _without_decorator,
    _never,
    _one_less,
)


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, change in mutation_operators:
        if isinstance(node, kind):
            changed = list(change(node))
            # Of a text without and with XX around, and in lower and upper case, the first is
            # enough: who does not notice it has no test, and the names of HTTP have no case.
            yield from changed[:1] if isinstance(node, cst.SimpleString) else changed
    for ours in OURS:
        yield from ours(node)


def _read_by_programs(node: cst.CSTNode) -> Sequence[cst.Arg] | None:
    """Return what tests can notice of a call that mypy, or people, read the rest of."""
    if not isinstance(node, cst.Call):
        return None
    name = getattr(node.func, "attr", node.func)
    match getattr(name, "value", ""):
        case "Problem":
            return node.args[:1]  # the others are sentences
        case "cast":
            return node.args[1:]
        case "debug" | "info" | "warning" | "error" | "exception" | "critical":
            return node.args[1:]
        case _:
            return None


def _for_mypy(node: cst.CSTNode) -> bool:
    """Return whether a statement is one for the types alone."""
    if isinstance(node, cst.If):
        return matches(node.test, Name("TYPE_CHECKING"))
    return matches(node, Assign(value=Call(func=Name("TypeVar"))))


class _Places(cst.CSTVisitor):
    """Every node that may be changed, with the lines of its statement."""

    def __init__(self, positions: Mapping[cst.CSTNode, CodeRange]) -> None:
        self.positions = positions
        self.found: list[tuple[cst.CSTNode, range]] = []
        self.statements: list[range] = [range(1, 2)]

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Import | cst.ImportFrom | cst.Annotation) or _for_mypy(node):
            return False  # mypy and ruff judge these
        if isinstance(
            node, cst.SimpleStatementLine | cst.BaseCompoundStatement | cst.ExceptHandler
        ):
            whole = self.positions[node]
            body = getattr(node, "body", None)
            last = whole.end.line
            if isinstance(body, cst.IndentedBlock):
                last = self.positions[body].start.line
            self.statements.append(range(whole.start.line, last + 1))
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString):
            return False  # a docstring
        self.found.append((node, self.statements[-1]))
        if (arguments := _read_by_programs(node)) is not None:
            self.found.pop()
            for argument in arguments:
                argument.visit(self)
            return False
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(
            original_node, cst.SimpleStatementLine | cst.BaseCompoundStatement | cst.ExceptHandler
        ):
            self.statements.pop()


def difference(before: str, after: str) -> str:
    """Return what was changed, as the lines of a diff without their numbers."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "".join(f"{line}\n" for line in list(lines)[2:] if not line.startswith("@@"))


def mutants(source: str) -> Iterator[Mutant]:
    """Yield the module with each mistake that still is Python."""
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    module, seen = wrapper.module, {source}
    parts = [module.code_for_node(statement) for statement in module.body]
    before = "".join(module.code_for_node(line) for line in module.header)
    after = source[len(before) + sum(map(len, parts)) :]
    metadata = wrapper.resolve(PositionProvider)
    for place, statement in enumerate(module.body):
        places = _Places(metadata)
        statement.visit(places)
        for node, lines in places.found:
            for changed in _changes(node):
                part = module.code_for_node(
                    cast("cst.CSTNode", statement.deep_replace(node, changed))
                )
                text = "".join([before, *parts[:place], part, *parts[place + 1 :], after])
                if text not in seen and _is_python(text):
                    seen.add(text)
                    yield Mutant(text, difference(source, text), lines)


def _is_python(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
