// What both pages share: talking to the server, progress, the bar at the top.

const body = document.body.dataset;
export const mode = body.mode;
export const keyboard = JSON.parse(body.keys);
export const $ = (id) => document.getElementById(id);

/** Post JSON; returns {status, answer}. Network failures are tried again: a post that was saved
 *  and whose answer was lost is recognised by the server. */
export async function post(what, content) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const response = await fetch(`/${mode}/${what}`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-session-token": body.token },
        body: JSON.stringify(content),
      });
      if (response.status === 401 || response.status === 403) {
        return { status: response.status, answer: { problem: "signed out: reload the page" } };
      }
      const isJson = response.headers.get("content-type")?.startsWith("application/json");
      const answer = isJson ? await response.json() : { problem: await response.text() };
      return { status: response.status, answer };
    } catch (error) {
      if (attempt >= 20) return { status: 0, answer: { problem: "the server does not answer" } };
      say("not saved yet: the server does not answer, trying again …", "wait");
      await new Promise((done) => setTimeout(done, Math.min(250 * 2 ** attempt, 3000)));
    }
  }
}

export function say(text, kind = "") {
  const saved = $("saved");
  saved.textContent = text;
  saved.className = `saved ${kind}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min left`;
  return `${(seconds / 3600).toFixed(1)} h left`;
}

export let sequence = 0;

export function showProgress(progress) {
  sequence = progress.sequence;
  const share = progress.total ? progress.done / progress.total : 1;
  $("fill").style.width = `${100 * share}%`;
  const parts = [`${progress.done.toLocaleString("en")} / ${progress.total.toLocaleString("en")}`];
  if (progress.done === progress.total) parts.push("all done");
  else if (progress.seconds !== null) parts.push(duration(progress.seconds));
  $("progress").textContent = parts.join(" · ");
}

export function viewQuery() {
  return new URLSearchParams(new FormData($("filters")));
}

/** Where a view of the round is, with what is chosen in it and the subject to begin at. */
export function address(view, key) {
  const query = viewQuery();
  if (key) query.set("at", key);
  return `/${mode}${view}?${query}`;
}

/** Wire the bar: filters, the link to the other view, help; `where` gives the subject at hand. */
export function wireBar(onFilter, where) {
  $("filters").addEventListener("change", onFilter);
  $("filters").addEventListener("keydown", (event) => {
    if (event.key === "Escape" || event.key === "Enter") event.target.blur();
    event.stopPropagation();
  });
  for (const link of document.querySelectorAll("a[data-view]")) {
    link.addEventListener("click", () => {
      link.href = address(link.pathname.slice(mode.length + 1), where());
    });
  }
  $("help-button").addEventListener("click", () => $("help").showModal());
}

/** Ask again for a thumbnail that the server was too busy for. One that cannot be drawn is no error
 *  here: it comes as a picture that says why. */
async function mend(image) {
  const wanted = image.src;
  const response = await fetch(wanted).catch(() => null);
  if (response && !response.ok && response.status !== 503) {
    image.alt = "no image";
    image.title = await response.text();
    return;
  }
  await new Promise((done) => setTimeout(done, 2000));
  if (image.isConnected && image.src === wanted) image.src = wanted;
}

/** Wire all thumbnails, those to come too: errors do not bubble, but they can be captured. */
export function wireImages() {
  const isThumbnail = (element) => element instanceof HTMLImageElement && element.src.endsWith("/thumbnail");
  document.addEventListener("error", (event) => isThumbnail(event.target) && mend(event.target), true);
  for (const image of document.images) {
    if (isThumbnail(image) && image.complete && !image.naturalWidth) mend(image);
  }
}

/** Keys that both views have; true when one was. */
export function commonKey(key) {
  if (key === "?") $("help").showModal();
  else if (key === "f") $("show").focus();
  else return false;
  return true;
}

/** Whether a key press is meant for the page: no dialog is open, nothing is typed, no modifier. */
export function isForPage(event) {
  const typing = event.target.closest("input, select, textarea");
  return !typing && !$("help").open && !event.ctrlKey && !event.metaKey && !event.altKey;
}
