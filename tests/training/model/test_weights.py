"""Files as others write them, made here: each is read whole or refused."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.model.build import build_model, load_pretrained, restore_model
from sono.training.model.mask_clip import MaskClip
from sono.training.model.portable.mask_stem import add_mask_stem, build_clip

BACKBONE = "few-vit-quickgelu"

State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True, scope="module")
def _backbones(small_backbones: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those of the other tests with few words: most of a small model is its table of words."""
    folder = tmp_path_factory.mktemp("few-words")
    for backbone in ("test-vit", "test-vit-quickgelu"):
        settings = {
            **small_backbones[backbone],
            "text_cfg": {**small_backbones[backbone]["text_cfg"], "vocab_size": 600},
        }
        (folder / f"{backbone.replace('test-', 'few-')}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder)


def plain(seed: int, backbone: str = BACKBONE) -> Any:
    torch.manual_seed(seed)
    return build_clip(open_clip.get_model_config(backbone)).eval()


@pytest.fixture
def clip() -> Any:
    """What is in the files: random numbers everywhere."""
    made = plain(11)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return made


def openai(clip: Any) -> State:
    return {name: tensor for name, tensor in clip.state_dict().items() if name != "logit_bias"}


def alpha_clip(clip: Any) -> State:
    """An image tower in Alpha-CLIP's names, with a mask channel."""
    state = {
        name.removeprefix("visual.").replace(".attn.in_proj_", ".attn.in_proj."): tensor
        for name, tensor in clip.state_dict().items()
        if name.startswith("visual.")
    }
    return {**state, "conv1_alpha.weight": torch.randn(128, 1, 16, 16)}


def sonoclip(clip: Any) -> State:
    return {**alpha_clip(clip), "dwconv.weight": torch.randn(128, 1, 3, 3)}


def load(
    weights: Path, text: Path | None = None, backbone: str = BACKBONE, loss: recipes.Loss | None = None
) -> MaskClip:
    settings = recipes.Model(backbone=backbone, weights=str(weights), text_weights=str(text) if text else None)
    loss = loss or recipes.Loss()
    model = build_model(settings, loss)
    load_pretrained(model, settings, loss)
    return model.eval()


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def image_features(clip: Any, mask: torch.Tensor | None = None, depthwise: torch.Tensor | None = None) -> torch.Tensor:
    """Those that the formats' own code computes: patches + mask patches, then the depthwise convolution."""
    torch.manual_seed(1)
    x = torch.randn(3, 4, 48, 48)
    stem = clip.visual.conv1
    patches = torch.nn.functional.conv2d(x[:, :3], stem.weight, stride=16)
    if mask is not None:
        patches = patches + torch.nn.functional.conv2d(x[:, 3:], mask, stride=16)
    if depthwise is not None:
        patches = torch.nn.functional.conv2d(patches, depthwise, padding=1, groups=128)
    clip.visual.conv1 = torch.nn.Identity()
    features = clip.encode_image(patches, normalize=True).detach()
    clip.visual.conv1 = stem
    return features


def ours(model: MaskClip) -> torch.Tensor:
    torch.manual_seed(1)
    return model.encode_image(torch.randn(3, 4, 48, 48)).detach()


TOKENS = torch.tensor([[598, 320, 533, 599, *[0] * 20]])

WRAPPED: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}},
    "model": lambda state: {"model": state, "step": 3},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "state_dict of module.": lambda state: {"state_dict": {f"module.{n}": t for n, t in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_plain_clip_is_read_however_wrapped_and_leaves_the_stem_unchanged(
    wrapped: str, clip: Any, tmp_path: Path
) -> None:
    model = load(saved(WRAPPED[wrapped](openai(clip)), tmp_path / "weights.pt"))
    assert torch.equal(ours(model), image_features(clip))
    assert torch.equal(model.encode_text(TOKENS), clip.encode_text(TOKENS, normalize=True))
    assert not model.clip.visual.conv1.conv_mask.weight.any()


def test_openai_archives_are_read(clip: Any, tmp_path: Path) -> None:
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual, self.transformer = clip.visual, clip.transformer
            self.token_embedding, self.ln_final = clip.token_embedding, clip.ln_final
            self.positional_embedding, self.text_projection = clip.positional_embedding, clip.text_projection
            self.logit_scale = clip.logit_scale
            for name, number in (("input_resolution", 48), ("context_length", 24), ("vocab_size", 600)):
                self.register_buffer(name, torch.tensor(number))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive = torch.jit.trace(Holder().half(), torch.zeros(1))
        torch.jit.save(archive, str(tmp_path / "ViT.pt"))
    model = load(tmp_path / "ViT.pt")
    assert torch.equal(model.clip.token_embedding.weight, clip.token_embedding.weight)  # half() works in place
    assert model.clip.token_embedding.weight.dtype == torch.float32
    assert torch.allclose(ours(model), image_features(clip.float()), atol=1e-6)
    with pytest.raises(UserError, match=r"activation from few-vit's; use --set model\.backbone=few-vit-quickgelu"):
        load(tmp_path / "ViT.pt", backbone="few-vit")


def test_weights_that_say_their_activation_need_a_backbone_with_it(clip: Any, tmp_path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in openai(clip).items()}, str(tmp_path / "m.safetensors"))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    load(tmp_path / "m.safetensors", backbone="few-vit-quickgelu")
    with pytest.raises(UserError, match=r"activation from few-vit's; use --set model\.backbone=few-vit-quickgelu"):
        load(tmp_path / "m.safetensors", backbone="few-vit")


@pytest.mark.parametrize("half", [False, True])
def test_safetensors_and_half_precision_are_read(half: bool, clip: Any, tmp_path: Path) -> None:
    state = {name: (tensor.half() if half else tensor).contiguous() for name, tensor in openai(clip).items()}
    save_file(state, str(tmp_path / "model.safetensors"))
    model = load(tmp_path / "model.safetensors")
    assert model.clip.visual.proj.dtype == torch.float32
    assert torch.equal(model.clip.visual.proj, state["visual.proj"].float())


def test_the_text_tower_is_renamed_as_in_the_backbone(tmp_path: Path) -> None:
    one = plain(4, "few-vit")
    file = saved(one.state_dict(), tmp_path / "weights.pt")
    settings = {**open_clip.get_model_config("few-vit"), "custom_text": True}
    custom = build_clip(settings)
    open_clip.factory._MODEL_CONFIGS["few-vit-custom"] = settings
    model = load(file, backbone="few-vit-custom")
    assert torch.equal(model.clip.text.token_embedding.weight, one.token_embedding.weight)
    back = load(saved(custom.state_dict(), tmp_path / "custom.pt"), backbone="few-vit")
    assert torch.equal(back.clip.token_embedding.weight, custom.text.token_embedding.weight)


NESTED: dict[str, Callable[[State], Any]] = {
    "vision only": lambda state: state,
    "visual.": lambda state: {f"visual.{name}": tensor for name, tensor in state.items()},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "visual.module.": lambda state: {f"visual.module.{name}": tensor for name, tensor in state.items()},
    "half": lambda state: {name: tensor.half() for name, tensor in state.items()},
    "state_dict": lambda state: {"state_dict": {f"module.visual.{name}": tensor for name, tensor in state.items()}},
    "trainer": lambda state: trainer_checkpoint(state),
}


def trainer_checkpoint(vision: State) -> dict[str, Any]:
    """As SonoCLIP's trainer saves it: its three groups, AdamW after a step, numpy's learning rates, a loss scaler."""
    scale, bias = torch.nn.Parameter(torch.tensor(2.31)), torch.nn.Parameter(torch.tensor(-9.7))
    tower = {f"module.{name}": torch.nn.Parameter(tensor.clone()) for name, tensor in vision.items()}
    mask = [parameter for name, parameter in tower.items() if "conv1_alpha" in name]
    rest = [parameter for name, parameter in tower.items() if "conv1_alpha" not in name]
    groups = [{"params": params, "lr": 1e-4, "weight_decay": 0.02} for params in (mask, rest, [scale, bias])]
    optimizer = torch.optim.AdamW(groups)
    for parameter in (*tower.values(), scale, bias):
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    rate = 0.5 * (1 + np.cos(np.pi * (5000 - 800) / (5000 - 800))) * 1e-4  # its scheduler's, beyond the warm-up
    for group, factor in zip(optimizer.param_groups, (1, 0.01, 0.01), strict=True):
        group["lr"] = rate * factor
    assert isinstance(optimizer.state_dict()["param_groups"][0]["lr"], np.float64)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    return {
        "visual": {f"module.{name}": tensor for name, tensor in vision.items()},
        "logit_scale": scale.detach().float().cpu(),
        "optimizer": optimizer.state_dict(),
        "step": 5000,
        "logit_bias": bias.detach().float().cpu(),
        "scaler": scaler.state_dict(),
    }


@pytest.mark.parametrize("nested", NESTED)
@pytest.mark.parametrize("kind", ["sonoclip", "alpha"])
def test_a_mask_guided_image_tower_is_read_however_nested(nested: str, kind: str, clip: Any, tmp_path: Path) -> None:
    state = sonoclip(clip) if kind == "sonoclip" else alpha_clip(clip)
    text = plain(12)
    model = load(
        saved(NESTED[nested](state), tmp_path / "vision.pth"), saved(openai(text), tmp_path / "ViT-L-14-336px.pt")
    )
    expected = image_features(clip, state["conv1_alpha.weight"], state.get("dwconv.weight"))
    assert torch.allclose(ours(model), expected, atol=2e-2 if nested == "half" else 1e-6)
    assert torch.equal(model.encode_text(TOKENS), text.encode_text(TOKENS, normalize=True))


def test_a_sonoclip_checkpoint_sets_every_tensor_of_the_image_tower(clip: Any, tmp_path: Path) -> None:
    """The released loader changes 0 of its tensors with this file, and says nothing."""
    content = trainer_checkpoint(sonoclip(clip))
    file = saved(content, tmp_path / "iter_5000.pth")
    text = saved(openai(plain(12)), tmp_path / "text.pt")
    loaded = load(file, text).clip.state_dict()
    before = MaskClip(plain(12)).clip.state_dict()
    vision = [name for name in loaded if name.startswith("visual.")]
    assert len(vision) == len(content["visual"]) == 34
    assert [name for name in vision if torch.equal(loaded[name], before[name])] == []


def test_temperature_and_bias_of_a_sonoclip_checkpoint_are_kept_if_the_loss_has_none(clip: Any, tmp_path: Path) -> None:
    """And not those of the CLIP that gives the text tower."""
    content = trainer_checkpoint(sonoclip(clip))
    file, text = saved(content, tmp_path / "iter.pth"), saved(openai(plain(12)), tmp_path / "text.pt")
    kept, own = load(file, text, loss=recipes.Loss(temperature=None, bias=None)).clip, load(file, text).clip
    assert [kept.logit_scale, kept.logit_bias] == [content["logit_scale"], content["logit_bias"]]
    assert [own.logit_scale.exp().item(), own.logit_bias.item()] == pytest.approx([10, -10])
    vision = saved(sonoclip(clip), tmp_path / "vision.pth")
    with pytest.raises(UserError, match=r"vision\.pth: the weights have no logit_bias; give loss\.bias as a number"):
        load(vision, text, loss=recipes.Loss(temperature=None, bias=None))


@pytest.mark.parametrize("numpy", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_learning_rates_are_read_whichever_numpy_wrote_them(numpy: str, clip: Any, tmp_path: Path) -> None:
    """SonoCLIP names torch 1.13, which goes with numpy 1: there the function has another name in the file."""
    file = saved(trainer_checkpoint(sonoclip(clip)), tmp_path / "new.pth")
    with zipfile.ZipFile(file) as read, zipfile.ZipFile(tmp_path / "iter.pth", "w") as written:
        for name in read.namelist():
            content = read.read(name)
            if name.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar\n" in content
                content = content.replace(b"cnumpy._core.multiarray\n", f"c{numpy}\n".encode())
            written.writestr(name, content)
    model = load(tmp_path / "iter.pth", saved(openai(plain(12)), tmp_path / "text.pt"))
    assert torch.equal(model.clip.visual.proj, clip.visual.proj)


def test_a_vision_only_file_needs_a_source_for_the_text(clip: Any, tmp_path: Path) -> None:
    file = saved(sonoclip(clip), tmp_path / "vision.pth")
    with pytest.raises(UserError, match=r"only an image tower.*add --set model.text_weights="):
        load(file)
    with pytest.raises(UserError, match=r"contains no text tower; give another model\.text_weights"):
        load(file, file)
    full = saved(openai(clip), tmp_path / "full.pt")
    with pytest.raises(UserError, match=r"its own text tower, but model\.text_weights names another"):
        load(full, full)


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


FAULTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (
        without("transformer.resblocks.1.ln_2.bias"),
        "resblocks.1.ln_2.bias is missing; of 53 tensors, 1 missing, 0 unexpected, 0 of another shape",
    ),
    "lora": (
        lambda state: {**state, "transformer.resblocks.0.attn.in_proj.lora_A": torch.ones(2, 2)},
        "visual.transformer.resblocks.0.attn.in_proj.lora_A is unexpected; of 53 tensors, 0 missing, 1 unexpected, "
        "0 of another shape",
    ),
    "another grid": (
        lambda state: {**state, "positional_embedding": torch.ones(17, 128)},
        r"visual.positional_embedding is of another shape ([17, 128] for [10, 128]); of 53 tensors, 0 missing, "
        "0 unexpected, 1 of another shape",
    ),
    "mask of four channels": (
        lambda state: {**state, "conv1_alpha.weight": torch.ones(128, 4, 16, 16)},
        "visual.conv1.conv_mask.weight is of another shape",
    ),
    "a depthwise convolution and no mask channel": (
        without("conv1_alpha.weight"),
        "visual.conv1.conv_mask.weight is missing",
    ),
    "unknown prefix": (
        lambda state: {f"backbone.{name}": tensor for name, tensor in state.items()},
        "visual.class_embedding is missing; of 53 tensors, 32 missing, 34 unexpected",
    ),
    "not finite": (
        lambda state: {**state, "proj": torch.full((128, 32), float("nan"))},
        "visual.proj contains numbers that are not finite",
    ),
    "twice": (
        lambda state: {**state, "conv1.conv_mask.weight": torch.ones(128, 1, 16, 16)},
        "it contains visual.conv1.conv_mask.weight under two names",
    ),
    "wrapped and not": (
        lambda state: {**state, "module.proj": torch.zeros(128, 32)},
        "it contains proj under two names",
    ),
    "no tensors": (lambda state: {"step": 3}, "'step' is not a tensor"),
    "a list": (lambda state: [1, 2], "not a state dict"),
    "empty": (lambda state: {}, "not a state dict"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unmatched_tensor_is_a_one_line_error(fault: str, clip: Any, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    file = saved(change(sonoclip(clip)), tmp_path / "vision.pth")
    with pytest.raises(UserError) as raised:
        load(file, saved(openai(plain(12)), tmp_path / "text.pt"))
    assert message in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_incomplete_plain_clip_is_refused(clip: Any, tmp_path: Path) -> None:
    for name in ("visual.conv1.weight", "ln_final.bias"):
        with pytest.raises(UserError, match="1 missing, 0 unexpected, 0 of another shape"):
            load(saved(without(name)(openai(clip)), tmp_path / "weights.pt"))


@pytest.mark.parametrize("how", ["not torch", "cut short", "zip of something else", "a pickled class"])
def test_a_damaged_file_is_a_one_line_error(how: str, clip: Any, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    if how == "not torch":
        file.write_bytes(b"weights")
    elif how == "a pickled class":
        torch.save({"state_dict": Path("/")}, file)
    elif how == "zip of something else":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x/code/readme", "no")
    else:
        saved(openai(clip), file)
        file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UserError, match="cannot read weights") as raised:
        load(file)
    assert str(raised.value).isprintable()


class Trap:
    """Would create a file if it were unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_nothing_but_tensors_and_numbers_is_unpickled(clip: Any, tmp_path: Path) -> None:
    for hidden in (Trap(tmp_path / "ran"), np.array([Trap(tmp_path / "ran")], dtype=object)):
        content = trainer_checkpoint(sonoclip(clip))
        content["optimizer"]["param_groups"][0]["lr"] = hidden
        with pytest.raises(UserError) as raised:
            load(saved(content, tmp_path / "iter.pth"))
        assert not (tmp_path / "ran").exists()
        assert str(raised.value).isprintable()
        assert "it contains a Python object (" in str(raised.value)
        assert "weights_only" not in str(raised.value)


def test_truncated_safetensors_are_a_one_line_error(clip: Any, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in openai(clip).items()}, str(file))
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match="cannot read weights"):
        load(file)


def test_a_model_with_a_stem_is_restored_from_its_own_state(clip: Any, tmp_path: Path) -> None:
    add_mask_stem(clip)
    with torch.no_grad():
        clip.visual.conv1.conv_mask.weight.normal_()
    model = load(saved({"model": clip.state_dict(), "step": 7}, tmp_path / "checkpoint.pt"))
    assert torch.equal(model.clip.visual.conv1.conv_mask.weight, clip.visual.conv1.conv_mask.weight)


def test_a_checkpoint_of_another_backbone_is_refused_in_one_line() -> None:
    state = MaskClip(plain(3)).clip.state_dict()
    with pytest.raises(UserError) as raised:
        restore_model("sono-tiny", state)
    assert "checkpoint of sono-tiny: the weights do not fit the model: " in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="1 missing"):
        restore_model(BACKBONE, without("logit_bias")(state))
