"""Types and shapes are checked while tests run; and how Triton's kernels are tested where there is no GPU."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

from tests import typechecking

# Before anything of the package is imported: the annotations of each function are checked at each call.
install_import_hook(typechecking.checked_modules(), f"{typechecking.__name__}.check")

if os.environ.get("TRITON_INTERPRET") == "1":
    from triton.runtime.interpreter import InterpreterBuilder

    _splat = InterpreterBuilder.create_splat

    def _splat_of_its_kind(builder: Any, kind: Any, value: Any) -> Any:
        # Triton 3.9's interpreter makes a number of a truth value that is spread over a block, and then atomic
        # operations refuse it as a mask. What it compiles is right.
        block = _splat(builder, kind, value)
        if value.data.dtype == bool:
            block.data = block.data.astype(bool)
        return block

    InterpreterBuilder.create_splat = _splat_of_its_kind


@pytest.fixture(scope="session", autouse=True)
def _hangups_end_a_process() -> None:
    """As they usually do, also where the tests themselves were started to go on after one."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def passes_in_the_interpreter() -> Callable[[str], None]:
    """Runs a test file in Triton's interpreter, in a process of its own: Triton asks for it when it is imported."""

    def run(path: str) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", path],
            env={**os.environ, "TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout[-4000:]
        assert " passed" in result.stdout

    return run


class CompiledKernels(dict[tuple[Any, ...], Any]):
    """What launches were compiled to, by the kernel's name and options."""

    on_launch: Callable[[str, dict[str, Any]], None] = staticmethod(lambda name, values: None)
    """Is called with a kernel's name and arguments at each launch."""


@pytest.fixture
def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> CompiledKernels:
    """Has launches of kernels compiled for an NVIDIA GPU, once for each set of options, and not run.

    For launches where there is none, set TRITON_INTERPRET, after the kernels were imported.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile
    from triton.runtime.jit import JITFunction

    pointers = {torch.float32: "*fp32", torch.float16: "*fp16", torch.int32: "*i32", torch.int64: "*i64"}
    compiled = CompiledKernels()

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        values = dict(zip(self.arg_names, arguments, strict=False)) | options
        compiled.on_launch(self.__name__, values)
        signature = {
            name: "constexpr"
            if name in options
            else pointers[value.dtype]
            if isinstance(value, torch.Tensor)
            else {int: "i32", float: "fp32"}[type(value)]
            for name, value in values.items()
        }
        key = self.__name__, *options.items(), *sorted(set(signature.values()))
        if key not in compiled:
            places = {(self.arg_names.index(name),): value for name, value in options.items()}
            source = ASTSource(fn=self, signature=signature, constexprs=places)
            compiled[key] = compile(source, target=GPUTarget("cuda", 90, 32))

    monkeypatch.setattr(JITFunction, "run", compile_only)
    return compiled


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Lets wrong types and shapes through while the test runs."""
    with typechecking.unchecked():
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny model of a kind: see `tests.guidance.networks.tiny`, which names them.

    Each is built when it is first asked for, and shared by all tests: copy it to change it.
    """
    parent = tmp_path_factory.mktemp("tiny")

    @cache
    def folder(kind: str) -> Path:
        from tests.guidance.networks.tiny import build  # here, because it takes seconds

        return build(kind, parent / kind)

    return folder
