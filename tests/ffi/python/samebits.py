"""samebits from Python, by ctypes: NumPy arrays go in and out where they lie, without copies.

    SAMEBITS_LIBRARY=target/release/libsamebits.so python3 -c 'import samebits; print(samebits.Engine().tier)'

Arrays are float32; any strides will do where a matrix is read or written. A failure is a samebits.Error that has the
status and the library's message.
"""
import ctypes as C
import os

import numpy as np

_path = os.environ.get("SAMEBITS_LIBRARY", os.path.join(os.path.dirname(__file__), "../../../target/release/libsamebits.so"))
_lib = C.CDLL(_path)
_size, _stride = C.c_size_t, C.c_ssize_t
ABI = 1


class Error(Exception):
    """A call that failed: `status` is the number of samebits_status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def _struct(name, *fields):
    return type(name, (C.Structure,), {"_fields_": list(fields)})


_Matrix = _struct("Matrix", ("data", C.c_void_p), ("rows", _size), ("cols", _size), ("row_stride", _stride), ("col_stride", _stride))
_Heads = _struct("Heads", ("data", C.c_void_p), ("shape", _size * 4), ("strides", _stride * 4))
_Attention = _struct("Attention", ("q", _Heads), ("k", _Heads), ("v", _Heads), ("out", _Heads), ("scale", C.c_float),
                     ("pattern", C.c_uint32), ("window", _size))
_Nf4 = _struct("Nf4", ("n", _size), ("k", _size), ("blocksize", _size), ("codes", C.c_void_p), ("absmax", C.c_void_p))
_Packed = _struct("Packed", ("n", _size), ("k", _size), ("blocksize", _size), ("codes", C.c_void_p), ("code_bytes", _size),
                  ("scales", C.c_void_p), ("scale_count", _size))
_Buffer = _struct("Buffer", ("data", C.c_char_p), ("capacity", _size), ("length", _size))
_Info = _struct("Info", ("vocab", _size), ("context", _size), ("dim", _size), ("layers", _size))
_Options = _struct("Options", ("max_tokens", _size), ("temperature", C.c_float), ("top_p", C.c_float), ("min_p", C.c_float),
                   ("repeat_penalty", C.c_float), ("top_k", _size), ("seed", C.c_uint64))
_Document = _struct("Document", ("id", C.c_char_p), ("text", C.c_char_p))
_Query = _struct("Query", ("text", C.c_char_p), ("embedder", C.c_void_p), ("mode", C.c_uint32), ("filter", C.c_char_p))
_Hit = _struct("Hit", ("score", C.c_double), ("chunk", _size), ("line", _size), ("document", C.c_void_p), ("document_len", _size),
               ("text", C.c_void_p), ("text_len", _size))

_lib.samebits_last_error.restype = C.c_char_p
_lib.samebits_version.restype = C.c_char_p
version = _lib.samebits_version().decode()
assert _lib.samebits_abi() == ABI, "the library has another interface than this module"


def _call(name, *arguments):
    status = getattr(_lib, "samebits_" + name)(*arguments)
    if status not in (0, 6):
        raise Error(status, _lib.samebits_last_error().decode())
    return status


def _text(value):
    return None if value is None else os.fspath(value).encode()


def _float32(array, axes, name):
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != axes:
        raise TypeError(f"{name}: expected a float32 array of {axes} axes")
    if any(stride % 4 for stride in array.strides):
        raise TypeError(f"{name}: strides are no multiples of 4 bytes")
    return array.ctypes.data, [stride // 4 for stride in array.strides]


def _matrix(array, name):
    data, strides = _float32(array, 2, name)
    return C.byref(_Matrix(data, *array.shape, *strides))


def _heads(array, name):
    data, strides = _float32(array, 4, name)
    return _Heads(data, (_size * 4)(*array.shape), (_stride * 4)(*strides))


def _writable(array, name):
    if not array.flags.writeable:
        raise TypeError(f"{name} is not writable")
    return array


class _Handle:
    """Something of the library that is closed when nobody holds it any more."""

    def __init__(self, kind, function, *arguments):
        self._close = getattr(_lib, f"samebits_{kind}_close")
        self._as_parameter_ = C.c_void_p()
        _call(function, *arguments, C.byref(self._as_parameter_))

    def __del__(self):
        if getattr(self, "_as_parameter_", None):
            self._close(self._as_parameter_)


class Engine(_Handle):
    """An instruction set and threads. Neither changes a bit of any result."""

    def __init__(self, tier=None, threads=0):
        super().__init__("engine", "engine_open", _text(tier), _size(threads))

    @property
    def tier(self):
        name = C.c_char_p()
        _call("engine_tier", self, C.byref(name))
        return name.value.decode()

    def gemm(self, a, b, out=None, accumulate=False):
        """a @ b, or out + a @ b where out is there and `accumulate` is true."""
        out = np.empty((a.shape[0], b.shape[1]), np.float32) if out is None else _writable(out, "out")
        _call("gemm", self, _matrix(a, "a"), _matrix(b, "b"), _matrix(out, "out"), C.c_uint32(accumulate))
        return out

    def softmax(self, x, out=None):
        """Of each row; out may be x."""
        out = np.empty(x.shape, np.float32) if out is None else _writable(out, "out")
        _call("softmax", self, _matrix(x, "x"), _matrix(out, "out"))
        return out

    def attention(self, q, k, v, causal=False, window=None, scale=0.0):
        """(batch, heads, tokens, dim) each; heads of q are a multiple of those of k and v."""
        out = np.empty((*q.shape[:3], v.shape[3]), np.float32)
        pattern = 2 if window is not None else int(causal)
        args = _Attention(_heads(q, "q"), _heads(k, "k"), _heads(v, "v"), _heads(out, "out"), scale, pattern, window or 0)
        _call("attention", self, C.byref(args))
        return out

    def quantize(self, weight, blocksize=64):
        """A weight (n, k) in NF4."""
        weight = np.ascontiguousarray(weight, np.float32)
        n, k = weight.shape
        made = Nf4(n, k, blocksize)
        _call("nf4_quantize", self, C.c_void_p(weight.ctypes.data), C.byref(made._rows))
        return made

    def dequantize(self, weight):
        out = np.empty((weight.n, weight.k), np.float32)
        _call("nf4_dequantize", self, C.byref(weight._rows), C.c_void_p(out.ctypes.data))
        return out

    def gemm_nf4(self, a, packed, out=None, accumulate=False):
        """a @ weight.T"""
        out = np.empty((a.shape[0], packed.n), np.float32) if out is None else _writable(out, "out")
        _call("gemm_nf4", self, _matrix(a, "a"), C.byref(packed._panels), _matrix(out, "out"), C.c_uint32(accumulate))
        return out


class Nf4:
    """Codes and absmax of a weight (n, k), as bitsandbytes stores them."""

    def __init__(self, n, k, blocksize):
        self.n, self.k, self.blocksize = n, k, blocksize
        self.codes = np.zeros((n * k + 1) // 2, np.uint8)
        self.absmax = np.zeros(-(-n * k // blocksize), np.float32)
        self._rows = _Nf4(n, k, blocksize, self.codes.ctypes.data, self.absmax.ctypes.data)

    def pack(self):
        return PackedNf4(self)


def _lines(count, dtype):
    """Memory at a multiple of 64 bytes."""
    bytes_ = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -bytes_.ctypes.data % 64
    return bytes_[start:start + count * np.dtype(dtype).itemsize].view(dtype)


class PackedNf4:
    """The same in the order in which products read it."""

    def __init__(self, weight):
        self.n, self.k, self.blocksize = weight.n, weight.k, weight.blocksize
        codes, scales = _size(), _size()
        _call("nf4_packed_size", _size(self.n), _size(self.k), _size(self.blocksize), C.byref(codes), C.byref(scales))
        self.codes, self.scales = _lines(codes.value, np.uint8), _lines(scales.value, np.float32)
        self._panels = _Packed(self.n, self.k, self.blocksize, self.codes.ctypes.data, codes, self.scales.ctypes.data, scales)
        _call("nf4_pack", C.byref(weight._rows), C.byref(self._panels))

    def unpack(self):
        rows = Nf4(self.n, self.k, self.blocksize)
        _call("nf4_unpack", C.byref(self._panels), C.byref(rows._rows))
        return rows


class Model(_Handle):
    """A model that continues texts: a folder, a file, or without a path the one inside the library."""

    def __init__(self, engine, path=None):
        self.engine = engine
        super().__init__("model", "model_open", engine, _text(path))
        info = _Info()
        _call("model_describe", self, C.byref(info))
        self.vocab, self.context, self.dim, self.layers = info.vocab, info.context, info.dim, info.layers

    def tokenize(self, text):
        count = _size()
        try:
            _call("tokenize", self, text.encode(), None, _size(0), C.byref(count))
        except Error as error:
            if error.status != 5:
                raise
        ids = np.empty(count.value, np.uint32)
        _call("tokenize", self, text.encode(), C.c_void_p(ids.ctypes.data), count, C.byref(count))
        return ids

    def detokenize(self, ids):
        ids = np.ascontiguousarray(ids, np.uint32)
        buffer = _Buffer(None, 0, 0)
        try:
            _call("detokenize", self, C.c_void_p(ids.ctypes.data), _size(len(ids)), C.byref(buffer))
        except Error as error:
            if error.status != 5:
                raise
        memory = C.create_string_buffer(buffer.length + 1)
        buffer = _Buffer(C.cast(memory, C.c_char_p), len(memory), 0)
        _call("detokenize", self, C.c_void_p(ids.ctypes.data), _size(len(ids)), C.byref(buffer))
        return memory.raw[:buffer.length].decode()

    def logits(self, ids):
        """After each token: (tokens, vocab)."""
        ids = np.ascontiguousarray(ids, np.uint32)
        out = np.empty((len(ids), self.vocab), np.float32)
        _call("logits", self.engine, self, C.c_void_p(ids.ctypes.data), _size(len(ids)), C.c_void_p(out.ctypes.data), _size(out.size))
        return out

    def generate(self, prompt, capacity=1 << 16, **options):
        """What follows; options are the fields of samebits_generate_options."""
        chosen = _Options()
        _call("generate_defaults", C.byref(chosen))
        for name, value in options.items():
            if name not in dict(_Options._fields_):
                raise TypeError(f"no option {name!r}")
            setattr(chosen, name, value)
        memory = C.create_string_buffer(capacity)
        buffer = _Buffer(C.cast(memory, C.c_char_p), capacity, 0)
        _call("generate", self.engine, self, prompt.encode(), C.byref(chosen), C.byref(buffer))
        return memory.raw[:buffer.length].decode()


class Embedder(_Handle):
    """Texts to vectors: a folder, or without a path the table inside the library."""

    def __init__(self, engine, path=None, normalize=True):
        self.engine = engine
        super().__init__("embedder", "embedder_open", engine, _text(path), C.c_uint32(normalize))
        dim = _size()
        _call("embedder_dim", self, C.byref(dim))
        self.dim = dim.value

    def embed(self, texts):
        strings = (C.c_char_p * len(texts))(*[text.encode() for text in texts])
        out = np.empty((len(texts), self.dim), np.float32)
        _call("embed", self.engine, self, strings, _size(len(texts)), C.c_void_p(out.ctypes.data), _size(out.size))
        return out


class Index(_Handle):
    """Documents that are searched: of a file, or by `Index.build` of (id, text) pairs."""

    def __init__(self, path):
        super().__init__("index", "index_open", _text(path))

    @classmethod
    def build(cls, engine, documents, embedder=None):
        rows = (_Document * len(documents))(*[_Document(i.encode(), text.encode()) for i, text in documents])
        index = cls.__new__(cls)
        _Handle.__init__(index, "index", "index_build", engine, embedder, rows, _size(len(documents)))
        return index

    def save(self, path):
        _call("index_save", self, _text(path))

    def search(self, engine, text, k=10, embedder=None, mode="hybrid", filter=None):
        """[(score, document, line, text)], the best first."""
        handle = embedder._as_parameter_ if embedder is not None else None
        query = _Query(text.encode(), handle, ["hybrid", "lexical", "dense"].index(mode), _text(filter))
        hits, count = (_Hit * k)(), _size()
        _call("index_search", engine, self, C.byref(query), hits, _size(k), C.byref(count))
        read = lambda at, length: C.string_at(at, length).decode()
        return [(h.score, read(h.document, h.document_len), h.line, read(h.text, h.text_len)) for h in hits[:count.value]]
