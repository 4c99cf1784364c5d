// One exposure at a time: the list, the panel, verdicts, keys.

import {
  $, address, commonKey, isForPage, keyboard, mode, post, say, sequence, showProgress, viewQuery,
  wireBar, wireImages,
} from "./api.js";
import * as stage from "./stage.js";

const AHEAD = 3;
let list = []; // [key, judged]
let at = 0;
let current = null; // the server's account of the subject on screen
let draft = null; // {class, quality, comment} as chosen, whether or not it is saved
const drafts = new Map(); // of subjects left without a verdict
const panels = new Map(); // key -> promise of a panel, fetched ahead
let saving = Promise.resolve();
let busy = false;

// --- what is shown

function fetchPanel(key) {
  if (!panels.has(key)) {
    const query = new URLSearchParams({ stretch: stage.currentStretch() });
    const panel = fetch(`/${mode}/panel/${key}?${query}`).then((response) => {
      if (!response.ok) throw new Error(`${response.status}`);
      return response.text();
    });
    panel.catch(() => panels.delete(key));
    panels.set(key, panel);
  }
  return panels.get(key);
}

async function go(place, { fresh = false } = {}) {
  if (!list.length) return showNothing();
  at = Math.min(Math.max(place, 0), list.length - 1);
  const key = list[at][0];
  if (fresh) panels.delete(key);
  let html;
  try {
    html = await fetchPanel(key);
  } catch {
    say("the server does not answer: reload the page", "problem");
    return undefined;
  }
  panels.delete(key); // what is said of it may change while it is on screen
  if (list[at]?.[0] !== key) return undefined; // gone on meanwhile
  $("panel").innerHTML = html;
  $("panel").scrollTop = 0;
  const element = $("subject");
  current = JSON.parse(element.dataset.subject);
  const kept = drafts.get(key);
  draft = kept || draftOf(current.entry.judgement);
  $("conflict").hidden = true;
  $("place").textContent = `${at + 1} of ${list.length}`;
  history.replaceState(null, "", address("", key));
  const places = [...element.querySelectorAll("#ccds i")].map(({ dataset }) => ({
    ccdnum: Number(dataset.ccdnum),
    name: dataset.name,
    box: dataset.box.split(" ").map(Number),
    class: dataset.class,
    probability: dataset.probability && Number(dataset.probability).toFixed(2),
    cuts: dataset.cuts,
  }));
  stage.show(current, places, Number(element.dataset.width), Number(element.dataset.height));
  showDraft();
  document.body.dataset.at = key;
  const following = list.slice(at + 1, at + 1 + AHEAD).map(([next]) => next);
  for (const next of panels.keys()) if (!following.includes(next)) panels.delete(next);
  for (const next of following) fetchPanel(next);
  stage.fetchAhead(following);
  return undefined;
}

function showNothing() {
  current = null;
  $("panel").replaceChildren();
  $("empty").hidden = false;
  $("empty").textContent = mode === "merge" && $("show").value === "all"
    ? "The inspectors agree on everything: nothing to settle."
    : "Nothing to show: choose another filter.";
}

function draftOf(judgement) {
  if (judgement) {
    return { class: judgement.class, quality: judgement.quality, comment: judgement.comment };
  }
  return { class: current.class, quality: null, comment: "" };
}

function showDraft() {
  const judgement = current.entry.judgement;
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.setAttribute("aria-pressed", judgement?.verdict === button.dataset.verdict);
  }
  for (const button of document.querySelectorAll("[data-class]:not(i)")) {
    button.setAttribute("aria-pressed", draft.class === button.dataset.class);
  }
  for (const button of document.querySelectorAll("[data-quality]")) {
    button.setAttribute("aria-pressed", draft.quality === Number(button.dataset.quality));
  }
  $("comment").value = draft.comment;
}

function describe(judgement) {
  if (!judgement) return "no verdict";
  const name = judgement.class ? ` · ${judgement.class.replaceAll("_", " ")}` : "";
  const quality = judgement.quality === null ? "" : ` · quality ${judgement.quality}`;
  return `${judgement.verdict}${name}${quality}`;
}

// --- verdicts

/** Save, one after another; the page says "saved" when the server has said so. */
function save(verdict, { advance, over = null }) {
  if (!current || busy) return;
  const subject = current;
  const content = { ...draft, verdict, subject: subject.key, version: over ?? subject.entry.version };
  busy = true;
  say("saving …", "wait");
  saving = saving.then(async () => {
    const { status, answer } = await post("verdict", content);
    busy = false;
    if (status === 200) {
      subject.entry = answer.entry;
      drafts.delete(subject.key);
      const row = list.find(([key]) => key === subject.key);
      if (row) row[1] = true;
      showProgress(answer.progress);
      say(`saved: ${subject.key.split("-")[1]} ${describe(answer.entry.judgement)}`, "ok");
      if (advance && current === subject && at + 1 < list.length) await go(at + 1);
      else if (current === subject) {
        draft = draftOf(answer.entry.judgement);
        showDraft();
        $("conflict").hidden = true;
      }
    } else if (status === 409) {
      showConflict(subject, content, answer);
    } else {
      say(`not saved: ${answer.problem}`, "problem");
    }
  });
}

function showConflict(subject, content, answer) {
  const box = $("conflict");
  box.replaceChildren();
  const text = document.createElement("p");
  text.textContent = `Not saved: another tab has said ${describe(answer.entry.judgement)} `
    + `since. You say ${content.verdict}.`;
  const keep = document.createElement("button");
  keep.textContent = "keep the other";
  keep.addEventListener("click", () => {
    drafts.delete(subject.key);
    say("kept what the other tab has said");
    reload({ keep: true });
  });
  const replace = document.createElement("button");
  replace.textContent = "save mine";
  replace.addEventListener("click", () => {
    subject.entry = answer.entry;
    save(content.verdict, { advance: true });
  });
  box.append(text, keep, replace);
  box.hidden = false;
  keep.focus();
  say("conflict: nothing was overwritten", "problem");
}

