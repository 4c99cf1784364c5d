// The image: focal plane in an SVG whose view box is zoomed and panned; CCDs at full resolution.

import { $ } from "./api.js";

const MOSAIC = 1800; // pixels of its longer side, about
const NAMESPACE = "http://www.w3.org/2000/svg";
const sky = $("sky");
let full = [0, 0, 1, 1];
let view = [0, 0, 1, 1];
let subject = null;
let ccds = [];
let stretch = localStorage.getItem("stretch") || "zscale";
let opened = null; // CCD number at full resolution
let shownSince = 0;
const ahead = new Map(); // address -> Image, so that the browser keeps them decoded

export const currentStretch = () => stretch;
export const openedCcd = () => opened;

function make(name, attributes, parent) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function setView(box) {
  const scale = Math.min(Math.max(full[2] / box[2], 0.5), 64);
  view = [box[0], box[1], full[2] / scale, full[3] / scale];
  sky.setAttribute("viewBox", view.join(" "));
  // Enlarged pixels are shown as they are.
  const perPixel = sky.classList.contains("whole") ? 1 : full[2] / MOSAIC;
  sky.classList.toggle("enlarged", (sky.clientWidth / view[2]) * perPixel > 2.5);
  $("zoom").textContent = `${scale < 9.5 ? scale.toFixed(1).replace(".0", "") : scale.toFixed(0)}×`;
}

export function zoom(factor, x = 0.5, y = 0.5) {
  const [left, top, width, height] = view;
  const size = Math.min(Math.max(width / factor, full[2] / 64), full[2] * 2);
  const tall = (size / width) * height;
  setView([left + x * (width - size), top + y * (height - tall), size, tall]);
}

export function pan(x, y) {
  setView([view[0] + x * view[2], view[1] + y * view[3], view[2], view[3]]);
}

export const fit = () => setView(full);

function imageState(text) {
  $("image-state").textContent = text;
}

// Why there is no image is asked for as text: it is shown beside the stage, not stretched over it.
const address = (key, kind) => `/image/${key}/${stretch}/${kind}?text`;

