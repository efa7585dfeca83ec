"""The layers of the package: imports go down, edges stay edges, modules stay small."""

import ast
import functools
import importlib
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import HANGS
from posix_names import MODULES, OS_NAMES, SIGNALS

from fastggn import FastGGNWarning

pytestmark = pytest.mark.xdist_group("architecture")  # one parse
ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastggn"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# From the ground up: a room imports only rooms named before it, and itself.
ROOMS = (
    "runtime",
    "figures",
    "kernels",
    "data",
    "network",
    "objective",
    "solvers",
    "training",
    "analysis",
    "model",
    "apps",
    "__main__",
)
LEVEL = {room: level for level, room in enumerate(ROOMS)}
MOST_LINES = 56_000  # the house, tables, models, commands, labels, equations as residuals
KERNEL_IMPORTS = {"numpy", "numba", "llvmlite", "scipy"} | set(sys.stdlib_module_names)
KERNEL_GROUND = ("fastggn.kernels", "fastggn.runtime")
# The rooms that may import a package that is heavy, optional, or for people only.
RESERVED = {
    "click": {"apps"},
    "rich": {"apps", "training"},
    "matplotlib": {"figures"},
    "sklearn": {"apps", "model"},
    "torch": {"model"},
    "onnx": {"model"},
    "onnxruntime": {"model"},
    "h5py": {"data"},
    "openpyxl": {"data"},
    "pyarrow": {"data"},
    "zarr": {"data"},
    "mpi4py": {"runtime"},
}
ESTIMATORS = "fastggn.apps.sklearn"


@dataclass(frozen=True)
class Module:
    """A file of the package, parsed once.

    `imports` holds all imports, those in functions and those for types included; `top` holds the
    imports that a program runs when it imports the module.
    """

    name: str
    room: str
    source: str
    nodes: tuple
    imports: tuple
    top: tuple


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def typing_only(nodes):
    """Return the nodes under `if TYPE_CHECKING:`, which no program ever runs."""
    return {
        inner
        for node in nodes
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in node.body
        for inner in ast.walk(child)
    }


def inside_functions(nodes):
    functions = [n for n in nodes if isinstance(n, FUNCTIONS)]
    return {inner for function in functions for inner in ast.walk(function)}


def imported(nodes, package):
    """Yield the full names that a module imports, relative ones resolved."""
    for node in nodes:
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


@functools.cache
def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def parse(path):
    source, name = path.read_text(encoding="utf-8"), name_of(path)
    nodes = tuple(ast.walk(ast.parse(source)))
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    skipped = typing_only(nodes) | inside_functions(nodes)
    top = [node for node in nodes if node not in skipped]
    found = (tuple(imported(part, package)) for part in (nodes, top))
    return Module(name, room_of(name), source, nodes, *found)


@functools.cache
def modules():
    return [parse(path) for path in sorted(PACKAGE.rglob("*.py"))]


def test_the_root_holds_the_rooms():
    rooms = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert rooms == set(ROOMS) - {"__main__"}
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}


def test_imports_go_down():
    wrong = []
    for module in modules():
        inside = {n for n in module.imports if n.split(".")[0] == "fastggn"}
        if module.room == "":  # the public names are imported when they are used
            wrong += [f"{module.name} imports {n}" for n in inside if room_of(n) != "runtime"]
            continue
        for name in inside:
            there = LEVEL.get(room_of(name), len(ROOMS))  # the root stands above all
            if there > LEVEL[module.room]:
                wrong.append(f"{module.name} imports {name}")
    assert wrong == []


def test_no_cycles():
    graph = {m.name: {n for n in m.imports if n.startswith("fastggn.")} for m in modules()}
    for name in graph:
        # A package's __init__ collects the names of its own modules.
        graph[name] = {n for n in graph[name] if n in graph and not name.startswith(n + ".")}
    done = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])


def test_kernels_stand_on_numba_alone():
    wrong = [
        f"{module.name} imports {n}"
        for module in modules()
        if module.room == "kernels"
        for n in module.imports
        if n.split(".")[0] not in KERNEL_IMPORTS and not n.startswith(KERNEL_GROUND)
    ]
    assert wrong == []


