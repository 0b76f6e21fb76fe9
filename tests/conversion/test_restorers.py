"""StableSR's and DiffBIR's layouts become model folders that compute what their networks compute.

The reference is a plain restatement of the published networks in their own names. The miniature
runs always; the full size is checked by its names and shapes, which needs no memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders import single_file_utils
from open_clip.model import CLIP
from restorer_layouts import (
    CLOSE,
    CONTROL,
    MINIATURE,
    PUBLISHED,
    STRUCTURE,
    TEXT,
    Shapes,
    values,
)
from restorer_networks import Published
from torch import Tensor
from torch.nn import functional as F

from autodir.builders import build_sd21
from autodir.checkpoint import Model, info, load_model, verify
from autodir.config import RestoreOptions
from autodir.conversion.layouts import LAYOUTS
from autodir.conversion.official import Conversion, convert
from autodir.conversion.restorers import reason_to_pass, restorer_origin
from autodir.diffusion.adapters import AdaptedUnet
from autodir.diffusion.wrapping import decode_wrapped
from autodir.errors import CheckpointError
from autodir.pipeline import Restorer
from autodir.weights import without_values


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 1e-3  # two constants would agree by accident
    return float((ours - theirs).abs().max())


@pytest.fixture(scope="module")
def autoencoder_shapes(miniature: Any) -> Shapes:
    return miniature.autoencoder_layout()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stablesr_state(autoencoder_shapes: Shapes) -> dict[str, Tensor]:
    return dict(values(MINIATURE.stablesr_layout(autoencoder_shapes)))


@pytest.fixture(scope="module")
def cfw_state(autoencoder_shapes: Shapes) -> dict[str, Tensor]:
    shapes = autoencoder_shapes | MINIATURE.fusion_layout()
    return {**dict(values(shapes, seed=1)), "loss.logvar": torch.zeros(())}


@pytest.fixture(scope="module")
def control_state() -> dict[str, Tensor]:
    return dict(values(MINIATURE.control_layout(), seed=2))


def parts(layout: str) -> dict[str, Any]:
    """The miniature's shapes in place of a layout's own."""
    own = dict(LAYOUTS[layout].parts)
    changed = own | MINIATURE.parts
    return changed if "stablesr" in layout else changed | {"adapter": own["adapter"]}


@pytest.fixture(scope="module")
def stablesr(
    stablesr_state: dict[str, Tensor], cfw_state: dict[str, Tensor], tiny_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Conversion:  # fmt: skip
    """StableSR with its decoder, in float32; never changed by a test."""
    folder = tmp_path_factory.mktemp("stablesr")
    torch.save({"state_dict": stablesr_state, "global_step": 16500}, folder / "sr.ckpt")
    torch.save({"state_dict": cfw_state}, folder / "cfw.ckpt")
    return convert(
        folder / "sr.ckpt", folder / "model", dtype="fp32", parts=parts("stablesr"),
        besides={"cfw": folder / "cfw.ckpt"}, diagnosis=str(tiny_model_folder),
    )  # fmt: skip


@pytest.fixture(scope="module")
def diffbir(
    stablesr_state: dict[str, Tensor], control_state: dict[str, Tensor], tiny_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Conversion:  # fmt: skip
    """DiffBIR's bare IRControlNet beside its Stable Diffusion, in float32."""
    folder = tmp_path_factory.mktemp("diffbir")
    base = {
        name: value
        for name, value in stablesr_state.items()
        if "spade" not in name and not name.startswith(STRUCTURE)
    }
    torch.save({"state_dict": base}, folder / "sd.ckpt")
    torch.save({f"module.{name}": value for name, value in control_state.items()}, folder / "c.pth")
    return convert(
        folder / "c.pth", folder / "model", dtype="fp32", parts=parts("diffbir"),
        besides={"base": folder / "sd.ckpt"}, diagnosis=str(tiny_model_folder),
    )  # fmt: skip


