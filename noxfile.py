"""The tasks of the project, in the environment that runs nox: ``python -m nox -l`` lists them."""

import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]


def python(session, *arguments, **variables):
    """Run a module with the interpreter that runs nox."""
    session.run(sys.executable, "-m", *arguments, env=variables or None)


@nox.session
def lint(session):
    """Check style and format."""
    python(session, "ruff", "check", ".")
    python(session, "ruff", "format", "--check", ".")


@nox.session
def types(session):
    """Check the types on every platform, on this one last: a test goes on from its cache."""
    for platform in sorted(("linux", "win32", "darwin"), key=sys.platform.__eq__):
        python(session, "mypy", "--platform", platform)


@nox.session
def tests(session):
    """Run the default tier; further arguments go to pytest."""
    python(session, "pytest", *session.posargs)


@nox.session
def others(session):
    """Run the tiers process and slow."""
    python(session, "pytest", "-n", "2", "-m", "process or slow", *session.posargs)


@nox.session
def weekly(session):
    """Run the tests that take hours."""
    python(session, "pytest", "-n", "0", "-m", "weekly", *session.posargs)


@nox.session
def nojit(session):
    """Run small kernel tests with the kernels as plain Python."""
    python(session, "pytest", "-q", "-n", "0", "-m", "nojit", NUMBA_DISABLE_JIT="1")


@nox.session
def coverage(session):
    """Measure which lines the default tier runs, and which of the kernels as plain Python."""
    python(session, "coverage", "erase")
    python(session, "coverage", "run", "-m", "pytest", *session.posargs)
    plain = ("-q", "-n", "0", "-m", "nojit")
    python(session, "coverage", "run", "-m", "pytest", *plain, NUMBA_DISABLE_JIT="1")
    python(session, "coverage", "combine", "--quiet")
    python(session, "coverage", "report", "--skip-covered", "--omit=fastggn/kernels/*")
    python(session, "coverage", "report", "--skip-covered", "--include=fastggn/kernels/*")


@nox.session
def docs(session):
    """Build the pages into the folder given, docs/_build by default; a warning is an error."""
    target = session.posargs[0] if session.posargs else "docs/_build"
    python(session, "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", target)


@nox.session
def bench(session):
    """Run the benchmark; further arguments go to it."""
    python(session, "bench", *session.posargs)
