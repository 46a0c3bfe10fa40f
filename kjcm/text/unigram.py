"""A SentencePiece unigram model as a Hugging Face fast tokenizer with the same ids, and KoBERT's own rules.

The fast pipeline gives every core and Hugging Face's interface; `reference_ids` is the same by SentencePiece itself, to
compare with (tests and `kjcm doctor` do).
"""

import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kjcm.errors import KjcmError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import PreTrainedTokenizerFast

SPECIAL = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
SPACE = "▁"  # SentencePiece's visible blank
NEVER = -1000.0  # a score that keeps a piece out of every best path
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # piece types of the SentencePiece format
UNIGRAM = 1  # its model type


@dataclass(frozen=True)
class Unigram:
    """A SentencePiece unigram model and what its pieces are numbered.

    Attributes:
        data: the serialised SentencePiece model.
        ids: piece -> id; None: the model's own numbers.
        kobert: KoBERT's rules hold: `` and '' become ", and accents are stripped.
    """

    data: bytes
    ids: Mapping[str, int] | None = None
    kobert: bool = False


def read_unigram(path: Path, *, kobert: bool) -> Unigram:
    """Read a SentencePiece file; a vocab.txt beside a model without special pieces numbers its pieces.

    Raises:
        KjcmError: it is no SentencePiece unigram model, or its vocab.txt is missing.
    """
    data = path.read_bytes()
    pieces = {piece for piece, _, _ in _pieces(data, str(path))}
    if set(SPECIAL.values()) <= pieces:
        return Unigram(_never_read(data, str(path)), None, kobert)
    table = path.parent / "vocab.txt"
    if not table.is_file():
        raise KjcmError(f"{path}: has no pieces {', '.join(SPECIAL.values())}, and no vocab.txt is next to it.")
    lines = table.read_text(encoding="utf-8").splitlines()
    return Unigram(data, {piece: number for number, piece in enumerate(lines)}, kobert)


def _never_read(data: bytes, name: str) -> bytes:
    """Return the model with its special pieces as control pieces; SKT's file has them as words that a text may hold."""
    proto = _proto(data, name)
    for piece in proto.pieces:
        if piece.piece in SPECIAL.values() and piece.type == USER_DEFINED:
            piece.type = CONTROL
    changed: bytes = proto.SerializeToString()
    return changed


def _combining() -> str:
    """Return a pattern of what Python calls combining; the category M, which StripAccents takes, is wider."""
    return "[" + "".join(char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(char)) + "]"


def _pieces(data: bytes, name: str) -> list[tuple[str, float, int]]:
    """Return (piece, score, type) of a SentencePiece model."""
    proto = _proto(data, name)
    return [(piece.piece, piece.score, piece.type) for piece in proto.pieces]


def _proto(data: bytes, name: str) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as spm

    proto = spm.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise KjcmError(f"{name}: not a SentencePiece model.") from None
    if proto.trainer_spec.model_type != UNIGRAM or not proto.pieces:
        raise KjcmError(f"{name}: not a SentencePiece model of the unigram kind.")
    return proto


def fast_tokenizer(model: Unigram, name: str = "the model") -> "PreTrainedTokenizerFast":
    """Return a fast tokenizer: `[CLS] pieces [SEP]`, padding on the right, special tokens never read from a text."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    proto = _proto(model.data, name)
    scores = {
        piece: score if kind in (NORMAL, USER_DEFINED) else NEVER for piece, score, kind in _pieces(model.data, name)
    }
    order = sorted(model.ids, key=model.ids.__getitem__) if model.ids else list(scores)
    vocabulary = [(piece, scores.get(piece, NEVER)) for piece in order]
    missing = [token for token in SPECIAL.values() if token not in set(order)]
    if missing:
        raise KjcmError(f"{name}: has no pieces {', '.join(missing)}.")
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=order.index(SPECIAL["unk_token"]), byte_fallback=False))
    stages: list[Any] = []
    if model.kobert:
        stages += [normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " ")]  # as str.split has it
        stages += [normalizers.Replace(pair, '"') for pair in ("``", "''")]
        stages += [normalizers.NFKD(), normalizers.Replace(Regex(_combining()), "")]
    stages += [normalizers.NFC(), normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)]
    stages += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(stages)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=False)
    cls, sep = ((SPECIAL[name], order.index(SPECIAL[name])) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls[0]} $A {sep[0]}", pair=f"{cls[0]} $A {sep[0]} $B {sep[0]}", special_tokens=[cls, sep]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=512,
        split_special_tokens=True,  # a literal "[SEP]" in an answer is text
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL,
    )


def reference_ids(model: Unigram, processor: "SentencePieceProcessor", text: str) -> list[int]:
    """Return `[CLS] ids [SEP]` by SentencePiece itself with the rules of KoBERT's published tokenizer."""
    if model.kobert:
        text = " ".join(text.split()).replace("``", '"').replace("''", '"')
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    pieces = processor.encode(unicodedata.normalize("NFC", text), out_type=str)

    def number(piece: str) -> int:
        return model.ids.get(piece, model.ids["[UNK]"]) if model.ids else processor.piece_to_id(piece)

    return [number("[CLS]"), *map(number, pieces), number("[SEP]")]
