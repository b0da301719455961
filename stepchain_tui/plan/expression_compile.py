"""From the text of an expression to a function of a `Scope`.

Jinja's parser gives the tree, so the grammar is Jinja's; the tree is carried out by closures of ours and not by Jinja's
code generator. That leaves no Python attribute, no call and no constant folding to defend against: a node that is not
in `_COMPILERS` does not exist.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from stepchain_tui.plan.expression_filters import FILTER_NAMES, FILTERS
from stepchain_tui.plan.expression_operators import ARITHMETIC, COMPARISONS
from stepchain_tui.plan.expression_values import (
    CONTAINERS,
    ExpressionError,
    MissingValueError,
    Scope,
    check_number,
    check_result,
    number,
    reach,
    render,
    suggest,
    type_name,
)

Use = tuple[str | int, ...]
Evaluate = Callable[[Scope], Any]
EXPRESSION_LENGTH = 10_000
"""Characters of one expression."""
ROOTS = ("steps", "inputs", "item", "index", "secrets", "run")
STEP_PARTS = ("output", "status", "error")
RUN_PARTS = ("id", "started_at")


class Expression:
    """One compiled expression.

    Attributes:
        text: The expression as written, without its braces.
        uses: The names it reads, as far as they are constant: `("steps", "fetch", "output")`, in order.
        is_access: It only picks a value out of the context, so its result needs no measuring.
    """

    __slots__ = ("_evaluate", "is_access", "text", "uses")

    def __init__(self, text: str, evaluate: Evaluate, uses: tuple[Use, ...], is_access: bool) -> None:
        self.text = text
        self._evaluate = evaluate
        self.uses = uses
        self.is_access = is_access

    def __call__(self, scope: Scope) -> Any:
        """Return the expression's value.

        Raises:
            ExpressionError: It has none here, or would do too much.
        """
        try:
            value = self._evaluate(scope)
            return value if self.is_access else check_result(scope, value)
        except ExpressionError as error:
            raise error.within(self.text) from None
        except RecursionError:
            raise ExpressionError("a value is nested too deeply").within(self.text) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise ExpressionError(str(error) or type(error).__name__).within(self.text) from None


@lru_cache(maxsize=16_384)
def compile_expression(text: str) -> Expression:
    """Return the compiled form of `text`, an expression without braces.

    Raises:
        ExpressionError: It is not an expression of ours.
    """
    try:
        if len(text) > EXPRESSION_LENGTH:
            raise ExpressionError(f"an expression has at most {EXPRESSION_LENGTH} characters")
        tree = _parse(text)
        compiler = _Compiler()
        evaluate = compiler.compile(tree)
        is_access = type(tree).__name__ in ("Getattr", "Getitem", "Name") and not compiler.slices
        return Expression(text, evaluate, tuple(dict.fromkeys(compiler.uses)), is_access)
    except ExpressionError as error:
        raise error.within(text.strip()) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply").within(text.strip()) from None


def _parse(text: str) -> Any:
    """Return Jinja's tree of `text`. Parsing only: nothing is folded and no code is made."""
    from jinja2 import TemplateSyntaxError
    from jinja2.parser import Parser

    if not text.strip():
        raise ExpressionError("there is nothing between the braces")
    try:
        parser = Parser(_environment(), text, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise ExpressionError(f"unexpected '{parser.stream.current.value}'")
    except TemplateSyntaxError as error:
        raise ExpressionError(error.message or "not an expression") from None
    except (ValueError, SyntaxError, OverflowError) as error:
        raise ExpressionError(f"a literal cannot be read: {error}") from None
    return tree


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment

    return Environment(autoescape=True)


def _describe(root: str, keys: list[Any]) -> str:
    return root + "".join(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in keys)


class _Compiler:
    """Turns one tree into closures and notes which names it reads."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.slices = False

    def compile(self, node: Any) -> Evaluate:
        name = type(node).__name__
        compiler = _COMPILERS.get(name)
        if compiler is None:
            raise ExpressionError(_REFUSED.get(name, f"{name.lower()} is not allowed in an expression"))
        return compiler(self, node)

    def constant(self, node: Any) -> Evaluate:
        value = node.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            check_number(value)
        return lambda scope: value

    def sequence(self, node: Any) -> Evaluate:
        items = [self.compile(item) for item in node.items]
        return lambda scope: [item(scope) for item in items]

    def mapping(self, node: Any) -> Evaluate:
        pairs = [(self.compile(pair.key), self.compile(pair.value)) for pair in node.items]
        return lambda scope: {_mapping_key(key(scope)): value(scope) for key, value in pairs}

    def access(self, node: Any) -> Evaluate:
        """Compile a chain of names and keys as one step, so that a missing one is named whole."""
        steps: list[Any] = []
        while type(node).__name__ in ("Getattr", "Getitem"):
            steps.append(node.attr if type(node).__name__ == "Getattr" else node.arg)
            node = node.node
        steps.reverse()
        constants = [_constant_key(step) for step in steps]
        leading: list[Any] = []
        for key in constants:
            if key is _DYNAMIC:
                break
            leading.append(key)
        root = node.name if type(node).__name__ == "Name" else ""
        if root:
            self._note(root, leading)
        base = _read_name(root) if root else self.compile(node)
        shown = root or "the value"
        if root and len(leading) == len(steps):
            return _constant_path(base, shown, leading)
        getters = [self._getter(step, _describe(shown, leading[:place])) for place, step in enumerate(steps)]

        def evaluate(scope: Scope) -> Any:
            value = base(scope)
            for getter in getters:
                value = getter(scope, value)
            return value

        return evaluate

    def _note(self, root: str, leading: list[Any]) -> None:
        if root not in ROOTS:
            raise ExpressionError(
                f"unknown name '{root}'; expressions know {', '.join(ROOTS)}", suggestion=suggest(root, ROOTS)
            )
        if root in ("steps", "secrets") and not (leading and isinstance(leading[0], str)):
            shape = "steps.ID.output" if root == "steps" else "secrets.NAME"
            raise ExpressionError(f"write {shape}: the name cannot be computed or left out")
        place, parts = (1, STEP_PARTS) if root == "steps" else (0, RUN_PARTS)
        if root in ("steps", "run") and len(leading) > place and leading[place] not in parts:
            found = str(leading[place])
            raise ExpressionError(
                f"{_describe(root, leading[:place])} has no '{found}', only {', '.join(parts)}",
                suggestion=suggest(found, parts),
            )
        self.uses.append((root, *leading))

    def _getter(self, step: Any, where: str) -> Callable[[Scope, Any], Any]:
        key = _constant_key(step)
        if key is not _DYNAMIC:
            return lambda scope, value: reach(value, key, where)
        if type(step).__name__ != "Slice":
            computed = self.compile(step)
            return lambda scope, value: reach(value, computed(scope), where)
        self.slices = True
        bounds = [self.compile(part) if part is not None else None for part in (step.start, step.stop, step.step)]

        def cut(scope: Scope, value: Any) -> Any:
            if not isinstance(value, str | list | tuple):
                raise ExpressionError(f"{where} is {type_name(value)}; only lists and text have parts")
            scope.spend(len(value))
            return value[slice(*(bound(scope) if bound else None for bound in bounds))]

        return cut

    def arithmetic(self, node: Any) -> Evaluate:
        operate = ARITHMETIC[type(node).__name__]
        left, right = self.compile(node.left), self.compile(node.right)
        return lambda scope: check_number(operate(number(left(scope)), number(right(scope))))

    def sign(self, node: Any) -> Evaluate:
        value = self.compile(node.node)
        if type(node).__name__ == "Neg":
            return lambda scope: -number(value(scope))
        return lambda scope: number(value(scope))

    def negation(self, node: Any) -> Evaluate:
        value = self.compile(node.node)
        return lambda scope: not value(scope)

    def conjunction(self, node: Any) -> Evaluate:
        left, right = self.compile(node.left), self.compile(node.right)
        if type(node).__name__ == "And":
            return lambda scope: left(scope) and right(scope)
        return lambda scope: left(scope) or right(scope)

    def comparison(self, node: Any) -> Evaluate:
        first = self.compile(node.expr)
        rest = [(COMPARISONS[operand.op], self.compile(operand.expr)) for operand in node.ops]

        def evaluate(scope: Scope) -> bool:
            left = first(scope)
            for compare, operand in rest:
                right = operand(scope)
                for side in (left, right):
                    if isinstance(side, (str, *CONTAINERS)):
                        scope.weigh([side])
                if not compare(left, right):
                    return False
                left = right
            return True

        return evaluate

    def concatenation(self, node: Any) -> Evaluate:
        parts = [self.compile(part) for part in node.nodes]

        def evaluate(scope: Scope) -> str:
            texts = [render(scope, part(scope)) for part in parts]
            scope.spend(sum(map(len, texts)))
            return "".join(texts)

        return evaluate

    def choice(self, node: Any) -> Evaluate:
        test, yes = self.compile(node.test), self.compile(node.expr1)
        no = self.compile(node.expr2) if node.expr2 is not None else _no_else
        return lambda scope: yes(scope) if test(scope) else no(scope)

    def filter(self, node: Any) -> Evaluate:
        if node.node is None or node.dyn_args is not None or node.dyn_kwargs is not None:
            raise ExpressionError("a filter takes plain arguments only")
        value = self.compile(node.node)
        arguments = [self.compile(argument) for argument in node.args]
        named = {pair.key: self.compile(pair.value) for pair in node.kwargs}
        if node.name in ("default", "d"):
            return _default(value, arguments, named)
        function = FILTERS.get(node.name)
        if function is None:
            raise ExpressionError(f"unknown filter '{node.name}'", suggestion=suggest(node.name, FILTER_NAMES))
        try:
            inspect.signature(function).bind(None, None, *arguments, **named)
        except TypeError as error:
            raise ExpressionError(f"filter '{node.name}': {error}") from None
        if node.name == "map":
            _check_map(node)

        def evaluate(scope: Scope) -> Any:
            given = [argument(scope) for argument in arguments]
            return function(scope, value(scope), *given, **{key: argument(scope) for key, argument in named.items()})

        return evaluate


_DYNAMIC = object()


def _constant_key(step: Any) -> Any:
    if isinstance(step, str):
        return step
    if type(step).__name__ == "Const" and type(step.value) in (str, int):
        return step.value
    return _DYNAMIC


def _constant_path(base: Evaluate, root: str, keys: list[Any]) -> Evaluate:
    def evaluate(scope: Scope) -> Any:
        value = base(scope)
        for place, key in enumerate(keys):
            try:
                value = value[key] if type(value) is dict else reach(value, key, _describe(root, keys[:place]))
            except KeyError:
                reach(value, key, _describe(root, keys[:place]))
        return value

    return evaluate


def _read_name(name: str) -> Evaluate:
    def evaluate(scope: Scope) -> Any:
        try:
            return scope.context[name]
        except KeyError:
            raise MissingValueError(f"'{name}' has no value here") from None

    return evaluate


def _mapping_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ExpressionError(f"the keys of a mapping are text, not {type_name(key)}")
    return key


def _no_else(scope: Scope) -> Any:
    raise MissingValueError("the condition is false and there is no else")


def _check_map(node: Any) -> None:
    """Refuse `map('no_such_filter')` where the plan is read, not where it runs."""
    if node.args and type(node.args[0]).__name__ == "Const" and node.args[0].value not in FILTERS:
        name = str(node.args[0].value)[:80]
        raise ExpressionError(f"unknown filter '{name}'", suggestion=suggest(name, FILTERS))


def _default(value: Evaluate, arguments: list[Evaluate], named: dict[str, Evaluate]) -> Evaluate:
    names = ("default_value", "boolean")
    if len(arguments) > len(names) or not set(named) <= set(names):
        raise ExpressionError("filter 'default' takes a value and, after it, true to replace empty values too")
    given = {**dict(zip(names, arguments, strict=False)), **named}

    def evaluate(scope: Scope) -> Any:
        try:
            found = value(scope)
        except MissingValueError:
            found = None
        else:
            if found or "boolean" not in given or not given["boolean"](scope):
                return found
        return given["default_value"](scope) if "default_value" in given else ""

    return evaluate


_COMPILERS: dict[str, Callable[[_Compiler, Any], Evaluate]] = {
    "Const": _Compiler.constant,
    "List": _Compiler.sequence,
    "Tuple": _Compiler.sequence,
    "Dict": _Compiler.mapping,
    "Name": _Compiler.access,
    "Getattr": _Compiler.access,
    "Getitem": _Compiler.access,
    **dict.fromkeys(ARITHMETIC, _Compiler.arithmetic),
    "Neg": _Compiler.sign,
    "Pos": _Compiler.sign,
    "Not": _Compiler.negation,
    "And": _Compiler.conjunction,
    "Or": _Compiler.conjunction,
    "Compare": _Compiler.comparison,
    "Concat": _Compiler.concatenation,
    "CondExpr": _Compiler.choice,
    "Filter": _Compiler.filter,
}
_REFUSED = {
    "Call": "calls are not allowed in an expression; use a filter, such as `| keys`",
    "Test": "`is` is not available in an expression; compare with ==, or use `| default(...)`",
}