/** Show an image when it has come, if it is still wanted then. */
async function load(url, isWanted) {
  for (let attempt = 0; isWanted() && attempt < 30; attempt += 1) {
    const kept = ahead.get(url) || new Image();
    if (!kept.src) kept.src = url;
    try {
      await kept.decode();
      return isWanted() ? kept : null;
    } catch {
      ahead.delete(url);
      const response = await fetch(url, { cache: "reload" }).catch(() => null);
      const isFinal = response && response.status >= 400 && response.status < 500;
      if (isFinal) throw new Error(await response.text());
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
  return null;
}

/** Show a subject; `data` is the server's account of it, `places` its CCDs. */
export function show(data, places, width, height) {
  subject = data;
  ccds = places;
  opened = null;
  full = [0, 0, width || 1000, height || 1000];
  const margin = full[2] * 0.012;
  full = [-margin, -margin, full[2] + 2 * margin, full[3] + 2 * margin];
  fit();
  drawMarks();
  draw();
}

async function draw() {
  const shown = subject;
  const asked = stretch;
  const isWanted = () => subject === shown && stretch === asked && opened === null;
  const mosaic = $("mosaic");
  mosaic.removeAttribute("href");
  sky.dataset.shown = "";
  sky.classList.remove("whole");
  if (!ccds.length) {
    imageState("no image: the lake's CCD tables do not know this exposure");
    return;
  }
  imageState("…");
  shownSince = performance.now();
  let over = false;
  if (!shown.ready && !ahead.has(address(shown.key, "mosaic"))) drawPartly(() => !over && isWanted());
  try {
    const image = await load(address(shown.key, "mosaic"), isWanted);
    if (!image) return;
    place(image);
    imageState("");
    sky.dataset.shown = `${shown.key} ${asked}`;
    sky.dataset.milliseconds = Math.round(performance.now() - shownSince);
  } catch (error) {
    imageState(error.message);
  } finally {
    over = true;
  }
}

function extent() {
  const margin = -full[0];
  return [0, 0, full[2] - 2 * margin, full[3] - 2 * margin];
}

function boxOf(ccd) {
  const [, , width, height] = extent();
  const [left, top, wide, tall] = ccd.box;
  return { x: left * width, y: top * height, width: wide * width, height: tall * height };
}

/** Until the mosaic is whole: the CCDs that have come so far, those in the middle first. */
async function drawPartly(isWanted) {
  const key = subject.key;
  const isMissing = () => isWanted() && !sky.dataset.shown.startsWith(key);
  for (let step = 0; isMissing() && step < 100; step += 1) {
    const image = new Image();
    image.src = `${address(key, "partial")}&${step}`;
    try {
      await image.decode();
      if (isMissing()) place(image);
    } catch {
      // nothing has come yet, or the server is busy: the mosaic itself says what is wrong
    }
    await new Promise((done) => setTimeout(done, 500));
  }
}

function place(image) {
  const [x, y, width, height] = extent();
  const attributes = { x, y, width, height, href: image.src, preserveAspectRatio: "none" };
  for (const [name, value] of Object.entries(attributes)) $("mosaic").setAttribute(name, value);
}

function drawMarks() {
  const marks = $("marks");
  marks.replaceChildren();
  for (const ccd of ccds) {
    const bad = ccd.class && ccd.class !== "good";
    const box = boxOf(ccd);
    const mark = make("g", { class: `ccd ${bad ? "bad" : ""} ${ccd.cuts ? "cut" : ""}` }, marks);
    mark.dataset.ccdnum = ccd.ccdnum;
    make("rect", box, mark);
    const title = make("title", {}, mark);
    title.textContent = [
      ccd.name,
      ccd.class && `${ccd.class} ${ccd.probability}`,
      ccd.cuts && `cut: ${ccd.cuts}`,
    ].filter(Boolean).join("\n");
    if (ccds.length > 1) {
      const size = Math.min(box.width, box.height) * 0.17;
      const text = make("text", { x: box.x + size * 0.4, y: box.y + size * 1.15, "font-size": size }, mark);
      // The class is said once, beside the image; here only where a CCD differs.
      const differs = bad && ccd.class !== subject.class;
      text.textContent = differs ? `${ccd.name} ${ccd.class.replaceAll("_", " ")}` : ccd.name;
      if (differs) fitText(text, box.width - size * 0.8);
    }
  }
}

function fitText(text, width) {
  if (text.getComputedTextLength() > width) {
    text.setAttribute("textLength", width);
    text.setAttribute("lengthAdjust", "spacingAndGlyphs");
  }
}

export function toggleMarks() {
  sky.classList.toggle("unmarked");
}

export function setStretch(name) {
  stretch = name;
  localStorage.setItem("stretch", name);
  for (const button of document.querySelectorAll("[data-stretch]")) {
    button.setAttribute("aria-pressed", button.dataset.stretch === name);
  }
  if (subject) (opened === null ? draw() : openCcd(opened));
}

/** Have the browser fetch what will be looked at next, and forget what was passed. */
export function fetchAhead(keys) {
  const urls = keys.map((key) => address(key, "mosaic"));
  for (const url of ahead.keys()) if (!urls.includes(url)) ahead.delete(url);
  for (const url of urls) {
    if (ahead.has(url)) continue;
    const image = new Image();
    image.src = url;
    ahead.set(url, image);
    image.decode().catch(() => ahead.delete(url));
  }
}

// --- one CCD at full resolution

export function worstCcd() {
  const aside = ({ box }) => Math.hypot(box[0] + box[2] / 2 - 0.5, box[1] + box[3] / 2 - 0.5);
  const badness = (ccd) => (ccd.class && ccd.class !== "good" ? 1 + Number(ccd.probability) : 0)
    + (ccd.cuts ? 0.5 : 0) - 0.01 * aside(ccd);
  return [...ccds].sort((one, other) => badness(other) - badness(one))[0]?.ccdnum ?? null;
}

export async function openCcd(ccdnum) {
  const ccd = ccds.find((each) => each.ccdnum === ccdnum);
  if (!ccd) return;
  const shown = subject;
  const asked = stretch;
  opened = ccdnum;
  const isWanted = () => subject === shown && opened === ccdnum && stretch === asked;
  imageState(`${ccd.name} at full resolution …`);
  try {
    const image = await load(address(shown.key, `whole/${ccdnum}`), isWanted);
    if (!image) return;
    sky.classList.add("whole");
    full = [0, 0, image.naturalWidth, image.naturalHeight];
    fit();
    const box = { x: 0, y: 0, width: image.naturalWidth, height: image.naturalHeight };
    for (const [name, value] of Object.entries(box)) $("mosaic").setAttribute(name, value);
    $("mosaic").setAttribute("href", image.src);
    const guess = ccd.class ? ` · ${ccd.class.replaceAll("_", " ")} ${ccd.probability}` : "";
    imageState(`${ccd.name}${guess}${ccd.cuts ? ` · cut: ${ccd.cuts}` : ""} · Esc goes back`);
    sky.dataset.shown = `${shown.key} whole ${ccdnum} ${asked}`;
  } catch (error) {
    imageState(error.message);
  }
}

/** Go to the CCD that lies nearest in a direction. */
export function neighbourCcd(x, y) {
  const here = ccds.find((ccd) => ccd.ccdnum === opened);
  const middle = ({ box }) => [box[0] + box[2] / 2, box[1] + box[3] / 2];
  const [left, top] = middle(here);
  let best = null;
  for (const ccd of ccds) {
    const [across, down] = [middle(ccd)[0] - left, middle(ccd)[1] - top];
    const along = across * x + down * y;
    const aside = Math.abs(across * y) + Math.abs(down * x);
    if (along > 1e-6 && (!best || along + 3 * aside < best.cost)) {
      best = { cost: along + 3 * aside, ccdnum: ccd.ccdnum };
    }
  }
  if (best) openCcd(best.ccdnum);
}

// --- mouse

sky.addEventListener("wheel", (event) => {
  event.preventDefault();
  const point = new DOMPoint(event.clientX, event.clientY)
    .matrixTransform(sky.getScreenCTM().inverse());
  zoom(event.deltaY < 0 ? 1.25 : 0.8, (point.x - view[0]) / view[2], (point.y - view[1]) / view[3]);
}, { passive: false });

let drag = null;
sky.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, view: [...view], moved: false };
});
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const scale = sky.getScreenCTM().a;
  const [x, y] = [(event.clientX - drag.x) / scale, (event.clientY - drag.y) / scale];
  if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4) drag.moved = true;
  if (drag.moved) setView([drag.view[0] - x, drag.view[1] - y, drag.view[2], drag.view[3]]);
});
window.addEventListener("pointerup", (event) => {
  const clicked = drag && !drag.moved && event.target.closest?.("[data-ccdnum]");
  drag = null;
  if (clicked && opened === null) openCcd(Number(clicked.dataset.ccdnum));
});
