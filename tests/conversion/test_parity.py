"""A converted model beside the published one, rebuilt from other libraries' classes.

The miniature runs always. The full size, 1.49 billion random weights, is marked slow: it needs
13 GB of memory and as much of disk for a while, and prints its memory and time.
"""

from __future__ import annotations

import dataclasses
import math
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from open_clip import SimpleTokenizer
from torch import Tensor
from torch.nn import functional as F

from autodir.builders import TAXONOMY_SD15, Model
from autodir.checkpoint import SUMS, load_model, save_model
from autodir.cli.flags import load_preset
from autodir.config import RestoreOptions
from autodir.conversion.official import Conversion
from autodir.diagnosis.biqa import BiqaDiagnoser
from autodir.pipeline import Restorer
from autodir.records import Mixture, NoiseSource

transformers = pytest.importorskip("transformers", reason="the reference of CLIP")

CLOSE, CHAIN = 1e-4, 1e-3
WORDS = ("noise", "blur", "rain", "underexposure", "haze", "low resolution", "raindrop", "no")
PROMPTS = tuple(f"A photo needs {word} artifact reduction" for word in WORDS)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 1e-3  # two constants would agree by accident
    return float((ours - theirs).abs().max())


@dataclass(frozen=True)
class Reference:
    """The published system, from its checkpoint and the sizes alone; values in [-1, 1]."""

    state: Mapping[str, Tensor]
    sizes: Any

    def part(self, prefix: str) -> dict[str, Tensor]:
        chosen = {k: v for k, v in self.state.items() if k.startswith(prefix)}
        return {name.removeprefix(prefix): value for name, value in chosen.items()}

    def unet(self) -> Any:
        base = self.sizes.unet
        config = {
            "in_channels": 8, "out_channels": 4, "layers_per_block": 2,
            "block_out_channels": (base, 2 * base, 4 * base, 4 * base),
            "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
            "cross_attention_dim": self.sizes.text, "attention_head_dim": self.sizes.heads,
        }  # fmt: skip
        with torch.device("meta"):
            unet = UNet2DConditionModel(**config)
        weights = single_file_utils.convert_ldm_unet_checkpoint(dict(self.state), unet.config)
        unet.load_state_dict(weights, assign=True)
        return unet.eval()

    def autoencoder(self) -> Any:
        base = self.sizes.autoencoder
        with torch.device("meta"):
            vae = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(base, 2 * base, 4 * base, 4 * base), layers_per_block=2,
            )  # fmt: skip
        weights = single_file_utils.convert_ldm_vae_checkpoint(dict(self.state), vae.config)
        vae.load_state_dict(weights, assign=True)
        return vae.eval()

    def clip(self) -> Any:
        sizes = self.sizes
        config = transformers.CLIPConfig(
            text_config={
                "hidden_size": sizes.text, "intermediate_size": 4 * sizes.text,
                "num_hidden_layers": 12, "num_attention_heads": sizes.text_heads,
                "projection_dim": sizes.embed,
            },
            vision_config={
                "hidden_size": sizes.vision, "intermediate_size": 4 * sizes.vision,
                "num_hidden_layers": 24, "patch_size": 14, "image_size": sizes.image,
                "num_attention_heads": sizes.vision // sizes.head_width,
                "projection_dim": sizes.embed,
            },
            projection_dim=sizes.embed,
            attn_implementation="eager",
        )  # fmt: skip
        clip = transformers.CLIPModel(config)
        weights = self.part("model_assessment.clipmodel.")
        found = clip.load_state_dict(weights, strict=False, assign=True)
        assert not found.missing_keys
        assert all(name.endswith("position_ids") for name in found.unexpected_keys)
        return clip.eval()

    def correction(self, degraded: Tensor, restored: Tensor) -> Tensor:
        """R, for images in [-1, 1] with sides that are multiples of 16."""
        weights = self.part("NAFNet.")

        def conv(name: str, x: Tensor, **how: int) -> Tensor:
            return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **how)

        def norm(name: str, x: Tensor) -> Tensor:
            centered = x - x.mean(1, keepdim=True)
            x = centered / (centered.square().mean(1, keepdim=True) + 1e-6).sqrt()
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            return x * weight[:, None, None] + bias[:, None, None]

        def gate(x: Tensor) -> Tensor:
            half = x.shape[1] // 2
            return x[:, :half] * x[:, half:]

        def blocks(name: str, count: int, x: Tensor) -> Tensor:
            for block in (f"{name}.{number}" for number in range(count)):
                y = conv(f"{block}.conv1", norm(f"{block}.norm1", x))
                y = gate(conv(f"{block}.conv2", y, padding=1, groups=y.shape[1]))
                y = y * conv(f"{block}.sca.1", y.mean((2, 3), keepdim=True))
                x = x + weights[f"{block}.beta"] * conv(f"{block}.conv3", y)
                y = gate(conv(f"{block}.conv4", norm(f"{block}.norm2", x)))
                x = x + weights[f"{block}.gamma"] * conv(f"{block}.conv5", y)
            return x

        x, kept = conv("intro", torch.cat([degraded, restored], 1), padding=1), list[Tensor]()
        for level, count in enumerate((2, 2, 4, 8)):
            kept.append(x := blocks(f"encoders.{level}", count, x))
            x = conv(f"downs.{level}", x, stride=2)
        x = blocks("middle_blks", 12, x)
        for level in range(4):
            x = F.pixel_shuffle(conv(f"ups.{level}.0", x), 2) + kept.pop()
            x = blocks(f"decoders.{level}", 2, x)
        return conv("ending", x, padding=1)

    def crop(self, image: Tensor) -> Tensor:
        """The native center of an image in [0, 1], black where it is smaller, normalized."""
        side = self.sizes.image
        canvas = torch.zeros(1, 3, side, side)
        height, width = (min(side, length) for length in image.shape[-2:])
        top, left = ((image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2)
        y, x = math.ceil((side - height) / 2), math.ceil((side - width) / 2)
        cut = image[..., top : top + height, left : left + width]
        canvas[..., y : y + height, x : x + width] = cut
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
        return (canvas - mean) / std


def ids_and_mask(prompts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Token ids padded with 49407, and the mask that is 1 up to the first of them."""
    rows = [[49406, *SimpleTokenizer().encode(prompt), 49407] for prompt in prompts]
    ids = torch.tensor([row + [49407] * (77 - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (77 - len(row)) for row in rows])
    return ids, mask


@torch.no_grad()
def sample(
    unet: Any, vae: Any, tokens: Tensor, image: Tensor, noises: Iterator[Tensor], steps: int
) -> Tensor:
    """Euler ancestral on the linspace schedule from given noises, decoded, in [-1, 1]."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    alphas = (1 - roots.square()).cumprod(0)
    logs = ((1 - alphas) / alphas).sqrt().log()
    places = torch.linspace(999, 0, steps, dtype=torch.float64)
    low, high = logs[places.floor().long()], logs[places.ceil().long()]
    sigmas = [*(low + (high - low) * (places - places.floor())).exp().tolist(), 0.0]
    condition = vae.encode(image).latent_dist.mean
    z = next(noises) * sigmas[0]
    for t, sigma, after in zip(places.float(), sigmas[:-1], sigmas[1:], strict=True):
        x = torch.cat([z / math.sqrt(sigma**2 + 1), condition], 1)
        eps = unet(x, t, tokens).sample
        up = min(after, after * math.sqrt(sigma**2 - after**2) / sigma)
        z = z + eps * (math.sqrt(after**2 - up**2) - sigma)
        z = z + up * next(noises) if after > 0 else z
    decoded: Tensor = vae.decode(z / 0.18215).sample
    return decoded


def drawn(seed: int, *shape: int) -> Iterator[Tensor]:
    source = NoiseSource(seed)
    while True:
        yield source.normal(shape)


@dataclass(frozen=True)
class Pair:
    """The two systems made of one checkpoint."""

    model: Model
    reference: Reference
    folder: Path


@pytest.fixture(scope="module")
def full(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The full size: written, converted by the command in a process of its own, and loaded."""
    folder = tmp_path_factory.mktemp("full")
    source, begun = folder / "autodir.ckpt", time.perf_counter()
    torch.save({"state_dict": dict(published.state()), "global_step": 1}, source)
    written = time.perf_counter()
    command = [sys.executable, "-m", "autodir", "models", "convert", str(source)]
    told = subprocess.run(
        [*command, str(folder / "sd15"), "--dtype", "fp32"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    size, converted = source.stat().st_size, time.perf_counter()
    model = load_model(folder / "sd15")
    loaded = time.perf_counter()
    sys.stdout.write(told)
    sys.stdout.write(
        f"checkpoint {size / 1e9:.2f} GB, made in {written - begun:.0f} s; converted in "
        f"{converted - written:.0f} s with a peak of {peak / 1e9:.2f} GB; loaded in "
        f"{loaded - converted:.0f} s\n"
    )
    assert "2188 keys consumed, 14 ignored" in told
    assert peak < size + 2e9
    state = torch.load(source, mmap=True, weights_only=True)["state_dict"]
    yield Pair(model, Reference(state, published), folder / "sd15")
    shutil.rmtree(folder)  # 12 GB


@pytest.fixture(scope="module", params=["miniature", pytest.param("full", marks=pytest.mark.slow)])
def pair(
    request: pytest.FixtureRequest, miniature: Any, state: dict[str, Tensor], converted: Conversion
) -> Pair:
    if request.param == "full":
        return request.getfixturevalue("full")  # type: ignore[no-any-return]
    return Pair(load_model(converted.folder), Reference(state, miniature), converted.folder)


@torch.no_grad()
def test_unet_equals_the_published_one(pair: Pair) -> None:
    latents, tokens = random(1, 8, 8, 8), random(1, 77, pair.reference.sizes.text, seed=1)
    time_ = torch.tensor([433.5])
    theirs = pair.reference.unet()(latents, time_, tokens).sample
    assert difference(pair.model.unet(latents, time_, tokens).sample, theirs) < CLOSE


@torch.no_grad()
def test_autoencoder_equals_the_published_one(pair: Pair) -> None:
    image, latents, vae = photo(64, 128), random(1, 4, 8, 16), pair.reference.autoencoder()
    ours = pair.model.autoencoder.encode(image)
    assert difference(ours, vae.encode(image * 2 - 1).latent_dist.mean) < CLOSE
    theirs = vae.decode(latents / 0.18215).sample / 2 + 0.5
    unscaled = pair.model.autoencoder.unscale(latents)
    assert difference(pair.model.autoencoder.decode(unscaled, clamp=False), theirs) < CLOSE


@torch.no_grad()
def test_text_tower_equals_the_published_one(pair: Pair) -> None:
    clip, (ids, mask) = pair.reference.clip(), ids_and_mask((*PROMPTS, ""))
    for masked in (True, False):
        theirs = clip.text_model(ids, attention_mask=mask if masked else None)
        pooled = F.normalize(clip.text_projection(theirs.pooler_output), dim=-1)
        ours = pair.model.clip.encode_text((*PROMPTS, ""), masked)
        assert difference(ours.tokens, theirs.last_hidden_state) < CLOSE
        assert difference(ours.pooled, pooled) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize("size", [(1.0, 1.0), (1.5, 1.25), (0.5, 2.0)])
def test_diagnosis_equals_the_published_one(pair: Pair, size: tuple[float, float]) -> None:
    clip, (ids, mask) = pair.reference.clip(), ids_and_mask(PROMPTS)
    image = photo(*(int(side * pair.reference.sizes.image) - 1 for side in size))
    logits = clip(input_ids=ids, attention_mask=mask, pixel_values=pair.reference.crop(image))
    theirs = logits.logits_per_image[0].softmax(0)
    quality = pair.model.quality_model()
    diagnosis = BiqaDiagnoser(
        quality, Restorer(pair.model).diagnoser.calibration, crops=1, mix_clean=True
    ).diagnose(image, TAXONOMY_SD15)
    ours = torch.tensor(list(diagnosis.probabilities.values()))
    assert difference(ours, theirs) < CLOSE
    best = WORDS[int(theirs.argmax())]
    assert (diagnosis.main.label if diagnosis.main else "no") == best
    assert diagnosis.mixture.phrases == PROMPTS
    torch.testing.assert_close(torch.tensor(diagnosis.mixture.weights), ours)


@torch.no_grad()
def test_correction_equals_the_published_one(pair: Pair) -> None:
    degraded, restored = photo(64, 48), photo(64, 48, seed=1)
    theirs = pair.reference.correction(degraded * 2 - 1, restored * 2 - 1) / 2
    assert difference(pair.model.scm(degraded, restored, None), theirs) < CLOSE


@torch.no_grad()
def test_five_ancestral_steps_from_given_noises_agree(pair: Pair) -> None:
    image, reference = photo(64, 64), pair.reference
    ids, mask = ids_and_mask(PROMPTS[:2])
    hidden = reference.clip().text_model(ids, attention_mask=mask).last_hidden_state
    tokens = (0.75 * hidden[0] + 0.25 * hidden[1])[None]
    noises = drawn(3, 1, 4, 8, 8)
    unet, vae = reference.unet(), reference.autoencoder()
    theirs = sample(unet, vae, tokens, image * 2 - 1, noises, 5) / 2 + 0.5
    diffusion = pair.model.latent_diffusion()
    diffusion = diffusion.configured(dataclasses.replace(diffusion.config, clamp=False))
    conditioning = diffusion.condition(image, Mixture(phrases=PROMPTS[:2], weights=(0.75, 0.25)))
    ours = diffusion.sample(conditioning, NoiseSource(3), sampler="euler_ancestral", steps=5)
    assert difference(ours, theirs) < CHAIN


def test_saved_again_it_has_the_same_hashes(pair: Pair, tmp_path: Path) -> None:
    save_model(pair.model, tmp_path / "again", torch.float32)
    same = (tmp_path / "again" / SUMS).read_text() == (pair.folder / SUMS).read_text()
    shutil.rmtree(tmp_path / "again")
    assert same


@torch.no_grad()
def published_loop(
    reference: Reference, image: Tensor, seed: int, steps: int
) -> tuple[list[str], Tensor]:
    """Rounds until "no" wins, at most seven; each class once (AutoDIR, ECCV 2024)."""
    clip, unet, vae = reference.clip(), reference.unet(), reference.autoencoder()
    left, done = list(WORDS), list[str]()
    current = image * 2 - 1
    while len(done) < 7:
        ids, mask = ids_and_mask(tuple(PROMPTS[WORDS.index(word)] for word in left))
        pixels = reference.crop(current / 2 + 0.5)
        logits = clip(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits_per_image[0]
        probabilities = logits.softmax(0)
        word = left[int(probabilities.argmax())]
        if word == "no":
            break
        hidden = clip.text_model(ids, attention_mask=mask).last_hidden_state
        tokens = torch.einsum("p,pld->ld", probabilities, hidden)[None]
        shape = (1, 4, current.shape[2] // 8, current.shape[3] // 8)
        sampled = sample(unet, vae, tokens, current, drawn(seed, *shape), steps)
        corrected = sampled + reference.correction(current, sampled)
        current = sampled if word == "low resolution" else corrected
        left.remove(word)
        done.append(word)
    return done, (current / 2 + 0.5).clamp(0, 1)


def test_preset_repeats_the_published_loop(
    state: dict[str, Tensor], miniature: Any, converted: Conversion
) -> None:
    changes = load_preset("parity") | {"sampling_steps": 2, "seed": 0}
    image = photo(64, 64)
    done, pixels = published_loop(Reference(state, miniature), image, seed=0, steps=2)
    result = Restorer.from_pretrained(converted.folder, device="cpu").restore(
        image[0], RestoreOptions.from_mapping(changes)
    )
    assert len(done) > 1
    assert [step.degradation.replace("_", " ") for step in result.report.steps] == done
    assert difference(result.image.pixels, pixels[0]) < CHAIN
    ours = Restorer.from_pretrained(converted.folder, device="cpu").restore(
        image[0], RestoreOptions(sampling_steps=2)
    )
    assert not torch.equal(ours.image.pixels, result.image.pixels)
