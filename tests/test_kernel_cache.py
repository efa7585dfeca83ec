"""Compiled kernels on the disk: races, damage, read-only installs, edits, and the warm-up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

import fastggn as fg
from fastggn.kernels import cache
from fastggn.kernels.jit import DISABLED

pytestmark = [
    pytest.mark.xdist_group("kernel cache"),
    pytest.mark.skipif(DISABLED, reason="the compiler is off (NUMBA_DISABLE_JIT=1)"),
]

ROOT = Path(__file__).resolve().parent.parent

# One small kernel with threads.
KERNEL = """
import json, sys, warnings
import numpy as np
from numba.core import event
with warnings.catch_warnings(record=True) as caught, \\
        event.install_recorder("numba:compile") as recorder:
    warnings.simplefilter("always")
    from fastggn.kernels.ggn_expand import mirror
    a = np.arange(9.0).reshape(3, 3)
    mirror(a, True)
print(json.dumps({
    "right": bool((a == a.T).all() and a[2, 0] == 6.0),
    "compiled": sum(e.is_start for _, e in recorder.buffer),
    "warnings": [str(w.message) for w in caught if "Cache" in w.category.__name__],
}))
"""

# All kernels of the cache's folders that belong to these sources.
LOAD = """
import pkgutil, sys
from importlib import import_module
from numba.core.registry import cpu_target
import fastggn.kernels
from fastggn.kernels import cache, compiler
for found in pkgutil.iter_modules(fastggn.kernels.__path__):
    import_module(f"fastggn.kernels.{found.name}")  # they name symbols
loaded = 0
for file in (file for folder in cache.folders()[0] for file in folder.glob("*.fgk")):
    payload = cache._unseal(file.read_bytes())
    if payload is not None:
        compiler.from_bytes(cpu_target.target_context, payload)
        loaded += 1
assert "numba.typed.typeddict" not in sys.modules
print(loaded)
"""

# Children of one process that has loaded the compiler: each starts on the same empty folder,
# and asks for several signatures in an order of its own.
RACE = """
import os, random, sys, traceback
import numba
import numpy as np
from fastggn.kernels.activations import _fill

def child(number, folder):
    numba.config.CACHE_DIR = folder
    order = [np.float64, np.float32]
    random.Random(number).shuffle(order)
    for dtype in order:
        a = np.zeros((3, 4), dtype)
        _fill(dtype(7), a)
        assert a.dtype == dtype and (a == 7).all(), a

def main(processes, rounds, root):
    numba.njit(lambda a: a[0, 0])(np.zeros((1, 1)))  # loads what every compilation needs
    for turn in range(rounds):
        folder = os.path.join(root, str(turn))
        pids = []
        for number in range(processes):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child(100 * turn + number, folder)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            pids.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert codes == [0] * processes, codes
        (place,) = os.listdir(folder)
        names = os.listdir(os.path.join(folder, place))
        assert len(names) == 2 and not any(n.endswith(".tmp") for n in names), names
    print("rounds", rounds)

