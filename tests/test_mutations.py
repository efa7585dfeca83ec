"""The default tier of the tests finds faults in the kernels."""

import mutations
import pytest

pytestmark = pytest.mark.timeout(mutations.LIMIT)
# The compiler takes nine of ten minutes. One fault is planted in compiled kernels here: without the
# compiler, tiles are larger than the matrices of its test.
COMPILED_FAULT = mutations.MUTATIONS[-1]


def way(mutation, compiled):
    """Return the arguments of a test of a mutation."""
    is_slow = not compiled or mutation is COMPILED_FAULT
    name = f"{mutation.name}, {'compiled' if compiled else 'Python'}"
    marks = pytest.mark.slow if is_slow else pytest.mark.weekly
    return pytest.param(mutation, compiled, id=name, marks=marks)


@pytest.mark.slow
def test_the_faults_are_ten_of_different_kernels():
    assert len({mutation.old for mutation in mutations.MUTATIONS}) >= 10


@pytest.mark.parametrize(
    "compiled",
    [pytest.param(False, marks=pytest.mark.slow), pytest.param(True, marks=pytest.mark.weekly)],
)
def test_without_a_fault_the_tests_pass(tmp_path, compiled):
    mutations.check_sound(tmp_path, compiled)


@pytest.mark.parametrize(
    ("mutation", "compiled"),
    [
        way(mutation, compiled)
        for compiled in (False, True)
        for mutation in mutations.MUTATIONS
        if compiled or mutation is not COMPILED_FAULT
    ],
)
def test_each_fault_is_found(tmp_path, mutation, compiled):
    mutations.check_found(mutation, tmp_path, compiled)


@pytest.mark.slow
def test_a_text_that_is_not_there_once_is_an_error(tmp_path):
    mutations.copy_package(tmp_path)
    for text, found in (("this text is in no kernel", "found 0"), ("import", "found {")):
        with pytest.raises(LookupError, match=found):
            mutations.plant(mutations.Mutation("a fault", text, "", ""), tmp_path)
