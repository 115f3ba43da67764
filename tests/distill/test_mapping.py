import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill import mapping
from tfdistill.errors import UserError


def test_papers_examples():
    assert mapping.uniform(4, 12) == ((1, 3), (2, 6), (3, 9), (4, 12))
    assert mapping.uniform(6, 12) == ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12))
    assert mapping.top(4, 12) == ((1, 9), (2, 10), (3, 11), (4, 12))
    assert mapping.bottom(4, 12) == ((1, 1), (2, 2), (3, 3), (4, 4))
    assert mapping.last(3, 6) == ((3, 6),)


@given(st.integers(1, 24), st.integers(0, 24))
def test_every_mapping_is_increasing_and_inside(student, more):
    teacher = student + more
    for function in (mapping.uniform, mapping.top, mapping.bottom):
        pairs = function(student, teacher)
        assert [s for s, _ in pairs] == list(range(1, student + 1))
        layers = [t for _, t in pairs]
        assert layers == sorted(set(layers)) and layers[0] >= 1 and layers[-1] <= teacher
    assert mapping.uniform(student, teacher)[-1] == (student, teacher)


def test_explicit():
    assert mapping.explicit([[1, 4], (2, 6)], 2, 6) == ((1, 4), (2, 6))
    with pytest.raises(UserError, match=r"\(3, 6\)"):
        mapping.explicit([(3, 6)], 2, 6)


def test_more_student_than_teacher_layers_is_refused():
    with pytest.raises(UserError, match="4 student layers to 3"):
        mapping.uniform(4, 3)


def test_patient_mappings_of_the_paper():
    assert [t for _, t in mapping.patient_skip(6, 12)] == [2, 4, 6, 8, 10]
    assert [t for _, t in mapping.patient_last(6, 12)] == [7, 8, 9, 10, 11]
    assert [t for _, t in mapping.patient_skip(3, 12)] == [4, 8]
    assert [t for _, t in mapping.patient_last(3, 12)] == [10, 11]
    with pytest.raises(UserError, match="at least 2"):
        mapping.patient_skip(1, 12)


def test_distilbert_starts_from_every_second_layer():
    assert mapping.alternate(6, 12) == (1, 3, 5, 8, 10, 12)
    assert mapping.alternate(1, 12) == (12,) and mapping.alternate(12, 12) == tuple(range(1, 13))
    assert mapping.alternate(2, 6) == (1, 6)
