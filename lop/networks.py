"""`lop certify`, `lop diagnose`, `lop clone`: the checks of the library on a network of yours."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from lop.deferred import Deferred
from lop.subject import Subject
from torch_experiments.support.choices import json_object

if TYPE_CHECKING:
    import safetensors.torch as safetensors
    import torch
    from rich import console

    import torch_experiments as library
    from simulate import files
    from torch_experiments.support import loading, strict
else:
    safetensors, torch, console = map(Deferred, ("safetensors.torch", "torch", "rich.console"))
    library, files = Deferred("torch_experiments"), Deferred("simulate.files")
    loading, strict = Deferred("torch_experiments.support.loading"), Deferred("torch_experiments.support.strict")

FOR_CERTIFY, FOR_DIAGNOSE, FOR_CLONE = Subject(samples=64), Subject(samples=512), Subject(samples=8)


def certify(
    subject: Subject = FOR_CERTIFY,
    optimizer: str | None = None,
    optimizer_settings: str = "{}",
    box: tuple[float, float] | None = None,
    audit: int | None = None,
    html: Path | None = None,
    markdown: Path | None = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Which units of a network are frozen or copies, and whether its optimizer can move them.

    Args:
        subject: The network and its batch.
        optimizer: That trains the network: a name of torch.optim in small letters, such as adamw; gradient flow if
            not given. Its state is read from a checkpoint that has it under "optimizer", and its settings with it.
        optimizer_settings: Its keyword arguments, as JSON, such as '{"lr": 0.001}'.
        box: Lower and upper bound of all inputs, to find units that are dead wherever inputs lie in it.
        audit: Train a copy for so many real steps of the optimizer, and say which sentences of the certificate
            held; exit with 1 if one did not.
        html: Write the certificate to this file too, as a page of HTML.
        markdown: Write it to this file too, as Markdown, to stand beside a model card.
        as_json: Print JSON.
    """
    pages = {"html": html, "markdown": markdown}
    written = {kind: file for kind, file in pages.items() if file is not None}
    for kind, file in written.items():
        _check_place(kind, file)
    model, batch = subject.load(box)
    settings = json_object("optimizer-settings", optimizer_settings)
    rule = optimizer and loading.make_optimizer(model, optimizer, settings, subject.checkpoint)
    if audit is not None and not rule:
        raise ValueError("audit: takes steps of an optimizer; name it, such as --optimizer adamw")
    call = subject.call
    found = library.certify(model, batch.inputs, rule or None, targets=batch.targets, box=box, call=call)
    for kind, file in written.items():
        page = found.to_html() if kind == "html" else found.to_markdown(subject.named)
        _write(file, page.encode())
    seen = None
    if audit is not None and rule:
        seen = library.audit(
            model, batch.inputs, rule, targets=batch.targets, steps=audit, certificate=found, call=call
        )
    extra = {} if seen is None else {"audit": seen.to_dict()}
    _show(found.to_dict() | extra if as_json else found, as_json)
    if seen is not None and not as_json:
        print(seen)
    if subject.batch is None and not as_json:
        print(f"observed on {subject.samples} random inputs; use --batch FILE for your data")
    for file in written.values() if not as_json else ():
        print(f"wrote {file}")
    if seen is not None and not seen.held:
        sys.exit(1)


def diagnose(
    subject: Subject = FOR_DIAGNOSE,
    full: bool = False,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """How dead, duplicate, saturated and low in rank the units of a network are.

    Args:
        subject: The network and its batch.
        full: The metrics that cost many passes too: tangent kernel, sharpness, spectrum of the Hessian.
        as_json: Print JSON.
    """
    model, batch = subject.load()
    metrics = "full" if full else "fast"
    found = library.diagnose(model, batch.inputs, batch.targets, metrics=metrics, call=subject.call)
    _show(dict(found) if as_json else found, as_json)
    if subject.batch is None and not as_json:
        print(f"on {subject.samples} random inputs, without gradients; use --batch FILE for your data")


def clone(
    out: Path,
    subject: Subject = FOR_CLONE,
    factor: int = 2,
    mode: Literal["equal", "equitable", "rows", "columns", "broken"] = "equal",
    order: Literal["interleaved", "tiled"] = "interleaved",
) -> None:
    """Widen a network so that every hidden unit has copies and the function stays the same; write its weights.

    Args:
        out: File for the weights, .safetensors.
        subject: The network and its batch.
        factor: Copies of a unit.
        mode: Equal weights, random equitable ones, or one of the kinds that are broken on purpose.
        order: Copies side by side, or the whole layer repeated.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"out: got {out.name}; the file has to end in .safetensors")
    _check_place("out", out)
    model, batch = subject.load()
    source = torch.Generator().manual_seed(subject.seed)
    call = subject.call
    wide = library.clone(model, factor, mode, source, example_inputs=batch.inputs, order=order, call=call)
    if mode in ("equal", "equitable", "rows"):
        place = library.layout(model, factor, example_inputs=batch.inputs, order=order, call=call)
        checked = library.verify(wide, model, place, batch.inputs, call=call)
        print(f"verified: outputs differ by {checked.function:.1e} (relative) on {checked.samples} samples")
    tensors = _untied(wide.state_dict())
    _write(out, safetensors.save(tensors, {"factor": str(factor), "mode": mode, "order": order, "format": "pt"}))
    for name, tensor in model.state_dict().items():
        if tensor.shape != tensors[name].shape:
            print(f"{name}: {tuple(tensor.shape)} -> {tuple(tensors[name].shape)}")
    print(f"wrote {out}")


def _untied(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return tensors that share no memory, as safetensors wants them."""
    return {name: t.detach().contiguous().clone() for name, t in tensors.items()}


def _show(found: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(strict.strict(found), indent=1, allow_nan=False))
    else:
        console.Console().print(found)


def _check_place(option: str, file: Path) -> None:
    """Raise a ValueError before the work begins, not after it, where a file cannot be written."""
    if not file.parent.is_dir():
        raise ValueError(f"{option}: there is no folder {file.parent}; make it first")
    if file.is_dir():
        raise ValueError(f"{option}: {file} is a folder; give a file")


def _write(file: Path, content: bytes) -> None:
    with files.replacing(file) as part:
        part.write_bytes(content)
