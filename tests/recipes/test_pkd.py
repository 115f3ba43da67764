"""The recipe pkd: its student, stages and options."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_recipes import (
    data,
    make,
)

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(("mapping", "layers"), [("skip", ((1, 2),)), ("last", ((1, 3),))])
def test_pkd_starts_from_the_first_layers_and_matches_below_the_last(mapping, layers):
    recipe = make("pkd", data(), [f"mapping={mapping}"])
    (patient,) = (term for term in recipe.stages[0].terms if getattr(term, "layers", ()))
    assert patient.layers == layers
    for ours, theirs in zip(recipe.student.encoder.blocks, recipe.teacher.encoder.blocks, strict=False):
        np.testing.assert_array_equal(ours.query.kernel, theirs.query.kernel)
