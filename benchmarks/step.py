"""The whole training step: skeleton, texts, losses, gradients, optimiser. What caching and packing the texts buy.

    python -m benchmarks.step

A text tower of ViT-B-32's size with random weights (speed does not depend on what it knows), the demo's prompts, 16
clips of 64 frames and 25 joints, 80 % of them with one body, four texts a clip. Every variant computes the same losses:

- frozen, cached: `ClipActionTask` as it trains by default, in fp32 and in bf16, against the plain reference network in
  fp32 with all 4 x 16 texts encoded, without gradient, at 77 tokens in every step;
- tuned: `ClipActionTask` with ``text.freeze=false`` against the same task encoding all 4 x 16 texts at 77 tokens.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import interleaved, write_result
from benchmarks.reference.ctrgcn import ReferenceBpi
from feeders.batch import SkeletonBatch
from feeders.skeleton import NTU25
from model.adjacency import spatial_graph
from model.class_texts import ClassTexts, TunedTexts
from model.encoders.ctrgcn import CtrGcnConfig
from model.losses import ClipLossConfig, contrastive_loss
from model.part_clip import PartClipConfig
from model.tasks.clip_action import ClipActionTask, InferenceConfig
from model.text_tower import TextConfig
from model.text_towers.open_clip_tower import OpenClipTower
from text_prompts.bank import load_bank
from torchlight.allocator import keep_freed_memory
from torchlight.task import StepOutput

CLIPS, FRAMES, BODIES, SCHEME = 16, 64, 2, "torso_arms_legs"
PROMPTS = "demo"
TEXT = TextConfig(tower="open_clip", model="ViT-B-32", pretrained="none", prompts=PROMPTS)
MODEL = PartClipConfig(encoder=CtrGcnConfig(absent_bodies="published"), parts=SCHEME)
AIMS = {"frozen fp32": 3.4, "frozen bf16": 5.0, "tuned fp32": 3.0}


class PaddedTexts(TunedTexts):
    """The naive way: every text of the batch encoded by itself, repeats included, all at 77 tokens."""

    def embed(self, text: Tensor) -> Tensor:
        """Encode them all."""
        tower = self.tower
        assert isinstance(tower, OpenClipTower)
        tokens = tower.tokenizer([self.texts[number] for number in text.tolist()])
        return F.normalize(tower.text.encode_text(tokens), dim=-1)


class FrozenPaddedTexts(PaddedTexts):
    """The same without gradient: a frozen tower that nobody thought of caching."""

    def embed(self, text: Tensor) -> Tensor:
        """Encode them all."""
        with torch.no_grad():
            return super().embed(text)


class ReferenceStep(nn.Module):
    """BPI's network, plainly, trained on the same losses."""

    def __init__(self, classes: int, texts: ClassTexts) -> None:
        super().__init__()
        parts = [part.joints for part in NTU25.parts(SCHEME).values()]
        self.network = ReferenceBpi(classes, spatial_graph(NTU25), parts, texts.width, BODIES)
        self.texts = texts

    def training_step(self, batch: SkeletonBatch) -> StepOutput:
        """Cross-entropy and one contrastive loss per slot."""
        logits, whole, parts, scale = self.network.describe(batch.pose, batch.body_mask)
        text = self.texts.draw(batch.label)
        losses = {"classification": F.cross_entropy(logits, batch.label)}
        for row, embedding in enumerate([whole, *parts]):
            loss = contrastive_loss("multi_positive", embedding, text[:, row], batch.label, scale[0, row])
            losses[f"contrast/{row}"] = 0.2 * loss
        return StepOutput(losses)


Step = Callable[[], None]


