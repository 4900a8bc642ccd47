"""Pickles that ask for much by calls that `torch.load` makes of its own accord, and those that ask for little."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch

from semanir_plugin.errors import UserError
from semanir_plugin.inference.safe_loading import load_checkpoint
from tests.conftest import ROOT
from tests.security.attacks import as_legacy, as_zip

MUCH = 10**11


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def rebuilt(size, stride=None, offset=0, storage=None):
    own = torch.zeros(4).untyped_storage() if storage is None else storage
    typed = torch.storage.TypedStorage(wrap_storage=own, dtype=torch.float32, _internal=True)
    stride = (1,) * len(size) if stride is None else stride
    return Call(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, OrderedDict())


def encode(value, encoding):
    import _codecs

    return Call(_codecs.encode, value, encoding)


class OfType(Call):
    """A subclass of tensors made by any function."""

    def __init__(self, function, *arguments):
        super().__init__(torch._tensor._rebuild_from_type_v2, function, torch.Tensor, arguments, {})


HUGE = {
    "bytearray": Call(bytearray, MUCH),
    "bytearray, twice": Call(bytearray, Call(bytearray, MUCH)),
    "tensor": Call(torch.Tensor, MUCH),
    "FloatTensor": Call(torch.FloatTensor, MUCH),
    "LongTensor": Call(torch.LongTensor, 10**6, 10**6),
    "UntypedStorage": Call(torch.UntypedStorage, MUCH),
    "expanded": rebuilt((MUCH,), (0,)),
    "expanded, negative": rebuilt((-1, -MUCH), (0, 0)),
    "beyond its storage": rebuilt((MUCH,)),
    "far within": rebuilt((2,), (MUCH,)),
    "offset": rebuilt((1,), offset=MUCH),
    "negative offset": rebuilt((1,), offset=-8),
    "float size": rebuilt((4.0,)),
    "set": Call(set, rebuilt((2**26,), (0,))),
    "Counter": Call(Counter, rebuilt((2**26,), (0,))),
    "OrderedDict": Call(OrderedDict, rebuilt((2**26, 2), (0, 0))),
    "Size": Call(torch.Size, rebuilt((2**26,), (0,))),
    "encoded": encode("x" * 1000, "utf-32"),
    "encoded, twice": encode(encode("x", "latin1"), "hex"),
    "by its type": OfType(bytearray, MUCH),
    "by its type, twice": OfType(torch._tensor._rebuild_from_type_v2, bytearray, torch.Tensor, (MUCH,), {}),
    "quantised": Call(torch._utils._rebuild_qtensor, 1, 0, (MUCH,), (1,), (torch.per_tensor_affine, 1.0, 0), False, {}),
    "copied": Call(
        torch._utils._rebuild_device_tensor_from_cpu_tensor, rebuilt((2**26,), (0,)), torch.float64, "cpu", False
    ),
    "changed": Call(torch.Tensor, state=(torch.zeros(4).untyped_storage(), 0, (MUCH,), (1,))),
}


@pytest.mark.parametrize("write", [as_zip, as_legacy])
@pytest.mark.parametrize("what", HUGE)
def test_what_a_call_makes_of_little_is_refused_before(what, write, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(write({"params": {"x": torch.zeros(4)}, "note": HUGE[what]}))
    with pytest.raises(UserError, match=r"x\.pth: refused, since it describes (a|tensors|storages) "):
        load_checkpoint(path)


@pytest.mark.parametrize("write", [as_zip, as_legacy])
def test_storages_that_lie(write, tmp_path):
    path, content = tmp_path / "x.pth", write({"params": {"x": torch.zeros(8)}})
    path.write_bytes(with_pickle(content, lying) if write is as_zip else lying(content))
    with pytest.raises(UserError, match=r"storages of 4,294,967,296 bytes in a file of"):
        load_checkpoint(path)


def lying(content):
    """The same with a storage of 2 ** 30 elements in the place of one of 8."""
    changed, count = re.subn(rb"(cpuq.)K\x08", lambda found: found[1] + pickle.dumps(2**30, 2)[2:-1], content)
    assert count == 1
    return changed


def with_pickle(content, change):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


def test_what_files_of_tensors_have_is_loaded(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "views": [base, base[1:, ::2], base.t(), base[:0], torch.tensor(1.0)],
        "expanded": torch.ones(1).expand(5000, 3),
        "dtypes": [
            torch.zeros(3, dtype=dtype) for dtype in (torch.bool, torch.int64, torch.bfloat16, torch.complex128)
        ],
        "parameter": torch.nn.Parameter(base),
        "buffer": torch.nn.Buffer(base),
        "state": torch.nn.Conv2d(3, 4, 3).state_dict(),
        "plain": [
            b"bytes",
            bytearray(b"more"),
            {1, 2},
            1j,
            Counter("aab"),
            OrderedDict(a=1),
            base.shape,
            torch.device("cpu"),
        ],
        "nothing": [set(), OrderedDict()],
        "meta": torch.zeros(10**6, device="meta"),
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8),
    }
    new = {"eights": torch.zeros(64).to(torch.float8_e4m3fn), "sixteens": torch.zeros(64, dtype=torch.uint16)}
    for index, written in enumerate((as_zip({**content, **new}), as_legacy(content))):
        path = tmp_path / f"{index}.pth"
        path.write_bytes(written)
        loaded = load_checkpoint(path)
        assert torch.equal(loaded["views"][1], base[1:, ::2])
        assert loaded["plain"] == content["plain"]


def test_who_is_trusted_may_describe_anything(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    shared = [0]
    for _ in range(30):
        shared = [shared, shared]
    path.write_bytes(as_zip({"note": Call(bytearray, 1000), "shared": shared}))
    with pytest.raises(UserError, match="refused"):
        load_checkpoint(path)
    monkeypatch.setenv("SEMANIR_UNPICKLE", str(path))
    assert load_checkpoint(path)["note"] == bytearray(1000)


def test_an_object_of_others_is_told_as_such(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(torch.nn.Conv2d(3, 4, 3), path)
    with pytest.raises(
        UserError, match=r"refused, since loading its 'torch\.nn\.modules\.conv\.Conv2d' would execute code"
    ):
        load_checkpoint(path)


PROBE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from semanir_plugin.errors import UserError
from semanir_plugin.inference.safe_loading import load_checkpoint
from tests.memory import peak_mib
for path in sys.argv[1:]:
    try:
        load_checkpoint(path)
    except UserError as error:
        assert "refused, since it describes" in str(error), error
    else:
        sys.exit(f"{path} is loaded")
print(peak_mib())
"""


def test_little_memory_does(tmp_path):
    for index, (write, value) in enumerate((write, value) for write in (as_zip, as_legacy) for value in HUGE.values()):
        (tmp_path / f"{index}.pth").write_bytes(write({"params": {}, "note": value}))
    paths = map(str, tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", PROBE, *paths], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1000, "MiB, most of them torch's"
