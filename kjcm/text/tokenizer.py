"""The tokenizer of a run: KoBERT's, one trained on the training rows, or any fast one of Hugging Face."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from kjcm.errors import ConfigError, KjcmError, first_line
from kjcm.files import cached, key_of, write_json
from kjcm.hub_cache import fetched, folder_of
from kjcm.records import read_bytes, read_json
from kjcm.text.unigram import Unigram, fast_tokenizer, read_unigram

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KOBERT_FILES = ("spiece.model", "tokenizer_78b3253a26.model")
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
TOKENIZER_KEYS = {  # of tokenizer_config.json that say how a text is tokenised
    "tokenizer_class", "backend", "model_max_length", "model_input_names", "clean_up_tokenization_spaces",
    "split_special_tokens", "additional_special_tokens", "extra_special_tokens", "added_tokens_decoder", "do_lower_case",
    "strip_accents", "tokenize_chinese_chars", "do_basic_tokenize", "never_split", "add_prefix_space", "trim_offsets",
    "padding_side", "truncation_side", "errors", "keep_accents", "remove_space", "split_by_punct", "sp_model_kwargs",
    "vocab_type", *(f"{name}_token" for name in SPECIAL),
}  # fmt: skip
BESIDE = (  # files of a tokenizer that transformers may read beside tokenizer.json
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "spm.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "config.json", *BESIDE)
KOBERT_HUB = ("monologg/distilkobert", ("tokenizer_78b3253a26.model", "vocab.txt"))
TRAINING: dict[str, Any] = {  # KoBERT's five special pieces at ids 0 to 4; one thread, so that the pieces are always the same
    "model_type": "unigram", "hard_vocab_limit": False, "character_coverage": 0.9999, "num_threads": 1,
    "normalization_rule_name": "nmt_nfkc", "unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3, "unk_piece": "[UNK]",
    "pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "control_symbols": ["[MASK]"],
    "required_chars": "[]ACDEKLMNPSU",  # a special token typed in an answer is made of known letters, so never matched
    "shuffle_input_sentence": False, "minloglevel": 2,
}  # fmt: skip


def build_tokenizer(
    kind: str, path: str | None, vocab_size: int | None, texts: Sequence[str], cache: Path | None = None
) -> "PreTrainedTokenizerFast":
    """Return the tokenizer.

    Args:
        kind: 'trained' (on `texts`), 'kobert' or 'huggingface'.
        path: KoBERT's file or its folder (None: the hub), or a Hugging Face folder or hub name.
        vocab_size: most pieces of a trained one.
        texts: training texts.
        cache: folder that a trained one is kept in, and taken from where the same texts made it before.

    Raises:
        KjcmError: files are missing or of the wrong kind, or the hub cannot be reached.
        ConfigError: `path` is needed and missing.
    """
    if kind == "trained":
        if vocab_size is None:
            raise ConfigError("tokenizer=trained needs tokenizer.vocab_size.")
        return fast_tokenizer(_trained(texts, vocab_size, cache))
    if kind == "kobert":
        file = kobert_file(path)
        return fast_tokenizer(read_unigram(file, kobert=True), str(file))
    if path is None:
        raise ConfigError("tokenizer=huggingface needs tokenizer.path=FOLDER_OR_HUB_NAME (or model.pretrained).")
    return load_tokenizer(path)


def _trained(texts: Sequence[str], vocab_size: int, cache: Path | None) -> Unigram:
    """Return what `train_unigram` does, from `cache` where it was made before."""
    import sentencepiece

    how = [sentencepiece.__version__, TRAINING, vocab_size]
    return cached(
        cache / f"tokenizer-{key_of(how, texts)}.npz" if cache else None,
        lambda: train_unigram(texts, vocab_size),
        lambda model: {"data": np.frombuffer(model.data, np.uint8)},
        lambda arrays: Unigram(arrays["data"].tobytes()),
    )


def save_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: Path, max_length: int) -> None:
    """Write a tokenizer; transformers' `truncation=True` cuts a text to `max_length`."""
    tokenizer.backend_tokenizer.no_truncation()  # else as this process last tokenised, or not where a cache served
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


