"""Pickles that would run something, or that no reader should be given (R1)."""

import io
import pickle
import struct
from typing import Any

import torch

from tests.hostile.corpus.case import CANARY_FILE, PYTHON, SHELL, Case
from tests.support.pickle_builder import Call, Name, Raw, encode, pickled, storage, tensor, torch_zip
from tests.support.zip_builder import Entry

_UNSAFE = "unsafe_pickle_globals"

#: What a payload may call, with arguments that would leave a trace.
CALLS: dict[str, tuple[Any, ...]] = {
    "tests.support.canary.fire": ("x",),
    "os.system": (SHELL,),
    "posix.system": (SHELL,),
    "nt.system": (SHELL,),
    "os.popen": (SHELL,),
    "os.execvp": ("touch", ["touch", str(CANARY_FILE)]),
    "subprocess.Popen": (["touch", str(CANARY_FILE)],),
    "subprocess.check_output": (["touch", str(CANARY_FILE)],),
    "subprocess.run": (["touch", str(CANARY_FILE)],),
    "pty.spawn": (["touch", str(CANARY_FILE)],),
    "builtins.eval": (PYTHON,),
    "builtins.exec": (PYTHON,),
    "builtins.compile": (PYTHON, "x", "exec"),
    "builtins.open": (str(CANARY_FILE), "w"),
    "builtins.__import__": ("os",),
    "__builtin__.eval": (PYTHON,),
    "io.open": (str(CANARY_FILE), "w"),
    "_io.FileIO": (str(CANARY_FILE), "w"),
    "importlib.import_module": ("os",),
    "runpy._run_code": (PYTHON, {}),
    "code.InteractiveInterpreter": (),
    "timeit.timeit": (PYTHON,),
    "cProfile.run": (PYTHON,),
    "bdb.Bdb": (),
    "pickle.loads": (b"cos\nsystem\n(S'x'\ntR.",),
    "_pickle.loads": (b".",),
    "marshal.loads": (b"x",),
    "dill.loads": (b".",),
    "joblib.load": ("x",),
    "cloudpickle.cloudpickle._make_function": ("x",),
    "numpy.load": ("x",),
    "torch.load": ("x",),
    "torch.jit.load": ("x",),
    "torch.hub.load": ("evil/repo", "model"),
    "torch.storage._load_from_bytes": (pickle.dumps({"a": 1}),),
    "torch.utils.model_zoo.load_url": ("http://127.0.0.1:1/x",),
    "torch._utils._rebuild_tensor_v4": (),
    "torch.ops.load_library": ("x.so",),
    "torch.cpp_extension.load": ("x",),
    "ctypes.CDLL": ("x.so",),
    "socket.create_connection": (("127.0.0.1", 1),),
    "urllib.request.urlopen": ("http://127.0.0.1:1/",),
    "requests.get": ("http://127.0.0.1:1/",),
    "webbrowser.open": ("http://127.0.0.1:1/",),
    "shutil.rmtree": (str(CANARY_FILE),),
    "pathlib.Path.touch": ("x",),
    "operator.attrgetter": ("system",),
    "functools.partial": (Name("os.system"), SHELL),
    "types.FunctionType": (),
    "types.CodeType": (),
    "asyncio.run": (),
    "pip.main": (["install", "evil"],),
    "sys.modules": (),
    "typing.Generic": (),
    "copyreg._reconstructor": (Name("builtins.object"), Name("builtins.object"), None),
    "collections.namedtuple": ("A", "b"),
    "enum.Enum": ("x",),
    "transformers.pipeline": ("x",),
    "transformers.AutoModel.from_pretrained": ("evil/repo",),
    "lightning.pytorch.core.module.LightningModule.load_from_checkpoint": ("x",),
    "__main__.Anything": ("x",),
    "my_project.models.net.build": (3,),
}