def main() -> None:
    """Measure, check, print and write ``benchmarks/results/step.json``."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    batch, bank = _batch(), load_bank(PROMPTS)
    classes = tuple(prompt.name for prompt in bank.classes)
    tuned = _task(classes, freeze=False)
    padded = _task(classes, freeze=False)
    padded.texts = _padded(PaddedTexts, tuned)
    difference = gradient_difference(tuned, padded, batch)
    if difference > 1e-4:
        raise SystemExit(f"the packed tower's gradients differ by {difference:.1e}, expected at most 1e-4 relative")

    steps: dict[str, Step] = {
        "reference network, frozen texts at 77 tokens, fp32": _step(
            ReferenceStep(len(classes), _padded(FrozenPaddedTexts, tuned)), batch
        ),
        "frozen and cached, fp32": _step(_task(classes, freeze=True), batch),
        "frozen and cached, bf16": _step(_task(classes, freeze=True), batch, torch.bfloat16),
        "tuned, every text at 77 tokens, fp32": _step(padded, batch),
        "tuned, distinct texts packed, fp32": _step(tuned, batch),
    }
    seconds = interleaved(steps)
    uncached, cached, cached_bf16, naive, packed = (seconds[name] for name in steps)
    ratios = {
        "frozen fp32": uncached / cached,
        "frozen bf16": uncached / cached_bf16,
        "tuned fp32": naive / packed,
    }
    for name, value in seconds.items():
        print(f"{name:55s} {1000 * value:8.0f} ms")
    for name, ratio in ratios.items():
        print(f"{name:55s} {ratio:8.2f} x   (expected at least {AIMS[name]})")
    print(f"largest relative gradient difference of the tuned tower: {difference:.1e}")
    write_result("step", {"seconds": seconds, "ratios": ratios, "gradient_difference": difference})


def gradient_difference(first: ClipActionTask, second: ClipActionTask, batch: SkeletonBatch) -> float:
    """Largest ||g1 - g2|| / ||g1|| of two tasks with equal weights, on equal draws.

    Over each parameter of the text towers, and over the gradient of the rest as one vector: some parameters there
    (biases in front of a norm or of a softmax over keys) have a gradient of nothing but rounding.
    """
    second.load_state_dict(first.state_dict())
    gradients: list[list[Tensor]] = []
    for task in (first, second):
        task.train().zero_grad()
        torch.manual_seed(1)
        torch.stack(list(task.training_step(batch).losses.values())).sum().backward()
        pieces = {name: p.grad.flatten() for name, p in task.named_parameters() if p.grad is not None}
        tower = [gradient for name, gradient in pieces.items() if name.startswith("texts.")]
        rest = [gradient for name, gradient in pieces.items() if not name.startswith("texts.")]
        gradients.append([*tower, torch.cat(rest)])
    return max(float((ours - theirs).norm() / ours.norm()) for ours, theirs in zip(*gradients, strict=True))


def _task(classes: tuple[str, ...], freeze: bool) -> ClipActionTask:
    return ClipActionTask.build(
        model=MODEL,
        text=TEXT.model_copy(update={"freeze": freeze}),
        loss=ClipLossConfig(),
        inference=InferenceConfig(),
        skeleton=NTU25,
        class_names=classes,
        bodies=BODIES,
    )


def _padded(kind: type[PaddedTexts], tuned: ClipActionTask) -> PaddedTexts:
    """The texts of a tuned task, encoded the naive way by a tower of their own."""
    texts = tuned.texts
    assert isinstance(texts, TunedTexts)
    tower = OpenClipTower(TEXT.model, TEXT.pretrained)
    tower.load_state_dict(texts.tower.state_dict())
    return kind(texts.pool, texts.pool_size, texts.part, texts.texts, tower)


def _batch() -> SkeletonBatch:
    body_mask = torch.ones(CLIPS, BODIES, dtype=torch.bool)
    body_mask[: round(0.8 * CLIPS), 1] = False
    weight = body_mask[:, None, None, :].float().expand(-1, FRAMES, len(NTU25.joints), -1)
    return SkeletonBatch(
        pose=torch.randn(CLIPS, 3, FRAMES, len(NTU25.joints), BODIES) * weight.unsqueeze(1),
        joint_weight=weight,
        body_mask=body_mask,
        frame_mask=torch.ones(CLIPS, FRAMES, dtype=torch.bool),
        label=torch.randint(len(load_bank(PROMPTS).classes), (CLIPS,)),
        sample_id=tuple(map(str, range(CLIPS))),
    )


def _step(task: ClipActionTask | ReferenceStep, batch: SkeletonBatch, precision: torch.dtype | None = None) -> Step:
    """One training step with SGD, as the engine does it; parameters that get no gradient are not trained."""
    optimiser = torch.optim.SGD(task.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)

    def step() -> None:
        task.train()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            losses = task.training_step(batch).losses
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    main()