async function undo() {
  if (busy) return;
  busy = true;
  const { status, answer } = await post("undo", { sequence });
  busy = false;
  if (status === 200 && answer.subject === null) say("nothing to undo");
  else if (status === 200) {
    showProgress(answer.progress);
    const row = list.find(([key]) => key === answer.subject);
    if (row) row[1] = answer.entry.judgement !== null;
    drafts.delete(answer.subject);
    const place = list.findIndex(([key]) => key === answer.subject);
    if (place >= 0) await go(place, { fresh: true });
    say(`undone: ${answer.subject.split("-")[1]}, ${describe(answer.entry.judgement)}`, "ok");
  } else if (status === 409) {
    say("not undone: another tab has saved something since; undo again to take that back", "problem");
    await reload({ keep: true });
  } else say(`not undone: ${answer.problem}`, "problem");
}

/** Change class, quality or comment: at once where there is a verdict, else with the next one. */
function choose(change) {
  if (!current) return;
  draft = { ...draft, ...change };
  drafts.set(current.key, draft);
  showDraft();
  const judgement = current.entry.judgement;
  if (judgement) {
    save("class" in change && change.class ? "bad" : judgement.verdict, { advance: false });
  } else say("not saved yet: g, b or u gives the verdict");
}

function chooseClass(name) {
  choose({ class: draft.class === name && !current.entry.judgement ? null : name });
}

function chooseQuality(value) {
  choose({ quality: draft.quality === value ? null : value });
}

// --- the list

async function reload({ keep = false } = {}) {
  const wanted = keep ? current?.key : new URLSearchParams(location.search).get("at");
  let answer;
  try {
    const response = await fetch(`/${mode}/list?${viewQuery()}`);
    if (!response.ok) throw new Error(await response.text());
    answer = await response.json();
  } catch {
    say("the server does not answer: reload the page", "problem");
    return;
  }
  list = answer.subjects;
  panels.clear();
  $("empty").hidden = true;
  showProgress(answer.progress);
  const place = list.findIndex(([key]) => key === wanted);
  const open = list.findIndex(([, judged]) => !judged);
  await go(place >= 0 ? place : Math.max(open, 0));
}

function nextOpen() {
  const place = [...list.keys()].map((step) => (at + 1 + step) % list.length)
    .find((index) => !list[index][1]);
  if (place === undefined) say("every one of these has a verdict");
  else go(place);
}

// --- keys and clicks

const PAN = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function key(event) {
  if (event.target === $("comment")) return commentKey(event);
  if (!isForPage(event)) return undefined;
  const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const step = PAN[event.key];
  if (step && event.shiftKey) stage.pan(step[0] * 0.15, step[1] * 0.15);
  else if (step && stage.openedCcd() !== null) stage.neighbourCcd(...step);
  else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    $("panel").scrollBy({ top: step[1] * 80 });
  } else if (!act(pressed)) return undefined;
  event.preventDefault();
  return undefined;
}

function act(pressed) {
  const letter = { g: "good", b: "bad", u: "unsure" }[pressed];
  const actions = {
    ArrowRight: () => go(at + 1),
    n: () => go(at + 1),
    ArrowLeft: () => go(at - 1),
    p: () => go(at - 1),
    j: nextOpen,
    z: undo,
    c: () => $("comment").focus(),
    s: () => stage.setStretch(nextStretch()),
    x: () => stage.openCcd(stage.worstCcd()),
    m: stage.toggleMarks,
    l: () => location.assign(address("/grid", current?.key)),
    v: () => current?.viewer && window.open(current.viewer, "_blank", "noopener"),
    "+": () => stage.zoom(1.5),
    "=": () => stage.zoom(1.5),
    "-": () => stage.zoom(1 / 1.5),
    ".": stage.fit,
    Escape: () => stage.openedCcd() !== null && go(at, { fresh: true }),
  };
  if (letter) save(letter, { advance: true });
  else if (pressed in keyboard.classes) current && chooseClass(keyboard.classes[pressed]);
  else if (pressed in keyboard.quality) current && chooseQuality(keyboard.quality[pressed]);
  else if (pressed in actions) actions[pressed]();
  else return commonKey(pressed);
  return true;
}

function nextStretch() {
  const names = keyboard.stretches;
  return names[(names.indexOf(stage.currentStretch()) + 1) % names.length];
}

function commentKey(event) {
  const comment = $("comment");
  if (event.key === "Escape") comment.value = draft?.comment ?? "";
  if (event.key !== "Escape" && event.key !== "Enter") return;
  comment.blur();
  event.preventDefault();
}

$("comment").addEventListener("change", () => {
  if (current && $("comment").value !== draft.comment) choose({ comment: $("comment").value });
});
document.addEventListener("keydown", key);
document.querySelector(".verdict").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !current) return;
  const { verdict, class: name, quality } = button.dataset;
  if (verdict) save(verdict, { advance: true });
  else if (name) chooseClass(name);
  else if (quality) chooseQuality(Number(quality));
  else if (button.id === "undo") undo();
  if (verdict || name || quality) button.blur();
});
$("stretches").addEventListener("click", (event) => {
  const name = event.target.dataset.stretch;
  if (name) stage.setStretch(name);
});
$("previous").addEventListener("click", () => go(at - 1));
$("next").addEventListener("click", () => go(at + 1));
wireBar(() => reload(), () => current?.key);
wireImages();
stage.setStretch(keyboard.stretches.includes(stage.currentStretch()) ? stage.currentStretch() : keyboard.stretches[0]);
reload();
