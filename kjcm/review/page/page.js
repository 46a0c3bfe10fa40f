"use strict";
const WORDS = {
  ko: {
    who: "검토자", export: "내보내기 (CSV)", search: "분류 항목 찾기 ( / )", undo: "되돌리기 (u)", back: "이전 (p)", skip: "건너뛰기 (s)",
    workplace: "일하는 곳", position: "직위", task: "하는 일", other: "English", done: "남은 행이 없습니다.", left: "남음",
    decisions: { choose: "고르기", search: "찾기", "back off": "상위 분류", accept: "수락", invalid: "코딩 불가", index: "색인" },
    why: {
      choose: "모형이 확신하지 못합니다. 파란 테두리의 항목 가운데 맞는 것이 있을 가능성이 높습니다.",
      search: "짧은 목록으로는 부족합니다. 아래 항목이 아니면 찾아보세요.", "back off": "상위 분류만 확실합니다: ",
      accept: "모형이 받아들인 코드입니다: ", invalid: "모형이 코딩할 수 없는 행입니다.", index: "직업명 색인의 코드입니다: " },
    chosen: "정함", shown: "개 중 처음 50개", listed: "후보", failed: "저장하지 못했습니다. 서버가 켜져 있는지 확인하세요.", refused: "서버가 거부했습니다: ",
    meanwhile: "그사이 다른 사람이 이 행을 처리했습니다. 다음 행입니다.", nothing: "되돌릴 것이 없습니다.", name: "검토자 이름은 1~64자이고 = + - @ 로 시작하지 않아야 합니다.", none: "찾은 항목이 없습니다.", no_titles: "분류 항목을 불러오지 못했습니다. 페이지를 다시 여세요.",
    other_row: "검색하는 동안 다른 행으로 넘어갔습니다. 이 행의 코드가 맞으면 한 번 더 고르세요.",
    keys: [["1–9", "코드 고르기"], ["/", "모든 분류 항목 찾기 (↑ ↓ Enter, Esc)"], ["u", "되돌리기"], ["s n →", "다음"], ["p ←", "이전"], ["?", "도움말"]],
  },
  en: {
    who: "Reviewer", export: "Export (CSV)", search: "Search all titles ( / )", undo: "Undo (u)", back: "Previous (p)", skip: "Skip (s)",
    workplace: "Workplace", position: "Position", task: "Task", other: "한국어", done: "No row is left.", left: "left",
    decisions: { choose: "choose", search: "search", "back off": "back off", accept: "accept", invalid: "invalid", index: "index" },
    why: {
      choose: "The model is not sure. The right code probably has a blue border.",
      search: "A short list may not contain the right code. If no code below fits, search.", "back off": "The model is sure only of the parent: ",
      accept: "The model's code was accepted: ", invalid: "The model cannot code this row.", index: "The code of the job title in the index: " },
    chosen: "chosen", shown: "found, the first 50 shown", listed: "listed", failed: "Not saved. Check that the server is running.", refused: "The server refused: ",
    meanwhile: "Another reviewer has decided that row. This is the next row.", nothing: "There is nothing to undo.", name: "A reviewer's name has 1 to 64 characters and does not begin with = + - or @.", none: "Nothing found.", no_titles: "The titles could not be loaded. Reload the page.",
    other_row: "The page has moved to another row since you began to search. Choose once more if the code is for this row.",
    keys: [["1–9", "choose a code"], ["/", "search all titles (↑ ↓ Enter, Esc)"], ["u", "undo"], ["s n →", "next"], ["p ←", "previous"], ["?", "help"]],
  },
};
const $ = (id) => document.getElementById(id);
const make = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: name ?? "" });
const fold = (text) => text.normalize("NFKC").toLowerCase().trim();  // full-width digits, decomposed Hangul, capitals
let words = WORDS.ko, state = null, item = null, titles = [], hits = [], marked = -1, busy = false, last = { code: "", at: 0 };
let query = { text: "", row: null };  // last search, and the row on the page when its first letter was typed

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(found.detail), { status: answer.status });
  return found;
}

// Allow one request at a time: two keys pressed at once send one request.
async function go(path, body) {
  if (busy) return null;
  busy = true;
  try {
    const found = await ask(path, body);
    $("message").textContent = "";
    return found;
  } catch (error) {
    $("message").textContent = error.status === 409 ? words.meanwhile : !error.status ? words.failed
      : error.message.startsWith("who:") ? words.name : words.refused + error.message;
    return error.status === 409 ? await ask(next(false)).catch(() => null) : null;
  } finally {
    busy = false;
  }
}

