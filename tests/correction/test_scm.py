"""The structural correction: what its weight means, where it starts, and that tiles do not show."""

import pytest
import torch
from torch import Tensor

from autodir.correction import scm
from autodir.correction.scm import StructureCorrector
from autodir.errors import ContractError
from autodir.records import TextEmbedding

NETWORK = {"width": 8, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
TEXT = TextEmbedding(tokens=torch.ones(1, 4, 6), pooled=torch.ones(1, 5))


def corrector(
    head: str = "affine",
    *,
    trained: bool = False,
    embed_dim: int = 0,
    tile: int = 768,
    overlap: int = 64,
    train_size: int = 32,
) -> StructureCorrector:
    """A small one; ``trained`` gives its ending weights as a trained one has them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = {**NETWORK, "embed_dim": embed_dim, "train_size": train_size}
        module = StructureCorrector(network=network, head=head, tile=tile, overlap=overlap)
        if trained:
            for name, parameter in module.named_parameters():
                if name.endswith(("beta", "gamma")) or "ending" in name:
                    parameter.data = torch.randn(parameter.shape) * 0.05
    return module.eval().requires_grad_(False)


def photo(height: int = 24, width: int = 20, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_untrained_affine_head_gives_the_degraded_photo() -> None:
    degraded, restored = photo(seed=1), photo(seed=2)
    result = corrector().correct(degraded, restored, TEXT, 1.0)
    torch.testing.assert_close(result, degraded)


def test_untrained_affine_head_at_half_weight_lies_halfway() -> None:
    degraded, restored = photo(seed=1), photo(seed=2)
    result = corrector().correct(degraded, restored, TEXT, 0.5)
    torch.testing.assert_close(result, (degraded + restored) / 2)


@pytest.mark.parametrize("head", ["affine", "residual"])
def test_weight_zero_gives_the_restored_photo(head: str) -> None:
    restored = photo(seed=2)
    result = corrector(head, trained=True).correct(photo(seed=1), restored, TEXT, 0.0)
    assert torch.equal(result, restored)


def test_signed_head_is_the_residual_one_on_twice_the_range() -> None:
    degraded, restored = photo(seed=1), photo(seed=2)
    signed, plain = corrector("signed", trained=True), corrector("residual", trained=True)
    expected = plain(degraded * 2 - 1, restored * 2 - 1, None) / 2
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(signed(degraded, restored, None), expected)


def test_without_the_clamp_values_may_leave_the_range() -> None:
    degraded, restored = photo(seed=1), photo(seed=2)
    free = corrector(trained=True).correct(degraded, restored * 3 - 1, TEXT, 1.0, clamp=False)
    limited = corrector(trained=True).correct(degraded, restored * 3 - 1, TEXT, 1.0)
    assert float(free.max()) > 1
    torch.testing.assert_close(free.clamp(0, 1), limited)
    assert torch.equal(
        corrector().correct(degraded, restored * 3 - 1, TEXT, 0.0, clamp=False), restored * 3 - 1
    )


def test_residual_head_adds_weighted_residual() -> None:
    degraded, restored = photo(seed=1) / 2 + 0.25, photo(seed=2) / 2 + 0.25
    module = corrector("residual", trained=True)
    residual = module(degraded, restored, None)
    assert float(residual.abs().max()) > 0.01
    expected = (restored + 0.7 * residual).clamp(0, 1)
    torch.testing.assert_close(module.correct(degraded, restored, TEXT, 0.7), expected)


def test_affine_head_is_what_its_equation_says() -> None:
    module = corrector()
    gate, gain, offset = 0.5, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.01, 0.02, 0.03])
    module.network.ending.bias.copy_(torch.tensor([gate, *gain, *offset]))
    degraded, restored = photo(seed=1), photo(seed=2)
    color = (1, 3, 1, 1)
    expected = (1 + gate) * (degraded - restored) + gain.view(color) * degraded + offset.view(color)
    torch.testing.assert_close(module(degraded, restored, None), expected)


def test_result_stays_in_range() -> None:
    module = corrector()
    module.network.ending.bias.fill_(3.0)
    result = module.correct(photo(seed=1), photo(seed=2), TEXT, 2.0)
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_text_is_read_only_where_the_network_is_instructed() -> None:
    degraded, restored = photo(seed=1), photo(seed=2)
    told = TextEmbedding(tokens=TEXT.tokens, pooled=-TEXT.pooled)
    deaf, listening = corrector(trained=True), corrector(trained=True, embed_dim=5)
    for layer in (m for m in listening.modules() if isinstance(m, torch.nn.Linear)):
        layer.weight.fill_(0.1)
    assert (deaf.instructed, listening.instructed) == (False, True)
    assert torch.equal(*(deaf.correct(degraded, restored, text) for text in (TEXT, told)))
    results = [listening.correct(degraded, restored, text) for text in (TEXT, told)]
    assert not torch.allclose(*results, atol=1e-5)


@pytest.mark.parametrize("size", [(96, 168), (131, 250)])
def test_tiled_equals_whole(size: tuple[int, int]) -> None:
    degraded, restored = photo(*size, seed=1), photo(*size, seed=2)
    whole = corrector("residual", trained=True, tile=512)
    tiled = corrector("residual", trained=True, tile=48, overlap=8)
    results = [module.correct(degraded, restored, TEXT) for module in (whole, tiled)]
    assert float((results[0] - restored).abs().max()) > 10 / 255  # it does something
    assert float((results[0] - results[1]).abs().max()) < 0.05 / 255


def test_a_network_with_global_statistics_has_local_ones_in_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scm, "LOCAL_WINDOW", 32)
    module = corrector("residual", trained=True, tile=48, overlap=8, train_size=0)
    degraded, restored = photo(96, 168, seed=1), photo(96, 168, seed=2)
    with module.network.local_statistics(32):
        expected = restored + module(degraded, restored, None)
    tiled = module.correct(degraded, restored, TEXT)
    assert float((tiled - expected.clamp(0, 1)).abs().max()) < 0.05 / 255
    small = module.correct(degraded[..., :48, :48], restored[..., :48, :48], TEXT)
    plain = restored[..., :48, :48] + module(degraded[..., :48, :48], restored[..., :48, :48], None)
    torch.testing.assert_close(small, plain.clamp(0, 1))


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (1, 200), (200, 1), (33, 57)])
def test_any_size_is_corrected(size: tuple[int, int]) -> None:
    module = corrector(trained=True, tile=64, overlap=16)
    result = module.correct(photo(*size, seed=1), photo(*size, seed=2), TEXT)
    assert result.shape == (1, 3, *size)
    assert bool(torch.isfinite(result).all())


def test_bfloat16_network_takes_and_gives_float32() -> None:
    degraded, restored = photo(seed=1), photo(seed=2)
    exact, half = corrector(trained=True, embed_dim=5), corrector(trained=True, embed_dim=5)
    result = half.to(torch.bfloat16).correct(degraded, restored, TEXT)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, exact.correct(degraded, restored, TEXT), rtol=0.0, atol=0.02)


def test_configuration_builds_the_same_network() -> None:
    module = corrector(embed_dim=5, tile=64, overlap=16)
    again = StructureCorrector(**module.config)
    assert again.config == module.config
    assert again.state_dict().keys() == module.state_dict().keys()


@pytest.mark.parametrize(
    ("degraded", "restored"),
    [
        (photo(8, 8), photo(8, 9)),
        (photo(8, 8)[0], photo(8, 8)[0]),
        (photo(8, 8), torch.full((1, 3, 8, 8), float("nan"))),
        (photo(8, 8)[:, :1], photo(8, 8)[:, :1]),
    ],
    ids=["sizes differ", "no batch", "not finite", "one channel"],
)
def test_wrong_images_are_refused(degraded: Tensor, restored: Tensor) -> None:
    with pytest.raises(ContractError):
        corrector().correct(degraded, restored, TEXT)


def test_unknown_head_is_refused() -> None:
    with pytest.raises(ContractError, match="quadratic"):
        StructureCorrector(network=NETWORK, head="quadratic")


def refined(*, trained: bool = True, tile: int = 768, overlap: int = 8) -> StructureCorrector:
    module = corrector(trained=trained, embed_dim=5, tile=tile, overlap=overlap)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = {"embed_dim": 5, "experts": ("noise",), "width": 8, "dilations": (1, 2)}
        refinement = module.add_refinement(config)
        if trained:
            ending = refinement.experts["noise"].ending
            ending.weight.data = torch.randn(ending.weight.shape) * 0.1
            refinement.gate.bias.data.fill_(8.0)
    return module.eval().requires_grad_(False)


def test_fresh_refinement_changes_nothing() -> None:
    module, degraded, restored = refined(trained=False), photo(seed=1), photo(seed=2)
    result = module.correct(degraded, restored, TEXT)
    with module.unrefined():
        assert torch.equal(module.correct(degraded, restored, TEXT), result)
        assert not any(name.startswith("refinement") for name in module.state_dict())
    assert any(name.startswith("refinement") for name in module.state_dict())


def test_refinement_sees_what_the_network_made_and_adds_to_its_residual() -> None:
    module, degraded, restored = refined(), photo(seed=1), photo(seed=2)
    whole = module(degraded, restored, TEXT.pooled)
    with module.unrefined():
        residual = module(degraded, restored, TEXT.pooled)
    assert module.refinement is not None
    further = module.refinement(degraded, restored, restored + residual, TEXT.pooled)
    assert float(further.abs().max()) > 0.01
    torch.testing.assert_close(whole, residual + further)


def test_refined_tiles_equal_the_whole() -> None:
    degraded, restored = photo(131, 250, seed=1), photo(131, 250, seed=2)
    results = [
        refined(tile=tile).correct(degraded, restored, TEXT, clamp=False) for tile in (512, 48)
    ]
    assert float((results[0] - results[1]).abs().max()) < 0.05 / 255


def test_refinement_is_computed_no_farther_around_a_tile_than_it_reaches() -> None:
    module = refined(tile=48, overlap=40)
    assert module.refinement is not None
    seen: list[int] = []
    module.refinement.register_forward_hook(
        lambda _module, given, _result: seen.append(given[0].shape[-2] * given[0].shape[-1])
    )
    module.correct(photo(96, 192, seed=1), photo(96, 192, seed=2), TEXT)
    reach = module.refinement.reach
    assert len(seen) == 8
    assert max(seen) == (48 + reach) * (48 + 2 * reach)


def test_refinement_without_an_instruction_is_refused() -> None:
    deaf = corrector()
    deaf.add_refinement({"embed_dim": 5, "width": 8, "dilations": (1,)})
    with pytest.raises(ContractError, match="instruction"):
        deaf(photo(), photo(), None)


def test_configuration_builds_the_same_refinement() -> None:
    module = refined()
    again = StructureCorrector(**module.config)
    assert again.config == module.config
    again.load_state_dict(module.state_dict())


def lit(**kwargs: object) -> StructureCorrector:
    module = corrector(**kwargs)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        lighting = module.add_lighting({"embed_dim": 5, "experts": ("haze",), "hidden": 8})
        for member in lighting.experts["haze"].members:
            member[-1].weight.data = torch.randn(member[-1].weight.shape) * 0.2
        lighting.gate.bias.data.fill_(8.0)
    return module.eval().requires_grad_(False)


def test_lighting_sees_the_whole_result() -> None:
    module, degraded, restored = lit(), photo(seed=1), photo(seed=2)
    with module.unrefined():
        plain = module.correct(degraded, restored, TEXT)
        assert not any(name.startswith("lighting") for name in module.state_dict())
    assert module.lighting is not None
    expected = module.lighting.relight(degraded, restored, plain.clone(), TEXT.pooled)
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(module.correct(degraded, restored, TEXT), expected.clamp(0, 1))
    assert torch.equal(module.correct(degraded, restored, TEXT, 0.0), restored)


def test_lit_tiles_equal_the_whole() -> None:
    degraded, restored = photo(131, 250, seed=1), photo(131, 250, seed=2)
    results = [lit(tile=tile).correct(degraded, restored, TEXT, clamp=False) for tile in (512, 48)]
    assert float((results[0] - results[1]).abs().max()) < 0.1 / 255


def test_configuration_builds_the_same_lighting() -> None:
    module = lit()
    again = StructureCorrector(**module.config)
    assert again.config == module.config
    again.load_state_dict(module.state_dict())


def sharpened(**kwargs: object) -> StructureCorrector:
    module = corrector(**kwargs)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        sharpening = module.add_sharpening({"embed_dim": 5, "hidden": 8})
        for member in sharpening.experts["blur"].members:
            member[-1].weight.data = torch.randn(member[-1].weight.shape) * 0.2
        sharpening.gate.bias.data.fill_(8.0)
    return module.eval().requires_grad_(False)


def test_the_sharper_photo_takes_the_place_of_the_photo() -> None:
    module, degraded, restored = sharpened(), photo(seed=1), photo(seed=2)
    assert module.sharpening is not None
    sharper = module.sharpening.sharpened(degraded, TEXT.pooled)
    assert not torch.equal(sharper, degraded)
    with module.unrefined():
        expected = module.correct(sharper, restored, TEXT)
        assert not any(name.startswith("sharpening") for name in module.state_dict())
    assert torch.equal(module.correct(degraded, restored, TEXT), expected)
    assert torch.equal(module.correct(degraded, restored, TEXT, 0.0), restored)


@pytest.mark.parametrize("tile", [512, 48])
def test_the_refinement_sees_what_deconvolution_made(
    monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    module, degraded, restored = sharpened(tile=tile), photo(seed=1), photo(seed=2)
    assert module.sharpening is not None
    sharper = module.sharpening.sharpened(degraded, TEXT.pooled)
    without = module.correct(degraded, restored, TEXT)

    def gray(seen: Tensor, otherwise: Tensor) -> Tensor:
        assert torch.equal(seen, degraded)
        assert torch.equal(otherwise, sharper)
        return torch.full_like(seen, 0.5)

    class Blender(torch.nn.Module):
        def forward(self, seen: Tensor, sample: Tensor, corrected: Tensor, told: Tensor) -> Tensor:
            return 0.25 * (seen - corrected)

        reach = 0

    monkeypatch.setattr("autodir.correction.sharpening.deconvolved", gray)
    module.refinement = Blender()  # type: ignore[assignment]
    result = module.correct(degraded, restored, TEXT)
    torch.testing.assert_close(result, (0.75 * without + 0.125), atol=1e-3, rtol=0)


def test_configuration_builds_the_same_sharpening() -> None:
    module = sharpened()
    again = StructureCorrector(**module.config)
    assert again.config == module.config
    again.load_state_dict(module.state_dict())


def cleared() -> StructureCorrector:
    module = corrector(trained=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        clearing = module.add_clearing(
            {"embed_dim": 5, "width": 8, "inner": 8, "wide": (8, 8), "dilations": (1,)}
        )
        out = clearing.experts["raindrop"].out
        out.weight.data = 0.2 * torch.randn(out.weight.shape)  # type: ignore[union-attr]
        clearing.gate.bias.data.fill_(8.0)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("sampled", [True, False])
def test_the_cleared_photo_takes_the_place_of_the_photo(sampled: bool) -> None:
    module, degraded = cleared(), photo(seed=1)
    restored = photo(seed=2) if sampled else degraded
    assert module.clearing is not None
    clear = module.clearing.cleared(degraded, TEXT.pooled)
    assert not torch.equal(clear, degraded)
    with module.unrefined():
        expected = module.correct(clear, restored if sampled else clear, TEXT)
        assert not any(name.startswith("clearing") for name in module.state_dict())
    assert torch.equal(module.correct(degraded, restored, TEXT), expected)
    assert torch.equal(module.correct(degraded, restored, TEXT, 0.0), restored)


def test_configuration_builds_the_same_clearing() -> None:
    module = cleared()
    again = StructureCorrector(**module.config)
    assert again.config == module.config
    again.load_state_dict(module.state_dict())