main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
"""


def run(script, *arguments, root=ROOT, prefix=(), **variables):
    """Run a script on the package at `root`; a variable of None is taken away."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.update({k: v for k, v in variables.items() if v is not None})
    for name in [k for k, v in variables.items() if v is None]:
        environment.pop(name, None)
    done = subprocess.run(
        [*prefix, sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def kernel(**options):
    return json.loads(run(KERNEL, **options))


def files(folder):
    return sorted(Path(folder).rglob("*.fgk"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder that one process has filled."""
    folder = tmp_path_factory.mktemp("compiled")
    first = kernel(NUMBA_CACHE_DIR=str(folder))
    assert first["right"] and first["compiled"] > 0 and not first["warnings"]
    return folder


@pytest.mark.process
def test_the_second_process_compiles_nothing(compiled):
    assert kernel(NUMBA_CACHE_DIR=str(compiled)) == {"right": True, "compiled": 0, "warnings": []}


@pytest.mark.process
def test_code_is_loaded_without_the_declarations_of_the_compiler():
    """An absent symbol would end the process. The folder holds what other tests compiled, too."""
    X, Y = fg.data.four_regions(40, seed=0)
    fg.train(fg.Problem(fg.MLP((2, 3, 1)), X, Y), seed=0, max_iter=1)
    assert int(run(LOAD)) >= 5


DAMAGES = {
    "flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda content: os.urandom(500),
    "foreign pickle": lambda content: b"cos\nsystem\n(S'echo executed >&2'\ntR.",
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_found_before_anything_is_unpacked(damage):
    content = cache._seal(bytes(1000))
    assert cache._unseal(content) == bytes(1000)
    with pytest.raises(cache.Damaged):
        cache._unseal(DAMAGES[damage](content))


@pytest.mark.process
@pytest.mark.parametrize("damage", ["flipped", "foreign pickle"])
def test_a_damaged_file_is_compiled_again_with_one_warning(tmp_path, compiled, damage):
    shutil.copytree(compiled, tmp_path, dirs_exist_ok=True)
    assert files(tmp_path)
    for path in files(tmp_path):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    again = kernel(NUMBA_CACHE_DIR=str(tmp_path))
    assert again["right"] and again["compiled"] > 0
    (message,) = again["warnings"]
    assert "damaged" in message and "compiled again" in message
    assert kernel(NUMBA_CACHE_DIR=str(tmp_path)) == {"right": True, "compiled": 0, "warnings": []}


def test_a_file_of_another_format_is_out_of_date_and_not_damaged():
    assert cache._unseal(cache.KIND + b"1\n" + bytes(200)) is None
    with pytest.raises(cache.Damaged):
        cache._unseal(cache.MAGIC + bytes(200))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package, without any compiled kernel."""
    root = tmp_path_factory.mktemp("install")
    shutil.copytree(
        ROOT / "fastggn", root / "fastggn", ignore=shutil.ignore_patterns("__pycache__")
    )
    return root


@pytest.mark.process
def test_an_edit_in_one_file_makes_the_kernels_of_others_stale(tmp_path, copy):
    kernel(root=copy, NUMBA_CACHE_DIR=str(tmp_path))
    before = files(tmp_path)
    with (copy / "fastggn/kernels/elementary.py").open("a") as stream:
        stream.write("\nEDITED = True\n")
    after = kernel(root=copy, NUMBA_CACHE_DIR=str(tmp_path))
    assert after["right"] and after["compiled"] > 0 and not after["warnings"]
    assert files(tmp_path) == before  # overwritten: old versions do not pile up


@pytest.fixture
def restricted():
    """A command prefix under which the permissions of files bind root as well."""
    if os.getuid() != 0:
        return []
    held = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={held}", f"--inh-caps={held}"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode != 0:
        pytest.skip("root may write everywhere, and setpriv cannot take that right away")
    return prefix


def freeze(folder):
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def read_only(tmp_path, copy):
    """A copy of the package that cannot be written, and an empty folder for temporary files."""
    root = tmp_path / "install"
    shutil.copytree(copy, root)
    freeze(root)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    yield root, temporary
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755)


@pytest.mark.process
def test_a_read_only_install_without_a_home_keeps_its_kernels_in_a_private_folder(
    read_only, restricted
):
    root, temporary = read_only
    homeless = {
        "root": root,
        "prefix": restricted,
        "NUMBA_CACHE_DIR": None,
        "HOME": None,
        "XDG_CACHE_HOME": str(root),  # not writable either
        "TMPDIR": str(temporary),
    }
    first = kernel(**homeless)
    assert first["right"] and first["compiled"] > 0 and not first["warnings"]
    private = temporary / f"fastggn-{os.getuid()}"
    assert private.stat().st_mode & 0o077 == 0 and files(private)
    assert kernel(**homeless)["compiled"] == 0
    # Code is never loaded from a folder that others could have written to.
    private.chmod(0o777)
    suspicious = kernel(**homeless)
    assert suspicious["compiled"] > 0 and "others can write" in suspicious["warnings"][0]


@pytest.mark.process
def test_a_cache_folder_that_cannot_be_written_costs_one_warning(tmp_path, restricted):
    folder = tmp_path / "frozen"
    folder.mkdir()
    freeze(folder)
    once = kernel(prefix=restricted, NUMBA_CACHE_DIR=str(folder))
    assert once["right"] and once["compiled"] > 0
    (message,) = once["warnings"]
    assert str(folder) in message and "NUMBA_CACHE_DIR" in message
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert len(kernel(NUMBA_CACHE_DIR=str(file))["warnings"]) == 1


@pytest.mark.parametrize("variable", ["SLURM_JOB_ID", "PMI_RANK", "OMPI_COMM_WORLD_RANK"])
def test_the_variables_of_a_job(monkeypatch, variable):
    monkeypatch.setattr(cache.numba.config, "CACHE_DIR", "")
    beside, *_, local = cache.folders({})[1]
    assert cache.folders({variable: "7"}) == ([local, *cache.folders({})[0][:-1]], [local])
    assert beside == cache.HERE / "__pycache__" and local.parent.name == cache.PRIVATE


@pytest.mark.process
def test_a_job_writes_to_a_folder_of_the_node(tmp_path, copy):
    job = {"root": copy, "NUMBA_CACHE_DIR": None, "TMPDIR": str(tmp_path), "PMI_RANK": "7"}
    job["XDG_CACHE_HOME"] = str(tmp_path / "shared")
    assert kernel(**job)["right"]
    assert files(tmp_path / f"fastggn-{os.getuid()}")
    assert not files(copy) and not (tmp_path / "shared").exists()
    assert kernel(**job)["compiled"] == 0


@pytest.mark.process
def test_a_job_reads_what_was_compiled_before_it(tmp_path, copy):
    root = tmp_path / "install"
    shutil.copytree(copy, root)
    assert kernel(root=root, NUMBA_CACHE_DIR=None, SLURM_JOB_ID=None)["compiled"] > 0
    assert files(root / "fastggn/kernels/__pycache__")
    job = {"root": root, "NUMBA_CACHE_DIR": None, "TMPDIR": str(tmp_path), "SLURM_JOB_ID": "7"}
    assert kernel(**job)["compiled"] == 0


@pytest.mark.process
def test_processes_that_start_together_on_an_empty_folder(tmp_path):
    assert run(RACE, 8, 3, tmp_path, NUMBA_CACHE_DIR=None) == "rounds 3"


@pytest.mark.timeout(4 * HANGS)
@pytest.mark.parametrize(
    "parts",
    [pytest.param("a", marks=pytest.mark.slow), pytest.param("abcd", marks=pytest.mark.weekly)],
)
def test_sixteen_processes_again_and_again(tmp_path, parts):
    for part in parts:
        assert run(RACE, 16, 5, tmp_path / part, NUMBA_CACHE_DIR=None) == "rounds 5"


@pytest.mark.process
def test_a_threading_layer_that_is_absent_is_replaced():
    script = """
import json, warnings
import fastggn as fg
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with fg.threads(1):
        pass
from fastggn.runtime.threads import threading_layer
print(json.dumps([threading_layer(), [str(w.message) for w in caught]]))
"""
    have_tbb = subprocess.run(
        [sys.executable, "-c", "from numba.np.ufunc import tbbpool"], capture_output=True
    )
    if have_tbb.returncode == 0 or Path(sys.prefix, "lib", "libtbb.so.12").exists():
        pytest.skip("the layer tbb is here")
    layer, messages = json.loads(run(script, NUMBA_THREADING_LAYER="tbb"))
    assert layer in ("omp", "workqueue")
    assert len(messages) == 1 and "'tbb'" in messages[0] and layer in messages[0]


WARM = """
import importlib, json, pkgutil
import fastggn as fg
from fastggn import kernels

def ready():
    # Those from the disk count too: what is there does not depend on who ran before.
    modules = [importlib.import_module(m.name)
               for m in pkgutil.iter_modules(kernels.__path__, "fastggn.kernels.")]
    return {f"{m.__name__}.{name} {s}" for m in modules for name, found in vars(m).items()
            for s in getattr(found, "signatures", ())}

report = fg.warmup()
before = ready()
X, Y = fg.data.four_regions(300, seed=0)
problem = fg.Problem(fg.MLP((2, 20, 20, 1), "sigmoid"), X, Y)
fg.train(problem, seed=0, max_iter=3)
mixed = fg.LevenbergMarquardt(precision="mixed", solver="cholesky")
fg.train(problem, seed=0, max_iter=3, method=mixed)
fg.train(problem, seed=0, max_iter=3, method="newton")
fg.train(fg.Problem(fg.MLP((2, 5, 1)), X, Y > 1.5, "logistic"), seed=0, max_iter=3)
X, Y = fg.data.four_regions(300, seed=0, one_hot=True)
fg.train(fg.Problem(fg.MLP((2, 30, 4)), X, Y, "softmax_cross_entropy"), seed=0, max_iter=3)
print(json.dumps([report.to_dict(), sorted(ready() - before), str(report)]))
"""


@pytest.mark.process
def test_after_the_warm_up_nothing_is_compiled():
    report, compiled, text = json.loads(run(WARM))
    assert compiled == []
    assert report["seconds"] > 0 and report["threading_layer"] in ("omp", "tbb", "workqueue")
    assert "kernels ready in" in text


def test_the_command_warms_up(monkeypatch):
    from click.testing import CliRunner

    from fastggn.apps.cli import main

    outcome = CliRunner().invoke(main, ["warmup"])
    assert outcome.exit_code == 0 and "kernels ready in" in outcome.output


SWITCH = """
import json
import numpy as np
from fastggn.kernels import activations, jit
from fastggn.kernels.compiler import Part

@jit.pnjit
def kernel(a, bad):
    for i in jit.numba.prange(a.shape[0]):
        if i == bad:
            raise ValueError("refused")
        activations._square(a[i], a[i], a[i])

a = np.ones((4, 2, 3))
kernel(a, -1)
once = float(a[0, 0, 0])
try:
    kernel(a, 2)
    said = "nothing"
except ValueError as error:
    said = str(error)
parts = [r.library for r in activations._square.overloads.values()]
print(json.dumps([said, once, len(parts), all(type(p) is Part for p in parts)]))
"""


@pytest.mark.process
def test_parts_have_no_machine_code_and_errors_leave_parallel_loops(tmp_path):
    for parts in (1, 0):  # compiled, then from the disk, where the kernel is whole
        found = json.loads(run(SWITCH, NUMBA_CACHE_DIR=str(tmp_path)))
        assert found == ["refused", 2.0, parts, True]


WITHOUT = """
import json, sys, warnings
import numpy as np
import numba
from numba.core import codegen, compiler, typed_passes
exec(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from fastggn.kernels import activations, ggn_expand, jit

@jit.pnjit
def kernel(a):
    for i in numba.prange(a.shape[0]):
        activations._square(a[i], a[i], a[i])

a = np.ones((4, 2, 3))
kernel(a)
b = np.arange(9.0).reshape(3, 3)
ggn_expand.mirror(b, True)
right = bool((a == 2.0).all() and (b == b.T).all())
print(json.dumps([right, [(w.category.__name__, str(w.message)) for w in caught]]))
"""


@pytest.mark.parametrize(
    ("gone", "name"),
    [
        ("del codegen.JITCodeLibrary", "JITCodeLibrary"),
        ("del typed_passes.NativeParforLowering", "NativeParforLowering"),
        ("del compiler.CompileResult._reduce", "_reduce"),
    ],
)
@pytest.mark.process
def test_a_numba_whose_private_parts_moved(gone, name, tmp_path):
    """One warning that names the part, and right results of kernels that Numba compiles alone."""
    right, said = json.loads(run(WITHOUT, gone, NUMBA_CACHE_DIR=str(tmp_path)))
    assert right
    ((category, message),) = said
    assert category == "KernelCacheWarning" and name in message
    assert not any(tmp_path.iterdir())


def test_the_first_compilation_is_announced_once(tmp_path, monkeypatch):
    from fastggn.kernels import cache
    from fastggn.runtime.notices import listen

    heard = []
    listen(heard.append)
    try:
        monkeypatch.setattr(cache, "folders", lambda: ([tmp_path], [tmp_path]))
        for first in (True, False):
            monkeypatch.setitem(cache._state, "first", first)
            cache._announce()
        assert heard == ["compiling the kernels, once; later runs start at once"]
        (tmp_path / "kernel.fgk").write_bytes(cache._seal(b"code"))
        monkeypatch.setitem(cache._state, "first", True)
        cache._announce()
        assert len(heard) == 1
        (tmp_path / "kernel.fgk").write_bytes(
            cache._seal(b"code").replace(cache._stamp(), b"0" * 64)
        )
        monkeypatch.setitem(cache._state, "first", True)
        cache._announce()
        assert len(heard) == 2  # kernels of other sources do not count
    finally:
        listen(None)
