"""Malformed inputs: what a careless or hostile hand may give wherever regkit reads something."""

import gzip
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import load_file, save_file

from regkit.base.files import digest_of
from tests.helpers import TASKS, VOCABULARY
from tests.runs.test_resume import forge

Content = str | bytes | None | Callable[[Path], object]

TRAIN = ("train", "--encoder", "encoder", "--data", "data", "--tasks", "mood", "--dry-run")
SCORE = ("eval", "run", "--data", "data", "--json")
EVAL = ("eval", "run", "--json")
RESUME = ("train", "--resume", "stopped")
CONFIGURED = ("train", "c.toml", "--dry-run")

MOOD = TASKS.partition("[tasks.same]")[0]
NEAR = TASKS[TASKS.index("[tasks.near]") :]
CONFIG = 'data = "data"\nencoder = "encoder"\ntasks = ["mood"]\n'
HEADER = "id,sentence,mood\n"
ROWS = "1,so so cake,0\n2,good tea,1\n3,bad jam,2\n"
DEEP = 5000  # levels
GARBAGE = random.Random(0).randbytes(9999)
HUGE = "9" * 30


@dataclass(frozen=True)
class Input:
    """A command, and what is wrong with the files that it finds."""

    kind: str
    name: str
    command: Sequence[object]
    files: Mapping[str, Content] = field(default_factory=dict)  # by path; None removes, a function makes
    signed: Sequence[str] = ()  # checkpoints whose manifest shall agree, as a stranger's would
    harmless: bool = False  # it may as well be read
    change: Callable[[dict[str, Any]], object] | None = None  # of the training state of the run that was stopped
    worst: bool = False  # also tried in a process of its own, whose time and memory are measured

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def arrange(place: Path, given: Input) -> None:
    """Put the files of an input into a place where everything was right."""
    for name, content in given.files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            path.unlink()
        if isinstance(content, str | bytes):
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf8", "surrogateescape"))
        elif content:
            content(path)
    for name in given.signed:
        sign(place / name)
    if given.change:
        forge(place / "stopped", given.change)


def sign(folder: Path) -> None:
    """Let the manifest of a checkpoint agree with its files."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf8"))
    for name, entry in manifest["files"].items():
        if (folder / name).is_file():
            entry |= {"bytes": (folder / name).stat().st_size, "sha256": digest_of(folder / name)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf8")


# What is no file of text


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def sparse(size: int, begins: bytes = b"") -> Callable[[Path], object]:
    """A file that takes no room on the disk, and all that it says in memory."""

    def make(path: Path) -> None:
        path.write_bytes(begins)
        os.truncate(path, size)

    return make


def long(text: str, count: int, begins: str = "", ends: str = "") -> Callable[[Path], object]:
    """A text many times over, which only the test that wants it has in memory."""
    return lambda path: path.write_text(begins + text * count + ends, encoding="utf8", newline="")


def names(count: int, each: str, begins: str = "", ends: str = "") -> Callable[[Path], object]:
    """As many texts, each with its number."""
    return lambda path: path.write_text(begins + ",".join(each % n for n in range(count)) + ends, encoding="utf8")


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a circle of links": lambda path: path.symlink_to(path.name),
    "a link to nothing": link("nothing"),
    "a link to /dev/zero": link("/dev/zero"),
    "a file that cannot be read": link("/proc/self/mem"),
    "100 GB of nothing": sparse(100 << 30),
}


# Tensors


def tensors(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    """A safetensors file with this header, which may be of a size that it is not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def one(**changed: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changed}


TENSORS: dict[str, Content] = {
    "empty": b"",
    "7 bytes": b"\x10\0\0\0\0\0\0",
    "no header": tensors(b""),
    "a header of 2**63 bytes": tensors(b"{}", size=2**63),
    "a header of 2**64 - 1 bytes": tensors(b"{}", size=2**64 - 1),
    "a header of 99 MB that is not there": tensors(b"{}", size=99_000_000),
    "a header of 99 MB of blanks": lambda path: path.write_bytes(tensors(b"{}" + b" " * 99_000_000)),
    "a million tensors of no size": lambda path: path.write_bytes(tensors(b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(10**6)) + b"}")),
    "a header of another encoding": tensors(b"\xff\xfe{}"),
    "a header that is not JSON": tensors(b"{"),
    "a header that is a list": tensors([1]),
    "a header that is a number": tensors(3),
    "a header that is deep": tensors(b'{"a":' + b"[" * DEEP),
    "a header with a name twice": tensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000"),
    "a tensor that is a number": tensors({"a": 3}),
    "a tensor without a type": tensors({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"0000"),
    "an unknown type": tensors(one(dtype="F33"), b"0000"),
    "a shape that is text": tensors(one(shape="1"), b"0000"),
    "a shape below 0": tensors(one(shape=[-1]), b"0000"),
    "a shape whose product is beyond 2**64": tensors(one(shape=[2**33, 2**33]), b"0000"),
    "a shape that asks for 4 TB": tensors(one(shape=[10**12], data_offsets=[0, 4 * 10**12]), b"0000"),
    "a shape that is larger than its place": tensors(one(shape=[10**9]), b"0000"),
    "offsets that overlap": tensors(one() | {"b": one()["a"]}, b"0000"),
    "offsets with a hole": tensors(one(data_offsets=[4, 8]), b"0000" * 2),
    "offsets that go back": tensors(one(data_offsets=[4, 0]), b"0000"),
    "offsets beyond the end": tensors(one(data_offsets=[0, 400]), b"0000"),
    "offsets below 0": tensors(one(data_offsets=[-4, 0]), b"0000"),
    "bytes after the end": tensors(one(), b"0000" * 9),
    "metadata that are no text": tensors({"__metadata__": {"format": 3}} | one(), b"0000"),
    "tensors of another model": tensors(one(), b"0000"),
    "3 GB of one useless tensor": sparse(8 + 67 + 3 * 10**9, tensors(b'{"a":{"dtype":"F32","shape":[750000000],"data_offsets":[0,3000000000]}}'[:67])),
}  # fmt: skip
WORST = {name for name in TENSORS if "header of" in name or "million" in name or "GB" in name or " TB" in name}


