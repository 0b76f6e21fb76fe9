"""What the networks are told in training: one-hot prompts, mixtures and free phrases.

Apart from diffusion and correction because both are told the same, so that automatic mode, mixtures
and free prompts all are in distribution for both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodir.clip import Clip
from autodir.diffusion.conditioning import PhraseEncoder, mix
from autodir.phrases import PhraseCorpus
from autodir.prompts import Taxonomy
from autodir.records import TextEmbedding

MIXED, PHRASED = 0.3, 0.2
"""Shares of samples told a mixture of prompts, and a free phrase; others get one prompt."""
LEAST_MAIN = 0.5
"""Smallest weight of the main degradation in a mixture."""


class Instructions:
    """Draws a text embedding for each sample of a batch.

    Args:
        clip: the frozen text tower.
        taxonomy: the labels, in softmax order.
        corpus: free phrases by key.
    """

    def __init__(self, clip: Clip, taxonomy: Taxonomy, corpus: PhraseCorpus) -> None:
        self.taxonomy = taxonomy
        self.encoder = PhraseEncoder(clip, capacity=20_000)
        self.prompts = self.encoder.encode(taxonomy.sentences)
        self.phrases = {  # a degradation without phrases is known by its prompt
            degradation.key: (
                corpus.phrases(degradation.key)
                if degradation.key in corpus.keys
                else (taxonomy.prompt(degradation.key),)
            )
            for degradation in taxonomy
        }

    def draw(self, labels: Tensor, generator: torch.Generator) -> TextEmbedding:
        """One embedding for each label.

        Args:
            labels: (B,) softmax indices, "no" included.
            generator: source of all randomness, on the CPU.

        Returns:
            tokens (B, L, D) and pooled (B, E).
        """
        kinds = torch.rand(len(labels), generator=generator)
        weights = torch.nn.functional.one_hot(labels.cpu(), len(self.taxonomy.keys)).float()
        others = torch.rand(weights.shape, generator=generator).pow(6) + 1e-6
        others[:, self.taxonomy.clean_index] = 0.0  # "no" conditions nothing, as in automatic mode
        others = others * (1 - weights)
        main = LEAST_MAIN + (1 - LEAST_MAIN) * torch.rand(len(labels), 1, generator=generator)
        mixed = main * weights + (1 - main) * others / others.sum(1, keepdim=True)
        clean = labels.cpu() == self.taxonomy.clean_index
        use = (kinds < MIXED) & ~clean
        weights = torch.where(use[:, None], mixed, weights)
        with torch.autocast(weights.device.type, enabled=False):
            embedding = mix(self.prompts, weights)
        rows = [
            (index, self._phrase(int(labels[index]), generator))
            for index in range(len(labels))
            if MIXED <= kinds[index] < MIXED + PHRASED and not clean[index]
        ]
        if not rows:
            return embedding
        free = self.encoder.encode([phrase for _, phrase in rows])
        tokens, pooled = embedding.tokens.clone(), embedding.pooled.clone()
        places = torch.tensor([index for index, _ in rows], device=tokens.device)
        tokens[places], pooled[places] = free.tokens.to(tokens), free.pooled.to(pooled)
        return TextEmbedding(tokens=tokens, pooled=pooled)

    def _phrase(self, label: int, generator: torch.Generator) -> str:
        phrases = self.phrases[self.taxonomy.keys[label]]
        return phrases[int(torch.randint(len(phrases), (), generator=generator))]