def test_every_key_of_stablesr_is_consumed_or_ignored(
    stablesr: Conversion, stablesr_state: dict[str, Tensor], cfw_state: dict[str, Tensor]
) -> None:
    assert stablesr.layout == "stablesr"
    counts = {reason: len(names) for reason, names in stablesr.ignored.items()}
    assert stablesr.consumed + sum(counts.values()) == len(stablesr_state) + len(cfw_state)
    assert counts == {
        "noise schedule": 2,
        "last layer of the text tower, not read": 12 + 2,
        "autoencoder beside the fusions": 248 + 1,
    }


def test_folders_are_whole_models_with_cards(stablesr: Conversion, diffbir: Conversion) -> None:
    for done, words in (
        (stablesr, ("non-commercial", "S-Lab", "Open RAIL++-M", "sr.ckpt", "cfw.ckpt", "--start")),
        (diffbir, ("Apache-2.0", "Open RAIL++-M", "c.pth", "sd.ckpt", "--stage1")),
    ):
        assert "text/model.safetensors" in verify(done.folder)
        assert info(done.folder).scale == "sd21"
        card = (done.folder / "README.md").read_text(encoding="utf-8")
        assert [word for word in words if word not in card] == []
        assert done.source_sha256 in card


@torch.no_grad()
def test_stablesr_computes_what_is_published(
    stablesr: Conversion, stablesr_state: dict[str, Tensor]
) -> None:
    model, reference = load_model(stablesr.folder), Published(stablesr_state)
    x, photo, tokens = random(1, 4, 16, 8), random(1, 4, 16, 8, seed=1), random(1, 77, 32, seed=2)
    time = torch.tensor([433.0])
    maps = reference.structure(photo, 433.0)
    assert sorted(maps) == [1, 2, 4, 8]
    for ours in model.adapter.encoder(photo, time):  # type: ignore[union-attr]
        assert difference(ours, maps[ours.shape[-1]]) < CLOSE
    plain = model.unet(x, time, tokens).sample
    assert difference(plain, reference.unet(x, 433.0, tokens)) < CLOSE
    network = AdaptedUnet(model.unet, model.adapter)  # type: ignore[arg-type]
    ours = network(torch.cat([x, photo], 1), time, tokens).sample
    assert difference(ours, reference.unet(x, 433.0, tokens, maps)) < CLOSE
    assert difference(ours, plain) > 100 * CLOSE


@torch.no_grad()
def test_diffbir_computes_what_is_published(
    diffbir: Conversion, stablesr_state: dict[str, Tensor], control_state: dict[str, Tensor]
) -> None:
    named = {CONTROL + name: value for name, value in control_state.items()}
    model, reference = load_model(diffbir.folder), Published(stablesr_state | named)
    x, photo, tokens = random(1, 4, 16, 8), random(1, 4, 16, 8, seed=1), random(1, 77, 32, seed=2)
    added = reference.control(x, photo, 700.0, tokens)
    assert len(added) == 13
    network = AdaptedUnet(model.unet, model.adapter)  # type: ignore[arg-type]
    time = torch.tensor([700.0])
    ours = network(torch.cat([x, photo], 1), time, tokens).sample
    assert difference(ours, reference.unet(x, 700.0, tokens, added=added)) < CLOSE
    network.strength = 0.5
    half = network(torch.cat([x, photo], 1), time, tokens).sample
    weaker = [0.5 * one for one in added]
    assert difference(half, reference.unet(x, 700.0, tokens, added=weaker)) < CLOSE


