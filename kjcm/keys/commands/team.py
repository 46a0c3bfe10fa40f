"""The keys of `kjcm team split` and `kjcm team agreement`."""

from dataclasses import dataclass

from kjcm.keys.key import key, seed_key


@dataclass
class TeamSplitConfig:
    """Divide a coded file into one file per coder; a random share goes to two coders ([team.md](team.md))."""

    input: str = key("File that `kjcm predict` wrote.", path=True)
    output: str = key("Folder for the coders' files and split.json.", path=True)
    coders: list[str] = key("Names of at least two coders, as `[kim,lee]`; each names a file.")
    overlap: float = key("Share of the rows that two coders get; neither can tell which rows.", least=0, most=1)
    decisions: list[str] = key("Decisions of the model whose rows are divided; also `accept`, `invalid`, `index`.")
    texts: list[str] | None = key("Text columns; rows with equal texts stay together. null: as INPUT.json says.")
    seed: int = seed_key("Seed of the division.")
    overwrite: bool = key("`true`: replace the files.")


@dataclass
class TeamAgreementConfig:
    """Measure coders' agreement on doubly coded rows, and merge their files ([team.md](team.md))."""

    files: list[str] = key("Files that `kjcm review export=FILE` wrote, as `[kim_reviewed.csv,lee_reviewed.csv]`.")
    output: str = key("Folder for the results.", path=True)
    input: str | None = key(
        "File that was divided: merged.csv then has all its rows; null: the coders' rows.", path=True
    )
    adjudicated: str | None = key("Export of the review of adjudication.csv; null: disagreements stay open.", path=True)
    id: str = key("Column of row ids; `team_row` is the row's number in the divided file.")
    replicates: int = key("Bootstrap resamples of the intervals.", least=100, most=10**5)
    seed: int = seed_key("Seed of the bootstrap.")
    overwrite: bool = key("`true`: replace the results.")
