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
