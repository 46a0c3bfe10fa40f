"""`benchmarks.search`: how often a search finds the right group, and how long it takes."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from omegaconf import DictConfig

from benchmarks.command import SearchConfig
from kjcm.errors import counted
from kjcm.keys.composition import typed
from kjcm.ksco.classification import Classification, load_classification
from kjcm.ksco.title_index import IndexTitle, read_index
from kjcm.run_folder.model_folder import finished_run
from kjcm.search.by_model import scorer_of
from kjcm.search.engine import Scorer, Search
from kjcm.search.letters import words

FIRST = 10  # results that are looked at
MOST_WORDS = 3  # of a made title
QUERIES = (
    "원", "사", "및", "기사", "관리", "종사원", "ㅊ", "ㅇ", "ㅇㅇ", "ㄱㅅ", "ㅊㅅㅇ", "청ㅅ", "청솟", "청ㅅㅇ", "청소원",
    "청소언", "정소원", "청 소 원", "건물 청소", "관련 종사원", "컴퓨터 프로그레머", "관리 및 관련 종사자", "이이이이이",
    "자동차 부품 조립원 사무실 안내 담당자", "9", "94", "9421", "welder", "wleder", "support workers",
)  # fmt: skip

log = logging.getLogger("kjcm")


def measure(cfg: DictConfig) -> None:
    """Search for the titles of `classification.index`, half of them indexed, and time a search of made titles.

    Raises:
        KjcmError: a file or the run is not usable.
    """
    config = typed(cfg, SearchConfig)
    named = load_classification(config.classification.name, config.classification.path)
    scorer = scorer_of(finished_run(config.run) / "model") if config.run else None
    if config.classification.index:
        titles = read_index(config.classification.index, named)
        _quality(titles, named, config, scorer)
    _speed(_made(named, config), named, config)


def _quality(titles: list[IndexTitle], named: Classification, config: SearchConfig, scorer: Scorer | None) -> None:
    """Log how often the right group is among the first results: of titles that the index has, and of others."""
    log.info("%s; the right group among the first %d results:", counted(len(titles), "title"), FIRST)
    log.info("split  in the index  not in the index  first of all")
    shares = []
    for split in range(config.splits):
        order = np.random.default_rng(config.seed + split).permutation(len(titles))
        half = len(titles) // 2
        indexed, others = ([titles[place] for place in part] for part in (order[:half], order[half:]))
        search = Search(named, indexed, config.level)
        found = [_places(search, those[: config.queries], scorer) for those in (indexed, others)]
        shares.append([np.mean(found[0] < FIRST), np.mean(found[1] < FIRST), np.mean(found[1] == 0)])
        log.info("%5d  %12.1f  %16.1f  %12.1f", split, *(100 * share for share in shares[-1]))
    log.info("%5s  %12.1f  %16.1f  %12.1f", "mean", *(100 * np.mean(shares, axis=0)))
    order = np.random.default_rng(config.seed).permutation(len(titles))  # the file may be in the order of titles
    none = _places(Search(named, (), config.level), [titles[place] for place in order[: config.queries]], scorer)
    log.info("without an index: %.1f %%", 100 * np.mean(none < FIRST))


def _places(search: Search, titles: Sequence[IndexTitle], scorer: Scorer | None) -> np.ndarray:
    """Return at which place each title's group is found, FIRST if it is not among the first."""
    places = []
    for one in titles:
        codes = [hit.code for hit in search(one.title, FIRST, scorer).hits]
        group = search.group(one.code)
        places.append(codes.index(group) if group in codes else FIRST)
    return np.array(places)


def _made(named: Classification, config: SearchConfig) -> list[IndexTitle]:
    """Return different titles of one to three words of the classification's titles, with any codes."""
    generator = np.random.default_rng(config.seed)
    known = sorted({word for title in named.titles.values() for word in words(title)})
    codes, titles = sorted(named.titles), dict[str, str]()
    while len(titles) < config.entries:
        number = int(generator.integers(1, MOST_WORDS + 1))
        titles[" ".join(generator.choice(known, number))] = codes[generator.integers(len(codes))]
    return [IndexTitle(title, code) for title, code in titles.items()]


def _speed(titles: list[IndexTitle], named: Classification, config: SearchConfig) -> None:
    """Log the milliseconds of a search over made titles."""
    begin = time.perf_counter()
    search = Search(named, titles, config.level)
    log.info(
        "%s made, in memory after %.1f s; milliseconds:", counted(len(titles), "title"), time.perf_counter() - begin
    )
    queries = [*QUERIES, *(one.title for one in titles[:: max(1, len(titles) // 20)])]
    times = np.array([[_timed(search, query) for _ in range(config.repeats)] for query in queries])
    for name, each in zip(("elapsed", "CPU"), np.moveaxis(1000 * times, 2, 0), strict=True):
        each = np.median(each, axis=1)
        slowest = queries[int(each.argmax())]
        log.info("%-8s median %5.1f  worst %5.1f (%s)", name, np.median(each), each.max(), slowest)


def _timed(search: Search, query: str) -> tuple[float, float]:
    """Return a search's seconds, elapsed and of the CPU."""
    begin = time.perf_counter(), time.process_time()
    search(query)
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.search")
