"use strict";
const WORDS = {
  ko: {
    who: "검토자", export: "내보내기 (CSV)", search: "코드·직업명 찾기 ( / )", undo: "되돌리기 (u)", back: "이전 (p)", skip: "건너뛰기 (s)",
    workplace: "일하는 곳", position: "직위", task: "하는 일", other: "English", done: "남은 행이 없습니다.", left: "남음",
    decisions: { choose: "고르기", search: "찾기", "back off": "상위 분류", accept: "수락", invalid: "코딩 불가", index: "색인" },
    why: {
      choose: "모형이 확신하지 못합니다. 파란 테두리의 항목 가운데 맞는 것이 있을 가능성이 높습니다.",
      search: "짧은 목록으로는 부족합니다. 아래 항목이 아니면 찾아보세요.", "back off": "상위 분류만 확실합니다: ",
      accept: "모형이 받아들인 코드입니다: ", invalid: "모형이 코딩할 수 없는 행입니다.", index: "직업명 색인의 코드입니다: " },
    chosen: "정함", shown: "개 중 처음 50개", listed: "후보", failed: "저장하지 못했습니다. 서버가 켜져 있는지 확인하세요.", refused: "서버가 거부했습니다: ",
    meanwhile: "그사이 다른 사람이 이 행을 처리했습니다. 다음 행입니다.", nothing: "되돌릴 것이 없습니다.", name: "검토자 이름은 1~64자이고 = + - @ 로 시작하지 않아야 합니다.", none: "찾은 항목이 없습니다. 더 짧은 낱말이나 코드의 앞자리를 입력하세요.", unsearched: "찾지 못했습니다. 서버가 켜져 있는지 확인하세요.", no_model: "모형에 묻지 못했습니다.",
    reason: { UNFINISHED: "입력 중", MISSPELT: "오타?", SIMILAR: "비슷함", MODEL: "모형" },
    other_row: "검색하는 동안 다른 행으로 넘어갔습니다. 이 행의 코드가 맞으면 한 번 더 고르세요.",
    keys: [["1–9", "코드 고르기"], ["/", "코드, 분류 항목, 직업명, 초성으로 찾기 (↑ ↓ Enter, Esc)"], ["u", "되돌리기"], ["s n →", "다음"], ["p ←", "이전"], ["?", "도움말"]],
  },
  en: {
    who: "Reviewer", export: "Export (CSV)", search: "Search codes and titles ( / )", undo: "Undo (u)", back: "Previous (p)", skip: "Skip (s)",
    workplace: "Workplace", position: "Position", task: "Task", other: "한국어", done: "No row is left.", left: "left",
    decisions: { choose: "choose", search: "search", "back off": "back off", accept: "accept", invalid: "invalid", index: "index" },
    why: {
      choose: "The model is not sure. The right code probably has a blue border.",
      search: "A short list may not contain the right code. If no code below fits, search.", "back off": "The model is sure only of the parent: ",
      accept: "The model's code was accepted: ", invalid: "The model cannot code this row.", index: "The code of the job title in the index: " },
    chosen: "chosen", shown: "found, the first 50 shown", listed: "listed", failed: "Not saved. Check that the server is running.", refused: "The server refused: ",
    meanwhile: "Another reviewer has decided that row. This is the next row.", nothing: "There is nothing to undo.", name: "A reviewer's name has 1 to 64 characters and does not begin with = + - or @.", none: "Nothing found. Type a shorter word or a code's first digits.", unsearched: "The search failed. Check that the server is running.", no_model: "The model could not be asked.",
    reason: { UNFINISHED: "unfinished", MISSPELT: "misspelt?", SIMILAR: "similar", MODEL: "model" },
    other_row: "The page has moved to another row since you began to search. Choose once more if the code is for this row.",
    keys: [["1–9", "choose a code"], ["/", "search codes, titles, initials (↑ ↓ Enter, Esc)"], ["u", "undo"], ["s n →", "next"], ["p ←", "previous"], ["?", "help"]],
  },
};
const $ = (id) => document.getElementById(id);
const make = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: name ?? "" });
let words = WORDS.ko, state = null, item = null, hits = [], marked = -1, busy = false, last = { code: "", at: 0 };
let query = { text: "", row: null, number: 0, timer: 0 };  // the text whose answer is shown, the row at its first letter, and the search
const GUESSES = ["MISSPELT", "SIMILAR", "MODEL"];

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
  if (found?.kept) $("kept").textContent = `#${row + 1} → ${found.kept.code} ${found.kept.title}`;
}

