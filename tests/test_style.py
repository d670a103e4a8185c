"""The house rules that ruff cannot check (CONTRIBUTING.md, "Style")."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sb3_tom"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_NESTING = 3

HOST_READS = {"item", "cpu", "numpy", "tolist", "nonzero"}
"""Methods of a tensor that wait for the device."""
CONVERSIONS = {"float", "bool"}
"""Builtins that do, given a tensor."""

BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
PLUG_NAMES = {"weighter", "dynamics", "objective", "termination"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's statements: without its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def nesting(node: ast.AST) -> int:
    """Depth of blocks inside of blocks; an ``elif`` is no deeper than its ``if``."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def plug_type_tests(tree: ast.AST) -> list[int]:
    """Lines that look at the kind of a plug: isinstance or type() of one, or a comparison of one with a string."""
    lines = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass", "type")
        ):
            lines += [node.lineno] if mentions_plug(node) else []
        if isinstance(node, ast.Compare) and mentions_plug(node):
            operands = [node.left, *node.comparators]
            lines += [node.lineno] if any(holds_string(operand) for operand in operands) else []
        if isinstance(node, ast.Match) and mentions_plug(node.subject):
            lines.append(node.lineno)
    return lines


def mentions_plug(node: ast.AST) -> bool:
    names = {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}
    names |= {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return bool(names & PLUG_NAMES) or any(name.endswith(("Weighter", "Dynamics", "Objective", "Ensemble")) for name in names)


def holds_string(node: ast.AST) -> bool:
    return any(isinstance(child, ast.Constant) and isinstance(child.value, str) for child in ast.walk(node))


def host_reads_in_loops(tree: ast.AST) -> list[int]:
    """Lines inside a loop or comprehension that read a tensor on the host."""
    loops = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    calls = [
        node for loop in ast.walk(tree) if isinstance(loop, loops) for node in ast.walk(loop) if isinstance(node, ast.Call)
    ]
    reads = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in HOST_READS]
    reads += [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in CONVERSIONS and call.args]
    return sorted({call.lineno for call in reads})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstrings_begin_with_a_sentence(path: Path) -> None:
    """What it is comes before its parameters."""
    documented = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    bare = [node.name for node in documented if (ast.get_docstring(node) or "").startswith((":param", ":return"))]
    assert bare == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert not text.strip() or ast.get_docstring(parse(path)), "a module without a docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short_and_flat(path: Path) -> None:
    long = {
        function.name: body_lines(function) for function in functions(parse(path)) if body_lines(function) > MAX_FUNCTION_LINES
    }
    # A constructor that hands SAC's 27 arguments on, one per line, is long without being complicated.
    long.pop("__init__", None)
    assert not long
    assert not {function.name: nesting(function) for function in functions(parse(path)) if nesting(function) > MAX_NESTING}


def test_algorithm_does_not_look_at_the_kind_of_a_plug() -> None:
    assert plug_type_tests(parse(PACKAGE / "mbpo" / "mbpo.py")) == []


@pytest.mark.parametrize(
    "path",
    [
        "policy_updates/sac/sac_update.py",
        "policy_updates/sampling.py",
        "policy_updates/steps.py",
        "policy_updates/sac/handwritten_update.py",
        "policy_updates/sac/stacked_mlp.py",
        "data/batches.py",
    ],
)
def test_a_gradient_step_reads_nothing_on_the_host(path: str) -> None:
    called_in_a_loop = functions(parse(PACKAGE / path))
    assert [node.name for node in called_in_a_loop if host_reads_in_loops(ast.For(body=[node], orelse=[]))] == []


def test_the_loop_over_gradient_steps_reads_nothing_on_the_host() -> None:
    (loop,) = [node for node in functions(parse(PACKAGE / "policy_updates" / "sac" / "update.py")) if node.name == "_fast"]
    assert host_reads_in_loops(loop) == []


@pytest.mark.parametrize(
    "code",
    [
        "if isinstance(self.weighter, Uniform): pass",
        "if type(self.dynamics) is LinearDynamics: pass",
        "if self.weighter == 'tom': pass",
        "if 'tom' in (self.weighter, 1): pass",
        "match self.objective:\n    case _: pass",
        "if isinstance(plug, TOMWeighter): pass",
    ],
)
def test_the_check_finds_kinds(code: str) -> None:
    assert plug_type_tests(ast.parse(code)) == [1]


def test_the_checks_find_host_reads_and_depth() -> None:
    code = "for a in b:\n    c = a.item()\nd = [e.cpu() for e in f]\ng = h.item()\n"
    code += "while k:\n    m = float(n)\n    if bool(o > 0): pass"
    assert host_reads_in_loops(ast.parse(code)) == [2, 3, 6, 7]
    deep = "def f():\n if a:\n  for b in c:\n   with d:\n    if e:\n     pass\n    elif g:\n     pass"
    assert nesting(ast.parse(deep).body[0]) == 4
