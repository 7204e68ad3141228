"""Loading models from folders: the demo, and everything that can be wrong with a folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from common.errors import ModelNotLoadable
from common.models import BUILT_IN, DEMO_WEIGHTS, PARTS, ModelEntry, PartName
from worker.hardware import pick_device, pick_dtype
from worker.weights import Model, load_model

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"


def load(entry: ModelEntry, home: Path, dtype: torch.dtype = torch.float32) -> Model:
    return load_model("mine", entry, home=home, device=CPU, dtype=dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo weights that a test may break."""
    return Path(shutil.copytree(DEMO_WEIGHTS, tmp_path / "my model"))


def entry_of(folder: Path) -> ModelEntry:
    parts = {part: BUILT_IN["demo"].part(part).model_copy(update={"source": str(folder)}) for part in PARTS}
    return BUILT_IN["demo"].model_copy(update=parts)


def test_the_demo_loads_for_inference_in_the_number_format_asked_for(tmp_path: Path) -> None:
    heard: list[PartName] = []

    model = load_model("demo", BUILT_IN["demo"], home=tmp_path, device=CPU, dtype=torch.bfloat16, on_part=heard.append)

    assert tuple(heard) == PARTS
    for module in (model.vae, model.unet, model.text_encoder, model.enhancer, model.scorer):
        assert not module.training
        assert {weight.dtype for weight in module.parameters()} == {torch.bfloat16}
        assert not any(weight.requires_grad for weight in module.parameters())
    assert list(tmp_path.iterdir()) == []


def test_the_loaded_weights_are_those_of_the_files(tmp_path: Path) -> None:
    model = load(BUILT_IN["demo"], tmp_path)

    for module, file in (
        (model.unet, UNET),
        (model.vae, "vae/diffusion_pytorch_model.safetensors"),
        (model.text_encoder, "text_encoder/model.safetensors"),
        (model.enhancer, "enhancer/model.safetensors"),
        (model.scorer, "scorer/model.safetensors"),
    ):
        stored, loaded = load_file(DEMO_WEIGHTS / file), module.state_dict()
        assert all(torch.equal(loaded[name], weight.float()) for name, weight in stored.items())


def test_two_folders_with_other_weights_have_other_revisions(folder: Path, tmp_path: Path) -> None:
    before = load(entry_of(folder), tmp_path).revisions
    weights = load_file(folder / UNET)
    weights["conv_in.bias"] += 1
    save_file(weights, folder / UNET, {"format": "pt"})

    after = load(entry_of(folder), tmp_path).revisions

    assert {part for part in PARTS if before[part] != after[part]} == {"unet"}
    assert before == load(BUILT_IN["demo"], tmp_path).revisions


def _delete(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).unlink()

    return change


def _set(path: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps({**config, **values}))

    return change


def _write(path: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_bytes(content)

    return change


def _pickle_alone(folder: Path) -> None:
    torch.save(load_file(folder / UNET), folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / UNET).unlink()


def _lose_a_weight(folder: Path) -> None:
    weights = load_file(folder / "enhancer" / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.bias"]
    save_file(weights, folder / "enhancer" / "model.safetensors", {"format": "pt"})


def _cut(folder: Path) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("unet", lambda folder: shutil.rmtree(folder / "unet"), "there is no folder "),
        ("unet", _delete("unet/config.json"), "there is no config.json"),
        ("unet", _delete(UNET), "there is no diffusion_pytorch_model.safetensors"),
        ("unet", _pickle_alone, "only diffusion_pytorch_model.bin is there, a pickle"),
        ("unet", _cut, "SafetensorError: "),
        ("unet", _write("unet/config.json", b"{"), "JSONDecodeError: "),
        ("vae", _set("vae/config.json", _class_name="VQModel"), "config.json describes 'VQModel', not AutoencoderKL"),
        (
            "vae",
            _set("vae/config.json", block_out_channels=[8, 32, 96, 192]),
            "decoder.conv_norm_out.bias is (16,) in the weights and (8,) by config.json",
        ),
        ("vae", _set("vae/config.json", layers_per_block=2), "the weights lack decoder."),
        ("text_encoder", _set("text_encoder/config.json", model_type="bert"), "describes 'bert', not clip"),
        ("text_encoder", _set("text_encoder/config.json", num_hidden_layers=4), "the weights lack "),
        (
            "text_encoder",
            _set("text_encoder/config.json", vocab_size=900),
            "is (1496, 128) in the weights and (900, 128) by config.json",
        ),
        ("tokenizer", _delete("tokenizer/merges.txt"), "there is no merges.txt"),
        ("enhancer", _lose_a_weight, "the weights lack transformer.h.1.mlp.c_fc.bias"),
        ("scorer", _delete("scorer/preprocessor_config.json"), "there is no preprocessor_config.json"),
    ],
)
def test_a_broken_folder_is_told_in_one_line(
    folder: Path, tmp_path: Path, part: str, change: Callable[[Path], None], reason: str
) -> None:
    change(folder)

    with pytest.raises(ModelNotLoadable) as caught:
        load(entry_of(folder), tmp_path)

    assert caught.value.detail.startswith(f"model 'mine': cannot load {part} from {folder} (subfolder {part}): ")
    assert reason in caught.value.detail
    assert "\n" not in caught.value.detail


def test_parts_that_do_not_fit_together_stop_the_worker(folder: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    known = len(vocabulary)
    vocabulary["one too many"] = known
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))

    with pytest.raises(
        ModelNotLoadable, match=f"model 'mine': the tokenizer has {known + 1} tokens, its model knows {known}"
    ):
        load(entry_of(folder), tmp_path)


def test_code_beside_the_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    """A config may name code of its repository (auto_map); it is for trust_remote_code, and never trusted."""
    _set("enhancer/config.json", auto_map={"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Own"})(folder)
    (folder / "enhancer" / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Own: pass\n")

    load(entry_of(folder), tmp_path)

    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "text",
    ["", "an orange cat staring off with pretty eyes", "naïve 日本 🙂 \x00\n\t'quoted'", "ﷺ" * 300, "\ufeff\u202e%s{}"],
)
def test_every_text_can_be_tokenised_and_comes_back(text: str, tmp_path: Path) -> None:
    model = load(BUILT_IN["demo"], tmp_path)

    assert model.enhancer_tokenizer.decode(model.enhancer_tokenizer(text).input_ids) == text
    ids = model.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ids.shape == (1, 77)
    assert ids.max() < model.text_encoder.config.vocab_size
    assert ids[0, 0] == model.tokenizer.bos_token_id
    assert isinstance(model.scorer_tokenizer, CLIPTokenizer)


def test_auto_picks_a_device_that_is_here_and_its_number_format() -> None:
    device = pick_device("auto")

    torch.zeros(1, device=device)
    assert pick_dtype("auto", CPU) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.float16
    assert pick_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.parametrize("setting", ["cuda:99", "gpu", "", "meta"])
def test_a_device_that_is_not_here_is_told_in_one_line(setting: str) -> None:
    with pytest.raises(ModelNotLoadable, match="KILN_DEVICE"):
        pick_device(setting)
