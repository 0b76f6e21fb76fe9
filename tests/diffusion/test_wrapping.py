"""Feature wrapping: w = 0 is the plain decoder to the bit, and w weighs linearly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autodir.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from autodir.diffusion.wrapping import FeatureWrapping, decode_wrapped, taps
from autodir.errors import ContractError

CONFIGS = {
    "plain": AutoencoderConfig(
        kind="plain", linear=True, latent_channels=4, block_out_channels=(8, 8), layers_per_block=2
    ),
    "kl": AutoencoderConfig(
        patch=1, latent_channels=4, block_out_channels=(4, 8, 8, 12), norm_num_groups=4
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=sorted(CONFIGS))
def autoencoder(request: pytest.FixtureRequest) -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(CONFIGS[request.param]).eval().requires_grad_(False)


def stirred(wrapping: FeatureWrapping) -> FeatureWrapping:
    """The same after some training: no parameter is zero."""
    with torch.no_grad():
        for parameter in wrapping.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=seeded(3)))
    return wrapping


def photo() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=seeded(1))


def test_weight_zero_is_the_plain_decoder_to_the_bit(autoencoder: Autoencoder) -> None:
    wrapping = stirred(FeatureWrapping.beside(autoencoder))
    latents = autoencoder.encode(photo())
    plain = autoencoder.decode(latents)
    assert torch.equal(decode_wrapped(autoencoder, wrapping, latents, photo(), 0.0), plain)
    assert not torch.equal(decode_wrapped(autoencoder, wrapping, latents, photo(), 1.0), plain)
    assert torch.equal(autoencoder.decode(latents), plain)  # no hook stays behind


def test_fresh_fusions_change_nothing_at_any_weight(autoencoder: Autoencoder) -> None:
    wrapping, latents = FeatureWrapping.beside(autoencoder), autoencoder.encode(photo())
    wrapped = decode_wrapped(autoencoder, wrapping, latents, photo(), 1.0)
    torch.testing.assert_close(wrapped, autoencoder.decode(latents), rtol=0, atol=1e-6)


def test_the_weight_is_linear_where_features_join(autoencoder: Autoencoder) -> None:
    wrapping = stirred(FeatureWrapping.beside(autoencoder))
    coarsest = max(wrapping.levels)  # the first to be fused, so that nothing before it differs
    seen: list[Tensor] = []
    latents = autoencoder.encode(photo())
    decoder = taps(autoencoder)[1]
    for weight in (0.0, 0.5, 1.0):
        following = _after(autoencoder, decoder[coarsest])
        handle = following.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        decode_wrapped(autoencoder, wrapping, latents, photo(), weight)
        handle.remove()
    torch.testing.assert_close(seen[1], (seen[0] + seen[2]) / 2, rtol=0, atol=1e-6)


def _after(autoencoder: Autoencoder, module: nn.Module) -> nn.Module:
    """The module that reads what ``module`` gives."""
    parts = [m for m in autoencoder.net.decoder.modules() if not list(m.children())]  # type: ignore[union-attr]
    inner = [m for m in module.modules() if m in parts]
    return parts[parts.index(inner[-1]) + 1]


def test_after_a_little_training_faithful_weights_are_nearer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = Autoencoder(CONFIGS["plain"]).eval().requires_grad_(False)
        wrapping = FeatureWrapping.beside(autoencoder)
    coarse = torch.rand(9, 3, 4, 4, generator=seeded(4))
    pictures = nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    latents = autoencoder.encode(pictures)
    latents = latents + 0.3 * torch.randn(latents.shape, generator=seeded(5))
    optimizer = torch.optim.Adam(wrapping.parameters(), 2e-3)
    for _ in range(40):
        out = decode_wrapped(autoencoder, wrapping, latents[:8], pictures[:8], 1.0, clamp=False)
        loss = (out - pictures[:8]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        errors = [
            float(
                (
                    decode_wrapped(
                        autoencoder, wrapping, latents[8:], pictures[8:], weight, clamp=False
                    )
                    - pictures[8:]
                )
                .square()
                .mean()
            )
            for weight in (0.0, 0.5, 1.0)
        ]
    assert errors[0] > errors[1] > errors[2]


def test_four_levels_are_wrapped_in_the_middle() -> None:
    four = FeatureWrapping.beside(Autoencoder(CONFIGS["kl"]))
    assert four.levels == (1, 2)
    again = FeatureWrapping(**four.config)
    assert again.state_dict().keys() == four.state_dict().keys()
    with pytest.raises(ContractError, match="levels"):
        FeatureWrapping(widths=(8, 8), levels=(2,))