def legacy(content: Any, keys: list[str] | None = None, blocks: bytes = struct.pack("<q", 4) + bytes(16)) -> bytes:
    """A file of the old format, `content` pickled unless it is bytes already."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    body = content if isinstance(content, bytes) and not isinstance(content, Raw) else pickled(content)
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps(system, 2)
    return head + body + pickle.dumps(["0"] if keys is None else keys, 2) + blocks


def beside(value: Any) -> dict[str, Any]:
    """A checkpoint with good weights and something beside them."""
    return {"state_dict": {"w": tensor()}, "extra": value}


def _system(how: str = "reduce") -> Call:
    return Call("os.system", SHELL, how=how)


def _attributes(state: Any) -> Raw:
    """An OrderedDict with a state of its own."""
    return Raw(encode(Call("collections.OrderedDict")) + encode(state) + b"b")


def _module(inner: Any) -> Raw:
    """A pickled torch.nn.Linear whose state is `inner`."""
    return Raw(encode(Name("torch.nn.modules.linear.Linear")) + b")\x81" + encode(inner) + b"b")


def _saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _bomb(levels: int, times: int) -> bytes:
    """A list that holds another one several times, which holds another one several times, ..."""
    steps = [b"](" + (b"h" + bytes([i])) * times + b"eq" + bytes([i + 1]) for i in range(levels)]
    return b"\x80\x02(]q\0" + b"".join(steps) + b"t."


_HOOKS = Call("collections.OrderedDict")
_V2 = "torch._utils._rebuild_tensor_v2"
_ARGUMENTS = "unsafe_pickle_arguments"
_DAMAGED = "invalid_checkpoint"
_BIG = "unsupported_checkpoint_size"
_DEEP = "unsupported_checkpoint_nesting"

CASES = [
    *(Case(f"calls {name}", torch_zip(beside(Call(name, *args))), _UNSAFE, (name,)) for name, args in CALLS.items()),
    *(
        Case(f"calls {name}, old format", legacy(beside(Call(name, *args))), _UNSAFE, (name,))
        for name, args in list(CALLS.items())[:8]
    ),
    # how it is called, and where it hides
    Case("only named", torch_zip(beside(Name("os.system"))), _UNSAFE, ("os.system",)),
    Case("as a new object", torch_zip(beside(_system("newobj"))), _UNSAFE, ("os.system",)),
    Case("with STACK_GLOBAL", torch_zip(pickled(beside(_system("stack_global")), 4)), _UNSAFE, ("os.system",)),
    Case("with INST", torch_zip(beside(_system("inst"))), _UNSAFE, ("os.system",)),
    Case("with OBJ", torch_zip(beside(_system("obj"))), _UNSAFE, ("os.system",)),
    Case("INST of something harmless", torch_zip(b"\x80\x02(icollections\nOrderedDict\n."), "unsafe_pickle_opcodes"),
    Case(
        "a name put together from the memo",
        torch_zip(b"\x80\x04\x8c\x06system\x94\x8c\x02os\x94h\x00h\x01\x8c\x01x0h\x01h\x00\x93\x8c\x01x\x85R."),
        _UNSAFE,
        ("os.system",),
    ),
    Case(
        "a name from the memo, no POP",
        torch_zip(b"\x80\x04}\x94(\x8c\x06system\x94\x8c\x02os\x94\x8c\x01kh\x02h\x01\x93\x8c\x01x\x85Ru."),
        _UNSAFE,
        ("os.system",),
    ),
    Case("with EXT1", torch_zip(beside(Raw(b"\x82\x01"))), "unsafe_pickle_opcodes", ("EXT1",)),
    Case("with EXT4", torch_zip(beside(Raw(b"\x84\x01\0\0\0"))), "unsafe_pickle_opcodes", ("EXT4",)),
    Case("as a key", torch_zip({"w": tensor(), _system(): 1}), _UNSAFE, ("os.system",)),
    Case("among the weights", torch_zip({"w": tensor(), "v": _system()}), _UNSAFE, ("os.system",)),
    Case("instead of everything", torch_zip(_system()), _UNSAFE, ("os.system",)),
    Case("as a tensor's hooks", torch_zip({"w": Call(_V2, storage(), 0, (2, 2), (2, 1), False, _system())}), _UNSAFE),
    Case("as a tensor's storage", torch_zip({"w": Call(_V2, _system(), 0, (2,), (1,), False, _HOOKS)}), _UNSAFE),
    Case("in a storage's id", torch_zip({"w": Raw(encode(("storage", _system(), "0", "cpu", 4)) + b"Q")}), _UNSAFE),
    Case("as _metadata", torch_zip({"a": _attributes({"_metadata": _system()})}), _UNSAFE, ("os.system",)),
    Case("in an OrderedDict's arguments", torch_zip(Call("collections.OrderedDict", [("a", _system())])), _UNSAFE),
    Case("as a defaultdict's factory", torch_zip(beside(Call("collections.defaultdict", Name("os.system")))), _UNSAFE),
    Case(
        "as the function of a typed tensor",
        torch_zip(
            {"w": Call("torch._tensor._rebuild_from_type_v2", Name("os.system"), Name("torch.Tensor"), (SHELL,), {})}
        ),
        _UNSAFE,
    ),
    Case(
        "in a Namespace",
        torch_zip(beside(Raw(encode(Call("argparse.Namespace", how="newobj")) + encode({"a": _system()}) + b"b"))),
        _UNSAFE,
    ),
    Case("through getattr", torch_zip(beside(Call("builtins.getattr", Name("os"[:0] + "os.path"), "system"))), _UNSAFE),
    Case(
        "through getattr of something harmless",
        torch_zip(beside(Call("builtins.getattr", Name("torch.Tensor"), "__reduce__"))),
        _ARGUMENTS,
        ("getattr",),
    ),
    Case("in front of rubbish", torch_zip(b"\x80\x02" + encode(_system()) + b"\xff\xff\xff"), _UNSAFE, ("os.system",)),
    Case("in front of the end of the data", torch_zip(b"\x80\x02" + encode(_system())), _UNSAFE, ("os.system",)),
    Case(
        "behind a broken opcode",
        torch_zip(b"\x80\x02" + encode(_system()) + b"0]X\xff\xff\xff\xff"),
        _UNSAFE,
        ("os.system",),
    ),
    Case(
        "behind a million numbers",
        lambda: torch_zip(b"\x80\x02" + encode(_system()) + b"](" + b"K\1" * 1_600_000 + b"e."),
        _UNSAFE,
    ),
    Case("thrown away with POP", torch_zip(b"\x80\x02" + encode(_system()) + b"0}."), _UNSAFE, ("os.system",)),
    Case("behind a POP", torch_zip(b"\x80\x02}0" + encode(_system()) + b"."), _UNSAFE, ("os.system",)),
    Case("behind texts of protocol 0", torch_zip(b"(lI1\naF2.5\naVx\nap0\n0" + encode(_system()) + b"."), _UNSAFE),
    Case("in protocol 4, behind a DUP", torch_zip(pickled(Raw(b"}20" + encode(_system("stack_global"))), 4)), _UNSAFE),
    Case("protocol 0", torch_zip(b"cos\nsystem\n(S'" + SHELL.encode() + b"'\ntR."), _UNSAFE, ("os.system",)),
    Case("protocol 1", torch_zip(b"}q\0(" + encode("a") + encode(_system()) + b"u."), _UNSAFE, ("os.system",)),
    Case("a bare pickle", pickled(_system()), _UNSAFE, ("os.system",)),
    Case("a bare pickle of protocol 0", b"cos\nsystem\n(S'" + SHELL.encode() + b"'\ntR.", _UNSAFE, ("os.system",)),
    Case("a bare pickle called .bin", pickled(_system()), _UNSAFE, ("os.system",), "pytorch_model.bin"),
    Case("a bare pickle called .safetensors", pickled(_system()), _UNSAFE, ("os.system",), "model.safetensors"),
    Case(
        "in a second pickle of the member",
        torch_zip(pickled({"w": tensor()}) + pickled(_system())),
        "unsafe_pickle_surplus",
    ),
    Case(
        "in a second member",
        torch_zip({"w": tensor()}, more=[Entry("archive/evil.pkl", pickled(_system()))]),
        "unsafe_archive_members",
        ("another pickle",),
    ),
    Case(
        "in the old format's magic number",
        pickled(Raw(pickle.dumps(0x1950A86A20F9469CFC6C, 2)[2:-1] + encode(_system()))),
        _UNSAFE,
    ),
    Case("in the old format's list of storages", legacy({"w": tensor()}, blocks=b"")[:-1] + b"", _DAMAGED),
    Case("a module and a call", torch_zip(_module({"x": _system()})), _UNSAFE, ("os.system",)),
    Case(
        "a whole network",
        _saved(torch.nn.Sequential(torch.nn.Linear(2, 2))),
        "unsupported_module_pickle",
        ("network", "Linear"),
    ),
    Case(
        "a whole network, old format",
        _saved(torch.nn.Linear(2, 2), _use_new_zipfile_serialization=False),
        "unsupported_module_pickle",
    ),
    Case(
        "a network of somebody's class",
        torch_zip(Raw(encode(Name("__main__.Net")) + b")\x81" + encode({"_modules": {"fc": _module({})}}) + b"b")),
        "unsupported_module_pickle",
        ("__main__.Net",),
    ),
    # what is on the list, used otherwise
    Case(
        "codecs.encode with a codec",
        torch_zip(beside(Call("_codecs.encode", "x", "rot13"))),
        _ARGUMENTS,
        ("_codecs.encode",),
    ),
    Case("a storage called", torch_zip(beside(Call("torch.FloatStorage", 3))), _ARGUMENTS),
    Case("a tensor class called", torch_zip(beside(Call("torch.Tensor", [1]))), _ARGUMENTS),
    Case(
        "hooks that are a list",
        torch_zip({"w": Call(_V2, storage(), 0, (2, 2), (2, 1), False, ["x"])}),
        _ARGUMENTS,
        ("hooks",),
    ),
    Case("a text called", torch_zip(beside(Raw(encode("x") + b")R"))), _ARGUMENTS, ("call",)),
    Case("a persistent id that is a text", torch_zip(beside(Raw(encode("x") + b"Q"))), _ARGUMENTS, ("persistent id",)),
    Case(
        "keyword arguments",
        torch_zip(pickled(beside(Raw(encode(Name("argparse.Namespace")) + b")" + encode({"a": 1}) + b"\x92")), 4)),
        _ARGUMENTS,
    ),
    Case(
        "NumPy's _reconstruct of another class",
        torch_zip(beside(Call("numpy._core.multiarray._reconstruct", Name("torch.Tensor"), (0,), b"b"))),
        _ARGUMENTS,
    ),
    Case(
        "an array shorter than its shape",
        torch_zip(beside(Call("numpy._core.numeric._frombuffer", b"abcd", Call("numpy.dtype", "f8"), (100,), "C"))),
        _ARGUMENTS,
    ),
    # damaged or absurd
    Case("no end", torch_zip(pickled({"w": tensor()})[:-1]), _DAMAGED, ("damaged",)),
    Case("an empty pickle", torch_zip(b"\x80\x02."), _DAMAGED, ("damaged",)),
    Case("no bytes", torch_zip(b""), _DAMAGED, ("damaged",)),
    Case("a value from an empty stack", torch_zip(b"\x80\x02R."), _DAMAGED),
    Case("a memo entry that is not there", torch_zip(b"\x80\x02h\x09."), _DAMAGED),
    Case("a mark without an end", torch_zip(b"\x80\x02(}."), _DAMAGED),
    Case("two values", torch_zip(b"\x80\x02}}."), _DAMAGED),
    Case("a key without a value", torch_zip(b"\x80\x02}(" + encode("a") + b"u."), _DAMAGED),
    Case("items for a number", torch_zip(b"\x80\x02K\1(K\2e."), _DAMAGED),
    Case("a text longer than the file", torch_zip(b"\x80\x02X\xff\xff\xff\x7fabc."), _DAMAGED, ("cut off",)),
    Case("a text of 2^62 bytes", torch_zip(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"."), _DAMAGED),
    Case(
        "a frame of 2^40 bytes", torch_zip(b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}."), _DAMAGED, ("frame",)
    ),
    Case("a number of negative length", torch_zip(b"\x80\x02\x8b\xff\xff\xff\xff."), _DAMAGED),
    Case("a number of 60 kB", torch_zip(b"\x80\x02\x8b" + struct.pack("<i", 60_000) + bytes(60_000) + b"."), _DAMAGED),
    Case("a text that is no UTF-8", torch_zip(b"\x80\x02X\2\0\0\0\xff\xfe."), _DAMAGED, ("UTF-8",)),
    Case("protocol 9", torch_zip(b"\x80\x09}."), "unsupported_pickle_protocol", ("PROTO 9",)),
    Case("protocol 0 without a call", torch_zip(b"(dS'a'\nI1\ns."), "unsupported_pickle_protocol"),
    Case("out-of-band buffers", torch_zip(b"\x80\x05\x97."), "unsupported_pickle_protocol", ("NEXT_BUFFER",)),
    Case("a list as a key", torch_zip({"w": tensor(), "x": Raw(b"}]K\1s")}), _ARGUMENTS, ("key",)),
    Case(
        "tuples within tuples as a key",
        torch_zip(b"\x80\x02}(Nq\0" + b"".join(b"(" + b"h\0" * 8 + b"tq\0" for _ in range(40)) + b"t" + b"K\1s."),
        _ARGUMENTS,
        ("key",),
    ),
    Case(
        "keys made to collide",
        torch_zip(beside({i * ((1 << 61) - 1): 0 for i in range(1, 2000)})),
        _ARGUMENTS,
        ("key",),
    ),
    Case(
        "lists 200,000 deep", lambda: torch_zip(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."), _DEEP, ("deep",)
    ),
    Case("tuples 200,000 deep", lambda: torch_zip(b"\x80\x02)" + b"\x85" * 200_000 + b"."), _DEEP, ("deep",)),
    Case(
        "500 dictionaries around the weights",
        lambda: torch_zip(b"\x80\x02" + (b"}" + encode("m")) * 500 + encode({"w": tensor()}) + b"s" * 500 + b"."),
        _DEEP,
        ("deep",),
    ),
    Case("shared lists that grow and grow", torch_zip(_bomb(20, 10)), _DEEP, ("values",)),
    Case("shared lists 29 deep", torch_zip(_bomb(29, 2)), _DEEP, ("values",)),
    Case("a list that contains itself", torch_zip(b"\x80\x02]q\0h\0a."), _DEEP, ("itself",)),
    Case(
        "a million keys",
        lambda: torch_zip(b"\x80\x02}(" + b"".join(encode(f"k{i}") + b"K\1" for i in range(1_000_000)) + b"u."),
        _BIG,
        ("too many objects",),
    ),
    Case("30,000 tensors", lambda: torch_zip({f"w{i}": tensor() for i in range(30_000)}), _DEEP, ("tensors",)),
    Case(
        "a list copied again and again",
        lambda: torch_zip(
            b"\x80\x02](" + b"K\1" * 50_000 + b"eq\0(" + (b"cbuiltins\nlist\nh\0\x85R") * 20_000 + b"t\x85."
        ),
        _BIG,
    ),
]
