"""Classical measures correct the fused features, and unheard-of ones are held back."""

import torch

from autodir.diagnosis.blend import Blend


def test_measures_far_from_all_training_photos_are_clipped() -> None:
    blend = Blend(4, 3).eval()
    torch.nn.init.normal_(blend.nets[0][-1].weight)
    hidden, far = torch.zeros(1, 4), torch.full((1, 3), 1e9)
    torch.testing.assert_close(blend(hidden, far), blend(hidden, far / 1e3))


def test_fresh_blend_is_the_identity_and_takes_its_scale_from_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 4, generator=generator) * 3 + 1
    measures = torch.randn(50, 2, generator=generator) * 100 - 7
    measures[:, 1] = 5.0  # one that never changes must not be divided by zero
    blend = Blend(4, 2).eval()
    blend.standardize(hidden, measures)
    torch.testing.assert_close(blend(hidden, measures), hidden)
    torch.nn.init.normal_(blend.nets[0][-1].weight)
    assert bool(torch.isfinite(blend(hidden, measures)).all())
    torch.testing.assert_close(blend.center, torch.cat([hidden, measures], 1).mean(0))


def test_more_networks_are_averaged_and_each_can_be_trained_alone() -> None:
    torch.manual_seed(0)
    blend = Blend(4, 3, width=8).eval()
    torch.nn.init.normal_(blend.nets[0][-1].weight)
    hidden, measures = torch.randn(5, 4), torch.randn(5, 3)
    alone = blend(hidden, measures) - hidden
    blend.enlarge(4)
    assert len(blend.nets) == 4
    torch.testing.assert_close(blend(hidden, measures) - hidden, alone / 4)
    torch.nn.init.normal_(blend.member(2).nets[0][-1].weight)
    blend.eval()
    each = torch.stack([blend.member(i).eval()(hidden, measures) for i in range(4)])
    torch.testing.assert_close(blend(hidden, measures), each.mean(0))
    torch.testing.assert_close(
        blend.widened(5).eval()(hidden, torch.cat([measures, measures[:, :2]], dim=1)),
        blend(hidden, measures),
    )