OWN = "Give tokenizer.path=FOLDER with tokenizer.json, or use tokenizer=trained with a model of model.pretrained=null."


def load_tokenizer(path: str | Path, remedy: str = OWN) -> "PreTrainedTokenizerFast":
    """Load a fast tokenizer from a folder or the hub; no code of the folder is run.

    Args:
        path: folder or hub name, see `kjcm.hub_cache`.
        remedy: what to do if there is none.

    Raises:
        KjcmError: there is none, or it is not a fast one.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        folder = folder_of(path, TOKENIZER_FILES)
        if os.path.lexists(folder / "tokenizer.json"):
            with TemporaryDirectory(prefix="kjcm-tokenizer-") as plain:
                _copy_plain(folder, Path(plain))
                tokenizer = AutoTokenizer.from_pretrained(plain, trust_remote_code=False, local_files_only=True)
        else:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except BaseException as error:
        # transformers raises OSError, ValueError, KeyError, ... for what is missing or broken, tokenizers its panics
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise KjcmError(f"{path}: no tokenizer could be loaded from there ({first_line(error)}). {remedy}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or tokenizer.pad_token_id is None:
        raise KjcmError(f"{path}: its tokenizer is not a fast one with a padding token. {remedy}")
    tokenizer.split_special_tokens = True  # a literal special token in an answer is text
    return tokenizer


def _copy_plain(folder: Path, to: Path) -> None:
    """Copy a tokenizer without the keys and files by which transformers would load code, or wait for a pipe.

    Raises:
        KjcmError: a file is damaged.
    """
    read_json(folder / "tokenizer.json", {})
    (to / "tokenizer.json").write_bytes(read_bytes(folder / "tokenizer.json"))
    for name, keys in (("tokenizer_config.json", TOKENIZER_KEYS), ("config.json", {"model_type"})):
        if os.path.lexists(folder / name):
            record = read_json(folder / name, {})
            write_json(to / name, {key: value for key, value in record.items() if key in keys})
    for name in BESIDE:
        if os.path.lexists(folder / name):
            (to / name).write_bytes(read_bytes(folder / name))


def holds_kobert(folder: str) -> bool:
    """Tell whether a folder holds KoBERT's SentencePiece file."""
    return any((Path(folder).expanduser() / name).is_file() for name in KOBERT_FILES)


def kobert_file(path: str | None) -> Path:
    """Return KoBERT's SentencePiece file: `path` or the one in it; None fetches it from the hub."""
    if path is not None:
        found = Path(path).expanduser()
        files = [found] if found.is_file() else [found / name for name in KOBERT_FILES]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise KjcmError(f"{found}: holds neither of {', '.join(KOBERT_FILES)}. Set tokenizer.path to such a file.")
        return file
    repository, names = KOBERT_HUB
    try:
        return fetched(repository, names, needed=names) / names[0]
    except KjcmError as error:
        raise KjcmError(
            f"KoBERT's tokenizer could not be fetched from the hub ({repository}: {error}). Give "
            "tokenizer.path=FILE (spiece.model, or tokenizer_78b3253a26.model with vocab.txt next to it), or use "
            "model=tiny, which trains its own tokenizer."
        ) from None


def train_unigram(texts: Sequence[str], vocab_size: int) -> Unigram:
    """Train a SentencePiece unigram model of at most `vocab_size` pieces on `texts`; the same texts, the same model.

    Raises:
        KjcmError: the texts are too few or too short.
    """
    import sentencepiece

    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=written, vocab_size=vocab_size, **TRAINING
        )
    except RuntimeError as error:
        raise KjcmError(
            f"No tokenizer could be trained on {len(texts):,} texts ({first_line(error)}). Use tokenizer=kobert or "
            "tokenizer=huggingface."
        ) from None
    return Unigram(written.getvalue())
