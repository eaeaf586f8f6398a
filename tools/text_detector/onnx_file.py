"""A trained network as an ONNX file, written without the `onnx` package.

ONNX is a protocol buffer (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The few messages and the few
operators that the detector needs are encoded here: PyTorch's own exporter asks for two more packages, and writes their
versions into the file, so that the same weights would not give the same bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import fx, nn

OPSET, IR_VERSION = 17, 8
_FLOAT, _UINT8, _INT64 = 1, 2, 7  # TensorProto.DataType
_VARINT, _BYTES = 0, 2  # wire types of protocol buffers

Floats = npt.NDArray[np.float32]


def onnx_bytes(network: nn.Module, *, channels: int, stride: int, notes: Mapping[str, str]) -> bytes:
    """The file of a network from bytes [images, channels, height, width] to [images, kinds, height / stride, ...].

    The results are probabilities.

    Args:
        network: in evaluation mode, of convolutions, ReLU, nearest-neighbour enlargement and sums.
        notes: kept in the file as its metadata, such as what it was trained on.
    """
    graph = fx.symbolic_trace(network)
    modules = dict(graph.named_modules())
    nodes, weights = [_node("Cast", ["image"], "x", _attribute_int("to", _FLOAT))], list[bytes]()
    names: dict[fx.Node, str] = {}
    for step in graph.graph.nodes:
        if step.op == "placeholder":
            names[step] = "x"
        elif step.op == "output":
            (last,) = (names[argument] for argument in step.args)
            nodes.append(_node("Sigmoid", [last], "text"))
        else:
            inputs = [names[argument] for argument in step.args if isinstance(argument, fx.Node)]
            if step.op == "call_module" and isinstance(modules[str(step.target)], nn.Identity):
                names[step] = inputs[0]
                continue
            names[step] = step.name
            node, constants = _operator(step, modules, inputs)
            nodes.append(node)
            weights += constants
    return _model(nodes, weights, channels, stride, notes)


def _operator(step: fx.Node, modules: Mapping[str, nn.Module], inputs: Sequence[str]) -> tuple[bytes, list[bytes]]:
    """The ONNX operator of one step, and its weights."""
    if step.op == "call_function" and step.target is operator.add:
        return _node("Add", inputs, step.name), []
    module = modules[str(step.target)]
    if isinstance(module, nn.Conv2d):
        assert module.bias is not None
        weights = {f"{step.name}.weight": module.weight, f"{step.name}.bias": module.bias}
        padding = [int(side) for side in module.padding]
        node = _node(
            "Conv",
            [*inputs, *weights],
            step.name,
            _attribute_ints("kernel_shape", module.kernel_size),
            _attribute_ints("strides", module.stride),
            _attribute_ints("pads", padding * 2),
            _attribute_int("group", module.groups),
        )
        return node, [_tensor(name, value.detach().numpy()) for name, value in weights.items()]
    if isinstance(module, nn.ReLU):
        return _node("Relu", inputs, step.name), []
    if isinstance(module, nn.Upsample):
        scales = f"{step.name}.scales"
        factor = float(module.scale_factor)  # type: ignore[arg-type]
        node = _node(
            "Resize",
            [*inputs, "", scales],
            step.name,
            _attribute_text("mode", "nearest"),
            _attribute_text("coordinate_transformation_mode", "asymmetric"),
            _attribute_text("nearest_mode", "floor"),
        )
        return node, [_tensor(scales, np.array([1, 1, factor, factor], np.float32))]
    raise TypeError(f"no operator for {type(module).__name__}")


def _model(
    nodes: Iterable[bytes], weights: Iterable[bytes], channels: int, stride: int, notes: Mapping[str, str]
) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"text_detector")
    graph += b"".join(_field(5, weight) for weight in weights)
    graph += _field(11, _value("image", _UINT8, ("images", channels, "height", "width")))
    graph += _field(12, _value("text", _FLOAT, ("images", "kinds", f"height/{stride}", f"width/{stride}")))
    model = _number(1, IR_VERSION) + _field(2, b"sono") + _field(7, graph) + _field(8, _number(2, OPSET))
    for key, text in sorted(notes.items()):
        model += _field(14, _field(1, key.encode()) + _field(2, text.encode()))
    return model


def _node(kind: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs]
    parts += [_field(2, output.encode()), _field(3, output.encode()), _field(4, kind.encode())]
    return b"".join(parts) + b"".join(_field(5, attribute) for attribute in attributes)


def _attribute_int(name: str, value: int) -> bytes:
    return _field(1, name.encode()) + _number(3, value) + _number(20, 2)


def _attribute_ints(name: str, values: Iterable[int | str]) -> bytes:
    return _field(1, name.encode()) + b"".join(_number(8, int(value)) for value in values) + _number(20, 7)


def _attribute_text(name: str, value: str) -> bytes:
    return _field(1, name.encode()) + _field(4, value.encode()) + _number(20, 3)


def _tensor(name: str, values: Floats) -> bytes:
    dimensions = b"".join(_number(1, size) for size in values.shape)
    return dimensions + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, values.astype("<f4").tobytes())


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    sizes = [_number(1, size) if isinstance(size, int) else _field(2, size.encode()) for size in shape]
    tensor = _number(1, kind) + _field(2, b"".join(_field(1, size) for size in sizes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
