"""The recipe: order, shares, labels, and targets that lack one degradation and keep the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodir.errors import ContractError, PromptError
from autodir.synthesis.operators import OPERATORS
from autodir.synthesis.recipe import (
    PHYSICAL_ORDER,
    Batch,
    apply,
    choose_main,
    compose,
    draw_batch,
    draw_degraded,
    without,
)

KEYS = tuple(OPERATORS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many() -> Batch:
    return draw_batch(torch.rand(600, 3, 8, 8, generator=seeded()), seeded(1))


def test_physical_order_names_every_operator_once() -> None:
    assert sorted(PHYSICAL_ORDER) == sorted(KEYS)


def test_stages_keep_every_intermediate(photos: Tensor) -> None:
    severities = torch.full((len(photos), 3), 0.5)
    stages = compose(photos, ["haze", "noise", "compression"], severities, seeded())
    assert [stage.key for stage in stages] == ["haze", "noise", "compression"]
    before = photos
    for stage in stages:
        after, parameters = apply(stage.key, before, stage.severity, seeded(stage.seed))
        assert torch.equal(after, stage.image)
        assert parameters == stage.parameters
        before = after


def test_leaving_out_the_last_gives_the_stage_before(photos: Tensor) -> None:
    stages = compose(photos, ["rain", "blur", "noise"], torch.full((len(photos), 3), 0.5), seeded())
    assert torch.equal(without(photos, stages, "noise"), stages[1].image)


def test_leaving_out_an_earlier_one_keeps_the_draws_of_the_later(photos: Tensor) -> None:
    gray = photos * 0.3 + 0.3
    clean = gray[:1]
    stages = compose(clean, ["haze", "noise"], torch.tensor([[0.8, 0.1]]), seeded(5))
    target = without(clean, stages, "haze")
    expected, _ = apply("noise", clean, stages[1].severity, seeded(stages[1].seed))
    assert torch.equal(target, expected)
    assert not torch.equal(target, clean)


def test_nothing_left_out_repeats_the_whole_chain(photos: Tensor) -> None:
    keys = ["rain", "raindrop", "underexposure", "low_resolution", "compression"]
    stages = compose(photos, keys, torch.rand(len(photos), 5, generator=seeded(1)), seeded(2))
    assert torch.equal(without(photos, stages, "no such key"), stages[-1].image)


def test_the_last_is_the_main_one_unless_another_is_much_stronger() -> None:
    assert choose_main(["rain", "noise"], [0.5, 0.4]) == "noise"
    assert choose_main(["rain", "noise"], [0.9, 0.4]) == "rain"
    assert choose_main(["rain", "haze", "noise"], [0.8, 0.9, 0.1]) == "haze"
    assert choose_main(["blur"], [0.1]) == "blur"


def test_one_chain_for_a_batch_has_a_target_without_its_main(photos: Tensor) -> None:
    made = draw_degraded(photos, ["haze", "compression"], [0.9, 0.1], seeded())
    assert made.main == "haze"
    fog, _ = apply(
        "compression", photos, made.severities["compression"], seeded(made.seeds["compression"])
    )
    assert torch.equal(made.target, fog)
    assert set(made.parameters) == {"haze", "compression"}


def test_an_empty_chain_is_a_clean_photo(photos: Tensor) -> None:
    made = draw_degraded(photos, [], [], seeded())
    assert made.main is None
    assert torch.equal(made.image, photos)
    assert torch.equal(made.target, photos)


def test_shares_are_sixty_thirty_ten(many: Batch) -> None:
    counts = many.presence.sum(1)
    # Three deviations of a share over 600 samples.
    assert float((counts == 1).float().mean()) == pytest.approx(0.6, abs=0.06)
    assert float((counts >= 2).float().mean()) == pytest.approx(0.3, abs=0.056)
    assert float((counts == 0).float().mean()) == pytest.approx(0.1, abs=0.037)
    assert int(counts.max()) == 3


def test_haze_in_the_dark_stays_rare(many: Batch) -> None:
    both = many.presence[:, KEYS.index("haze")] * many.presence[:, KEYS.index("underexposure")]
    assert float(both.mean()) < 0.05


def test_each_degradation_leads_about_equally_often() -> None:
    clean = torch.rand(1200, 3, 1, 1, generator=seeded())
    labels = draw_batch(clean, seeded(3)).label
    shares = torch.bincount(labels, minlength=9) / len(labels)
    assert float(shares[:8].min()) > 0.075
    assert float(shares[:8].max()) < 0.15


def test_labels_presence_and_severity_agree(many: Batch) -> None:
    assert many.label.dtype == torch.long
    degraded = many.label < len(KEYS)
    rows, labels = degraded.nonzero().flatten(), many.label[degraded]
    assert bool((many.presence[rows, labels] == 1).all())
    assert torch.equal(many.severity[rows], many.severities[rows, labels])
    assert float(many.severity[~degraded].abs().max()) == 0
    assert torch.equal(many.presence > 0, many.severities > 0)
    for record, present in zip(many.parameters, many.presence, strict=True):
        assert set(record) == {
            key for key, there in zip(KEYS, present.tolist(), strict=True) if there
        }


def test_clean_samples_are_their_own_target(many: Batch) -> None:
    rows = many.label == len(KEYS)
    assert torch.equal(many.degraded[rows], many.target[rows])


def test_degraded_images_lie_on_8bit_levels(many: Batch) -> None:
    levels = many.degraded * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_a_batch_repeats_by_seed(photos: Tensor) -> None:
    first, again = draw_batch(photos, seeded(9)), draw_batch(photos, seeded(9))
    assert torch.equal(first.degraded, again.degraded)
    assert torch.equal(first.target, again.target)
    assert first.parameters == again.parameters


def test_singles_aim_at_the_photo_itself(photos: Tensor) -> None:
    clean = photos.repeat(4, 1, 1, 1)
    batch = draw_batch(clean, seeded(2), share=(1, 0, 0))
    assert torch.equal(batch.target, clean)
    assert bool(((batch.degraded - clean).abs().amax((1, 2, 3)) > 0).all())


def test_targets_of_composites_lack_the_main_and_keep_the_rest() -> None:
    """With darkness and compression alone, each target is told by its brightness."""
    clean = 0.4 + 0.5 * torch.rand(60, 3, 16, 16, generator=seeded())
    keys = ("underexposure", "compression")
    batch = draw_batch(clean, seeded(4), keys=keys, share=(0, 1, 0))
    dark_main, jpeg_main = batch.label == 0, batch.label == 1
    assert bool(dark_main.any())
    assert bool(jpeg_main.any())
    level = clean.mean((1, 2, 3))
    assert bool((batch.target.mean((1, 2, 3)) > 0.9 * level)[dark_main].all())
    assert bool((batch.target.mean((1, 2, 3)) < 0.9 * level)[jpeg_main].all())
    change = (batch.target - clean).abs().mean((1, 2, 3))
    assert float(change[dark_main].min()) > 0, "compression stays in the target"
    blocks = batch.target[dark_main] * 255
    assert torch.allclose(blocks, blocks.round(), atol=1e-3)


def test_labels_count_in_the_order_of_the_callers_keys(photos: Tensor) -> None:
    batch = draw_batch(photos, seeded(), keys=("noise", "rain"), share=(1, 0, 0))
    for label, record in zip(batch.label.tolist(), batch.parameters, strict=True):
        assert list(record) == [("noise", "rain")[label]]
    assert batch.presence.shape == (len(photos), 2)


def test_one_key_never_makes_a_composite(photos: Tensor) -> None:
    batch = draw_batch(photos, seeded(), keys=("blur",), share=(0, 1, 0))
    assert batch.label.tolist() == [0] * len(photos)


def test_wrong_requests_are_refused(photos: Tensor) -> None:
    with pytest.raises(PromptError, match="fog"):
        draw_batch(photos, seeded(), keys=("fog",))
    with pytest.raises(ContractError, match="share"):
        draw_batch(photos, seeded(), share=(-1, 1, 1))
    with pytest.raises(PromptError):
        apply("fog", photos, 0.5, seeded())
    with pytest.raises(ContractError, match="clean"):
        apply("haze", photos[0], 0.5, seeded())
    with pytest.raises(ContractError, match="severity"):
        apply("haze", photos, torch.rand(2), seeded())
