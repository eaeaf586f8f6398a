from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.model.backbones import BACKBONES
from sono.training.model.build import (
    build_model,
    center_features,
    check_weights_given,
    load_pretrained,
    make_transform,
    restore_model,
)
from sono.training.model.mask_clip import GROUPS, MaskClip, group_of
from sono.training.model.portable.mask_stem import MaskStem, build_clip, find_patch_embedding
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.step.optimizer import build_optimizer

KINDS = ["test-vit", "test-vit-quickgelu", "test-vit-average", "test-siglip", "test-timm", "test-eva"]
BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}

pytestmark = pytest.mark.usefixtures("small_backbones")


def plain(backbone: str) -> Any:
    torch.manual_seed(3)
    return build_clip(open_clip.get_model_config(backbone)).eval()


def made(backbone: str) -> MaskClip:
    return MaskClip(plain(backbone), backbone).eval()


def inputs(model: MaskClip, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(7)
    side = model.image_size
    tokens = torch.zeros(count, model.context_length, dtype=torch.long)
    tokens[:, :4] = torch.randint(1, 49000, (count, 4))
    tokens[:, 4] = 49407
    return torch.randn(count, 4, side, side), tokens


@pytest.mark.parametrize("backbone", KINDS)
def test_at_the_start_the_model_equals_its_clip_exactly_for_any_mask(backbone: str) -> None:
    clip = plain(backbone)
    side = clip.visual.image_size[0]
    image = torch.randn(2, 3, side, side)
    before = F.normalize(clip.encode_image(image), dim=-1)
    model = MaskClip(clip, backbone)
    for mask in (torch.zeros(2, 1, side, side), torch.ones(2, 1, side, side), 100 * torch.randn(2, 1, side, side)):
        assert torch.equal(model.encode_image(torch.cat([image, mask], dim=1)), before)


@pytest.mark.parametrize(
    ("backbone", "name", "has_bias"),
    [
        ("test-vit", "conv1", False),
        ("test-siglip", "trunk.patch_embed.proj", True),
        ("test-eva", "trunk.patch_embed.proj", True),
    ],
)
def test_the_patch_embedding_is_found_and_keeps_its_bias(backbone: str, name: str, has_bias: bool) -> None:
    model = made(backbone)
    assert model.stem_name == name
    stem = model.clip.visual.get_submodule(name)
    assert isinstance(stem, MaskStem)
    assert (stem.conv_rgb.bias is not None) == has_bias


def test_the_patch_embedding_is_the_first_convolution_whatever_its_name() -> None:
    class Tower(nn.Module):
        image_size = (32, 32)

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 4, 4)  # registered first, called last
            self.patches = nn.Conv2d(3, 3, 2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.conv1(self.patches(x)).mean((2, 3))
            return features

    assert find_patch_embedding(Tower()) == "patches"


@pytest.mark.parametrize("backbone", KINDS)
def test_every_parameter_is_in_the_group_it_belongs_to(backbone: str) -> None:
    before = {name for name, _ in plain(backbone).named_parameters()}
    clip = made(backbone).clip
    groups: dict[str, set[str]] = {group: set() for group in GROUPS}
    for name, _ in clip.named_parameters():
        groups[group_of(name)].add(name)
    for group, module in (("stem", "conv_mask"), ("depthwise", "dwconv")):
        (name,) = groups[group]
        assert name.endswith(f".{module}.weight")
    assert groups["logit"] == {"logit_scale", "logit_bias"}
    assert len(groups["vision"]) == len([name for name in before if name.startswith("visual.")])
    assert groups["text"] == {name for name in before if not name.startswith("visual.")} - groups["logit"]


@pytest.mark.parametrize("backbone", KINDS)
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_can_be_trained_alone(group: str, backbone: str) -> None:
    clip = made(backbone).clip
    rates = {f"lr_{name}": 1e-3 if name == group else 0.0 for name in GROUPS}
    build_optimizer(clip, recipes.Optimizer(**rates, weight_decay=0.0))
    trained = {group_of(name) for name, parameter in clip.named_parameters() if parameter.requires_grad}
    assert trained == {group}


@pytest.mark.parametrize("backbone", KINDS)
def test_the_mask_changes_features_once_its_weights_are_not_zero(backbone: str) -> None:
    model = made(backbone)
    x, _ = inputs(model)
    other = x.clone()
    other[:, 3] = -other[:, 3]
    with torch.no_grad():
        model.clip.visual.get_submodule(model.stem_name).conv_mask.weight.normal_(std=0.5)
    assert not torch.allclose(model.encode_image(x), model.encode_image(other), atol=1e-3)


def test_the_stem_mixes_neighbouring_patches_once_its_depthwise_convolution_is_trained() -> None:
    stem = made("test-vit").clip.visual.conv1
    x = torch.randn(1, 4, 48, 48)
    patches = stem(x)
    with torch.no_grad():
        stem.dwconv.weight[:, 0, 0, 1] = 1.0  # adds the patch above
    assert torch.allclose(stem(x)[:, :, 1:], patches[:, :, 1:] + patches[:, :, :-1], atol=1e-5)


def test_a_timm_tower_set_to_another_size_keeps_its_stem() -> None:
    model = made("test-siglip")
    with torch.no_grad():
        model.clip.visual.get_submodule(model.stem_name).conv_mask.weight.normal_()
    model.clip.visual.set_input_size(96)
    assert model.image_size == 96
    assert model.encode_image(torch.randn(2, 4, 96, 96)).shape == (2, 96)


@pytest.mark.parametrize("backbone", KINDS)
@pytest.mark.slow
def test_gradient_checkpointing_saves_activations_and_changes_no_gradient(backbone: str) -> None:
    model = made(backbone).train()
    x, tokens = inputs(model)

    def gradients() -> tuple[int, dict[str, torch.Tensor]]:
        kept: list[int] = []
        torch.manual_seed(5)  # the relative positions are dropped at random
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
            image, text = model(x, tokens)
        model.zero_grad()
        (image @ text.T * torch.tensor([[1.0, -2.0], [3.0, 4.0]])).sum().backward()
        return sum(kept), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    without, expected = gradients()
    model.set_grad_checkpointing()
    with_, found = gradients()
    assert with_ < 0.8 * without
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    model.set_grad_checkpointing(False)
    assert gradients()[0] == without


@pytest.mark.parametrize("backbone", ["test-vit", "test-siglip"])
@pytest.mark.slow
def test_the_model_compiles_without_a_graph_break(backbone: str) -> None:
    model = made(backbone)
    x, tokens = inputs(model)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for found, expected in zip(compiled(x, tokens), model(x, tokens), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("backbone", KINDS)
def test_under_autocast_features_are_those_of_full_precision_up_to_rounding(backbone: str) -> None:
    model = made(backbone)
    x, tokens = inputs(model)
    expected = model(x, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, tokens)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.allclose(one.norm(dim=-1), torch.ones(2), atol=1e-5)
        assert ((one * other).sum(dim=-1) > 0.99).all()


@pytest.mark.parametrize("backbone", ["test-vit", "test-vit-average", "test-siglip", "test-eva"])
def test_both_towers_use_fused_attention(backbone: str) -> None:
    model = made(backbone).train()
    x, tokens = inputs(model)
    blocks = len([m for m in model.modules() if type(m).__name__ in ("ResidualAttentionBlock", "Block", "EvaBlock")])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model(x, tokens)
    counts = {event.key: event.count for event in profile.key_averages()}
    assert blocks >= 2
    assert counts["aten::scaled_dot_product_attention"] >= blocks
    with sdpa_kernel(SDPBackend.MATH):  # and gives what the plain computation gives
        expected = model(x, tokens)
    for one, other in zip(model(x, tokens), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_backbone_without_a_logit_bias_gets_one() -> None:
    assert "init_logit_bias" not in open_clip.get_model_config("test-vit")
    settings = recipes.Model(backbone="test-vit", from_scratch=True)
    model = build_model(settings, recipes.Loss(temperature=10.0, bias=-7.0))
    assert model.clip.logit_scale.exp().item() == pytest.approx(10.0)
    assert model.clip.logit_bias.item() == -7.0
    assert model.clip.logit_bias.requires_grad


def test_the_recipe_turns_gradient_checkpointing_on() -> None:
    settings = recipes.Model(backbone="test-vit", from_scratch=True, grad_checkpointing=True)
    clip = build_model(settings, recipes.Loss()).clip
    assert clip.visual.transformer.grad_checkpointing
    assert clip.transformer.grad_checkpointing
    assert not restore_model("test-vit", clip.state_dict()).clip.transformer.grad_checkpointing


def test_fetalclip_is_a_backbone_by_name() -> None:
    with torch.device("meta"):
        clip = build_clip(BACKBONES["FetalCLIP"])
    assert clip.context_length == 117
    assert clip.positional_embedding.shape == (117, 768)
    assert clip.visual.conv1.weight.shape == (1024, 3, 14, 14)
    assert len(clip.visual.transformer.resblocks) == 24


def test_the_paper_recipe_refuses_to_start_without_weights() -> None:
    with pytest.raises(UserError, match="starts from pretrained weights, but none are given"):
        check_weights_given(recipes.vit_l_14_336().model, recipes.Loss())


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("test-vit", "missing.pt", "not a file, a tag"),
        ("ViT-B-32", "openai", "a different activation from ViT-B-32's; use --set model.backbone=ViT-B-32-quickgelu"),
        ("test-vit", "hf-hub:sono/none", "cannot be downloaded"),
        ("hf-hub:sono/none", "openai", "the configuration of hf-hub:sono/none cannot be read"),
        ("ViT-B-16-SigLlP", "webli", "open_clip has no model 'ViT-B-16-SigLlP'; did you mean 'ViT-B-16-SigLIP'?"),
        ("sono-tini", "x", "did you mean 'sono-tiny'?"),
        ("RN50", "openai", "its image tower begins with conv1 (Conv2d), which cuts no patches"),
        ("coca_ViT-B-32", "laion2b_s13b_b90k", "it is a CoCa"),
    ],
)
@pytest.mark.slow
def test_an_unavailable_backbone_or_weights_are_a_one_line_error(backbone: str, weights: str, message: str) -> None:
    settings = recipes.Model(backbone=backbone, weights=weights)
    with pytest.raises(UserError) as raised:
        load_pretrained(build_model(settings, recipes.Loss()), settings, recipes.Loss())
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("backbone", "weights", "mean"),
    [
        ("ViT-B-16-SigLIP", "webli", 0.5),
        ("ViT-B-16-SigLIP", "siglip.pt", 0.5),
        ("ViT-L-14", "laion2b_s32b_b82k", 0.5),
        ("ViT-L-14", "weights.pt", 0.48145466),
        ("sono-tiny", None, 0.48145466),
    ],
)
def test_images_are_normalised_as_the_weights_expect(backbone: str, weights: str | None, mean: float) -> None:
    settings = recipes.Model(backbone=backbone, weights=weights, from_scratch=weights is None)
    transform = make_transform(made("test-vit"), settings)
    assert (transform.size, transform.mean[0]) == (48, mean)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open_clip_config.json", {"preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}),
        ("processor_config.json", {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}),
    ],
)
def test_images_are_normalised_as_a_file_beside_the_weights_says(name: str, content: object, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()
    (tmp_path / name).write_text(json.dumps(content))
    settings = recipes.Model(backbone="ViT-L-14", weights=str(tmp_path / "weights.safetensors"))
    transform = make_transform(made("test-vit"), settings)
    assert (transform.mean, transform.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match=f"{name}: cannot be read"):
        make_transform(made("test-vit"), settings)


def test_centring_tells_features_of_random_weights_apart() -> None:
    torch.manual_seed(0)
    model = build_model(recipes.tiny().model, recipes.Loss())
    captions = [f"A {weeks}-week fetal ultrasound femur plane." for weeks in range(14, 23)]
    x, tokens = torch.randn(16, 4, 64, 64), CaptionTokenizer(77)(captions)
    before = [features.detach() for features in model(x, tokens)]
    center_features(model, x, tokens)
    after = [features.detach() for features in model(x, tokens)]
    for one, other in zip(before, after, strict=True):
        assert (one @ one.T).mean() > 0.5
        assert abs((other @ other.T).mean()) < 0.1
    for raw in (model.clip.encode_image(x), model.clip.encode_text(tokens)):
        assert raw.mean(dim=0).abs().max() < 1e-4 * raw.abs().max()


@pytest.mark.parametrize("backbone", KINDS)
def test_centring_works_for_every_kind_of_tower(backbone: str) -> None:
    model = made(backbone)
    x, tokens = inputs(model, 4)
    center_features(model, x, tokens)
    assert all(torch.isfinite(features).all() for features in model(x, tokens))


def bert_backbone(folder: Path, words: str) -> str:
    """A backbone whose text tower and tokenizer are transformers', all in files."""
    from transformers import BertConfig

    shutil.copytree(words, folder / "text", dirs_exist_ok=True)
    BertConfig(**BERT).save_pretrained(folder / "text")
    settings = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_proj": "linear", "timm_pool": ""},
        "text_cfg": {
            "hf_model_name": str(folder / "text"), "hf_tokenizer_name": str(folder / "text"), "context_length": 12,
            "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler",
        },
    }  # fmt: skip
    name = f"test-bert-{folder.name}"
    (folder / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


def test_a_text_tower_of_transformers_uses_its_own_tokenizer(
    tmp_path: Path, small_backbones: dict[str, dict[str, Any]]
) -> None:
    backbone = bert_backbone(tmp_path, small_backbones["test-words"]["text_cfg"]["hf_tokenizer_name"])
    model = build_model(recipes.Model(backbone=backbone, from_scratch=True), recipes.Loss())
    assert model.context_length == 12
    tokens = model.tokenizer(["A fetal femur plane ."])
    assert tokens.tolist() == [[1, 4, 5, 7, 10, 11, 2, 0, 0, 0, 0, 0]]
    assert model.encode_text(tokens).shape == (1, 32)
    with pytest.raises(UserError, match="a caption has 14 tokens, but the text tower reads 12"):
        model.tokenizer(["fetal " * 12])
    assert {group_of(name) for name, _ in model.clip.text.named_parameters(prefix="text")} == {"text"}
    model.train().set_grad_checkpointing()
    assert model.clip.text.transformer.encoder.layer[0].gradient_checkpointing
    model.set_grad_checkpointing(False)
    assert not model.clip.text.transformer.encoder.layer[0].gradient_checkpointing


def test_without_transformers_the_error_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs transformers, which is not installed; run: pip install transformers"):
        CaptionTokenizer(64, open_clip.get_model_config("ViT-B-16-SigLIP")["text_cfg"])
    monkeypatch.setattr(open_clip.hf_model, "transformers", None)
    settings = recipes.Model(backbone="roberta-ViT-B-32", from_scratch=True)
    with pytest.raises(UserError, match=r"text tower of roberta-ViT-B-32 needs transformers.*pip install transformers"):
        build_model(settings, recipes.Loss())


def test_a_tokenizer_that_cannot_be_loaded_is_a_one_line_error() -> None:
    with pytest.raises(UserError, match="the tokenizer timm/ViT-B-16-SigLIP cannot be loaded") as raised:
        CaptionTokenizer(64, open_clip.get_model_config("ViT-B-16-SigLIP")["text_cfg"])
    assert "\n" not in str(raised.value)
