"""Dense storage of 2-, 3-, 4- and 8-bit codes in bytes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def packed_bytes(bits: int, count: int) -> int:
    """Return the bytes that ``count`` codes of ``bits`` bits take: ceil(bits x count / 8)."""
    return (bits * count + 7) // 8


def _period(bits: int) -> tuple[int, int]:
    """Return the fewest codes that fill whole bytes, and how many bytes they fill."""
    codes = 8 // math.gcd(8, bits)
    return codes, codes * bits // 8


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack unsigned codes densely, lowest bits first.

    Args:
        codes: uint8 of any shape, values in [0, 2^bits - 1].
        bits: 2, 3, 4 or 8.

    Returns:
        [ceil(bits x n / 8)] uint8 for n codes.
    """
    flat = codes.reshape(-1)
    if bits == 8:
        return flat.clone()
    period, width = _period(bits)
    rows = F.pad(flat, (0, -flat.numel() % period)).view(-1, period)  # [R, period]
    out = torch.zeros(rows.shape[0], width, dtype=torch.uint8, device=codes.device)
    for i in range(period):
        byte, shift = divmod(i * bits, 8)
        out[:, byte] |= rows[:, i] << shift
        if shift + bits > 8:  # the code runs over into the next byte
            out[:, byte + 1] |= rows[:, i] >> (8 - shift)
    return out.view(-1)[: packed_bytes(bits, flat.numel())].clone()


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Undo ``pack``.

    Args:
        packed: [ceil(bits x count / 8)] uint8.
        bits: 2, 3, 4 or 8.
        count: how many codes are stored.

    Returns:
        [count] uint8. For 8 bits it is ``packed`` itself: do not write to it.
    """
    if bits == 8:
        return packed
    period, width = _period(bits)
    rows = F.pad(packed, (0, -packed.numel() % width)).view(-1, width)  # [R, width]
    out = torch.empty(rows.shape[0], period, dtype=torch.uint8, device=packed.device)
    for i in range(period):
        byte, shift = divmod(i * bits, 8)
        code = rows[:, byte] >> shift
        if shift + bits > 8:
            code |= rows[:, byte + 1] << (8 - shift)
        out[:, i] = code & (2**bits - 1)
    return out.view(-1)[:count]
