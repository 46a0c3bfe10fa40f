"""Make the synthetic twin: invented answers with the paper's counts, to try kjcm without the private survey.

At scale 1 its flow is that of Fig. 1 and its group sizes have Table 4's training rows as their expected 70 %. The words
are ours (twin_vocabulary.tsv); the KSCO-6 codes and the crosswalk are invented and valid for nothing else. Results on the
twin say nothing about real answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import ConfigError, some
from kjcm.ksco.classification import Classification
from kjcm.survey.responses import TWIN_IDS, Source, Survey

# The paper: Fig. 1 (rows), Table 4 (training rows by major group; armed forces are the remainder of 69,766).
COHORT, TRAIN, LOST = 99_665, 69_766, 1_026
WAVE5, WAVE6 = 50_205, 50_538
TRAIN_BY_MAJOR = {"1": 313, "2": 10_998, "3": 10_150, "4": 10_908, "5": 12_050, "6": 6_260, "7": 5_969, "8": 6_021,
                  "9": 7_024, "A": 73}  # fmt: skip
# The ten groups of ten rows or fewer (52 rows; the paper names the groups, these sizes are ours).
SMALL = {"111": 8, "122": 3, "134": 6, "135": 4, "149": 7, "153": 5, "225": 6, "287": 4, "288": 2, "876": 7}
LEAST = 11  # rows of the smallest group in the cohort
COVARIATES = ("sex", "age")  # that the twin has on request
TAIL = 1.4  # power of the vocabulary's shares: a longer tail of small groups

MISLABELLED = 0.10  # share of rows with another group's words
SPLIT_CODES = 24  # invented KSCO-6 codes with two partners
RESOLVED_EACH = 2  # resolved rows per unresolved row

GENERIC = {
    "workplaces": ("회사", "사무실", "공장", "가게", "현장", "개인 사업장", "중소기업", "매장", "관공서", "협력업체"),
    "positions": ("직원", "사원", "대리", "과장", "사장", "반장", "주임", "팀장", "일용직", "계약직", "아르바이트", "실장"),
    "tasks": ("사무 업무", "현장 일", "물건 파는 일", "관리 업무", "생산 업무", "일반 업무", "회사 일", "여러 가지 일",
              "서비스업", "자영업", "시키는 일 함", "업무 보조"),
}  # fmt: skip
MASKS = ("○○", "△△", "@@", "□□", "OO")
ENDINGS = ("", "", "", " 업무", " 담당", " 하는 일", " 일", " 함", " 등")
VOWELS = {1: 5, 5: 1, 3: 7, 7: 3, 10: 15, 11: 15, 15: 10}  # ㅐ-ㅔ, ㅒ-ㅖ, ㅙ ㅚ-ㅞ: often confused vowels


@dataclass(frozen=True)
class Vocabulary:
    """The words of one minor group's workers, the groups they are confused with, and their relative number."""

    share: int
    neighbours: tuple[str, ...]
    workplaces: tuple[str, ...]
    positions: tuple[str, ...]
    tasks: tuple[str, ...]