def test_reserved_imports():
    wrong = [
        f"{module.name} imports {n}"
        for module in modules()
        for n in module.imports
        if module.room not in RESERVED.get(n.split(".")[0], {module.room})
    ]
    assert wrong == []


def test_one_module_knows_the_platforms():
    seam = "fastggn.runtime.platform"
    there = {f"os.{n}" for n in [*OS_NAMES, "name"]} | {f"signal.{n}" for n in SIGNALS}
    there.add("sys.platform")
    found = {}
    for module in modules():
        used = {ast.unparse(n) for n in module.nodes if isinstance(n, ast.Attribute)}
        lines = [n for n in module.nodes if isinstance(n, ast.ImportFrom)]
        used |= {f"{line.module}.{alias.name}" for line in lines for alias in line.names}
        found[module.name] = there & used
    assert found.pop(seam) == {"sys.platform"}  # names of POSIX by getattr, for the type checker
    assert {name: names for name, names in found.items() if names} == {}
    posix = {*MODULES, "msvcrt", "winreg"}
    assert [m.name for m in modules() if posix & {n.split(".")[0] for n in m.imports}] == []


def test_extras_are_imported_when_they_are_used():
    extras = {*RESERVED, "pandas"} - {"click", "rich"}
    wrong = [
        f"{module.name} imports {package}"
        for module in modules()
        for package in extras & {n.split(".")[0] for n in module.top}
        # Estimators subclass its classes: the whole folder is imported when it is used.
        if package != "sklearn" or not module.name.startswith(ESTIMATORS)
    ]
    assert wrong == []


def test_estimators_are_imported_when_they_are_used():
    others = [module for module in modules() if not module.name.startswith(ESTIMATORS)]
    assert [m.name for m in others if any(n.startswith(ESTIMATORS) for n in m.top)] == []


def test_warnings_share_one_base():
    classes = [n for m in modules() for n in m.nodes if isinstance(n, ast.ClassDef)]
    bases = {node.name: ast.unparse(node.bases[0]) for node in classes if node.bases}
    ours = {name: base for name, base in bases.items() if name.endswith("Warning")}
    assert len(ours) > 6 and ours.pop("FastGGNWarning") == "UserWarning"
    assert set(ours.values()) == {"FastGGNWarning"}


@pytest.mark.parametrize(
    "tier",
    [
        "default",
        pytest.param("process", marks=pytest.mark.process),
        pytest.param("slow", marks=pytest.mark.slow),
        pytest.param("weekly", marks=pytest.mark.weekly),
    ],
)
def test_warnings_are_errors_in_each_tier(tier):
    with pytest.raises(FastGGNWarning):
        warnings.warn(tier, FastGGNWarning, stacklevel=1)


def test_the_package_stays_small():
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in files) <= MOST_LINES


def test_modules_are_small():
    assert [m.name for m in modules() if m.source.count("\n") > 400] == []


def test_functions_are_small():
    wrong = []
    for module in modules():
        functions = [n for n in module.nodes if isinstance(n, FUNCTIONS)]
        for node in functions if module.room != "kernels" else ():
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if length > 50:
                wrong.append(f"{module.name}.{node.name} has {length} lines")
    assert wrong == []


