"""The default tier of the tests finds faults in the kernels."""

import mutations
import pytest

pytestmark = pytest.mark.timeout(mutations.LIMIT)
# The compiler takes nine of the ten minutes: one fault is planted in compiled kernels here.
ways = pytest.mark.parametrize(
    "compiled",
    [
        pytest.param(False, id="Python", marks=pytest.mark.slow),
        pytest.param(True, id="compiled", marks=pytest.mark.weekly),
    ],
)


@pytest.mark.slow
def test_the_faults_are_ten_of_different_kernels():
    assert len({mutation.old for mutation in mutations.MUTATIONS}) >= 10


@ways
def test_without_a_fault_the_tests_pass(tmp_path, compiled):
    mutations.check_sound(tmp_path, compiled)


@ways
@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_fault_is_found(mutation, tmp_path, compiled):
    mutations.check_found(mutation, tmp_path, compiled)


@pytest.mark.slow
def test_a_fault_in_compiled_kernels_is_found(tmp_path):
    mutations.check_found(mutations.MUTATIONS[-1], tmp_path)


@pytest.mark.slow
def test_a_text_that_is_not_there_once_is_an_error(tmp_path):
    mutations.copy_package(tmp_path)
    for text, found in (("this text is in no kernel", "found 0"), ("import", "found {")):
        with pytest.raises(LookupError, match=found):
            mutations.plant(mutations.Mutation("a fault", text, "", ""), tmp_path)