def read_vocabulary() -> dict[str, Vocabulary]:
    """Return minor group -> vocabulary from the package's own file."""
    table = pd.read_csv(str(files("kjcm.survey") / "twin_vocabulary.tsv"), sep="\t", dtype=str, encoding="utf-8")
    lists = [table[name].str.split("|").map(tuple) for name in ("workplaces", "positions", "tasks")]
    neighbours = table["neighbours"].str.split(",").map(tuple)
    rows = zip(table["code"], table["share"].astype(int), neighbours, *lists, strict=True)
    return {str(code): Vocabulary(*rest) for code, *rest in rows}


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Return whole numbers with the sum `total` in proportion to `weights` (largest remainders)."""
    exact = np.asarray(weights, float) * total / sum(weights)
    whole = np.floor(exact).astype(int)
    for position in np.argsort(-(exact - whole), kind="stable")[: total - int(whole.sum())]:
        whole[position] += 1
    return [int(count) for count in whole]


def group_sizes(vocabulary: Mapping[str, Vocabulary], scale: float) -> dict[str, int]:
    """Return the rows of each of the 152 minor groups at `scale`; the ten small groups keep their size."""
    majors = dict(zip(TRAIN_BY_MAJOR, apportion(COHORT, list(TRAIN_BY_MAJOR.values())), strict=True))
    sizes = dict(SMALL)
    for major, rows in majors.items():
        groups = [code for code in sorted(vocabulary) if code[0] == major and code not in SMALL]
        extra = apportion(rows - LEAST * len(groups), [vocabulary[code].share ** TAIL for code in groups])
        sizes |= {code: max(LEAST, round((LEAST + more) * scale)) for code, more in zip(groups, extra, strict=True)}
    return dict(sorted(sizes.items()))


def synthetic_source(
    scale: float,
    seed: int,
    columns: Mapping[str, str | None],
    classification: Classification,
    covariates: Sequence[str] = (),
) -> Source:
    """Return the twin: two raw waves, the invented crosswalk and the resolutions; equal arguments give equal rows.

    Raises:
        ConfigError: `scale` is not above 0 and at most 1, the classification is not KSCO, or the twin lacks a column.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"data.scale={scale}: use a share above 0 and at most 1 (1 is the paper's size).")
    if columns.get("cluster") or columns.get("weight") or columns.get("manages"):
        raise ConfigError(
            "The synthetic twin has no clusters, weights or answers on managing: leave data.columns.cluster, .weight and "
            ".manages at null."
        )
    if other := sorted({*covariates} - {*COVARIATES}):
        raise ConfigError(
            f"data.columns.covariates: the synthetic twin has {' and '.join(COVARIATES)}, but no {some(other)}."
        )
    if not classification.codes(4):
        raise ConfigError("data=synthetic is coded in KSCO: use classification=ksco7 with it.")
    random = np.random.Generator(np.random.PCG64(seed))
    vocabulary = read_vocabulary()
    sizes = group_sizes(vocabulary, scale)
    units = {code: [unit for unit in classification.below(code) if len(unit) == 4] for code in vocabulary}
    six_of, splits = invented_crosswalk(units, vocabulary)

    groups = random.permutation(np.repeat(list(sizes), list(sizes.values())))
    unit_codes = _pick_each(random, [units[group] for group in groups])
    lost = round(LOST * scale)
    in_wave5 = round(len(groups) * (WAVE5 - LOST) / (WAVE5 + WAVE6 - LOST))
    five = _wave(random, groups[:in_wave5], vocabulary)
    old = _pick_each(random, [six_of[unit] for unit in unit_codes[:in_wave5]])
    waits = _waiting(random, unit_codes[:in_wave5], splits, RESOLVED_EACH * lost)
    five["code"] = [waits.get(row, code) for row, code in enumerate(old)]
    unclear = _unclear(random, lost, splits)
    five = pd.concat([five, unclear], ignore_index=True).iloc[random.permutation(in_wave5 + lost)].copy()
    six = _wave(random, groups[in_wave5:], vocabulary).assign(code=unit_codes[in_wave5:])
    persons = _persons(np.random.Generator(np.random.PCG64([seed, 1])), groups, sorted(vocabulary))[[*covariates]]
    five = five.join(persons[:in_wave5]).fillna("")  # the unclear rows have no person
    six = six.join(persons[in_wave5:].reset_index(drop=True))
    for wave in (five, six):
        origin = wave.index.to_numpy()
        wave.insert(0, "id", [f"{TWIN_IDS}{number:06d}" for number in range(1, len(wave) + 1)])
        wave["origin"] = origin
    resolutions = five[five["origin"].isin(waits)]
    seven = [unit_codes[row] for row in resolutions["origin"]]
    pairs = [(six, unit) for unit, sixes in six_of.items() for six in sixes]
    pairs += [(six, unit) for six, both in splits.items() for unit in both]
    return Source(
        surveys=(
            Survey(_as_mapped(five, columns, covariates), "synthetic wave 5", "5", ksco6=True),
            Survey(_as_mapped(six, columns, covariates), "synthetic wave 6", "6"),
        ),
        columns={**columns, "id": columns.get("id") or "id"},
        crosswalk=pd.DataFrame(sorted(pairs), columns=["ksco6", "ksco7"]),
        crosswalk_name="invented crosswalk",
        resolutions=pd.DataFrame({"id": resolutions["id"], "ksco7": seven}).reset_index(drop=True),
        resolutions_name="synthetic resolutions",
        synthetic=True,
    )


def invented_crosswalk(
    units: Mapping[str, Sequence[str]], vocabulary: Mapping[str, Vocabulary]
) -> tuple[dict[str, list[str]], dict[str, tuple[str, str]]]:
    """Return KSCO-7 unit -> its invented KSCO-6 codes, and split KSCO-6 code -> its two units.

    Most codes stay, every seventh unit has a new number (one-to-one), every eleventh unites two old codes (merged), and
    `SPLIT_CODES` old codes were split between neighbouring minor groups.
    """
    every = sorted(unit for group in units.values() for unit in group)
    taken = set(every)

    def new_code(near: str) -> str:
        code = next(c for stem in (near[:3], near[:2]) for c in _numbers(stem) if c not in taken)
        taken.add(code)
        return code

    six_of = {}
    for number, unit in enumerate(every):
        six_of[unit] = [new_code(unit) if number % 7 == 3 else unit]
        if number % 11 == 5:
            six_of[unit].append(new_code(unit))
    splits: dict[str, tuple[str, str]] = {}
    for group in sorted(vocabulary, key=lambda code: -vocabulary[code].share):
        other = vocabulary[group].neighbours[0]
        if len(splits) < SPLIT_CODES and group not in SMALL and other not in SMALL and other in units:
            splits[new_code(units[group][0])] = (units[group][0], units[other][0])
    return six_of, splits


def _numbers(stem: str) -> Iterable[str]:
    width = 4 - len(stem)
    return (f"{stem}{number:0{width}d}" for number in range(10**width - 1, -1, -1))


