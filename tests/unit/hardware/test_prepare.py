import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_pkg.config.compose import load_config
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import build_encoder, to_device

CODE = """
from ssl_pkg.config.compose import load_config
from ssl_pkg.stages import pretrain
pretrain.prepare(load_config(["stage=pretrain", "method=simclr", "run_dir=run", "device=cpu", "compile=always"]))
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir())
"""


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [None, "mine"])
def test_kernels_are_cached_by_run_or_in_the_folder_that_the_user_has_set(tmp_path: Path, chosen: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    if chosen:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / chosen)
    line = [sys.executable, "-c", CODE]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    run = hashlib.sha256(str(tmp_path / "run").encode()).hexdigest()[:16]
    assert done.stdout.strip() == str(tmp_path / (chosen or f"ssl-study/compiled/{run}/0"))


@pytest.mark.slow
def test_a_missing_compiler_is_reported_before_the_first_step(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CC"} | {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert "BadInput: torch.compile needs a C compiler (gcc or clang), which is missing" in done.stderr


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),  # ARM's
    ],
)
def test_a_cpu_computes_in_bfloat16_if_it_has_instructions_for_it(
    capabilities: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    config = load_config(["stage=pretrain", "method=simclr", "run_dir=run", "device=cpu"])
    assert prepare(config).dtype == dtype


@pytest.mark.slow
def test_the_maps_of_a_network_on_its_device_are_channels_last() -> None:
    encoder = build_encoder()
    to_device(encoder, torch.device("cpu"))
    seen: list[bool] = []
    encoder.get_submodule("layer2").register_forward_hook(
        lambda _, __, value: seen.append(value.is_contiguous(memory_format=torch.channels_last))
    )
    encoder(torch.randn(2, 3, 96, 96))
    assert seen == [True]
