"""A trained model as an ONNX file, for programs without Python or torch."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from htc.experiment.hub import first_line
from htc.experiment.saved_model import SavedModel
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.runs.directory import is_in_use, written_whole

FILE, HIERARCHY = "model.onnx", "hierarchy.json"
TOLERANCE = 1e-4  # of a probability
INPUTS = ("input_ids", "attention_mask")


class TextToProbabilities(nn.Module):
    """Encoder, head and objective as one module: token ids in, node probabilities out. Args: model: on any device."""

    def __init__(self, model: SavedModel) -> None:
        super().__init__()
        self.encoder, self.head, self.objective = model.encoder, model.classifier.head, model.objective

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Args: input_ids, attention_mask (B, T) int64. Returns: (B, N)."""
        return self.objective.probabilities(self.head(self.encoder(input_ids, attention_mask)))


def export_onnx(model: SavedModel, folder: str | Path) -> Path:
    """Write encoder, head and objective as one ONNX graph, with the tokenizer and the labels beside it.

    The graph takes `input_ids` and `attention_mask`, (B, T) int64 of any B and T, and gives `probabilities`, (B, N) float32.
    The names of the N labels, in this order, are in hierarchy.json. The graph is run on texts of two lengths and compared with
    the model.

    Args:
        model: any model whose head reads text vectors, so not `hbgl`, which writes labels level by level.
        folder: a new or empty folder.

    Returns:
        The ONNX file.

    Raises:
        ImportError: if `htc[onnx]` is not installed.
        InputError: for a model that cannot be exported, a folder that holds files, or a graph with other probabilities, of
            which nothing is left.
    """
    if model.classifier.reads_tokens:
        raise InputError(
            "a model that writes labels level by level (model=hbgl) is no single graph, and cannot be exported to ONNX."
        )
    require("htc[onnx]", "onnx", "onnxruntime", "onnxscript")
    folder = Path(folder)
    if is_in_use(folder):
        raise InputError(f"{folder} exists already; name a folder that is new, or empty.")
    whole = copy.deepcopy(TextToProbabilities(model)).cpu().eval()
    batches = [
        _tokens(model, ["A text.", "A second one, of other words."]),
        _tokens(model, ["Words, " * length for length in (1, 9, 5)]),
    ]
    with torch.no_grad():
        # It also computes what the hierarchy keeps of itself, which is then no part of the graph.
        expected = [whole(**batch) for batch in batches]
    with written_whole(folder) as written:
        _write(whole, batches[0], written / FILE)
        for batch, probabilities in zip(batches, expected, strict=True):
            _compare(written / FILE, batch, probabilities)
        model.encoder.tokenizer.save_pretrained(written)
        model.hierarchy.save(written / HIERARCHY)
    return folder / FILE


def _tokens(model: SavedModel, texts: list[str]) -> dict[str, Tensor]:
    return model.encoder.pad(model.encoder.tokenize(texts))


def _write(whole: nn.Module, batch: dict[str, Tensor], file: Path) -> None:
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    try:
        with _quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                whole,
                kwargs=batch,
                dynamo=True,
                verbose=False,
                input_names=list(INPUTS),
                output_names=["probabilities"],
                dynamic_shapes=dict.fromkeys(INPUTS, dynamic),
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(f"torch cannot export this model to ONNX: {first_line(error)}") from error
    assert program is not None  # with dynamo=True
    program.save(file)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's warnings, which are about its own workings."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _compare(file: Path, batch: dict[str, Tensor], expected: Tensor) -> None:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NotImplemented, RuntimeException

    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: batch[name].numpy() for name in INPUTS})
    except (Fail, InvalidArgument, NotImplemented, RuntimeException) as error:
        raise InputError(f"the graph cannot be run, so it was not kept: {first_line(error)}") from error
    difference = float((torch.from_numpy(found) - expected).abs().max())
    if not difference <= TOLERANCE:
        raise InputError(f"the graph's probabilities differ by up to {difference:.2g} from the model's, so it was not kept.")
