r"""
An MPI job
==========

With more samples than one machine holds, or more than it can work on in the time
you have, MPI ranks share them: each rank has its own rows, and all hold the same
weights. Loss, gradient, Gauss-Newton matrix and steps are those of all samples
together. This page writes such a program, runs it on two ranks of this machine, and
compares with one process.

It needs the extra ``mpi`` (mpi4py, and MPICH from a wheel).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg

# %%
# The program
# -----------
#
# Every rank runs the same script. ``comm=`` is all that differs from a script for
# one process; ``abort_on_error`` ends all ranks when one of them fails, where the
# others would wait for ever.

SCRIPT = """
import json
import sys

from mpi4py import MPI

import fastggn as fg
from fastggn.runtime.ranks import abort_on_error

comm = MPI.COMM_WORLD
with abort_on_error(comm):
    X, Y = fg.data.friedman1(2000, seed=0)  # in a real job: only this rank's
    rows = slice(comm.rank * 2000 // comm.size, (comm.rank + 1) * 2000 // comm.size)
    problem = fg.Problem(fg.MLP((5, 12, 1)), X[rows], Y[rows], comm=comm)
    result = fg.train(problem, seed=0, max_iter=30)
    found = comm.gather((X[rows].shape[0], result.loss))
    if comm.rank == 0:
        for rank, (count, loss) in enumerate(found):
            print(f"rank {rank}: {count} rows, loss {loss:.15f}")
        losses = [record.loss for record in result.history]
        with open(sys.argv[1], "w") as file:
            json.dump(losses, file)
"""
folder = Path(tempfile.mkdtemp())
(folder / "job.py").write_text(SCRIPT)

# %%
# Run it
# ------
#
# ``mpiexec -n 2 python job.py``; under SLURM ``srun --ntasks=2 python job.py``. pip
# puts MPICH's ``mpiexec`` beside the interpreter.

mpiexec = shutil.which(
    "mpiexec", path=str(Path(sys.executable).parent)
) or shutil.which("mpiexec")
losses = None
if mpiexec is None or find_spec("mpi4py") is None:
    print("mpiexec or mpi4py is absent where this page was built.")
    print("The job was not run, and below is one process only.")
    print("Install them with the extra mpi: python -m pip install '.[mpi]'")
else:
    command = [mpiexec, "-n", "2", sys.executable, "job.py", "losses.json"]
    one_thread_a_rank = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    job = subprocess.run(
        command,
        cwd=folder,
        env=one_thread_a_rank,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if job.returncode != 0:
        raise RuntimeError(job.stderr)
    print(job.stdout)
    losses = json.loads((folder / "losses.json").read_text())

# %%
# The ranks agree to the last bit, because sums go to rank 0 and come back from
# there.
#
# One process
# -----------
#
# The same samples, start and method without MPI:

X, Y = fg.data.friedman1(2000, seed=0)
alone = fg.train(fg.Problem(fg.MLP((5, 12, 1)), X, Y), seed=0, max_iter=30)
print(f"one process: loss {alone.loss:.15f}")

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
curve = np.array([record.loss for record in alone.history])
axes.semilogy(np.arange(1, curve.size + 1), curve, "-", label="one process")
if losses is not None:
    axes.semilogy(
        np.arange(1, len(losses) + 1),
        losses,
        "s",
        label="two ranks",
        markerfacecolor="none",
    )
    gap = np.max(np.abs(np.array(losses) / curve - 1))
    print(f"largest relative difference of the losses: {gap:.0e}")
axes.set(
    xlabel="iteration",
    ylabel="loss",
    title="Friedman's problem, shared and not shared",
)
axes.legend()
plt.show()

# %%
# They differ by rounding only: two halves of a sum are added in another order.
#
# From the command line
# ---------------------
#
# A file needs no script: ``mpiexec -n 4 fastggn train data.npz --mpi``. What is
# sent, what works over ranks and what it costs are on :doc:`/hpc/mpi`; checkpoints
# and requeues on :doc:`/hpc/index`.
