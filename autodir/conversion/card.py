"""The card that a converted model carries: where its weights come from, and what to check first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autodir.builders import Model

REPOSITORY = "https://github.com/jiangyitong/AutoDIR"
_PARTS = {
    "clip": "text and image tower: OpenAI CLIP ViT-L/14 (`ViT-L-14-quickgelu`), image tower tuned",
    "biqa": "scale of the cosines between photo and prompts",
    "vae": "autoencoder of Stable Diffusion 1.5 (8× smaller, 4 channels, scale 0.18215)",
    "unet": "U-Net of Stable Diffusion 1.5 with 8 input channels, tuned",
    "scm": "NAFNet, width 64, blocks 2-2-4-8, 12, 2-2-2-2: the structural correction",
}
_BORROWED = ("clip", "biqa", "scm")
_RESTORER_PARTS = {
    "unet": "U-Net of Stable Diffusion 2.1, 4 input channels",
    "vae": "autoencoder of Stable Diffusion 2.1 (8× smaller, 4 channels, scale 0.18215)",
    "text": "text tower of OpenCLIP ViT-H/14 without its last layer",
    "cfw": "controllable feature wrapping in the decoder, for `--fidelity`",
}
_ADAPTERS = {
    "stablesr": "time-aware encoder, and SPADE behind each residual block of the U-Net",
    "diffbir": "IRControlNet: a copy of the U-Net's encoder, fed with the photo's latents",
}
_REPOSITORIES = {
    "stablesr": "https://github.com/IceClear/StableSR",
    "diffbir": "https://github.com/XPixelGroup/DiffBIR",
}
_LICENCES = {
    "stablesr": """\
- **StableSR's weights are non-commercial.** They are published under the S-Lab License 1.0 (NTU):
  use and redistribution for non-commercial purposes only; for anything else ask its authors. A
  part of their code carries CC BY-NC-SA 4.0, and the authors of a port extend that to the pictures
  it makes: do not use results commercially without asking.""",
    "diffbir": """\
- DiffBIR's code is published under Apache-2.0; its weights name no licence of their own. Look at
  its repository before you pass this folder on.""",
}
_HINTS = {
    "stablesr": """\
autodir fix photo.jpg --model DIR --scale 4 --sampler euler_ancestral --tile 64
autodir fix photo.jpg --model DIR --color-fix adain    # the colors of the photo, as in its paper
autodir fix photo.jpg --model DIR --start noise        # instead of the photo under the last noise
autodir fix photo.jpg --model DIR --fidelity 0.5       # where --cfw was converted with it""",
    "diffbir": """\
autodir fix photo.jpg --model DIR --stage1 swinir.ckpt --sampler euler_ancestral
autodir fix photo.jpg --model DIR --two-stage --color-fix wavelet
autodir fix photo.jpg --model DIR --prompt "a sharp photo" --guidance-text 4
autodir fix photo.jpg --model DIR --guidance-region 0.5""",
}


def model_card(facts: Mapping[str, Any], model: Model) -> str:
    """The text of a converted folder's ``README.md``.

    Args:
        facts: source, sha256, dtype and steps of the conversion.
        model: whose parameters are counted; they need no values.
    """
    rows = "\n".join(
        f"| `{part}` | {_PARTS[part]} | {sum(p.numel() for p in module.parameters()):,} |"
        for part, module in model.modules.items()
    )
    labels = ", ".join(model.taxonomy.labels)
    steps = "not stated" if facts["steps"] is None else f"{facts['steps']:,}"
    return f"""# sd15: the published AutoDIR, converted

Converted by `autodir models convert` from `{facts["source"]}`
(sha256 `{facts["sha256"]}`, training steps {steps}), stored as {facts["dtype"]}.
The weights are those of the file; nothing was trained or changed.

| part | what it is | parameters |
|---|---|--:|
{rows}

Labels, in the order of the softmax: {labels}.

## Where the weights are published

The authors of AutoDIR (Jiang, Zhang, Xue, Gu; ECCV 2024, arXiv 2310.10123) link `autodir.ckpt` from
the README of <{REPOSITORY}>. It lies on Google Drive. autodir does not ship it,
and does not download it.

## What you must check

- **No licence is stated.** That repository has no licence file at its root, and says nothing about
  the weights. Without a licence nobody but the authors may copy, change or pass them on; ask them
  before you use this folder for more than your own study, and do not publish it.
- The U-Net and the autoencoder descend from Stable Diffusion 1.5, whose licence is CreativeML
  OpenRAIL-M: its limits of use (attachment A) go with everything derived from it.
- The towers descend from OpenAI's CLIP, the correction from NAFNet; both codes are published
  under MIT.
- The authors publish no checksum. The hash above says which file this folder was made of, not that
  it is theirs: compare it with that of somebody who downloaded it independently.
- The thresholds of the diagnosis are the published rule and were not calibrated: how often good
  photos are touched is not known. Measure it on your own with `autodir evaluate`.

## Use

```bash
autodir fix photo.jpg --model DIR                   # our loop: a grid of crops, the guard, any size
autodir fix photo.jpg --model DIR --preset parity   # the published loop
```

The padding of a prompt is seen by the text tower in words of your own and masked in automatic mode,
as in the published code; `--prompt-padding masked` treats both alike, as the published training
did.
"""


def restorer_card(facts: Mapping[str, Any], model: Model) -> str:
    """The card of a converted StableSR or DiffBIR.

    Args:
        facts: source, sha256, dtype, layout, besides and diagnosis of the conversion.
        model: whose parameters are counted; they need no values.
    """
    system = facts["layout"].partition("-")[0]
    words = _RESTORER_PARTS | {"adapter": _ADAPTERS[system]}
    words |= dict.fromkeys(_BORROWED, f"of the model `{facts['diagnosis']}`, not published with it")
    rows = "\n".join(
        f"| `{part}` | {words[part]} | {sum(p.numel() for p in module.parameters()):,} |"
        for part, module in model.modules.items()
    )
    files = [facts, *facts["besides"].values()]
    sources = "\n".join(f"- `{file['source']}`, sha256 `{file['sha256']}`" for file in files)
    return f"""# sd21: the published weights of the layout `{facts["layout"]}`, converted

Converted by `autodir models convert`, stored as {facts["dtype"]}, from

{sources}

The weights are those of the files; nothing was trained or changed.

| part | what it is | parameters |
|---|---|--:|
{rows}

The published system has no diagnosis: that of `{facts["diagnosis"]}` says whether a photo needs a
repair, its guard judges the result. The U-Net is told the empty text, as published, or your own
words (`--prompt`). The structural correction has no weight unless `--structure-weight` gives it
one. Where the original draws the photo's latents from the encoder's distribution, the mean is
taken.

## What you must check

{_LICENCES[system]}
- U-Net, autoencoder and text tower are Stable Diffusion 2.1's, under CreativeML Open RAIL++-M: its
  limits of use go with everything derived from it.
- The authors publish no checksum. The hashes above say which files this folder was made of, not
  that they are theirs. They link them from <{_REPOSITORIES[system]}>; autodir ships none of them
  and downloads none.
- What a U-Net predicts (noise or velocity) is not written in its file: it is that of the layout's
  name. Gray or noisy results are the sign of a wrong one.

## Use

```bash
{_HINTS[system]}
```
"""
