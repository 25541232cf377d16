"""TensorBoard's event files, written without TensorBoard.

A file is a sequence of records: length (u64), its masked CRC, a serialized ``Event`` message, its masked CRC, all little-endian
(tensorflow/core/lib/io/record_writer.h). An ``Event`` holds wall_time = 1 (double), step = 2 (varint), file_version = 3
(string) or summary = 5, a list of value = 1 with tag = 1 (string) and simple_value = 2 (float).
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from rnnfast.files import PathLike


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, bits reversed
        table.append(byte)
    return table


_TABLE = _table()
_LARGEST = (2 - 2**-23) * 2.0**127


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _event(step: int, content: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + content


def _float32(value: float) -> float:
    """The value, or infinity if it exceeds float32."""
    return value if abs(value) <= _LARGEST or value != value else math.copysign(math.inf, value)


class EventWriter:
    """Writes scalars to a new event file in ``folder``; ``tensorboard --logdir folder`` shows them."""

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self._file: BinaryIO | None = None

    def _open(self) -> BinaryIO:
        self.folder.mkdir(parents=True, exist_ok=True)
        for count in range(1000):
            name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{count}"
            if not (self.folder / name).exists():
                break
        file = (self.folder / name).open("wb")
        self._write(file, _event(0, _field(3, b"brain.Event:2")))
        return file

    def _write(self, file: BinaryIO, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        file.write(length + _masked_crc(length) + event + _masked_crc(event))
        file.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Writes one point for each curve in ``values``."""
        summary = b"".join(
            _field(1, _field(1, tag.encode()) + b"\x15" + struct.pack("<f", _float32(value)))
            for tag, value in values.items()
        )
        self._file = self._file or self._open()
        self._write(self._file, _event(step, _field(5, summary)))

    def close(self) -> None:
        """Closes the file; the next point begins a new one."""
        if self._file is not None:
            self._file.close()
        self._file = None
