"""In what numbers a training multiplies matrices."""

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    import torch

Precision: TypeAlias = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def native_precision(device: "torch.device") -> Precision:
    """bfloat16 where the device multiplies it in hardware, which takes about half of the time; float32 elsewhere."""
    import torch

    native = False
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        native = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    elif device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"