def rewritten(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """The weights of the run's best checkpoint, changed, in the format that the file's name asks for."""

    def make(path: Path) -> None:
        found = load_file(root(path) / "weights.safetensors")
        change(found)
        save_file(found, path) if path.suffix == ".safetensors" else torch.save(found, path)

    return make


def root(path: Path) -> Path:
    """The place that a file is in."""
    return next(each for each in path.parents if (each / "run").is_dir())


def word(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return tensors["bert.embeddings.word_embeddings.weight"]


def with_word(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({"bert.embeddings.word_embeddings.weight": make(word(tensors))})


CHANGED: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "without the word embeddings": lambda tensors: tensors.pop("bert.embeddings.word_embeddings.weight"),
    "one layer less": lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layer.1." in name],
    "NaN": with_word(lambda tensor: tensor * torch.nan),
    "inf": with_word(lambda tensor: tensor / 0),
    "whole numbers": with_word(lambda tensor: tensor.to(torch.int8)),
    "complex numbers": with_word(lambda tensor: tensor.to(torch.complex64)),
    "numbers of 8 bits": with_word(lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "yes and no": with_word(lambda tensor: tensor > 0),
    "transposed": with_word(lambda tensor: tensor.T.contiguous()),
    "another width": with_word(lambda tensor: tensor[:, :8].contiguous()),
}


# Encoders


def compressed(path: Path) -> None:
    """A file of torch whose numbers are 256 MiB, in one."""
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, bytes(1 << 28) if name.endswith("data/0") else content)


class Shout:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("shouted",)


def enlarged(path: Path) -> None:
    """Weights of which each row is the same memory, for a config.json that asks for 10**12 numbers."""
    found = load_file(root(path) / "weights.safetensors")
    (path.parent / "model.safetensors").unlink()
    config = json.loads((path.parent / "config.json").read_text())
    config["vocab_size"], config["max_position_embeddings"] = 2**20, 2**20
    (path.parent / "config.json").write_text(json.dumps(config))
    for name in ("word", "position"):
        found[f"bert.embeddings.{name}_embeddings.weight"] = torch.zeros(1, 1, dtype=torch.half).expand(2**20, 16)
    torch.save(found, path)


def pickled(value: Content) -> dict[str, Content]:
    return {"encoder/model.safetensors": None, "encoder/pytorch_model.bin": value}


def saved(value: object) -> bytes:
    stream = BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def config(**changed: Any) -> dict[str, Content]:
    """The config.json of an encoder with other values."""

    def make(path: Path) -> None:
        shape = {"vocab_size": 141, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        shape |= {"intermediate_size": 32, "max_position_embeddings": 48}
        path.write_text(json.dumps({"model_type": "bert"} | shape | changed), encoding="utf8")

    return {"encoder/config.json": make}


def tokenizer(change: Callable[[dict[str, Any]], object]) -> dict[str, Content]:
    """A tokenizer.json that was changed."""

    def make(path: Path) -> None:
        content: dict[str, Any] = {
            "version": "1.0",
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {word: n for n, word in enumerate(VOCABULARY)},
            },
        }
        content |= {"truncation": None, "padding": None, "added_tokens": [], "post_processor": None, "decoder": None}
        change(content)
        path.write_text(json.dumps(content), encoding="utf8")

    return {"encoder/tokenizer.json": make, "encoder/vocab.txt": None}


def nested(levels: int) -> Any:
    found: Any = {"type": "Lowercase"}
    for _ in range(levels):
        found = {"type": "Sequence", "normalizers": [found]}
    return found


LAUGHS = {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}] * 6}
TOKENIZERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a list for a model": lambda content: content.update(model=[1]),
    "no model": lambda content: content.pop("model"),
    "no vocabulary": lambda content: content["model"].pop("vocab"),
    "an empty vocabulary": lambda content: content["model"].update(vocab={}),
    "ids that are text": lambda content: content["model"].update(vocab={"a": "b"}),
    "ids below 0": lambda content: content["model"]["vocab"].update(a=-1),
    "an id of 2**32 - 1": lambda content: content["model"]["vocab"].update(q=2**32 - 1),
    "an id beyond the embeddings": lambda content: content["model"]["vocab"].update(q=10**6),
    "an unknown token that is no word": lambda content: content["model"].update(unk_token="[NO]"),
    "a model of another kind": lambda content: content.update(model={"type": "Unigram", "unk_id": None, "vocab": [["[CLS]", 0.0], ["[SEP]", 0.0], ["[UNK]", 0.0]]}),
    "a pattern without end": lambda content: content.update(normalizer={"type": "Replace", "pattern": {"Regex": "(o+)+$"}, "content": ""}),
    "a split without end": lambda content: content.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(o|o)*$"}, "behavior": "Isolated", "invert": False}),
    "a text that grows": lambda content: content.update(normalizer=LAUGHS),
    "a table that is none": lambda content: content.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "80 normalizers, one in another": lambda content: content.update(normalizer=nested(80)),
    "an unknown normalizer": lambda content: content.update(normalizer={"type": "Sing"}),
    "a list for a normalizer": lambda content: content.update(normalizer=[[]]),
    "an added token without a text": lambda content: content.update(added_tokens=[{"id": 3, "content": "", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]),
    "added tokens that are numbers": lambda content: content.update(added_tokens=[3]),
    "a truncation to nothing": lambda content: content.update(truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 5}),
}  # fmt: skip
AS_IT_IS = '{"tokenizer_class": "PreTrainedTokenizerFast"}'  # BertTokenizer would read nothing but the vocabulary
READABLE = {"a truncation to nothing", "ids below 0", "a list for a normalizer", "an added token without a text"}


def sized(name: str, value: Any, worst: bool = False) -> Input:
    return Input("encoder", f"{name} is {str(value)[:30]}", TRAIN, config(**{name: value}), worst=worst)


def encoder(name: str, files: Mapping[str, Content], *, harmless: bool = False, worst: bool = False) -> Input:
    return Input("encoder", name, TRAIN, files, harmless=harmless, worst=worst)


