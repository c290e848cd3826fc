"""What a recorded step makes of a batch: room for more points, which no loss term looks at."""

import pytest
from torch.testing import assert_close
from variants import batch_of, build, scenes_for

from renderpretrain.training.recorded import padded


@pytest.mark.parametrize(
    "variant", ["unipad-camera", "unipad-camera resnet", "ns-mae camera", "uniscene lss"]
)
def test_a_padded_batch_has_the_same_terms(variant):
    recipe, batch = build(variant).eval(), batch_of(scenes_for(variant))
    # Sums over more zeros are grouped otherwise.
    assert_close(recipe(padded(batch)), recipe(batch), rtol=1e-5, atol=1e-6)
