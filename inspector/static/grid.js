// Fifty at a time.

import {
  $, address, commonKey, isForPage, keyboard, mode, post, say, sequence, showProgress, viewQuery,
  wireBar, wireImages,
} from "./api.js";

const cards = [...document.querySelectorAll("#cards .card")];
const { page, pages, progress, at } = document.body.dataset;
let busy = false;
let chosen = null; // the card that last had the focus: a link that is clicked takes it away

function turn(step) {
  const wanted = Number(page) + step;
  if (wanted < 1 || wanted > Number(pages)) return;
  const query = viewQuery();
  query.set("page", wanted);
  location.assign(`/${mode}/grid?${query}`);
}

const here = () => document.activeElement?.closest(".card");

function columns() {
  const top = cards[0]?.offsetTop;
  return Math.max(1, cards.filter((card) => card.offsetTop === top).length);
}

function move(step) {
  const index = cards.indexOf(here());
  cards[Math.min(Math.max(index + step, 0), cards.length - 1)]?.focus();
}

function show(card, entry) {
  card.dataset.entry = JSON.stringify(entry);
  const said = entry.judgement;
  card.className = `card ${said?.verdict ?? ""}`;
  card.querySelector(".state").textContent = said?.verdict ?? "";
  card.querySelector(".guess").textContent = said ? (said.class ?? "").replaceAll("_", " ") : card.dataset.guess;
}

async function judge(card, verdict, name) {
  if (!card || busy) return;
  const entry = JSON.parse(card.dataset.entry);
  const before = entry.judgement ?? { quality: null, comment: "", class: null };
  busy = true;
  say("saving …", "wait");
  const { status, answer } = await post("verdict", {
    subject: card.dataset.key,
    version: entry.version,
    verdict,
    class: name ?? (before.class || card.dataset.class || null),
    quality: before.quality,
    comment: before.comment,
  });
  busy = false;
  if (status === 200) {
    show(card, answer.entry);
    showProgress(answer.progress);
    say(`saved: ${card.querySelector(".name").textContent} ${verdict}`, "ok");
    if (here() === card) move(1);
  } else if (status === 409) {
    show(card, answer.entry);
    say(`not saved: another tab has said ${answer.entry.judgement?.verdict ?? "nothing"} since; judge again to change it`, "problem");
  } else say(`not saved: ${answer.problem}`, "problem");
}

async function undo() {
  if (busy) return;
  busy = true;
  const { status, answer } = await post("undo", { sequence });
  busy = false;
  if (status !== 200) {
    say(`not undone: ${answer.problem}; reload the page`, "problem");
    return;
  }
  showProgress(answer.progress);
  const card = cards.find((each) => each.dataset.key === answer.subject);
  if (card) {
    show(card, answer.entry);
    card.focus();
  }
  say(answer.subject ? `undone: ${answer.subject.split("-")[1]}` : "nothing to undo", "ok");
}

function open(card) {
  if (!card) return;
  location.assign(address("", card.dataset.key));
}

document.addEventListener("keydown", (event) => {
  if (!isForPage(event)) return;
  const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const verdict = { g: "good", b: "bad", u: "unsure" }[pressed];
  const actions = {
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
    ArrowDown: () => move(columns()),
    ArrowUp: () => move(-columns()),
    n: () => turn(1),
    p: () => turn(-1),
    PageDown: () => turn(1),
    PageUp: () => turn(-1),
    z: undo,
    l: () => open(here() ?? cards[0]),
    Enter: () => open(here()),
  };
  if (verdict) judge(here(), verdict);
  else if (pressed in keyboard.classes) judge(here(), "bad", keyboard.classes[pressed]);
  else if (pressed in actions) actions[pressed]();
  else if (!commonKey(pressed)) return;
  event.preventDefault();
});
$("cards").addEventListener("focusin", (event) => {
  chosen = event.target.closest(".card");
});
$("cards").addEventListener("dblclick", (event) => open(event.target.closest(".card")));
$("back").addEventListener("click", () => turn(-1));
$("on").addEventListener("click", () => turn(1));
wireBar(() => location.assign(`/${mode}/grid?${viewQuery()}`), () => chosen?.dataset.key);
wireImages();
showProgress(JSON.parse(progress));
(cards.find((card) => card.dataset.key === at) ?? cards[0])?.focus();
