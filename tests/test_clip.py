"""The two towers, beside open_clip's own forward pass."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodir.clip import SD15, SD21, SMALL, Clip, TextTower
from autodir.errors import CheckpointError, ContractError
from autodir.tokens import ClipTokenizer, Tokens, learn_tokenizer

PHRASES = ["remove the fog", "a photo", "", "Bitte den Regen entfernen, danke"]
TINY: dict[str, Any] = {
    **SMALL,
    "embed_dim": 24,
    "vision": {"layers": [1, 1, 1, 1], "width": 4, "image_size": 64, "head_width": 32},
    "text": {"context_length": 16, "vocab_size": 300, "width": 16, "heads": 2, "layers": 2},
}


def build(config: dict[str, Any] = TINY) -> Clip:
    torch.manual_seed(0)
    return Clip.from_config(config, learn_tokenizer(PHRASES, 300)).eval()


@pytest.fixture(scope="module")
def clip() -> Clip:
    return build()


@pytest.fixture(scope="module")
def published() -> Clip:
    torch.manual_seed(0)
    text = {**TINY["text"], "vocab_size": 49408, "context_length": 77}
    return Clip.from_config({**TINY, "quick_gelu": True, "tokenizer": "clip", "text": text}).eval()


@torch.inference_mode()
def test_sentence_vector_equals_open_clip(published: Clip) -> None:
    ids = published.tokenizer.encode(PHRASES, 77).ids
    expected = published.towers.encode_text(ids, normalize=True)
    torch.testing.assert_close(published.encode_text(PHRASES).pooled, expected)


@torch.inference_mode()
def test_sentence_vector_is_the_projected_state_at_the_end_token(clip: Clip) -> None:
    text = clip.encode_text(PHRASES)
    last = clip.tokenizer.encode(PHRASES, 16).last
    state = text.tokens[torch.arange(4), last] @ clip.towers.text_projection
    torch.testing.assert_close(text.pooled, state / state.norm(dim=-1, keepdim=True))


@torch.inference_mode()
def test_shapes_are_as_the_properties_say(clip: Clip) -> None:
    text = clip.encode_text(PHRASES)
    assert text.tokens.shape == (4, clip.context_length, clip.token_width) == (4, 16, 16)
    assert text.pooled.shape == (4, clip.embed_dim) == (4, 24)
    torch.testing.assert_close(text.pooled.norm(dim=-1), torch.ones(4))


@torch.inference_mode()
def test_padding_never_changes_a_sentence(clip: Clip) -> None:
    tokens = clip.tokenizer.encode(["a photo"], 16)
    whole = clip.encode_tokens(tokens)
    cut = clip.encode_tokens(Tokens(tokens.ids[:, :12], tokens.last))
    torch.testing.assert_close(cut.tokens, whole.tokens[:, :12])
    torch.testing.assert_close(cut.pooled, whole.pooled)


@torch.inference_mode()
def test_padded_positions_do_not_see_each_other(clip: Clip) -> None:
    tokens = clip.tokenizer.encode(["a photo"], 16)
    changed = tokens.ids.clone()
    changed[0, -2] = 7
    before = clip.encode_tokens(tokens).tokens
    after = clip.encode_tokens(Tokens(changed, tokens.last)).tokens
    torch.testing.assert_close(after[:, -1], before[:, -1])
    assert not torch.allclose(after[:, -2], before[:, -2])


@torch.inference_mode()
def test_phrases_do_not_see_each_other(clip: Clip) -> None:
    together = clip.encode_text(PHRASES)
    alone = clip.encode_text([PHRASES[0]])
    torch.testing.assert_close(alone.tokens[0], together.tokens[0])


@torch.inference_mode()
def test_without_the_mask_only_padding_changes(clip: Clip) -> None:
    short = ["fog", ""]
    masked, seen = (clip.encode_text(short, masked) for masked in (True, False))
    torch.testing.assert_close(seen.pooled, masked.pooled)
    last = clip.tokenizer.encode(short, 16).last
    for row, end in enumerate(last.tolist()):
        torch.testing.assert_close(seen.tokens[row, : end + 1], masked.tokens[row, : end + 1])
        assert not torch.allclose(seen.tokens[row, end + 2 :], masked.tokens[row, end + 2 :])


def test_no_phrase_is_refused(clip: Clip) -> None:
    with pytest.raises(ContractError):
        clip.encode_text([])


@torch.inference_mode()
def test_image_features_equal_open_clip_on_normalized_pixels(clip: Clip) -> None:
    crops = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(TINY[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    features = clip.encode_image(crops)
    torch.testing.assert_close(features, clip.towers.encode_image((crops - mean) / std))
    assert features.shape == (2, 24)
    assert not torch.allclose(features.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 32), (1, 3, 32, 32)])
def test_crops_of_another_shape_are_refused(clip: Clip, shape: tuple[int, ...]) -> None:
    with pytest.raises(ContractError, match="64"):
        clip.encode_image(torch.zeros(shape))


@torch.inference_mode()
def test_half_precision_gives_nearly_the_same(clip: Clip) -> None:
    half = build().to(torch.bfloat16)
    text = half.encode_text(PHRASES)
    assert text.tokens.dtype == torch.bfloat16
    cosine = (text.pooled.float() * clip.encode_text(PHRASES).pooled).sum(-1)
    assert float(cosine.min()) > 0.98
    features = half.encode_image(torch.rand(1, 3, 64, 64).to(torch.bfloat16))
    assert bool(torch.isfinite(features).all())


@torch.inference_mode()
def test_folder_holds_the_whole_module(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path)
    again = Clip.load(tmp_path)
    assert again.config == clip.config
    assert not again.training
    torch.testing.assert_close(again.encode_text(PHRASES).tokens, clip.encode_text(PHRASES).tokens)
    crops = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again.encode_image(crops), clip.encode_image(crops))


def test_published_tokenizer_needs_no_file(published: Clip, tmp_path: Path) -> None:
    published.save(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    assert isinstance(Clip.load(tmp_path).tokenizer, ClipTokenizer)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_incomplete_folder_is_refused(clip: Clip, tmp_path: Path, missing: str) -> None:
    clip.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError):
        Clip.load(tmp_path)


def test_weights_of_another_shape_are_refused(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["towers.text_projection"] = torch.zeros(16, 8)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="text_projection"):
        Clip.load(tmp_path)


def test_damaged_config_is_refused(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path)
    for text in ("{", "[]", json.dumps({**TINY, "tokenizer": "words"}), "{}"):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError):
            Clip.load(tmp_path)


def test_vocabulary_too_small_for_the_tokenizer_is_refused() -> None:
    with pytest.raises(ContractError, match="vocabulary of 200"):
        build({**TINY, "text": {**TINY["text"], "vocab_size": 200}})


def test_text_parameters_are_all_but_the_image_tower_and_the_scale(clip: Clip) -> None:
    text = {id(parameter) for parameter in clip.text_parameters()}
    others = {name for name, value in clip.named_parameters() if id(value) not in text}
    assert "towers.logit_scale" in others
    assert {name.split(".")[1] for name in others} == {"visual", "logit_scale"}
    assert float(clip.logit_scale.detach()) == pytest.approx(1 / 0.07, rel=1e-5)


def test_small_towers_keep_their_budget() -> None:
    with torch.device("meta"):
        clip = Clip(SMALL, learn_tokenizer(PHRASES, 300))
    image = sum(p.numel() for p in clip.towers.visual.parameters())
    text = sum(p.numel() for p in clip.text_parameters())
    assert image <= 2_500_000
    assert text <= 4_500_000


def test_published_shape_has_the_published_size() -> None:
    with torch.device("meta"):
        clip = Clip.from_config(SD15)
    positions = 77 + 257  # integer buffers of the published file
    assert sum(p.numel() for p in clip.parameters()) + positions == 427_616_847


SMALL_TEXT = {**SD21, "width": 16, "heads": 2, "layers": 2}


@pytest.fixture(scope="module")
def tower() -> TextTower:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return TextTower(SMALL_TEXT).eval()


@torch.inference_mode()
def test_a_tower_alone_gives_states_of_its_own_width(tower: TextTower) -> None:
    text = tower.encode_text(PHRASES, masked=False)
    assert text.tokens.shape == (4, 77, 16)
    assert text.pooled.shape == (4, 16)
    again = TextTower(tower.config)
    again.load_state_dict(tower.state_dict())
    assert torch.equal(again.encode_text(PHRASES, masked=False).tokens, text.tokens)
    with pytest.raises(ContractError):
        tower.encode_text([])


@torch.inference_mode()
def test_only_padding_differs_with_the_mask_of_a_tower(tower: TextTower) -> None:
    seen, masked = (tower.encode_text(PHRASES, masked=masked).tokens for masked in (False, True))
    for row, end in enumerate(tower.tokenizer.encode(PHRASES, 77).last.tolist()):
        torch.testing.assert_close(seen[row, : end + 1], masked[row, : end + 1])
        assert not torch.allclose(seen[row, end + 1 :], masked[row, end + 1 :])
