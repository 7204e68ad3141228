"""Fetching models from a hub: a real HTTP server on loopback that speaks the hub's interface."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from client.main import app
from common.errors import ModelNotLoadable
from common.models import BUILT_IN, DEMO_WEIGHTS, PARTS, ModelPart
from tests.worker.hub import StandInHub, serve_hub
from tests.worker.repositories import CLIP, DIFFUSION, GPT2, build_repositories, small_entry
from worker.pull import is_pulled, pull_model, pull_part, repository_folder
from worker.record import read_record
from worker.weights import Model, load_model

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_repositories(tmp_path_factory.mktemp("published"))


@pytest.fixture
def hub(repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    # In pieces far smaller than these files, so that a cut connection leaves something to go on with.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    with serve_hub(StandInHub(dict(repositories))) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "kiln home"


@pytest.fixture(scope="module")
def pulled_once(
    repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], list[str]]:
    """A home after one pull of everything, the commits, and what was asked for: conversions take seconds each."""
    home = tmp_path_factory.mktemp("pulled") / "kiln home"
    with pytest.MonkeyPatch.context() as patch, serve_hub(StandInHub(dict(repositories))) as hub:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        return home, pull_model("small", small_entry(), home), hub.fetched()


@pytest.fixture
def pulled(pulled_once: tuple[Path, dict[str, str], list[str]], home: Path) -> Path:
    """A copy of that home for one test."""
    shutil.copytree(pulled_once[0], home)
    return home


def test_a_pull_fetches_what_the_parts_need_and_nothing_else(
    pulled_once: tuple[Path, dict[str, str], list[str]],
) -> None:
    home, commits, fetched = pulled_once

    assert commits == dict.fromkeys(PARTS, StandInHub().commit)
    assert fetched == sorted(
        {
            "config.json",
            "generation_config.json",
            "merges.txt",
            "model.safetensors",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "tokenizer_config.json",
            "unet/config.json",
            UNET,
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
            "vocab.json",
        }
    )
    assert not list(home.rglob("*.bin"))
    assert not list(home.rglob("*.part"))


def test_what_was_fetched_is_recorded_with_commit_size_and_sha256(hub: StandInHub, pulled: Path) -> None:
    folder = repository_folder(pulled, small_entry().unet)
    record = read_record(folder)
    assert record is not None
    assert (record.source, record.revision, record.commit) == (DIFFUSION, "main", hub.commit)
    original = DEMO_WEIGHTS / UNET
    assert record.files[UNET].sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    assert record.files[UNET].size == original.stat().st_size
    assert (folder / UNET).read_bytes() == original.read_bytes()


def test_a_second_pull_asks_the_hub_nothing(hub: StandInHub, pulled: Path) -> None:
    pull_model("small", small_entry(), pulled)

    assert hub.seen == []


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(hub: StandInHub, home: Path) -> None:
    hub.cuts = [700_000]

    pull_part("small", "unet", small_entry().unet, home)

    assert ranges(hub) == ["bytes=655360-"]  # ten whole pieces had arrived
    assert fetched_unet(home) == (DEMO_WEIGHTS / UNET).read_bytes()


def test_a_pull_that_failed_midway_is_gone_on_with_by_the_next(hub: StandInHub, home: Path) -> None:
    hub.cuts, hub.broken = [700_000], True
    with pytest.raises(ModelNotLoadable, match=r"cannot load unet from CompVis/small-diffusion .*answers 503"):
        pull_part("small", "unet", small_entry().unet, home)
    folder = repository_folder(home, small_entry().unet)
    assert not (folder / UNET).exists()
    assert not is_pulled("unet", small_entry().unet, home)
    hub.broken, hub.seen = False, []

    pull_part("small", "unet", small_entry().unet, home)

    assert ranges(hub) == ["bytes=655360-"]
    assert "unet/config.json" not in hub.fetched()
    assert fetched_unet(home) == (DEMO_WEIGHTS / UNET).read_bytes()


def test_two_workers_that_start_together_fetch_a_part_once(hub: StandInHub, home: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        pulls = [both.submit(pull_part, "small", "unet", small_entry().unet, home) for _ in range(2)]
        records = [pull.result() for pull in pulls]

    assert records[0] == records[1]
    assert len([one for one in hub.seen if one.host == hub.files_host]) == 1


def test_a_file_that_arrives_changed_is_not_kept(hub: StandInHub, home: Path) -> None:
    """What an earlier try left is not the beginning of this file: the sum shows it, and the next try starts anew."""
    folder = repository_folder(home, small_entry().unet)
    (folder / "unet").mkdir(parents=True)
    (folder / (UNET + ".part")).write_bytes(b"\0" * 1000)
    with pytest.raises(ModelNotLoadable, match="arrived damaged"):
        pull_part("small", "unet", small_entry().unet, home)
    assert not (folder / UNET).exists()

    pull_part("small", "unet", small_entry().unet, home)

    assert fetched_unet(home) == (DEMO_WEIGHTS / UNET).read_bytes()


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(
    hub: StandInHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_test")

    pull_part("small", "unet", small_entry().unet, home)

    assert {one.authorization for one in hub.seen if one.host == hub.endpoint} == {"Bearer hf_test"}
    assert {one.authorization for one in hub.seen if one.host == hub.files_host} == {None}


def test_a_pickle_is_converted_to_the_same_weights_and_deleted(
    hub: StandInHub, pulled: Path, repositories: dict[str, Path]
) -> None:
    for origin in (small_entry().enhancer, small_entry().scorer):
        folder = repository_folder(pulled, origin)
        published = torch.load(repositories[origin.source] / "pytorch_model.bin", weights_only=True)
        converted = load_file(folder / "model.safetensors")
        assert converted.keys() == published.keys()
        assert all(torch.equal(converted[name], weight) for name, weight in published.items())
        assert not (folder / "pytorch_model.bin").exists()


def test_a_pulled_model_computes_what_its_parts_compute(hub: StandInHub, pulled: Path) -> None:
    """The repositories have the file forms of 2022, and hold the same weights as the shipped demo."""
    cpu = torch.device("cpu")
    ours = load_model("small", small_entry(), home=pulled, device=cpu, dtype=torch.float32)
    shipped = load_model("demo", BUILT_IN["demo"], home=pulled, device=cpu, dtype=torch.float32)
    picture = Image.radial_gradient("L").convert("RGB")

    tokens = ours.tokenizer("an orange cat", return_tensors="pt").input_ids
    latents = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.equal(tokens, shipped.tokenizer("an orange cat", return_tensors="pt").input_ids)
        assert torch.equal(ours.vae.decode(latents).sample, shipped.vae.decode(latents).sample)
        assert torch.equal(ours.enhancer(tokens % 500).logits, shipped.enhancer(tokens % 500).logits)
        # The text encoder came out of a whole CLIP, the same one that is the shipped scorer.
        text = ours.text_encoder(tokens).last_hidden_state
        assert torch.equal(text, shipped.scorer.text_model(tokens).last_hidden_state)
        assert torch.equal(similarity(ours, tokens, picture), similarity(shipped, tokens, picture))
    assert ours.revisions == dict.fromkeys(PARTS, hub.commit)


def similarity(model: Model, tokens: torch.Tensor, picture: Image.Image) -> torch.Tensor:
    pixels = model.scorer_processor(images=picture, return_tensors="pt").pixel_values
    return model.scorer(input_ids=tokens, pixel_values=pixels).logits_per_image


class Hostile:
    """Pickles into a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_in_it_is_refused_and_not_executed(hub: StandInHub, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(hub.repositories[GPT2], folder)
    torch.save({"weight": torch.ones(3), "more": Hostile(tmp_path / "mark")}, folder / "pytorch_model.bin")
    hub.repositories[GPT2] = folder

    with pytest.raises(ModelNotLoadable) as caught:
        pull_model("small", small_entry(), home)

    assert caught.value.detail == (
        "model 'small': cannot load enhancer from Gustavosta/small-prompts: "
        "pytorch_model.bin is refused: it holds more than weights (posix.mkdir)"
    )
    assert not (tmp_path / "mark").exists()
    assert not [*home.rglob("pytorch_model.*"), *home.rglob("*.part")]
    assert not (repository_folder(home, small_entry().enhancer) / "model.safetensors").exists()
    assert not is_pulled("enhancer", small_entry().enhancer, home)


@pytest.mark.parametrize("flip", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json"])
def test_a_changed_file_stops_the_worker_with_one_line(hub: StandInHub, pulled: Path, flip: str) -> None:
    changed = repository_folder(pulled, small_entry().unet) / flip
    content = bytearray(changed.read_bytes())
    content[-40] ^= 1
    changed.write_bytes(content)

    with pytest.raises(ModelNotLoadable) as caught:
        load_model("small", small_entry(), home=pulled, device=torch.device("cpu"), dtype=torch.float32)

    assert caught.value.detail == (
        "model 'small': cannot load unet from CompVis/small-diffusion (subfolder unet): "
        f"{changed} is not what was fetched (SHA-256 differs): delete it and run kiln models pull small"
    )


def test_a_deleted_file_is_fetched_again_at_the_recorded_commit_though_the_branch_moved_on(
    hub: StandInHub, pulled: Path
) -> None:
    recorded = hub.commit
    hub.move_branch("2" * 40)
    (repository_folder(pulled, small_entry().unet) / UNET).unlink()

    commits = pull_model("small", small_entry(), pulled)

    assert commits == dict.fromkeys(PARTS, recorded)
    assert fetched_unet(pulled) == (DEMO_WEIGHTS / UNET).read_bytes()
    assert [one.path for one in hub.seen if hub.commit in one.path] == []


def test_without_a_network_the_line_says_what_to_do(
    hub: StandInHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(ModelNotLoadable) as caught:
        load_model("small", small_entry(), home=home, device=torch.device("cpu"), dtype=torch.float32)

    assert caught.value.detail == (
        "model 'small': cannot load vae from CompVis/small-diffusion (subfolder vae): "
        "it is not fetched yet, and HF_HUB_OFFLINE is set; run kiln models pull small"
    )
    assert hub.seen == []


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (ModelPart(source="nobody/nothing"), "there is no such repository, or it is private"),
        (ModelPart(source=DIFFUSION, subfolder="vae", revision="v9"), "there is no such revision"),
        (ModelPart(source=DIFFUSION, subfolder="decoder"), "there is no config.json"),
        (ModelPart(source=CLIP), "there is no diffusion_pytorch_model.safetensors"),
        (ModelPart(source="gated/model"), "its owner asks for consent"),
    ],
)
def test_what_a_hub_refuses_is_told_in_one_line(hub: StandInHub, home: Path, origin: ModelPart, reason: str) -> None:
    hub.gated = {"gated/model"}

    with pytest.raises(ModelNotLoadable) as caught:
        pull_part("small", "vae", origin, home)

    assert caught.value.detail.startswith(f"model 'small': cannot load vae from {origin.source}")
    assert reason in caught.value.detail
    assert "\n" not in caught.value.detail


def test_the_command_fetches_a_model_and_lists_it_as_here(hub: StandInHub, home: Path) -> None:
    environment = {
        **os.environ,
        "KILN_HOME": str(home),
        "KILN_MODELS": json.dumps({"small": small_entry().model_dump()}),
    }

    pulled = kiln("models", "pull", "small", "--json", environment=environment)
    listed = kiln("models", "list", "--json", environment=environment)

    assert json.loads(pulled)["small"]["unet"] == hub.commit
    models = {model["name"]: model for model in json.loads(listed)}
    assert {name: part["here"] for name, part in models["small"]["parts"].items()} == dict.fromkeys(PARTS, True)
    assert not models["sd-v1-4"]["parts"]["unet"]["here"]


def test_the_command_says_what_it_could_not_fetch_and_ends_with_1(
    hub: StandInHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories.clear()
    monkeypatch.setenv("KILN_HOME", str(home))

    ended = CliRunner().invoke(app, ["models", "pull", "sd-v1-4", "--json"])

    assert ended.exit_code == 1
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "model_not_loadable"
    assert error["detail"].startswith("model 'sd-v1-4': cannot load vae from CompVis/stable-diffusion-v1-4")
    assert error["detail"] in ended.stderr.replace("\n", "")


def test_the_command_names_the_models_that_there_are() -> None:
    ended = CliRunner().invoke(app, ["models", "pull", "sd-v9"])

    assert ended.exit_code == 2
    assert "There is no model 'sd-v9'; known: sd-v1-4, demo" in ended.stderr


def kiln(*arguments: str, environment: dict[str, str]) -> str:
    """What `kiln` prints on stdout; it must end well."""
    command = [sys.executable, "-c", "from client.main import app; app()", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def ranges(hub: StandInHub) -> list[str]:
    """The ranges that were asked of the U-Net's weights."""
    return [one.range for one in hub.seen if one.host == hub.files_host and one.range]


def fetched_unet(home: Path) -> bytes:
    return (repository_folder(home, small_entry().unet) / UNET).read_bytes()
