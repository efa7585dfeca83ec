"""The layers of the package: imports go down, edges stay edges, modules stay small."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastggn"

# From the ground up; a module may import from lower layers, and from its own part of the package.
LAYERS = (
    {"buffers", "cgroups", "cores", "errors", "progress", "signals"},
    {"kernels", "parallel", "data"},
    {"activations", "losses", "initialisation"},
    {"checkpoints", "conversions", "tiling", "workspace", "network"},
    {
        "jacobian",
        "curvature",
        "fingerprint",
        "glance",
        "layer_blocks",
        "linearisation",
        "loss_terms",
        "penalty",
        "problem",
        "sample_checks",
        "samples",
    },
    {"solvers"},
    {"training", "analysis", "bayesian"},
    {"model_io", "plotting", "estimators", "interchange"},
    {"experiments", "reporting"},
    {"cli"},
    {"__main__"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
KERNEL_IMPORTS = {"numpy", "numba", "llvmlite", "scipy"} | set(sys.stdlib_module_names)
KERNEL_GROUND = ("fastggn.kernels", "fastggn.runtime.signals")
# Who may import what is heavy, optional, or for people only.
RESERVED = {
    "click": {"cli"},
    "rich": {"cli", "progress"},
    "matplotlib": {"plotting", "experiments"},
    "sklearn": {"estimators", "experiments", "interchange"},
    "torch": {"interchange"},
    "onnx": {"interchange"},
    "onnxruntime": {"interchange"},
    "h5py": {"data"},
    "zarr": {"data"},
    "mpi4py": {"parallel"},
}


# Methods that reach up to an edge, imported when they are called: the .plot() of a report, and
# MLP.from_torch and its like. Nothing else may.
REACHING_UP = {
    ("analysis", "plotting"),
    ("bayesian", "plotting"),
    ("training", "plotting"),
    ("conversions", "interchange"),
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def typing_only(tree):
    """Return the nodes under `if TYPE_CHECKING:`, which no program ever runs."""
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                hidden.update(ast.walk(child))
    return hidden


def imports(path, *, top_level=False):
    """Yield the full names that a module imports, relative ones resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = typing_only(tree)
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if node in hidden or (top_level and node in inner):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
            yield node.args[0].value  # interchange.extras.require imports it
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if is_module(full) else origin


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_go_down(path):
    name = name_of(path)
    part = part_of(name)
    if part == "":  # the public names, imported when they are used
        assert [n for n in imports(path, top_level=True) if n.startswith("fastggn")] == []
        return
    assert part in LEVEL, f"{part} stands in no layer"
    for imported in imports(path):
        if imported.split(".")[0] != "fastggn" or imported == "fastggn":  # its version
            continue
        target = part_of(imported)
        lower = LEVEL[target] < LEVEL[part]
        beside = LEVEL[target] == LEVEL[part] and not {"kernels", "data"} & {part}
        if (part, target) in REACHING_UP:
            lower = imported not in imports(path, top_level=True)
        assert lower or beside or target == part, f"{name} imports {imported}: that is upwards"


def test_no_cycles():
    graph = {
        name_of(p): {n for n in imports(p, top_level=True) if n.startswith("fastggn.")}
        for p in modules()
    }
    for name in graph:
        # A package's __init__ collects the names of its own modules.
        graph[name] = {n for n in graph[name] if n in graph and not name.startswith(n + ".")}
    done = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").rglob("*.py")), ids=name_of)
def test_kernels_stand_on_numba_alone(path):
    for imported in imports(path):
        outside = imported.split(".")[0]
        assert outside in KERNEL_IMPORTS or imported.startswith(KERNEL_GROUND), imported


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_reserved_imports(path):
    part = part_of(name_of(path))
    for imported in imports(path):
        allowed = RESERVED.get(imported.split(".")[0])
        assert allowed is None or part in allowed, f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("package", sorted({*RESERVED, "pandas"} - {"click", "rich"}))
def test_extras_are_imported_when_they_are_used(package):
    for path in modules():
        if (package, part_of(name_of(path))) == ("sklearn", "estimators"):
            continue  # subclasses of its classes: the whole part is imported when it is used
        names = {imported.split(".")[0] for imported in imports(path, top_level=True)}
        assert package not in names, name_of(path)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_estimators_are_imported_when_they_are_used(path):
    if part_of(name_of(path)) not in ("", "estimators"):
        top = imports(path, top_level=True)
        assert not any(part_of(n) == "estimators" for n in top), name_of(path)


def test_solvers_know_no_loss():
    for path in (PACKAGE / "solvers").rglob("*.py"):
        assert not any(part_of(n) == "losses" for n in imports(path)), name_of(path)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_and_functions_are_small(path):
    if part_of(name_of(path)) == "kernels":
        return
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400, f"{name_of(path)} is two modules"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                length = body[-1].end_lineno - body[0].lineno + 1
                assert length <= 50, f"{name_of(path)}.{node.name} has {length} lines"


def test_import_is_light():
    code = (
        "import sys, fastggn, fastggn.apps.cli; "
        "heavy = {'numba', 'scipy', 'matplotlib', 'jax', 'h5py', 'mpi4py', 'onnx', 'sklearn', "
        "'torch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_public_names():
    import fastggn

    for name in fastggn.__all__:
        assert getattr(fastggn, name) is not None
    assert set(dir(fastggn)) == set(fastggn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fastggn.nonsense


def decorated(path, name):
    """Return the functions of a file that carry a decorator of this name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id == name for d in node.decorator_list)
    }


def test_only_kernels_call_kernels_without_wrappers():
    """A call from Python of what `leaf` compiled would end the process."""
    kernels = sorted((PACKAGE / "kernels").glob("*.py"))
    leaves = {path.stem: decorated(path, "leaf") for path in kernels}
    assert sum(map(len, leaves.values())) > 40
    every = set().union(*leaves.values())
    for path in kernels:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        plain = [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.decorator_list]
        called = {
            call.func.id
            for function in plain
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        }
        assert not called & every, f"{path.name} calls {sorted(called & every)} from Python"
    tests = [path for folder in ("tests", "bench") for path in (ROOT / folder).glob("*.py")]
    for path in [*(m for m in modules() if m.parent.name != "kernels"), *tests]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "fastggn.kernels."
            ):
                taken = {alias.name for alias in node.names} & leaves[node.module.split(".")[2]]
                assert not taken, f"{path.name} imports {sorted(taken)}"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = getattr(node.func.value, "id", "")
                assert node.func.attr not in leaves.get(owner, set()), f"{path.name}, {owner}"


def test_each_formula_names_a_function():
    """The table at the head of the kernels: every row leads to something that can be called."""
    import fastggn.kernels

    rows = re.findall(r"^.* (\w+)\.py:(\w+)$", fastggn.kernels.__doc__, re.MULTILINE)
    assert len(rows) >= 20
    for module, function in rows:
        assert callable(getattr(importlib.import_module(f"fastggn.kernels.{module}"), function))
