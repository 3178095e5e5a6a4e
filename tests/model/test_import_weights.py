from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.reference.ctrgcn import ReferenceBpi, ReferenceCtrGcn
from feeders.batch import SkeletonBatch
from feeders.skeleton import KINECT20, NTU25
from model.adjacency import spatial_graph
from model.encoders.ctrgcn import CtrGcnConfig
from model.import_weights import import_state_dict, read_state_dict
from model.part_clip import PartClip, PartClipConfig

CLASSES, FRAMES = 10, 12


def scrambled(network: nn.Module) -> nn.Module:
    """Random values of a size that keeps features near 1 through ten blocks."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                size = value[0].numel() if value.dim() > 1 else 100
                value.copy_(torch.randn(value.shape, generator=generator) * size**-0.5)
                if name.endswith(("bn.weight", "running_var", "layer_norm.weight")) or value.dim() == 1:
                    value.abs_().add_(0.5 if "var" in name or "weight" in name else 0)
            else:
                value.fill_(17)
    return network.eval()


def batch() -> SkeletonBatch:
    body_mask = torch.tensor([[True, False], [True, True], [True, False]])
    pose = torch.randn(3, 3, FRAMES, 25, 2, generator=torch.Generator().manual_seed(1))
    weight = body_mask[:, None, None, :].expand(-1, FRAMES, 25, -1).float()
    return SkeletonBatch(
        pose=pose * weight.unsqueeze(1),
        joint_weight=weight,
        body_mask=body_mask,
        frame_mask=torch.ones(3, FRAMES, dtype=torch.bool),
        label=torch.zeros(3, dtype=torch.long),
        sample_id=("a", "b", "c"),
    )


def part_clip(text_width: int | None) -> PartClip:
    config = PartClipConfig(encoder=CtrGcnConfig(absent_bodies="published"))
    return PartClip(config, NTU25, CLASSES, bodies=2, text_width=text_width).eval()


def bpi() -> ReferenceBpi:
    parts = [part.joints for part in NTU25.parts("torso_arms_legs").values()]
    return ReferenceBpi(CLASSES, spatial_graph(NTU25), parts)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_ctrgcn_state_dict_gives_the_plain_references_logits(prefix: str) -> None:
    reference = scrambled(ReferenceCtrGcn(CLASSES, spatial_graph(NTU25)))
    imported = import_state_dict({prefix + name: value for name, value in reference.state_dict().items()}, NTU25)
    assert (imported.family, imported.leftovers, imported.text_head) == ("ctrgcn", (), None)
    network = part_clip(text_width=None)
    network.load_state_dict(imported.state_dict())
    clips = batch()
    with torch.no_grad():
        expected = reference(clips.pose, clips.body_mask)
        torch.testing.assert_close(network(clips).logits, expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bpi_state_dict_gives_the_plain_references_logits_and_descriptions(prefix: str) -> None:
    reference = scrambled(bpi())
    imported = import_state_dict({prefix + name: value for name, value in reference.state_dict().items()}, NTU25)
    assert (imported.family, imported.leftovers, imported.text_head) == ("bpi", (), "ViT-B/32")
    network = part_clip(text_width=512)
    network.load_state_dict(imported.state_dict())
    clips = batch()
    with torch.no_grad():
        logits, whole, parts, scale = reference.describe(clips.pose, clips.body_mask)
        output = network(clips)
    torch.testing.assert_close(output.logits, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.text.embedding, torch.stack([whole, *parts], dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.text.scale, scale[0], rtol=1e-5, atol=1e-5)


def test_gap_keeps_its_part_heads_apart_and_its_temperature_becomes_a_logarithm() -> None:
    state = scrambled(ReferenceCtrGcn(CLASSES, spatial_graph(NTU25))).state_dict()
    state |= {"logit_scale": torch.full((1, 5), 2.6593)}
    for head in ("linear_head.ViT-L/14@336px", *(f"part_list.{index}" for index in range(4))):
        state |= {f"{head}.weight": torch.randn(768, 256), f"{head}.bias": torch.randn(768)}
    imported = import_state_dict(state, NTU25)
    assert (imported.family, imported.leftovers, imported.text_head) == ("gap", (), "ViT-L/14@336px")
    assert sorted(imported.extra) == sorted(name for name in state if name.startswith("part_list"))
    torch.testing.assert_close(imported.logit_scale, torch.full((5,), 2.6593).log())
    torch.testing.assert_close(imported.whole["weight"], state["linear_head.ViT-L/14@336px.weight"])


def test_every_number_of_a_state_dict_arrives_once() -> None:
    state = {name: torch.full_like(value, index) for index, (name, value) in enumerate(bpi().state_dict().items())}
    arrived = import_state_dict(state, NTU25).state_dict()

    def total(values: dict[str, Tensor]) -> int:
        return sum(int(v.double().sum()) for name, v in values.items() if "num_batches" not in name)

    assert total(arrived) == total(state)


def test_a_wrong_state_dict_is_refused_with_what_differs() -> None:
    state = scrambled(ReferenceCtrGcn(CLASSES, spatial_graph(NTU25))).state_dict()
    del state["l3.gcn1.PA"]
    state["fc.weight"] = torch.zeros(CLASSES, 100)
    state["head.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="weights: got") as caught:
        import_state_dict(state, NTU25)
    assert "missing (1): l3.gcn1.PA" in str(caught.value)
    assert "unexpected (1): head.weight" in str(caught.value)
    assert "fc.weight (10, 100), expected (10, 256)" in str(caught.value)


def test_weights_of_another_skeleton_are_refused() -> None:
    state = ReferenceCtrGcn(CLASSES, spatial_graph(NTU25)).state_dict()
    with pytest.raises(ValueError, match=r"KINECT20(.|\n)*l1.gcn1.PA \(3, 25, 25\), expected \(3, 20, 20\)"):
        import_state_dict(state, KINECT20)


def test_a_file_is_read_and_a_file_that_would_run_code_is_not(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0)}
    torch.save(state, tmp_path / "runs-1-2.pt")
    torch.testing.assert_close(read_state_dict(tmp_path / "runs-1-2.pt"), state)
    torch.save({"a": Path("anything that is no tensor")}, tmp_path / "runs-2-4.pt")
    with pytest.raises(ValueError, match="runs-2-4.pt"):
        read_state_dict(tmp_path / "runs-2-4.pt")
    (tmp_path / "runs-3-6.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="runs-3-6.pt"):
        read_state_dict(tmp_path / "runs-3-6.pt")
    with pytest.raises(FileNotFoundError, match="runs-4-8.pt"):
        read_state_dict(tmp_path / "runs-4-8.pt")
