"""The JSON of requests and answers, as the OpenAPI document describes it."""

from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, create_model

from kjcm.coding.decisions import INDEX_CODES
from kjcm.read.cells import values_of
from kjcm.survey.texts import TEXT_COLUMNS


class Code(BaseModel):
    """A code that the model gives a row."""

    code: str
    title: str
    prob: float = Field(description="Calibrated probability, 0 to 1.")


class CodedRow(BaseModel):
    """A row's codes and what is done with it, as in the columns that `kjcm predict` writes."""

    codes: list[Code] = Field(description="Likeliest first; none for an invalid row.")
    decision: str = Field(
        description="accept, back off, choose, search, invalid, or index: accepted by the index of job titles."
    )
    decision_code: str = Field(description="Code that is accepted or backed off to, else empty.")
    decision_title: str
    pick_list: list[str] = Field(description="Codes to choose from.")
    index_codes: list[str] = Field(
        description="Codes that the index of job titles has for the row, if there is an index."
    )
    reason: str = Field(description="Why the row cannot be coded, else empty.")


class Answer(BaseModel):
    """The coded rows of a request, in its order."""

    rows: list[CodedRow]


class Refusal(BaseModel):
    """Why a request has no answer."""

    detail: str


def asked_model(columns: dict[str, str], most_rows: int, most_characters: int, top_k: int) -> type[BaseModel]:
    """Return the model of a request's body.

    Args:
        columns: role -> field of a row.
        most_rows: rows of a request.
        most_characters: characters of a text.
        top_k: most codes of a row.
    """
    only = ConfigDict(extra="forbid", strict=True)
    text = Annotated[str, Field(max_length=most_characters)]
    cells: dict[str, Any] = {
        f"field_{number}": (text | None if role in TEXT_COLUMNS else _limited(most_characters),
                            Field(None, alias=name, description=f"The {role.replace('covariates.', 'covariate ')}."))
        for number, (role, name) in enumerate(columns.items())
    }  # fmt: skip
    row = create_model("Row", __config__=only, __doc__="A person's answers; fields may be missing.", **cells)
    fields: dict[str, Any] = {
        "texts": (
            Annotated[list[text], Field(min_length=1, max_length=most_rows)] | None,
            Field(None, description="Each text is read as the task of a row without other answers."),
        ),
        "rows": (
            Annotated[list[row], Field(min_length=1, max_length=most_rows)] | None,  # type: ignore[valid-type]
            Field(None, description="Instead of texts: rows with their fields."),
        ),
        "top_k": (int, Field(top_k, ge=1, le=top_k, description="Codes of a row.")),
    }
    return create_model("Asked", __config__=only, __doc__="Texts or rows to code.", **fields)


def _limited(characters: int) -> Any:
    """Return the type of a cell that may be a number; its texts are limited too."""
    return (
        Annotated[str, Field(max_length=characters)] | int | Annotated[float, Field(allow_inf_nan=False)] | bool | None
    )


def coded_rows(coded: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    """Return coded rows as `CodedRow`'s JSON.

    Args:
        coded: what `OccupationCoder.code` returned.
        columns: those of the table that was coded.
    """
    added = coded.drop(columns=columns)
    ranks = range(1, 1 + sum(name.startswith("code_") for name in added.columns))
    cells = {name: values_of(added[name]) for name in added.columns}
    keys = ("code", "title", "prob")
    by_rank = [zip(*(cells[f"{key}_{rank}"] for key in keys), strict=True) for rank in ranks]
    codes = zip(*by_rank, strict=True)
    names = ("decision", "decision_code", "decision_title", "pick_list", "reason")
    indexed = cells.get(INDEX_CODES, [""] * len(coded))
    rest = zip(*(cells[name] for name in names), indexed, strict=True)
    return [
        {
            "codes": [] if decision == "invalid" else [dict(zip(keys, one, strict=True)) for one in own],
            "decision": decision,
            "decision_code": code,
            "decision_title": title,
            "pick_list": picks.split(),
            "reason": reason,
            "index_codes": index_codes.split(),
        }
        for own, (decision, code, title, picks, reason, index_codes) in zip(codes, rest, strict=True)
    ]