function show(found) {
  if (!found) return;
  state = found.state;
  item = found.item;
  draw();
}

function draw() {
  document.documentElement.lang = words === WORDS.ko ? "ko" : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = words[element.dataset.t];
  for (const id of ["undo", "back", "skip"]) $(id).textContent = words[id];
  $("language").textContent = words.other;
  $("file").textContent = state.file;
  $("keys").replaceChildren(...words.keys.flatMap(([key, what]) => [make("dt", key), make("dd", what)]));
  const share = state.rows ? state.settled / state.rows : 1;
  $("bar").firstElementChild.style.width = `${100 * share}%`;
  $("bar").setAttribute("aria-valuenow", state.settled);
  $("bar").setAttribute("aria-valuemax", state.rows);
  const left = Object.entries(state.counts).map(([name, n]) => `${words.decisions[name] ?? name} ${n.rows - n.settled}`);
  $("progress").textContent = words === WORDS.ko
    ? `${state.rows}행 중 ${state.settled}행 처리 · ${words.left}: ${left.join(", ")}`
    : `${state.settled} of ${state.rows} decided · ${words.left}: ${left.join(", ")}`;
  drawItem();
}

const shownCodes = () => [...item.first, ...(item.further ?? [])];

function drawItem() {
  const answer = $("answer"), codes = $("codes");
  answer.replaceChildren();
  codes.replaceChildren();
  if (!item) {
    answer.append(make("p", words.done));
    return;
  }
  const list = make("dl");
  for (const role of ["workplace", "position", "task"]) {
    if (item.text[role]) list.append(make("dt", words[role]), make("dd", item.text[role]));
  }
  const chosen = item.chosen ? ` · ${words.chosen}: ${item.chosen.code} (${item.chosen.who})` : "";
  const why = (words.why[item.decision] ?? item.decision) + (["back off", "accept", "index"].includes(item.decision) ? item.given : "");
  answer.append(list, make("p", `#${item.row + 1} · ${why}${chosen}`));
  shownCodes().forEach((code, place) => {
    const listed = item.picks.includes(code.code);
    const line = make("li"), button = make("button", "", listed ? "listed" : "");
    if (item.chosen?.code === code.code) button.className += " chosen";
    button.title = [listed ? words.listed : "", item.chosen?.code === code.code ? words.chosen : ""].filter(Boolean).join(", ");
    button.type = "button";
    const bar = make("i");
    bar.style.width = `${100 * (code.prob ?? 0)}%`;
    const share = code.prob === undefined ? "" : `${(100 * code.prob).toFixed(1)} %`;  // further codes have no probability
    button.append(bar, make("kbd", place < 9 ? place + 1 : ""), make("b", code.code), make("span", code.title), make("span", share, "prob"));
    button.addEventListener("click", () => choose(code.code));
    line.append(button);
    codes.append(line);
  });
}

const next = (back) => `api/next?after=${item ? item.row : -1}&back=${back}&who=${encodeURIComponent($("who").value.trim())}`;

async function choose(code) {
  const who = $("who").value.trim();
  if (!who) { $("who").focus(); return; }
  if (!item) return;
  const row = item.row, found = await go(`api/rows/${row}`, { code, who, seen: item.chosen?.id ?? null });
  show(found);
  if (found?.kept) $("kept").textContent = `#${row + 1} → ${found.kept} ${titles.find((one) => one.code === found.kept)?.title ?? ""}`;
}

async function undo() {
  if (!$("who").value.trim()) { $("who").focus(); return; }
  const found = await go("api/undo", { who: $("who").value.trim() });
  if (found) $("kept").textContent = "";
  if (found && !found.item) { state = found.state; draw(); $("message").textContent = words.nothing; } else show(found);
}

const move = async (back) => show(await go(next(back)));

// Rank a title: the query is its code (0), begins its code (1), begins a title (2), is in a title (3), is in its code (4).
function rank(one, text, parts) {
  const code = text.replace(/\s/g, "");
  if (one.key === code) return 0;
  if (one.key.startsWith(code)) return 1;
  if (one.texts.some((title) => title.startsWith(text))) return 2;
  if (parts.every((part) => one.key.startsWith(part) || one.texts.some((title) => title.includes(part)))) return 3;
  return parts.every((part) => one.key.includes(part) || one.texts.some((title) => title.includes(part))) ? 4 : null;
}

