// Keeps an open page up to date: asks for it again and again, and shows an answer only if it is this very page.
// The server marks what it sends: #live has data-page (the address), data-answer (page, absent, waiting, error),
// data-every (seconds between two questions; a page without it is not asked for again, such as results of a search).
// Whatever else comes leaves what is shown, and shows the banner.
"use strict";

(() => {
  const ANSWER_WITHIN_MS = 5000;
  const FIRST_WAIT_SECONDS = 2;
  const LONGEST_WAIT_SECONDS = 30;
  const OVERDUE_MS = 2000;
  const UNAUTHORIZED = 401, NOT_MODIFIED = 304;

  const live = document.getElementById("live");
  const bar = document.querySelector("[data-live]");
  const banner = document.getElementById("banner");
  if (!live || !bar || !banner || !isRefreshed()) return;

  let answeredAt = new Date(performance.timeOrigin);
  let isPaused = false;
  let isAsking = false;
  let misses = 0; // Questions in a row that did not bring this page.
  let stamp = live.dataset.etag || null;
  let timer = 0;
  let dueAt = Infinity; // When the next question is to be asked, or the answer to be there, by the clock on the wall.

  /** An answer that is not this page; `reason` is the key of a text of the banner. */
  class NotThisPage extends Error {
    constructor(reason, status = 0) {
      super(reason);
      this.reason = reason;
      this.status = status;
    }
  }

  function isRefreshed() {
    return live.dataset.every !== undefined;
  }

  async function ask() {
    const headers = { Accept: "text/html", "Page-Language": document.documentElement.lang };
    if (stamp) headers["If-None-Match"] = stamp;
    const late = new AbortController(); // AbortSignal.timeout is missing in browsers of before 2022.
    const limit = setTimeout(() => late.abort(), ANSWER_WITHIN_MS);
    const options = { headers, signal: late.signal, redirect: "manual", cache: stamp ? "no-store" : "no-cache" };
    try {
      const response = await fetch(location.pathname + location.search, options);
      return { response, text: response.status === NOT_MODIFIED ? "" : await response.text() };
    } catch {
      throw new NotThisPage(late.signal.aborted ? "silent" : "cut");
    } finally {
      clearTimeout(limit);
    }
  }

  function isHtml(response, text) {
    return (response.headers.get("Content-Type") || "").startsWith("text/html") && text.trimEnd().endsWith("</html>");
  }

  /** The answer as a document, if it may take the place of what is shown; else raises NotThisPage. */
  function pageIn(response, text) {
    const found = isHtml(response, text) ? new DOMParser().parseFromString(text, "text/html") : null;
    const main = found?.getElementById("live");
    const isCertain = ["page", "absent"].includes(live.dataset.answer);
    const mayFollow = isCertain ? ["page", "absent"] : ["page", "absent", "waiting"];
    if (main && main.dataset.page === live.dataset.page && mayFollow.includes(main.dataset.answer)) return found;
    if (isSameError(main)) return null;
    throw new NotThisPage(reasonOf(response), response.status);
  }

  function reasonOf(response) {
    if (response.type === "opaqueredirect") return "elsewhere";
    return response.status === UNAUTHORIZED ? "login" : "other";
  }

  /**
   * What stands in for the page is over, and the address shows what only the browser can: the page of whom a search for
   * an id has found, or data without a page. Of a page that is shown nothing is given up for it.
   */
  function leadsOn(response) {
    if (response.type === "opaqueredirect") return live.dataset.answer === "waiting";
    const isData = response.ok && !(response.headers.get("Content-Type") || "").startsWith("text/html");
    return isData && live.dataset.answer === "error";
  }

  /** Whether it says only what an error page says already. */
  function isSameError(main) {
    const isError = live.dataset.answer === "error" && main?.dataset.answer === "error";
    return isError && main.dataset.page === live.dataset.page && main.dataset.status === live.dataset.status;
  }

  async function show(found) {
    const main = found.getElementById("live");
    addAssets(found);
    if (window.htmx) await htmx.swap({ text: main.outerHTML, target: live, sourceElement: live, swap: "outerMorph" });
    else replace(main);
    document.title = found.title;
    bar.dataset.running = found.querySelector("[data-live]").dataset.running; // An error is asked for more often.
    document.dispatchEvent(new Event("page:shown"));
  }

  /** Without the library, which a busy worker may have refused: what was opened is closed again, and no more. */
  function replace(main) {
    for (const name of live.getAttributeNames()) if (!main.hasAttribute(name)) live.removeAttribute(name);
    for (const { name, value } of main.attributes) live.setAttribute(name, value);
    live.replaceChildren(...main.childNodes);
  }

  /** Scripts and styles that the page needs, and the error page that stood in its place did not. */
  function addAssets(found) {
    for (const asset of found.head.querySelectorAll("script[src], link[rel=stylesheet]")) {
      const name = asset.src ? "src" : "href";
      const address = asset.getAttribute(name);
      if (document.head.querySelector(`[${name}="${CSS.escape(address)}"]`)) continue;
      const own = document.createElement(asset.localName);
      if (asset.src) own.async = false; // In the order of the document.
      else own.rel = "stylesheet";
      own[name] = address;
      document.head.append(own);
    }
  }

  async function refresh() {
    clearTimeout(timer);
    if (isAsking || isPaused || document.hidden || !isRefreshed()) return;
    isAsking = true;
    dueAt = Date.now() + ANSWER_WITHIN_MS;
    const askedAt = new Date();
    try {
      const { response, text } = await ask();
      if (leadsOn(response)) {
        location.reload();
        return;
      }
      const found = response.status === NOT_MODIFIED && stamp ? null : pageIn(response, text);
      if (isPaused) return;
      if (found) await show(found);
      if (response.status !== NOT_MODIFIED) stamp = response.headers.get("ETag");
      answered(askedAt);
    } catch (error) {
      const isExpected = error instanceof NotThisPage;
      if (!isPaused) missed(isExpected ? error : new NotThisPage("other"));
      if (!isExpected) throw error; // A defect of this script: for the console.
    } finally {
      isAsking = false;
      schedule();
    }
  }

  function answered(askedAt) {
    answeredAt = askedAt;
    misses = live.dataset.answer === "page" ? 0 : misses + 1;
    live.classList.remove("outdated");
    banner.hidden = true;
    showBar("running");
  }

  function missed(error) {
    misses += 1;
    live.classList.add("outdated");
    showBar("offline");
    const reason = banner.dataset[error.reason].replace("{status}", error.status || "–");
    write(banner.querySelector("[data-title]"), banner.dataset.title.replace("{time}", clockTime(answeredAt)));
    write(banner.querySelector("[data-reason]"), reason);
    banner.querySelector("a").hidden = !["login", "elsewhere"].includes(error.reason);
    banner.hidden = false;
  }

  /** Only what differs: a screen reader reads out whatever is written here. */
  function write(place, text) {
    if (place.textContent !== text) place.textContent = text;
  }

  function clockTime(at) {
    const isToday = at.toDateString() === new Date().toDateString();
    const style = isToday ? { timeStyle: "medium" } : { dateStyle: "short", timeStyle: "medium" };
    return new Intl.DateTimeFormat(document.documentElement.lang, style).format(at);
  }

  /** Many pages must not ask at the same moment, least of all when a worker comes back. */
  function schedule() {
    clearTimeout(timer);
    dueAt = Infinity;
    bar.hidden = !isRefreshed();
    if (isPaused || document.hidden || !isRefreshed()) return;
    const backoff = Math.min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** Math.min(misses, 5));
    const seconds = misses === 0 && live.dataset.answer === "page" ? everySeconds() : backoff;
    const waitMs = 1000 * seconds * (0.85 + 0.3 * Math.random());
    dueAt = Date.now() + waitMs;
    timer = setTimeout(refresh, waitMs);
  }

  /** Timers stand still while a machine sleeps: what it shows when it wakes up is old, although no question failed. */
  function notice() {
    if (isPaused || document.hidden || Date.now() < dueAt + OVERDUE_MS) return;
    live.classList.add("outdated");
    refresh();
  }

  /** As on the way back: what a browser has kept can be hours old, until the server says that it is not. */
  function isFromCache() {
    const [load] = performance.getEntriesByType("navigation");
    return load !== undefined && (load.type === "back_forward" || load.transferSize === 0);
  }

  function everySeconds() {
    return Number(live.dataset.every);
  }

  /** Shown again after a while in the background: what is there is not up to date until the answer comes. */
  function shownAgain() {
    if (document.hidden) {
      clearTimeout(timer);
      return;
    }
    const isLate = Date.now() - answeredAt.getTime() > 1000 * everySeconds() + ANSWER_WITHIN_MS;
    if (isLate) live.classList.add("outdated");
    refresh();
  }

  function showBar(state) {
    bar.classList.toggle("paused", state === "paused");
    bar.classList.toggle("offline", state === "offline");
    write(bar.querySelector("[data-live-state]"), bar.dataset[state]);
  }

  function pauseOrResume() {
    isPaused = !isPaused;
    live.classList.toggle("outdated", isPaused || !banner.hidden);
    bar.querySelector("button").textContent = isPaused ? bar.dataset.resume : bar.dataset.pause;
    showBar(isPaused ? "paused" : banner.hidden ? "running" : "offline");
    if (isPaused) clearTimeout(timer);
    else refresh();
  }

  bar.hidden = false;
  showBar("running");
  bar.querySelector("button").addEventListener("click", pauseOrResume);
  document.addEventListener("visibilitychange", shownAgain);
  window.addEventListener("pageshow", (event) => event.persisted && shownAgain());
  document.addEventListener("page:ask", refresh);
  window.addEventListener("online", () => refresh());
  setInterval(notice, 1000);
  if (isFromCache()) {
    live.classList.add("outdated");
    refresh();
  } else schedule();
})();