ENCODERS = [
    *(sized(name, value) for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size") for value in (0, -1, "16", 2**20, 10**30)),
    sized("num_hidden_layers", 2**20 - 1, worst=True), sized("intermediate_size", 2**62), sized("num_attention_heads", 3), sized("num_attention_heads", 0),
    sized("type_vocab_size", 1), sized("max_position_embeddings", 2), sized("hidden_act", 3), sized("hidden_act", "no" * 9999), sized("hidden_dropout_prob", 1),
    sized("layer_norm_eps", 0), sized("initializer_range", 1e308), sized("model_type", ["bert"]), sized("position_embedding_type", "relative"), sized("hidden_size", [16] * 10**5),
    *(encoder(f"config.json is {name}", {"encoder/config.json": content}) for name, content in {
        "empty": "", "a list": "[1]", "a number": "3", "null": "null", "text": '"bert"', "binary": b"\x80\x04\x95", "deep": '{"a":' + "[" * DEEP, "deep within bounds of Python": '{"hidden_act":' + "[" * 500 + "]" * 500 + "}",
        "a number of 5000 digits": '{"vocab_size": ' + "9" * 5000 + "}", "NaN": '{"layer_norm_eps": NaN}', "20 MB": long("a", 20_000_000, '{"a": "', '"}'), "cut": '{"model_type": "be'}.items()),
    *(encoder(f"{file} is {name}", {f"encoder/{file}": make}, worst=name in ("a pipe", "a link to /dev/zero", "100 GB of nothing") and file != "vocab.txt", harmless="link" in name and file == "tokenizer.json")
      for file in ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt") for name, make in PLACES.items()),
    encoder("vocab.txt of one line", {"encoder/vocab.txt": "[UNK]"}, harmless=True), encoder("vocab.txt empty", {"encoder/vocab.txt": ""}), encoder("vocab.txt of NUL", {"encoder/vocab.txt": b"\0" * 999}),
    encoder("vocab.txt of another encoding", {"encoder/vocab.txt": "é\n".encode("latin-1")}), encoder("vocab.txt of one word, many times", {"encoder/vocab.txt": "[UNK]\n" * 9999}),
    encoder("no vocabulary", {"encoder/vocab.txt": None}), encoder("tokenizer.json garbage", {"encoder/tokenizer.json": GARBAGE[:64]}), encoder("tokenizer.json deep", {"encoder/tokenizer.json": "[" * DEEP}),
    encoder("tokenizer_config.json deep", {"encoder/tokenizer_config.json": "[" * DEEP}), encoder("tokenizer_config.json a list", {"encoder/tokenizer_config.json": "[]"}),
    *(encoder(f"tokenizer.json with {name}", {**tokenizer(change), "encoder/tokenizer_config.json": AS_IT_IS}, harmless=name in READABLE, worst="end" in name or "grows" in name) for name, change in TOKENIZERS.items()),
    *(encoder(f"model.safetensors with {name}", {"encoder/model.safetensors": content}, worst=name in WORST) for name, content in TENSORS.items()),
    *(encoder(f"weights: {name}", {"encoder/model.safetensors": None, "encoder/pytorch_model.bin": rewritten(change)}) for name, change in CHANGED.items()),
    *(encoder(f"weights in safetensors: {name}", {"encoder/model.safetensors": rewritten(change)}) for name, change in CHANGED.items()),
    encoder("a pickle that runs", pickled(pickle.dumps(Shout()))), encoder("a pickle that runs, as torch saves it", pickled(saved(Shout()))), encoder("a pickle of text", pickled(pickle.dumps("no"))),
    encoder("a pickle of another kind", pickled(saved([torch.ones(2)]))), encoder("a pickle cut short", pickled(saved({"a": torch.ones(99)})[:300])), encoder("an empty pickle", pickled(b"")),
    encoder("a zip file of nothing", pickled(b"PK\x05\x06" + bytes(18))), encoder("a pickle that grows", pickled(compressed), worst=True),
    Input("encoder", "a pickle whose rows are one row", TRAIN, {"encoder/pytorch_model.bin": enlarged}, worst=True),
    encoder("a pickle of sparse weights", pickled(rewritten(with_word(torch.Tensor.to_sparse)))),
    encoder("a pickle of weights that are nowhere", pickled(rewritten(with_word(lambda tensor: tensor.to("meta"))))),
]  # fmt: skip


# Data


def data(name: str, content: Content, *, harmless: bool = False, worst: bool = False) -> Input:
    files = {"data/tasks.toml": MOOD, "data/mood-dev.csv": content}
    return Input("data", name, SCORE, files, harmless=harmless, worst=worst)


def table(name: str, ending: str, content: Content, *, harmless: bool = False, worst: bool = False) -> Input:
    files = {"data/tasks.toml": MOOD.replace("mood-dev.csv", f"mood-dev{ending}"), f"data/mood-dev{ending}": content}
    return Input("data", f"{ending}: {name}", SCORE, files, harmless=harmless, worst=worst)


def label(text: str) -> Input:
    return data(f"the label {text[:30]!r}", f"{HEADER}{ROWS}4,tea,{text}\n")


def score(text: str) -> Input:
    files: dict[str, Content] = {"data/tasks.toml": NEAR, "data/near-dev.csv": f"one,two,score\na,b,1\nb,c,{text}\n"}
    return Input("data", f"the score {text[:30]!r}", SCORE, files)


def parquet(rows: Callable[[], Any], **options: Any) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        pyarrow.parquet.write_table(rows(), path, **options)

    return make


def columns(**values: Any) -> Callable[[], Any]:
    def make() -> Any:
        return pyarrow.table({"id": ["1", "2"], "sentence": ["a", "b"], "mood": [0, 1]} | values)

    return make


def same(value: str, count: int) -> Any:
    """A column that says a value many times in a few bytes."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), count), [value])


def all_the_same(text: str, rows: int) -> Callable[[], Any]:
    return lambda: pyarrow.table({"id": same("1", rows), "sentence": same(text, rows), "mood": same("1", rows)})


LINE = '{"id": "1", "sentence": "a", "mood": 0}\n'
DATA = [
    data("empty", ""), data("blanks", " \n\t\n \n"), data("only a header", HEADER), data("only a BOM", b"\xef\xbb\xbf"), data("NUL bytes", b"\0" * 5000), data("binary", GARBAGE[:2000]),
    data("a header of NUL", b"id,sen\0tence,mood\n" + ROWS.encode()), data("a NUL in a text", HEADER + ROWS + "4,a\0b,1\n", harmless=True), data("a NUL in a label", HEADER + ROWS + "4,a,1\0\n"),
    data("broken UTF-8", HEADER.encode() + b"1,\xc3,0\n", harmless=True), data("half a character at the end", HEADER.encode() + b"1,a,0\n2,b,1\n3,\xe2\x82"), data("half a character across a block", HEADER.encode() + b"1," + b"a" * 2**20 + b"\xc3\n"),
    data("overlong UTF-8", HEADER.encode() + b"1,\xc0\xaf,0\n", harmless=True), data("a surrogate in UTF-8", HEADER.encode() + b"1,\xed\xa0\x80,0\n"), data("UTF-16", (HEADER + ROWS).encode("utf-16"), harmless=True), data("UTF-16 without a BOM", (HEADER + ROWS).encode("utf-16-le")),
    data("UTF-32", (HEADER + ROWS).encode("utf-32"), harmless=True), data("Latin-1", (HEADER + "1,café,0\n").encode("latin-1"), harmless=True), data("two BOMs", "\ufeff\ufeff" + HEADER + ROWS), data("a BOM in the middle", HEADER + ROWS + "\ufeff4,a,1\n", harmless=True),
    data("a quote that is never closed", HEADER + '1,"a,0\n2,b,1\n'), data("a quote in the middle", HEADER + '1,a"b"c,0\n2,b,1\n', harmless=True), data("text after a quote", HEADER + '1,"a"b,0\n'), data("nothing but quotes", '"' * 9999), data("a header of quotes", '"","",""\n' + ROWS),
    data("one line of 50 MB", long("a", 50_000_000), worst=True), data("a text of 50 MB", long("a", 50_000_000, HEADER + ROWS + "4,", ",1\n"), worst=True), data("a quoted text of 50 MB", long("a\n", 25_000_000, HEADER + '1,"'), worst=True),
    data("a header of 50 MB of commas", long(",", 50_000_000), worst=True), data("a header of a million names", names(10**6, "c%d", ends="\n1\n"), worst=True), data("a header of a million equal names", long("a,", 10**6, ends="\n"), worst=True),
    data("20 MB of blank lines", long("\n", 20_000_000, HEADER), worst=True), data("25 million rows of another table", long("a\n", 25_000_000, "x\n"), worst=True), data("a text of 100 kB", HEADER + ROWS + "4," + "a " * 50_000 + ",1\n", harmless=True),
    data("a word of 100 kB", HEADER + ROWS + "4," + "a" * 100_000 + ",1\n", harmless=True), data("a text of accents", HEADER + ROWS + "4," + "\u0301" * 9999 + ",1\n", harmless=True),
    data("too few fields", HEADER + "1,a\n"), data("too many fields", HEADER + "1,a,0,0\n"), data("a column twice", "id,sentence,mood,mood\n1,a,0,1\n"), data("columns without names", ",,\n1,a,0\n"), data("no such column", "id,text,mood\n1,a,0\n"), data("no label", "id,sentence\n1,a\n"), data("no id", "sentence,mood\na,0\nb,1\n"),
    data("tabs in the header, commas below", HEADER.replace(",", "\t") + ROWS), data("commas in the header, tabs below", HEADER + ROWS.replace(",", "\t")), data("semicolons", (HEADER + ROWS).replace(",", ";"), harmless=True), data("returns alone", (HEADER + ROWS).replace("\n", "\r"), harmless=True), data("line ends of all kinds", HEADER + "1,a,0\r2,b,1\r\n3,c,2\n", harmless=True),
    data("an empty text", HEADER + "1,,0\n"), data("a blank text", HEADER + "1,\u2003 \t,0\n"), data("one class", HEADER + "1,a,0\n2,b,0\n", harmless=True), data("one row", HEADER + "1,a,0\n", harmless=True), data("a JSON file", LINE * 3, harmless=True), data("a zip file", b"PK\x03\x04" + GARBAGE[:99]), data("a gzip file", gzip.compress(HEADER.encode())),
    *map(label, ("", " ", "x", "3", "-1", "0.5", "nan", "NaN", "inf", "-inf", "1e400", "9" * 5000, "9" * 100_000, "0x1", "1_0", "\uff11" * 3, "True", "[0]", "\x1b[31m0", "0\u202e", "=1+1")),
    *map(score, ("nan", "inf", "-0.001", "5.0001", "1e400", "9" * 5000, "", "x", "0,5")),
    *(data(name, make, worst=True) for name, make in PLACES.items()),
    table("a tab too many", ".tsv", (HEADER + ROWS).replace(",", "\t").replace("tea", "t\tea")), table("commas", ".tsv", HEADER + ROWS, harmless=True), table("empty", ".txt", ""),
    table("garbage", ".jsonl", GARBAGE[:99]), table("a list", ".jsonl", LINE + "[1]\n"), table("a number", ".jsonl", "3\n"), table("null", ".jsonl", "null\n"), table("cut", ".jsonl", LINE + LINE[:20]), table("deep", ".jsonl", LINE + '{"a":' + "[" * DEEP + "\n", worst=True),
    *(table(f"deep by {depth}", ".jsonl", LINE + '{"id": "2", "sentence": ' + "[" * depth + "]" * depth + ', "mood": 1}\n', harmless=True) for depth in range(900, 1000, 9)),
    table("a number of 5000 digits", ".jsonl", LINE + '{"mood": ' + "9" * 5000 + "}\n"), table("another field", ".jsonl", '{"a": 1}\n'), table("a field less", ".jsonl", LINE + '{"id": "2"}\n'), table("half a character", ".jsonl", LINE + '{"sentence": "\\ud800", "mood": 1}\n'), table("a label that is a list", ".jsonl", LINE + LINE.replace("0}", "[1]}")),
    table("one line of 50 MB", ".jsonl", long("[],", 16_000_000, '{"a": [', "[]]}"), worst=True), table("16 million rows of nothing", ".jsonl", long("{}\n", 16_000_000), worst=True), table("a million fields", ".jsonl", names(10**6, '"k%d":1', "{", "}"), worst=True),
    table("garbage", ".parquet", b"PAR1" + GARBAGE[:99] + b"PAR1"), table("empty", ".parquet", b""), table("a footer of 4 GB", ".parquet", b"PAR1\xff\xff\xff\xffPAR1"), table("text", ".parquet", HEADER), table("another column", ".parquet", parquet(lambda: columns()().drop_columns("mood"))), table("labels beyond", ".parquet", parquet(columns(mood=[0, 7]))),
    table("lists", ".parquet", parquet(columns(mood=[[0], [1]]))), table("null", ".parquet", parquet(columns(sentence=[None, None]))), table("bytes", ".parquet", parquet(columns(sentence=[b"\xff", b"\xfe"])), harmless=True), table("no rows", ".parquet", parquet(lambda: columns()().slice(0, 0))),
    table("20 million rows in some kilobytes", ".parquet", parquet(all_the_same("a", 20_000_000)), worst=True), table("100 GB of texts in a megabyte", ".parquet", parquet(all_the_same("a" * 1_000_000, 100_000)), worst=True),
]  # fmt: skip


# Declarations of tasks


def declared(name: str, text: Content, *, worst: bool = False) -> Input:
    return Input("tasks.toml", name, SCORE, {"data/tasks.toml": text}, worst=worst)


def task(line: str) -> Input:
    """A line that the declaration of a task cannot have; what stood there for the same key goes."""
    key = line.partition(" ")[0]
    kept = [each for each in MOOD.splitlines() if not each.startswith(f"{key} ")]
    return declared(line[:60], "\n".join([*kept, line]))


DECLARED = [
    declared("empty", ""), declared("blank", " \n"), declared("binary", GARBAGE[:500]), declared("NUL", "\0" * 99), declared("another encoding", MOOD.encode("utf-16")), declared("a list", "[[tasks]]\nkind = 1"), declared("tasks is text", 'tasks = "mood"'),
    declared("tasks twice", MOOD + MOOD), declared("a key twice", MOOD + 'kind = "binary"'), declared("another table", MOOD + "[more]\n"), declared("cut", MOOD[:40]), declared("a date for a task", "[tasks]\nmood = 2020-01-01"), declared("no table", "[tasks]"), declared("a list of tables", "[[tasks.mood]]\n" + MOOD.partition("\n")[2]),
    declared("deep", MOOD + "x = " + "[" * DEEP, worst=True), declared("deep tables", MOOD + "x = " + "{a=" * DEEP, worst=True), declared("a key of 100000 parts", "a." * 100_000 + "a = 1", worst=True), declared("a table of 100000 parts", "[tasks." + "a." * 100_000 + "a]", worst=True), declared("a key of 400 parts", "[tasks.mood]\n" + "a." * 400 + "a = 1"),
    declared("deep within bounds of Python", MOOD + "x = " + "[" * 400 + "]" * 400), declared("a number of 5000 digits", MOOD + "batch_size = " + "9" * 5000), declared("50 MB", long("a = 1\n", 8_000_000), worst=True), declared("a million classes", names(10**6, '"%d"', MOOD.partition("classes = 3")[0] + "classes = [", "]" + MOOD.partition("classes = 3")[2]), worst=True),
    *(declared(f"a task called {name[:20]!r}", f"[tasks.{json.dumps(name)}]\n" + MOOD.partition("\n")[2]) for name in ("", " ", ".", "..", "../x", "/etc/passwd", "a.b", "a/b", "a\\b", "a b", "a\nb", "a\0b", "é", "-a", "3", "__class__", "forward", "train", "a" * 65, "a" * 5000, "\u202emood", "nul\x1b[31m")),
    *map(task, ('kind = "regresion"', "kind = 3", 'kind = ["binary"]', "classes = 0", "classes = 1", "classes = -3", "classes = 3.5", "classes = true", "classes = inf", "classes = 1000000000000", "classes = 100000000", "classes = [0, 1]", 'classes = ["a", "a"]', "classes = []",
                'classes = ["0", "1"]', 'text = ""', "text = []", 'text = ["a"]', 'text = ["a", "b", "c"]', "text = {a = 1}", "text = 3", 'text = "\\u0000"', "label = 3", 'label = ""', "label = [1]", "id = 3", 'id = "none"', "train = 3", 'train = "\\u0000"', "train = []",
                'dev = "."', 'dev = ".."', 'dev = "/"', 'dev = "/dev/zero"', 'dev = "/dev/stdin"', 'dev = "/proc/self/mem"', 'dev = "../../../../../../etc/passwd"', 'dev = "tasks.toml"', 'dev = "no.csv"', f'dev = "{"a" * 5000}.csv"', f'dev = "{"a/" * 3000}b.csv"', 'dev = "\\u0000.csv"', 'dev = "~nobody-here/a.csv"',
                'dev = "https://example.org/a.csv"', "dev = 3", "batch_size = 0", "batch_size = -1", "batch_size = 1.5", "batch_size = nan", "optional = 3", "quoting = 3", 'pair_mode = "both"', 'pair_mode = "bi_encoder"', "range = [5, 0]", "unknown = 1")),
    *(declared(f"a range of {text}", NEAR.replace("[0, 5]", text)) for text in ("[]", "[0]", "[0, 1, 2]", "[1, 0]", "[0, 0]", "[nan, 1]", "[0, inf]", "[-inf, inf]", "[0, 1e400]", "[0, 1e308]", "[-1e308, 1e308]", '["a", "b"]', "3", "{a = 1}", "[0, 1e-320]")),
    *(declared(name, make, worst=name != "a file that cannot be read") for name, make in PLACES.items()),
]  # fmt: skip


# Configurations of runs


def configured(name: str, text: Content, *, harmless: bool = False, worst: bool = False) -> Input:
    return Input("config.toml", name, CONFIGURED, {"c.toml": text}, harmless=harmless, worst=worst)


def setting(line: str) -> Input:
    """A line that no configuration can have, but for those that are only far too large."""
    key = line.partition(" ")[0]
    kept = [each for each in CONFIG.splitlines() if not each.startswith(f"{key} ")]
    harmless = HUGE in line or line in ("epochs = true", "[plugins.weighted]\nweights = {}")
    return configured(line[:60], "\n".join([*kept, line] if line.startswith("[") else [line, *kept]), harmless=harmless)


CONFIGS = [
    configured("binary", GARBAGE[:500]), configured("NUL", "\0"), configured("another encoding", CONFIG.encode("utf-16")), configured("cut", CONFIG[:30]), configured("a key twice", CONFIG + 'data = "data"'), configured("deep", CONFIG + "epochs = " + "[" * DEEP, worst=True), configured("50 MB", long("a = 1\n", 8_000_000), worst=True),
    configured("a key of 100000 parts", "a." * 100_000 + "a = 1", worst=True), configured("a setting of 400 parts", "epochs." + "a." * 400 + "a = 1"), configured("deep options", CONFIG + "[plugins.smart]\nweight = " + "[" * 90 + "]" * 90), configured("deep plugins", CONFIG + "[plugins" + ".smart" * 90 + "]\na = 1"),
    *map(setting, ("epochs = 0", "epochs = -1", "epochs = 1.5", "epochs = nan", "epochs = true", 'epochs = "x"', "epochs = []", f"epochs = {HUGE}", "steps = 0", "steps = -5", f"steps = {HUGE}", f"steps = {'9' * 4000}", f"steps = {'9' * 5000}", "batch_size = 0", f"batch_size = {'9' * 4000}", "batch_size = 1.5", "learning_rate = 0", "learning_rate = -1", "learning_rate = nan", "learning_rate = inf",
                   "learning_rate = 1e400", "learning_rate = [1]", "warmup = -0.1", "warmup = 1.5", "warmup = nan", "weight_decay = -1", "clip = -1", "clip = nan", "dropout = 1.0", "dropout = -0.5", "dropout = 2", "max_length = 0", "max_length = 7", "max_length = -8", "micro_batch_tokens = 0", "save_steps = 0", "save_minutes = -1", "save_minutes = nan", "keep = 0", "keep = 1",
                   'monitor = 3', "monitor = []", "patience = 0", "max_skipped = 0", "measure_every = -1", 'precision = "fp8"', "precision = 32", 'device = "tpu"', 'device = ""', 'device = "cpu:99999999999999999999"', 'device = "cuda:-1"', "device = 3", "seed = 1.5", 'seed = "x"', "seed = inf", "finetune = 3", 'tasks = "mood"', "tasks = [1]", 'tasks = [""]', 'tasks = ["../x"]', "tasks = {a = 1}",
                   "data = 3", 'data = "nowhere"', 'data = "\\u0000"', f'data = "{"a" * 5000}"', 'data = "c.toml"', 'data = "/dev/zero"', 'data = "~nobody-here/a"', 'encoder = "\\u0000"', f'encoder = "./{"a" * 5000}"', "encoder = 3", 'encoder = "../../nothing"', 'encoder = "data"', 'encoder = "~nobody-here/a"', "unknown = 1", '"" = 1', '"data\\u0000" = 1', "__class__ = 1", "model_config = 1",
                   "labels = 3", '[labels.nobody]\nkind = "binary"', "plugins = 3", "plugins = []", 'plugins = ["smart"]', "plugins = {smart = 3}", "[plugins.nobody]", '[plugins.""]', '[plugins."../x"]', '[plugins."os.path"]', "[plugins.smart]\nweight = -1", "[plugins.smart]\nweight = nan", "[plugins.smart]\nweight = []", '[plugins.smart]\nweight = "x"', "[plugins.smart]\nsteps = 0", f"[plugins.smart]\nsteps = {HUGE}", "[plugins.smart]\nunknown = 1",
                   "[plugins.smart]\nstages = 3", "[plugins.smart]\nstages = [1]", "[plugins.freelb]\nsteps = 1000000000", "[plugins.smart]\nweight = 2020-01-01", "[plugins.rrobin]\nper_step = 0", f"[plugins.rrobin]\nper_step = {HUGE}", "[plugins.only]\ntask = 3", '[plugins.only]\ntask = "../x"', "[plugins.weighted]\nweights = {mood = -1}", "[plugins.weighted]\nweights = {}", "[plugins.weighted]\nweights = {nobody = 1}",
                   "[plugins.ema]\ndecay = 1", "[plugins.mixout]\np = 1.5", '[plugins.torchjd]\naggregator = "__class__"', '[plugins.torchjd]\naggregator = "Aggregator"', '[plugins.domain]\ncorpus = "/dev/zero"', '[plugins.domain]\ncorpus = "nowhere"', '[plugins.domain]\ncorpus = "\\u0000"', '[plugins.domain]\ncorpus = "~nobody-here/a"', '[plugins.domain]\ncorpus = 3', '[plugins.domain]\ncorpus = "hub:"')),
]  # fmt: skip
EXTREMES = [
    Input("config.toml", line, ("train", "c.toml"), {"c.toml": f"{line}\nsteps = 2\nmeasure_every = 0\n{CONFIG}"}, harmless=True)
    for line in ("learning_rate = 1e300", "weight_decay = 1e300", "clip = 1e300", "save_minutes = 1e300", "micro_batch_tokens = 1", f"seed = -{HUGE}", f"keep = {HUGE}", f"patience = {HUGE}", f"measure_every = {HUGE}", 'monitor = "mood.loss"', "warmup = 0.999999999")
]  # fmt: skip


# Checkpoints and runs


def best(
    name: str, files: Mapping[str, Content], *, signed: bool = True, harmless: bool = False, worst: bool = False
) -> Input:
    found = {f"run/best/{path}": content for path, content in files.items()}
    return Input("checkpoint", f"eval, {name}", EVAL, found, ["run/best"] if signed else [], harmless, worst=worst)


def last(
    name: str, files: Mapping[str, Content], *, signed: bool = True, harmless: bool = False, worst: bool = False
) -> Input:
    found = {f"stopped/last/{path}": content for path, content in files.items()}
    return Input(
        "checkpoint", f"resume, {name}", RESUME, found, ["stopped/last"] if signed else [], harmless, worst=worst
    )


def forged(name: str, change: Callable[[dict[str, Any]], object], *, harmless: bool = False) -> Input:
    """A training state that regkit does not write, in a checkpoint that is whole."""
    return Input("checkpoint", f"resume, {name}", RESUME, change=change, harmless=harmless)


def run(name: str, command: Sequence[object], files: Mapping[str, Content], *, harmless: bool = False) -> Input:
    return Input("checkpoint", name, command, files, harmless=harmless)


def optimizer(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda state: change(state["optimizer"])


def keeping(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda state: state["run"]["keeping"].update(values)


def position(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda state: state["position"].update(values)


MANIFESTS: dict[str, Content] = {
    "empty": "", "a list": "[]", "a number": "3", "deep": "[" * DEEP, "of files that are numbers": '{"files": {"config.json": 3}}', "of no file": '{"files": {}}', "of a list": '{"files": [1]}', "of one file": '{"files": {"config.json": {"bytes": 1, "sha256": ""}}}',
    "of a file elsewhere": '{"files": {"../../../data/tasks.toml": {"bytes": 1, "sha256": ""}}}', "of /dev/zero": '{"files": {"/dev/zero": {"bytes": 1, "sha256": ""}}}', "of a folder": '{"files": {".": {"bytes": 4096, "sha256": ""}}}', "with a name twice": '{"files": {"a": 1, "a": 2}}',
    "with a position of inf": '{"position": {"stage": Infinity, "step": 1, "evaluated": 0}, "files": {}}', "with a position of 5000 digits": '{"position": {"stage": ' + "9" * 5000 + '}, "files": {}}', "with a position of text": '{"position": "here", "files": {}}', "binary": b"\x80\x04", "20 MB": long("1,", 10_000_000, "[", "1]"),
}  # fmt: skip
STATES: dict[str, Content] = {
    "empty": "", "a list": "[]", "a number": "3", "null": "null", "deep": "[" * DEEP, "deep within bounds of Python": "[" * 400 + "]" * 400, "of no tensor": '{"dict": [["position", {"tensor": "no"}]]}', "of a pair that is none": '{"dict": [[1]]}', "with a key that is a list": '{"dict": [[[1], 2]]}', "of a number for a dict": '{"dict": 3}',
    "without dict": '{"a": 1}', "a tensor that is a list": '{"tensor": [1]}', "a number of 5000 digits": "9" * 5000, "binary": GARBAGE[:99], "NaN": "NaN", "a text": '"state"', "20 MB": long("1,", 10_000_000, "[", "1]"), "a dict with a key twice": '{"dict": [["position", 1], ["position", 2]]}',
}  # fmt: skip
CHECKPOINTS = [
    *(best(f"model.safetensors with {name}", {"model.safetensors": content}, worst=name in WORST) for name, content in TENSORS.items() if not name.startswith("3 GB")),
    *(last(f"training.safetensors with {name}", {"training.safetensors": content}, worst=name in WORST) for name, content in TENSORS.items() if not name.startswith("3 GB")),
    *(best(f"weights, {name}", {"model.safetensors": rewritten(change)}) for name, change in CHANGED.items()),
    best("a head of another shape", {"model.safetensors": rewritten(lambda tensors: tensors.update({"heads.mood.linear.weight": torch.ones(9, 9)}))}), best("a head of NaN", {"model.safetensors": rewritten(lambda tensors: tensors["heads.mood.linear.weight"].fill_(torch.nan))}),
    best("a head of whole numbers", {"model.safetensors": rewritten(lambda tensors: tensors.update({"heads.mood.linear.weight": torch.ones(3, 16, dtype=torch.int8)}))}), best("a head too many", {"model.safetensors": rewritten(lambda tensors: tensors.update({"heads.mood.more": torch.ones(1)}))}), best("no head", {"model.safetensors": rewritten(lambda tensors: tensors.pop("heads.mood.linear.weight"))}),
    best("a head of 1e38", {"model.safetensors": rewritten(lambda tensors: tensors["heads.near.linear.weight"].fill_(1e38) if "heads.near.linear.weight" in tensors else tensors["heads.mood.linear.weight"].fill_(1e38))}, harmless=True),
    *(best(f"manifest {name}", {"manifest.json": content}, signed=False) for name, content in MANIFESTS.items()), *(last(f"manifest {name}", {"manifest.json": content}, signed=False, harmless=True) for name, content in MANIFESTS.items()),
    *(last(f"training.json {name}", {"training.json": content}) for name, content in STATES.items()),
    *(best(f"{file} is {name}", {file: make}, signed=False) for file in ("config.json", "model.safetensors", "tokenizer.json", "manifest.json") for name, make in PLACES.items()),
    *(last(f"{file} is {name}", {file: make}, signed=False, harmless=True) for file in ("training.json", "training.safetensors", "manifest.json") for name, make in PLACES.items()),
    best("config.json of another size", {"config.json": '{"hidden_size": 32}'}), best("config.json deep", {"config.json": "[" * DEEP}), best("tokenizer.json of another kind", {"tokenizer.json": "[1]"}),
    *(run(f"tasks.json {name}", EVAL, {"run/tasks.json": content}) for name, content in {"empty": "", "a list": "[]", "deep": "[" * DEEP, "of numbers": '{"mood": 3, "same": 3, "near": 3}', "of empty lists": '{"mood": [], "same": [], "near": []}', "of objects": '{"mood": {}, "same": {}, "near": {}}', "a task less": "{}", "20 MB": long("1,", 10_000_000, "[", "1]"), "missing": None}.items()),
    *(run(f"tasks.json is {name}", EVAL, {"run/tasks.json": make}) for name, make in PLACES.items()),
    *(run(f"{name} is {kind}", RESUME, {f"stopped/{name}": make}, harmless=kind in ("100 GB of nothing", "a folder")) for name in ("log.jsonl", "lock") for kind, make in PLACES.items() if (name, kind) != ("lock", "a link to nothing")),
    *(run(f"environment.json is {kind}", RESUME, {"stopped/environment.json": make}, harmless=True) for kind, make in {**PLACES, "a list": "[]", "deep": "[" * DEEP, "binary": GARBAGE, "of numbers": '{"python": 3}'}.items()),
    *(run(f"log.jsonl {name}", RESUME, {"stopped/log.jsonl": content}) for name, content in {"of a list": "[" * DEEP + "\n", "binary": GARBAGE, "of a number": "3\n", "of effects that are a number": '{"effects": 3}\n' * 99, "of effects of numbers": '{"effects": {"gradient": 3}}\n' * 99, "of text": '"effects"\n', "cut": '{"effects'}.items()),
    run("config.toml of a run is binary", EVAL, {"run/config.toml": GARBAGE[:99]}), run("config.toml of a run with another folder", EVAL, {"run/config.toml": 'data = "../../../../nowhere"'}), run("config.toml of a run with a stranger's plugin", RESUME, {"stopped/config.toml": CONFIG + "[plugins.os]"}), run("best leads nowhere", EVAL, {"run/best": link("nothing")}), run("best leads to data", EVAL, {"run/best": link("../data")}),
    *(forged(f"without {name}", lambda state, name=name: state.pop(name)) for name in ("position", "optimizer", "plugins", "run")), *(forged(f"{name} is 3", lambda state, name=name: state.update({name: 3})) for name in ("position", "optimizer", "plugins", "run")),
    *(forged(f"position with {name} = {value}", position(**{name: value}), harmless=harmless) for name, value, harmless in (("stage", -1, False), ("stage", 10**9, True), ("step", -1, False), ("step", "x", False), ("step", "7", True), ("step", 10**30, True), ("step", 1.5, False), ("step", float("inf"), False), ("step", None, False), ("seen", {"mood": -1}, False), ("seen", {"mood": 10**30}, True), ("seen", {"nobody": 3}, True), ("seen", [1], False), ("evaluated", "x", False), ("skipped", -5, True), ("ended", "x", False), ("more", 1, True))),
    *(forged(f"keeping with {name} = {str(value)[:20]}", keeping(**{name: value}), harmless=harmless) for name, value, harmless in (("best", "../../data", False), ("best", "..", False), ("best", "/etc", False), ("best", "a\0b", False), ("best", 3, False), ("best", "a" * 5000, True), ("saved", [[]], False), ("saved", [["a"]], False), ("saved", 3, False), ("saved", [["../../data", "../.."]], True), ("scores", 3, False), ("scores", {"mood": 3}, False), ("value", "x", False), ("since", "x", False))),
    *(forged(f"run with {name} = {value}", lambda state, name=name, value=value: state["run"].update({name: value}), harmless=harmless) for name, value, harmless in (("stage", "../../data", False), ("stage", 3, False), ("log", -1, False), ("log", 10**30, True), ("owners", 3, False), ("owners", {"task": "nobody"}, True), ("data", {}, False), ("data", {"mood": 3}, False))),
    forged("an optimizer of nothing", lambda state: state.update(optimizer={})), forged("an optimizer's groups of nothing", optimizer(lambda each: each.update(param_groups=[]))), forged("an optimizer's state of numbers", optimizer(lambda each: each.update(state={0: 3}))),
    forged("no moments", optimizer(lambda each: [values.pop("exp_avg") for values in each["state"].values()])),
    forged("a parameter without its moment", optimizer(lambda each: each["state"][max(each["state"])].pop("exp_avg"))),
    forged("a moment that is none", optimizer(lambda each: each["state"][0].update(exp_avg=None))),
    forged("a learning rate that is none", optimizer(lambda each: each["param_groups"][0].update(initial_lr=None, lr=None))),
    forged("betas of text", optimizer(lambda each: each["param_groups"][0].update(betas=["a", "b"]))),
    forged("a moment of another shape", optimizer(lambda each: each["state"][0].update(exp_avg=torch.ones(3)))), forged("a plugin that is not there", lambda state: state["plugins"].update(nobody={})), forged("a plugin's state of another kind", lambda state: state["plugins"].update(ema=[1])), forged("a model of nothing", lambda state: state.update(model={})),
]  # fmt: skip


# Corpora


def corpus(name: str, file: str, content: Content, *more: object, harmless: bool = False, worst: bool = False) -> Input:
    command = ("pretrain", "--corpus", file, "--encoder", "encoder", "--dry-run", *more)
    return Input("corpus", name, command, {file: content}, harmless=harmless, worst=worst)


TEXT = "".join(f"a line of text, {n}\n\n" for n in range(30))
ZIPPED = gzip.compress(TEXT.encode())
CORPORA = [
    corpus("empty", "t.txt", ""), corpus("blank", "t.txt", " \n\n\t\n"), corpus("one line", "t.txt", "a line\n"), corpus("NUL", "t.txt", b"\0" * 9999), corpus("a NUL", "t.txt", TEXT + "a\0b\n"), corpus("binary", "t.txt", GARBAGE[:9999]), corpus("UTF-16", "t.txt", TEXT.encode("utf-16")), corpus("Latin-1", "t.txt", TEXT.encode() + "café é\n".encode("latin-1")),
    corpus("no words", "t.txt", "\u0301\n\n" * 99), corpus("a line of 4 MB", "t.txt", long("a", 4_000_000), worst=True), corpus("controls", "t.txt", "\x01\x02\x1b\n\n" * 99), corpus("half a character across a piece", "t.txt", b"a" * 65535 + b"\xc3\n" + TEXT.encode()),
    corpus("gzip cut short", "t.txt.gz", ZIPPED[: len(ZIPPED) // 2]), corpus("gzip without its checksum", "t.txt.gz", ZIPPED[:-8]), corpus("gzip of another checksum", "t.txt.gz", ZIPPED[:-8] + b"12345678"), corpus("gzip flipped", "t.txt.gz", ZIPPED[:40] + b"\xff\xff" + ZIPPED[42:]), corpus("no gzip", "t.txt.gz", TEXT), corpus("gzip of nothing", "t.txt.gz", gzip.compress(b"")), corpus("half a head of gzip", "t.txt.gz", b"\x1f\x8b"),
    corpus("gzip of a gigabyte of NUL", "t.txt.gz", lambda path: path.write_bytes(gzip.compress(bytes(1 << 26)) * 16), worst=True), corpus("gzip in gzip", "t.txt.gz", gzip.compress(ZIPPED)),
    corpus("JSON: a list", "t.jsonl", "[1]\n"), corpus("JSON: a number", "t.jsonl", "3\n"), corpus("JSON: null", "t.jsonl", "null\n"), corpus("JSON: another field", "t.jsonl", '{"body": "a"}\n'), corpus("JSON: a number for a text", "t.jsonl", '{"text": 3}\n'), corpus("JSON: a list for a text", "t.jsonl", '{"text": ["a"]}\n'), corpus("JSON: half a character", "t.jsonl", '{"text": "\\ud800"}\n'), corpus("JSON: cut", "t.jsonl", '{"text": "a'),
    corpus("JSON: deep", "t.jsonl", '{"text":' + "[" * DEEP + "\n"), *(corpus(f"JSON: deep by {depth}", "t.jsonl", '{"text":' + "[" * depth + "]" * depth + "}\n") for depth in (900, 930, 960, 970, 980, 990)), corpus("JSON: a number of 5000 digits", "t.jsonl", '{"text": ' + "9" * 5000 + "}\n"), corpus("JSON: null for every text", "t.jsonl", '{"text": null}\n' * 9), corpus("JSON: one line of 70 MB", "t.jsonl", long("a", 70_000_000, '{"text": "'), worst=True),
    corpus("JSON: a line of lists", "t.jsonl", long("[],", 10_000_000, '{"a":[', "[]]}\n"), worst=True), corpus("JSON: a million fields", "t.jsonl", names(10**6, '"k%d":1', "{", "}\n"), worst=True),
    corpus("Parquet: garbage", "t.parquet", b"PAR1" + GARBAGE[:999] + b"PAR1"), corpus("Parquet: its name only", "t.parquet", TEXT), corpus("Parquet: four bytes", "t.txt", b"PAR1"), corpus("Parquet: a footer of 4 GB", "t.parquet", b"PAR1\xff\xff\xff\xffPAR1"), corpus("Parquet: another column", "t.parquet", parquet(columns())), corpus("Parquet: numbers", "t.parquet", parquet(columns(text=[1, 2]))), corpus("Parquet: lists", "t.parquet", parquet(columns(text=[["a"], ["b"]]))),
    corpus("Parquet: null", "t.parquet", parquet(columns(text=[None, None]))), corpus("Parquet: bytes", "t.parquet", parquet(columns(text=[b"\xff", b"\xfe"]))), corpus("a folder of nothing", "folder", Path.mkdir), *(corpus(name, "t.txt", make, worst=name != "a file that cannot be read") for name, make in PLACES.items() if name != "a folder"),
]  # fmt: skip


# The command line


def asked(*command: object) -> Input:
    """What only training would find out may pass a dry run."""
    harmless = command[-2:] in {("--lr", "1_0"), ("--seed", "1.0"), ("--output", "/proc/x")} or "--monitor" in command
    return Input("command line", " ".join(map(str, command))[:90], command, harmless=harmless)


BASE = ("train", "--encoder", "encoder", "--data", "data", "--dry-run")
ASKED = [
    asked("--no-such-option"), asked("train", "a", "b", "c"), asked("nothing"), asked(""), asked("\0"), asked("-"), asked("plugins", ""), asked("plugins", "../x"), asked("plugins", "[/red]"), asked("plugins", "a" * 10**5), asked("eval", "run", "--split", "no"), asked("eval", "a" * 5000), asked("eval", "a/" * 3000), asked("eval", "[/red]"), asked("eval", "\udcff"), asked("eval", "a\0b"), asked("eval", "loop"), asked("eval", "/dev/zero"),
    asked("eval", "run", "--predictions", "/dev/null/x"), asked("eval", "run", "--predictions", "a" * 5000), asked("eval", "run", "--data", "~nobody-here"), asked("eval", "run", "--data", "loop"), asked("train", "~nobody-here/c.toml"), asked("train", "/dev/zero"), asked("train", "loop"), asked("train", "--resume", "loop"), asked("train", "--resume", "~nobody-here", "--output", "x"), asked("train", "--resume", "stopped", "--output", "loop"), asked("train", "--resume", "auto", "--output", "a\0b", "--data", "data", "--encoder", "encoder"),
    *(asked(*BASE, *more) for more in (("--data", "loop"), ("--data", "~nobody-here"), ("--data", "a\0b"), ("--data", "/dev/zero"), ("--encoder", "~nobody-here/x"), ("--encoder", "a\0b"), ("--encoder", "./" + "a" * 5000), ("--encoder", "loop"), ("--encoder", ""), ("--output", "a" * 5000), ("--output", "/dev/null/x"), ("--output", "/proc/x"), ("--tasks", ",,,"), ("--tasks", "../x"), ("--tasks", "a" * 10**5), ("--epochs", "1e3"), ("--epochs", "9" * 5000), ("--epochs", "-9"), ("--lr", "1_0"), ("--lr", "0x1"), ("--lr", "--"), ("--seed", "nan"), ("--seed", "1.0"), ("--device", "[/red]"),
                                       ("--device", "cuda:x"), ("--save-minutes", "inf"), ("--keep", "1"), ("--patience", "0"), ("--monitor", "."), ("--monitor", "mood"), ("--monitor", "[/red]"), ("-p", "smart:" + "weight=" * 999), ("-p", "smart:weight=" + "[" * DEEP), ("-p", "smart:weight={"), ("-p", "smart:" + "a=1," * 9999), ("-p", ":" * 99), ("-p", "smart:__class__=3"), ("-p", "../x"), ("-p", "a" * 10**5), ("-p", "smart:steps=" + "9" * 5000), ("-p", "only:task=[/red]"), ("-p", "\udcff"), ("-p", "smart\0"), ("-p", "weighted:weights={\"mood\": 1e400}"), ("-p", "domain:corpus=~nobody-here/x"), ("-p", "domain:corpus=" + "[" * 99), ("-p", "domain:corpus=**/**/**/**/x"))),
    asked("eval", "run", "--data", "[/red]"), asked("eval", "loop/.."), asked("pretrain"), asked("pretrain", "--corpus", ""), asked("pretrain", "--corpus", "hub:a/b/c/d", "--encoder", "encoder"), asked("pretrain", "--corpus", "hub://", "--encoder", "encoder"), asked("pretrain", "--corpus", "a\0b", "--encoder", "encoder"), asked("pretrain", "--corpus", "loop", "--encoder", "encoder"), asked("pretrain", "--corpus", "tasks", "--encoder", "encoder"),
]  # fmt: skip
CORPUS = [*DATA, *DECLARED, *CONFIGS, *EXTREMES, *CHECKPOINTS, *ENCODERS, *CORPORA, *ASKED]