async function undo() {
  if (!$("who").value.trim()) { $("who").focus(); return; }
  const found = await go("api/undo", { who: $("who").value.trim() });
  if (found) $("kept").textContent = "";
  if (found && !found.item) { state = found.state; draw(); $("message").textContent = words.nothing; } else show(found);
}

const move = async (back) => show(await go(next(back)));

// A Korean keyboard sends a syllable with each of its keys: ask when the typing rests, and show only the latest answer.
function typing() {
  if (!$("query").value.trim()) query.row = null;
  else query.row ??= item?.row ?? null;
  clearTimeout(query.timer);
  query.timer = setTimeout(search, 120);
}

// Return whether the answer for the field's text is shown.
async function search(model = false) {
  clearTimeout(query.timer);
  const text = $("query").value, number = ++query.number;
  let found = { hits: [], count: 0, may_ask_model: false };
  if (text.trim()) {
    try {
      found = await ask(`api/search?${new URLSearchParams({ query: text.slice(0, 200), model })}`);
    } catch {
      if (number === query.number) $("many").textContent = model ? words.no_model : words.unsearched;
      return false;
    }
  }
  if (number !== query.number) return false;
  query.text = text;
  list(found, model);
  if (found.may_ask_model) query.timer = setTimeout(search, 500, true);
  return true;
}

function list(found, model) {
  const before = marked;
  hits = found.hits;
  $("many").textContent = found.count > hits.length ? `${found.count} ${words.shown}` : $("query").value.trim() && !hits.length ? words.none : "";
  $("query").setAttribute("aria-expanded", String(hits.length > 0));
  $("found").replaceChildren(...hits.map(line));
  mark(model ? before : hits.length && !GUESSES.includes(hits[0].why) ? 0 : -1);  // a guess needs a choice by hand
}

// Show a code's title in the page's language and, if another title matched, that one too.
function line(hit, place) {
  const line = make("li"), own = words === WORDS.en && hit.english || hit.title, title = make("span"), matched = hit.matched;
  const parts = (matched?.parts ?? []).map(([text, matches]) => matches ? make("mark", text) : text);
  title.append(...(matched?.title === own ? parts : [own]));
  if (matched && matched.title !== own) {
    const small = make("small");
    small.append(...parts, matched.code === hit.code ? "" : ` ${matched.code}`);
    title.append(small);
  }
  line.setAttribute("role", "option");
  line.id = `found-${place}`;
  line.dataset.code = hit.code;
  const share = hit.prob === null ? "" : ` ${(100 * hit.prob).toFixed(1)} %`;
  line.append(make("b", hit.code), title, make("em", (words.reason[hit.why] ?? "") + share));
  line.addEventListener("click", () => pick(hit.code));
  return line;
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
  query.row = null;
  search();
  $("query").blur();
}

async function searching(event) {
  if (event.isComposing || event.repeat && event.key === "Enter") return;  // Enter ends a Hangul syllable
  if (!["Enter", "Escape", "ArrowDown", "ArrowUp"].includes(event.key)) return;
  event.preventDefault();
  if (event.key === "Escape") { clear(); return; }
  if ($("query").value !== query.text && !await search()) return;
  if (event.key === "Enter") { if (marked >= 0) pick(hits[marked].code); }
  else mark(event.key === "ArrowDown" ? marked + 1 : Math.max(0, marked - 1));
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
  $("query").addEventListener("input", typing);
  $("undo").addEventListener("click", undo);
  $("back").addEventListener("click", () => move(true));
  $("skip").addEventListener("click", () => move(false));
  $("help").addEventListener("click", help);
  $("language").addEventListener("click", () => { words = words === WORDS.ko ? WORDS.en : WORDS.ko; draw(); keep(); search(); });
  $("who").addEventListener("input", keep);
  $("who").value = sessionStorage.getItem("who") ?? "";
  const found = await go(next(false));
  if (!found) return;
  words = WORDS[sessionStorage.getItem("language") ?? found.state.language];
  $("who").value ||= found.state.who;
  show(found);
}
begin();