function search() {
  const text = fold($("query").value).replace(/\s+/g, " "), parts = text.split(" ");
  if (!text) query.row = null;
  else query.row ??= item?.row ?? null;
  query.text = $("query").value;
  const ranked = text ? titles.map((one) => ({ one, rank: rank(one, text, parts) })).filter((hit) => hit.rank !== null) : [];
  ranked.sort((a, b) => a.rank - b.rank);  // equal ranks keep the order of codes
  hits = ranked.slice(0, 50).map((hit) => hit.one);
  $("many").textContent = ranked.length > hits.length ? `${ranked.length} ${words.shown}` : text && !hits.length && titles.length ? words.none : "";
  $("query").setAttribute("aria-expanded", String(hits.length > 0));
  $("found").replaceChildren(...hits.map((one, place) => {
    const line = make("li"), title = make("span", one.title);
    line.setAttribute("role", "option");
    line.id = `found-${place}`;
    line.dataset.code = one.code;
    if (one.english) title.append(make("small", one.english));
    line.append(make("b", one.code), title);
    line.addEventListener("click", () => pick(one.code));
    return line;
  }));
  mark(hits.length && ranked[0].rank < 4 ? 0 : -1);  // a code that only contains the query needs a choice by hand
}

function mark(place) {
  const lines = [...$("found").children];
  marked = Math.min(lines.length - 1, place);
  lines.forEach((line, at) => line.setAttribute("aria-selected", String(at === marked)));
  if (marked < 0) { $("query").removeAttribute("aria-activedescendant"); return; }
  $("query").setAttribute("aria-activedescendant", lines[marked].id);
  lines[marked].scrollIntoView({ block: "nearest" });
}

// A search that began on another row needs a second choice before it decides this row.
function pick(code) {
  if (busy || !item) return;
  if (query.row !== item.row) {
    query.row = item.row;
    $("message").textContent = words.other_row;
    return;
  }
  clear();
  choose(code);
}

function clear() {
  $("query").value = "";
  search();
  $("query").blur();
}

function searching(event) {
  if (event.isComposing || event.repeat && event.key === "Enter") return;  // Enter ends a Hangul syllable
  if ($("query").value !== query.text) search();
  if (event.key === "Enter") { if (marked >= 0) pick(hits[marked].code); }
  else if (event.key === "Escape") clear();
  else if (event.key === "ArrowDown") mark(marked + 1);
  else if (event.key === "ArrowUp") mark(Math.max(0, marked - 1));
  else return;
  event.preventDefault();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  // A held or doubly pressed key must not decide a row that nobody has read.
  const again = event.repeat || event.code === last.code && event.timeStamp - last.at < 300;
  last = { code: event.code, at: event.timeStamp };
  const code = item && shownCodes()[Number(event.key) - 1];
  const letter = /^[a-z]$/i.test(event.key) ? event.key.toUpperCase() : event.code.replace("Key", "");  // the physical key in a Hangul layout
  if (/^[1-9]$/.test(event.key)) { if (code && !again) choose(code.code); }
  else if (event.key === "/") $("query").focus();
  else if (letter === "U") { if (!again) undo(); }
  else if (["S", "N", "ArrowRight"].includes(letter)) move(false);
  else if (["P", "ArrowLeft"].includes(letter)) move(true);
  else if (event.key === "?") help();
  else return;
  event.preventDefault();
}

function help() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
}

function keep() {
  sessionStorage.setItem("who", $("who").value);
  sessionStorage.setItem("language", words === WORDS.ko ? "ko" : "en");
}

async function begin() {
  document.addEventListener("keydown", pressed);
  $("query").addEventListener("keydown", searching);
  $("query").addEventListener("input", search);
  $("undo").addEventListener("click", undo);
  $("back").addEventListener("click", () => move(true));
  $("skip").addEventListener("click", () => move(false));
  $("help").addEventListener("click", help);
  $("language").addEventListener("click", () => { words = words === WORDS.ko ? WORDS.en : WORDS.ko; draw(); keep(); });
  $("who").addEventListener("input", keep);
  $("who").value = sessionStorage.getItem("who") ?? "";
  const found = await go(next(false));
  if (!found) return;
  words = WORDS[sessionStorage.getItem("language") ?? found.state.language];
  $("who").value ||= found.state.who;
  show(found);
  const all = await ask("api/titles").catch(() => { $("message").textContent = words.no_titles; return []; });
  titles = all.map(([code, title, english]) => ({ code, title, english, key: fold(code).replace(/\s/g, ""), texts: [fold(title), fold(english)] }));
  search();  // for text typed before the titles arrived
}
begin();