@torch.no_grad()
def test_text_tower_is_the_penultimate_layer_of_openclip(
    stablesr: Conversion, stablesr_state: dict[str, Tensor]
) -> None:
    clip = CLIP(
        embed_dim=32,
        vision_cfg={"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 8},
        text_cfg={
            "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 24,
        },
    ).eval()  # fmt: skip
    own = {
        name.removeprefix(TEXT): value
        for name, value in stablesr_state.items()
        if name.startswith(TEXT)
    }
    found = clip.load_state_dict(own, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("visual.") for name in found.missing_keys)
    phrases = ["", "a photo of a castle, sharp", "word " * 100]
    ids = open_clip.tokenize(phrases)
    x = clip.token_embedding(ids) + clip.positional_embedding
    for block in clip.transformer.resblocks[:-1]:
        x = block(x, attn_mask=clip.attn_mask)
    text = load_model(stablesr.folder).text
    assert text is not None
    ours = text.encode_text(phrases, masked=False)
    assert difference(ours.tokens, clip.ln_final(x)) < CLOSE


@torch.no_grad()
def test_decoder_fuses_what_is_published(
    stablesr: Conversion, stablesr_state: dict[str, Tensor], cfw_state: dict[str, Tensor]
) -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128), layers_per_block=2,
    ).eval()  # fmt: skip
    weights = single_file_utils.convert_ldm_vae_checkpoint(dict(stablesr_state), vae.config)
    vae.load_state_dict(weights)
    image, latents = random(1, 3, 64, 64).sigmoid(), random(1, 4, 8, 8, seed=1)
    reference, seen = Published(cfw_state), dict[int, Tensor]()
    h = vae.encoder.conv_in(image * 2 - 1)
    for level, down in enumerate(vae.encoder.down_blocks):
        for block in down.resnets:
            h = block(h, temb=None)
        seen[level] = h
        for sampler in down.downsamplers or ():
            h = sampler(h)
    h = vae.decoder.conv_in(vae.post_quant_conv(latents))
    h = vae.decoder.mid_block(h)
    for number, up in enumerate(vae.decoder.up_blocks):
        for block in up.resnets:
            h = block(h, temb=None)
        if number in (1, 2):
            h = h + 0.7 * reference.fused(3 - number, seen[3 - number], h)
        for sampler in up.upsamplers or ():
            h = sampler(h)
    theirs = vae.decoder.conv_out(F.silu(vae.decoder.conv_norm_out(h))) / 2 + 0.5
    model = load_model(stablesr.folder)
    wrapping = model.wrapping
    assert wrapping is not None
    ours = decode_wrapped(model.autoencoder, wrapping, latents, image, 0.7, clamp=False)
    assert difference(ours, theirs) < CLOSE
    plain = decode_wrapped(model.autoencoder, wrapping, latents, image, 0.0, clamp=False)
    assert torch.equal(plain, model.autoencoder.decode(latents, clamp=False))
    assert difference(plain, theirs) > 100 * CLOSE


@pytest.mark.parametrize("name", ["stablesr", "diffbir"])
def test_a_converted_model_repairs_a_photo(name: str, request: pytest.FixtureRequest) -> None:
    restorer = Restorer.from_pretrained(request.getfixturevalue(name).folder, device="cpu")
    photo = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(0))
    options = RestoreOptions(sampling_steps=1, max_steps=1, guard=False, two_stage=True)
    result = restorer.restore(photo, options)
    assert result.image.size == (70, 90)
    assert len(result.report.steps) == 1
    assert restorer.diffusion.config.start == ("photo" if name == "stablesr" else "noise")
    assert all(one.structure_weight == 0 for one in restorer.taxonomy)


def test_the_denoiser_is_told_nothing_unless_a_user_says_it(stablesr: Conversion) -> None:
    model = load_model(stablesr.folder)
    told, encode = list[str](), model.text.encode_text  # type: ignore[union-attr]

    def listen(phrases: Sequence[str], masked: bool = True) -> Any:
        told.extend(phrases)
        assert not masked
        return encode(phrases, masked)

    model.text.encode_text = listen  # type: ignore[union-attr, method-assign, assignment]
    photo = torch.rand(3, 64, 128)  # one latent alone cannot be normalized in groups of one channel
    for prompt in ((), ("noise",)):
        options = RestoreOptions(prompt=prompt, sampling_steps=1, max_steps=1, guard=False)
        Restorer(model).restore(photo, options)
    assert told == ["", "noise", ""]


def drop(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if ".spade.mlp_gamma." in name]:
        del state[name]


def reshape(state: dict[str, Tensor]) -> None:
    name = f"{STRUCTURE}fea_tran.3.skip_connection.weight"
    state[name] = state[name][:, :8]


