"""The default tier of the tests finds faults in the kernels."""

import mutations
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(mutations.LIMIT)]


def test_the_faults_are_ten_of_different_kernels():
    assert len({mutation.old for mutation in mutations.MUTATIONS}) >= 10


def test_without_a_fault_the_tests_pass(tmp_path):
    mutations.check_sound(tmp_path)


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_fault_is_found(mutation, tmp_path):
    mutations.check_found(mutation, tmp_path)


def test_a_text_that_is_not_there_once_is_an_error(tmp_path):
    mutations.copy_package(tmp_path)
    for text, found in (("this text is in no kernel", "found 0"), ("import", "found {")):
        with pytest.raises(LookupError, match=found):
            mutations.plant(mutations.Mutation("a fault", text, "", ""), tmp_path)
