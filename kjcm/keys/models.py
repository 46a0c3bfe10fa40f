"""The keys of the tokenizer and of the models."""

from dataclasses import dataclass
from typing import Any

from kjcm.keys.key import key


@dataclass
class TokenizerConfig:
    """The tokenizer. A model config chooses its own; `tokenizer=NAME` wins over that."""

    kind: str = key("Kind of tokenizer; the group sets it.", choices=("trained", "kobert", "huggingface"))
    path: str | None = key(
        "`kobert`: file or folder, null: `model.pretrained` if it has one, else the hub; `huggingface`: folder or hub name.",
        identity="input",
    )
    vocab_size: int | None = key(
        "Most tokens of a `trained` tokenizer; the others have their own number.", least=100, most=10**6
    )
    max_unknown: float = key("Largest allowed share of [UNK] among the tokens of the training rows.", least=0, most=1)


@dataclass
class ModelConfig:
    """The model: an encoder with its head, or a linear model of n-grams (`linear`).

    Encoders of the hub need its weights, or `model.pretrained=FOLDER`.
    """

    name: str = key("Name for logs.", identity="where")


@dataclass
class EncoderConfig(ModelConfig):
    """An encoder and its head."""

    pretrained: str | None = key("Hub name or folder of weights; null: a random start.", identity="input")
    shape: dict[str, Any] | None = key(
        "Architecture and sizes of a random start, named as in transformers; not used with weights."
    )
    pooling: str = key(
        "`cls`: the architecture's own head on the first token; `mean`: the mean over the tokens and a linear layer.",
        choices=("cls", "mean"),
    )
    head: str = key(
        "`linear`; `label_text`: cosines with the titles of each group (`pooling=mean`); `both`: their sum.",
        choices=("linear", "label_text", "both"), legacy="linear",
    )  # fmt: skip
    finer_weight: float = key(
        "Weight of a loss one level below the codes (`pooling=mean`), over the rows with such codes; 0: none.",
        least=0, most=1000, legacy=0.0,
    )  # fmt: skip
    prefix: str = key("Text before every input.")
    max_length: int = key("Most tokens of an input; no more than the encoder has positions for.", least=4, most=8192)
    lr: float = key("Learning rate that suits this encoder; `optim.lr` takes it.", identity="where")


@dataclass
class ViewConfig:
    """A view of a row: the n-grams or the embedding of one of its fields."""

    of: str = key(
        "Parts of the n-grams: characters within words, words, or content morphemes (extra `morphemes`); "
        "`encoder`: the embedding by `model.pretrained`.",
        choices=("char", "word", "morpheme", "encoder"),
    )
    field: str = key("Field: the whole text, or one answer.", choices=("text", "workplace", "position", "task"))
    ngrams: list[int] = key("Fewest and most parts of an n-gram; `[]` for an embedding.", least=1, most=10)
    weight: float = key("Weight of the view among all views.", above=0, most=1000)

    @property
    def title(self) -> str:
        """Return what the view is, as 'char n-grams of text'."""
        return f"{'encoder embeddings' if self.of == 'encoder' else f'{self.of} n-grams'} of {self.field}"


@dataclass
class ViewsConfig(ModelConfig):
    """A model of n-grams, and of a frozen encoder's embeddings."""

    kind: str = key("Kind of model; the group sets it.")
    views: dict[str, ViewConfig] = key("Views: name -> `of`, `field`, `ngrams`, `weight`.")
    covariates: float = key(
        "Weight of the view of `data.columns.covariates` among all views.", above=0, most=1000, legacy=1.0
    )
    pretrained: str | None = key("Hub name or folder of the encoder for views of `encoder`.", identity="input")
    prefix: str = key("Text before every input of the encoder.")
    max_length: int = key("Most tokens of an input of the encoder.", least=4, most=8192)

    @property
    def embeds(self) -> bool:
        """Return whether a view needs the encoder."""
        return any(view.of == "encoder" for view in self.views.values())


@dataclass
class LinearConfig(ViewsConfig):
    """A linear model of n-grams, and of a frozen encoder's embeddings."""

    kind: str = key("Kind of model; the group sets it.", choices=("linear",))
    classifier: str = key(
        "One group against the rest by an SVM, or a logistic regression.", choices=("svm", "logistic")
    )
    C: float = key("Inverse strength of the regularisation.", above=0, most=10**9)
    balance: float = key(
        "Exponent of 1 / rows of a group, the weight of these rows in the loss; 0: equal rows, 1: equal groups.",
        least=0, most=1,
    )  # fmt: skip
    above: list[float] = key(
        "Weights of the scores one level above the codes, two levels above, and so on; `[]`: none.",
        least=0, most=1000,
    )  # fmt: skip
    saturation: float = key(
        "`svm`: slope s of the scores log sigmoid(s * (margin + 0.5)), which level off at large margins; 0: the margins.",
        least=0, most=100,
    )  # fmt: skip
    calibration_folds: int = key(
        "Folds of the training rows that set the temperature of the probabilities; 0 or 1: none.", least=0, most=100
    )


@dataclass
class NearestConfig(ViewsConfig):
    """A model that compares a row with each group's titles and training rows."""

    kind: str = key("Kind of model; the group sets it.", choices=("nearest",))
    neighbours: int = key("Nearest training rows that vote for their groups.", least=1, most=1000)
    unseen: float = key(
        "Share of the training rows that are scored as if their group had no training row, when the weights are fitted.",
        least=0, most=1,
    )  # fmt: skip
    keep_texts: bool = key(
        "`true`: keep the training rows' texts in the model folder, for `kjcm predict explain=true`."
    )


@dataclass
class EnsembleConfig(ModelConfig):
    """An ensemble of other models ([ensembles.md](ensembles.md))."""

    kind: str = key("Kind of model; the group sets it.", choices=("ensemble",))
    members: list[str] = key(
        "Members: each a finished run's folder, an experiment, or overrides as `'experiment=best_offline seed=2'`."
    )
    folds: int = key(
        "Folds of the training rows; each member scores each fold after training on the others.", least=2, most=100
    )
    costly_folds: int = key("Number of these folds that encoders score; fewer take less time.", least=1, most=100)
    combine: str = key(
        "`logit`: weighted sum of the log-probabilities, by a conditional logit; `average`: the mean probability.",
        choices=("logit", "average"),
    )
    prior: float | None = key(
        "`logit`: weight of the groups' log-shares of the training rows, below 0 to help small groups; null: fitted.",
        least=-10, most=10,
    )  # fmt: skip
    pretrained: str | None = key(
        "Folder or hub name of weights, for members that start from pretrained weights and set no `model.pretrained`.",
        identity="input",
    )