def _pick_each(random: np.random.Generator, lists: Sequence[Sequence[str]]) -> list[str]:
    draws = random.random(len(lists))
    return [options[int(draw * len(options))] for options, draw in zip(lists, draws, strict=True)]


def _waiting(
    random: np.random.Generator, unit_codes: Sequence[str], splits: Mapping[str, tuple[str, str]], rows: int
) -> dict[int, str]:
    """Return row -> split KSCO-6 code for `rows` rows of wave 5 whose unit such a code became."""
    code_of = {unit: six for six, both in splits.items() for unit in both}
    able = [row for row, unit in enumerate(unit_codes) if unit in code_of]
    chosen = random.choice(len(able), size=min(rows, len(able)), replace=False)
    return {able[int(place)]: code_of[unit_codes[able[int(place)]]] for place in chosen}


def _unclear(random: np.random.Generator, rows: int, splits: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Return wave-5 rows with a split code whose words fit both partners."""
    frame = pd.DataFrame({part[:-1]: _pick_each(random, [words] * rows) for part, words in GENERIC.items()})
    frame["code"] = _pick_each(random, [list(splits)] * rows)
    return frame


def _wave(random: np.random.Generator, groups: NDArray[np.str_], vocabulary: Mapping[str, Vocabulary]) -> pd.DataFrame:
    """Return workplace, position and task for rows of the given (coded) minor groups."""
    codes = sorted(vocabulary)
    draws = random.random((len(groups), 20))
    rows = [_answer(str(group), draw, vocabulary, codes) for group, draw in zip(groups, draws.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["workplace", "position", "task"], dtype=str)


def _answer(
    group: str, u: Sequence[float], vocabulary: Mapping[str, Vocabulary], codes: Sequence[str]
) -> tuple[str, str, str]:
    """Return one answer of a worker coded as `group`; `u`: 20 uniform numbers, one for each choice."""

    def pick(options: Sequence[str], draw: float) -> str:
        return options[int(draw * len(options))]

    if u[0] < MISLABELLED:  # the code does not fit the worker's words
        group = pick(vocabulary[group].neighbours, u[1]) if u[2] < 0.7 else pick(codes, u[1])
    own = vocabulary[group]
    near = vocabulary[pick(own.neighbours, u[3])]
    workplace = pick(near.workplaces if u[4] < 0.12 else own.workplaces, u[5])
    position = pick(own.positions, u[6]) if u[7] < 0.5 else pick(GENERIC["positions"], u[6]) if u[7] < 0.7 else ""
    task = pick(near.tasks if u[8] < 0.05 else own.tasks, u[9])
    if u[10] < 0.12:
        task = f"{task}, {pick(own.tasks, u[11])}"
    elif u[10] < 0.27:
        task = " ".join(task.split()[:2])
    if u[12] < 0.03:
        workplace, task = pick(GENERIC["workplaces"], u[5]), pick(GENERIC["tasks"], u[9])
    if u[13] < 0.15:
        workplace = pick(MASKS, u[14]) + workplace
    elif u[13] < 0.19:
        workplace = ""
    task += pick(ENDINGS, u[15]) if task[-1] not in "일함다" else ""
    return misspelt(workplace, u[16]), position, misspelt(task, u[17])


def _persons(random: np.random.Generator, groups: NDArray[np.str_], codes: Sequence[str]) -> pd.DataFrame:
    """Return sex and age of the workers of each row's group, one value in twenty missing; `codes`: all groups, sorted."""
    place = np.searchsorted(codes, groups)
    women, age = 0.05 + 0.9 * (place * 37 % 101) / 101, 25 + place * 53 % 41  # spread over the groups, and invented
    sex = np.where(random.random(len(groups)) < women, "2", "1")
    years = random.normal(age, 8).clip(15, 90).round().astype(int).astype(str)
    there = random.random((2, len(groups))) < 0.95
    return pd.DataFrame({"sex": np.where(there[0], sex, ""), "age": np.where(there[1], years, "")}, dtype=object)


def misspelt(text: str, draw: float) -> str:
    """Return `text` unchanged (nine in ten), without blanks, or with one wrong vowel; `draw` in [0, 1) decides."""
    if draw < 0.05:
        return text.replace(" ", "")
    if draw < 0.10 and text:
        place = int((draw - 0.05) / 0.05 * len(text))
        return text[:place] + _other_vowel(text[place]) + text[place + 1 :]
    return text


def _other_vowel(char: str) -> str:
    if not "가" <= char <= "힣":
        return char
    lead, rest = divmod(ord(char) - ord("가"), 21 * 28)
    vowel, final = divmod(rest, 28)
    return chr(ord("가") + (lead * 21 + VOWELS.get(vowel, vowel)) * 28 + final)


def _as_mapped(frame: pd.DataFrame, columns: Mapping[str, str | None], covariates: Sequence[str]) -> pd.DataFrame:
    """Return the frame with the user's column names, so that data.columns works on the twin as on any file."""
    roles = ("id", "workplace", "position", "task", "code")
    named = {role: columns.get(role) or role for role in roles}
    return frame[[*roles, *covariates]].rename(columns=named).reset_index(drop=True)