@pytest.mark.process
def test_import_is_light():
    code = (
        "import sys, fastggn, fastggn.apps.cli; "
        "heavy = {'numba', 'scipy', 'matplotlib', 'jax', 'h5py', 'mpi4py', 'onnx', 'sklearn', "
        "'torch'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=HANGS)


@pytest.mark.process
def test_a_training_imports_only_what_it_uses():
    """And so do the public names, but for the two classes of scikit-learn."""
    code = """
import sys
import numba, scipy.linalg, scipy.sparse.linalg
before = set(sys.modules)
import fastggn as fg
for name in set(fg.__all__) - {"GGNClassifier", "GGNRegressor"}:
    getattr(fg, name)
X, Y = fg.data.four_regions(40, seed=0)
fg.train(fg.Problem(fg.MLP((2, 3, 1)), X, Y), seed=0, max_iter=1)
heavy = {"h5py", "jinja2", "matplotlib", "mpi4py", "onnx", "pandas", "pyarrow", "rich", "sklearn",
         "scipy.fft", "scipy.io", "scipy.optimize", "scipy.spatial", "scipy.special", "torch"}
assert not heavy & (set(sys.modules) - before), heavy & (set(sys.modules) - before)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=HANGS)


def test_public_names():
    import fastggn

    for name in fastggn.__all__:
        assert getattr(fastggn, name) is not None
    assert set(dir(fastggn)) == set(fastggn.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = fastggn.nonsense


def decorated(nodes, decorator):
    """Return the functions that carry a decorator of this name."""
    return {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id == decorator for d in node.decorator_list)
    }


def called_from_python(nodes):
    """Return the functions that a kernel file's undecorated functions call by their names."""
    body = nodes[0].body
    functions = [n for n in body if isinstance(n, ast.FunctionDef) and not n.decorator_list]
    calls = [c for f in functions for c in ast.walk(f) if isinstance(c, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


def taken(nodes, leaves):
    """Yield the names of `leaves` that a file imports, or calls on their module."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastggn.kernels."):
            there = leaves.get(node.module.split(".")[2], set())
            yield from {alias.name for alias in node.names} & there
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", "")
            if node.func.attr in leaves.get(owner, set()):
                yield f"{owner}.{node.func.attr}"


@functools.cache
def beside():
    """Parse the tests and the benchmark."""
    paths = [path for folder in ("tests", "bench") for path in (ROOT / folder).glob("*.py")]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def test_only_kernels_call_kernels_without_wrappers():
    """A call from Python of what `leaf` compiled would end the process."""
    kernels = [module for module in modules() if module.room == "kernels"]
    leaves = {m.name.rpartition(".")[2]: decorated(m.nodes, "leaf") for m in kernels}
    assert sum(map(len, leaves.values())) > 40
    every = set().union(*leaves.values())
    wrong = [(m.name, name) for m in kernels for name in called_from_python(m.nodes) & every]
    files = {module.name: module.nodes for module in modules() if module.room != "kernels"}
    files |= {path.name: tuple(ast.walk(tree)) for path, tree in beside().items()}
    wrong += [(name, leaf) for name, nodes in files.items() for leaf in taken(nodes, leaves)]
    assert wrong == []


def test_each_formula_names_a_function():
    """The table at the head of the kernels names every file, and what can be called there."""
    import fastggn.kernels

    rows = re.findall(r"^.* (\w+)\.py:(\w+)$", fastggn.kernels.__doc__, re.MULTILINE)
    assert len(rows) >= 20
    for module, function in rows:
        assert callable(getattr(importlib.import_module(f"fastggn.kernels.{module}"), function))
    named = {module for module, _ in rows} | set(re.findall(r"`(\w+)`", fastggn.kernels.__doc__))
    assert {path.stem for path in (PACKAGE / "kernels").glob("*.py")} - {"__init__"} <= named


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_paths_on_a_page_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = {p for p in re.findall(r"`([\w.]+/[\w./]*)[:`]", text) if not p.startswith(".venv")}
    rooms = [ROOT, PACKAGE, *(PACKAGE / room for room in ROOMS)]
    assert len(paths) > 25
    assert [p for p in paths if not any((room / p).exists() for room in rooms)] == []


def drawn_by_functions(tree):
    """Return the generators of a module from which its functions draw."""
    given = [n for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call)]
    made = [n for n in given if ast.unparse(n.value.func).endswith(("default_rng", "Random"))]
    names = {target.id for node in made for target in node.targets}
    functions = [n for n in ast.walk(tree) if isinstance(n, (*FUNCTIONS, ast.Lambda))]
    bodies = [n for f in functions for n in (f.body if isinstance(f.body, list) else [f.body])]
    return names & {n.id for b in bodies for n in ast.walk(b) if isinstance(n, ast.Name)}


def test_each_test_has_its_own_generator():
    """The draws from a generator of the module depend on the tests that ran before."""
    assert drawn_by_functions(ast.parse("r = default_rng(0)\ndef f():\n    r.random()")) == {"r"}
    wrong = {path.name: drawn_by_functions(tree) for path, tree in beside().items()}
    assert {name: found for name, found in wrong.items() if found} == {}