def add(state: dict[str, Tensor]) -> None:
    state[f"{STRUCTURE}fea_tran.4.in_layers.0.bias"] = torch.ones(32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop, r"not the published StableSR: 44 missing: .*mlp_gamma.* and 34 more"),
        (reshape, r"1 of another shape: .*fea_tran\.3\.skip_connection\.weight \(32, 8, 1, 1\)"),
        (add, r"1 unknown: structcond_stage_model\.fea_tran\.4"),
    ],
)
def test_other_layouts_are_refused_and_leave_nothing(
    stablesr_state: dict[str, Tensor], tiny_model_folder: Path, tmp_path: Path,
    change: Callable[[dict[str, Tensor]], None], told: str,
) -> None:  # fmt: skip
    changed = dict(stablesr_state)
    change(changed)
    torch.save(changed, tmp_path / "sr.ckpt")
    with pytest.raises(CheckpointError, match=told):
        convert(
            tmp_path / "sr.ckpt", tmp_path / "model", parts=parts("stablesr"),
            diagnosis=str(tiny_model_folder),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["sr.ckpt"]


def test_an_old_full_file_keeps_its_stage1(
    stablesr_state: dict[str, Tensor], control_state: dict[str, Tensor], tiny_model_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    whole = {
        name: value
        for name, value in stablesr_state.items()
        if "spade" not in name and not name.startswith(STRUCTURE)
    }
    whole |= {CONTROL + name: value for name, value in control_state.items()}
    whole |= {"preprocess_model.conv_first.1.weight": torch.ones(2, 3)}
    whole |= {"cond_encoder.encoder.conv_in.bias": torch.ones(32)}
    torch.save({"state_dict": whole}, tmp_path / "general_full_v1.ckpt")
    done = convert(
        tmp_path / "general_full_v1.ckpt", tmp_path / "model", layout="diffbir-v2.1",
        parts=parts("diffbir-v2.1"), diagnosis=str(tiny_model_folder),
    )  # fmt: skip
    assert done.ignored["stage 1"] == ("preprocess_model.conv_first.1.weight",)
    assert (done.folder / "stage1.safetensors").is_file()
    schedule = load_model(done.folder).schedule
    assert schedule.config.prediction == "v_prediction"
    assert schedule.sigma_max == pytest.approx(4096, rel=1e-3)
    shutil.rmtree(done.folder)


def consumed(model: Model) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for part, module in model.modules.items():
        for name, value in module.state_dict().items():
            source = restorer_origin(part, name)
            if source is not None:
                assert not set(source.names) & set(found), (part, name)
                found |= dict.fromkeys(source.names, source.shape(tuple(value.shape)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stablesr", "diffbir"])
def test_full_size_reaches_every_published_tensor(
    name: str, published: Any, tiny_model: Model
) -> None:
    with without_values():
        model = build_sd21(LAYOUTS[name].parts, tiny_model, with_wrapping=True)
    autoencoder = published.autoencoder_layout()
    layout = PUBLISHED.stablesr_layout(autoencoder)
    if name == "diffbir":
        layout = PUBLISHED.base_layout(autoencoder)
        layout |= {CONTROL + key: shape for key, shape in PUBLISHED.control_layout().items()}
    layout |= {f"cfw.{key}": shape for key, shape in PUBLISHED.fusion_layout().items()}
    found = consumed(model)
    assert found == {key: layout[key] for key in found}
    rest = {key: reason_to_pass(key) for key in set(layout) - set(found)}
    assert set(rest.values()) == {"noise schedule", "last layer of the text tower, not read"}
    sizes = {part: sum(p.numel() for p in one.parameters()) for part, one in model.modules.items()}
    assert (sizes["unet"], len(model.unet.state_dict())) == (865_910_724, 686)
    assert sizes["vae"] == 83_653_863
    assert sizes["text"] == 340_387_840
    millions = (sizes["adapter"] / 1e6, sizes["cfw"] / 1e6)
    assert millions[0] == pytest.approx(105 if name == "stablesr" else 364, abs=1)
    if name == "stablesr":  # the paper counts 149.91 M that are trained
        assert sum(millions) == pytest.approx(149.91, abs=0.01)
