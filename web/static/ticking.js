// Writes how long ago each <time data-ago="smallest unit"> was, and goes on counting: so the worker has nothing to send
// while only time passes. Without scripts the time itself stands there.
"use strict";

(() => {
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const LONGEST_IN_WORDS_SECONDS = 31 * 86400;
  const LEAST_CORRECTED_MS = 2000;
  const words = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "always" });
  let behindMs = 0; // This machine's clock against the worker's.
  let isCompared = false;
  let wallMs = Date.now() - performance.now(); // Stays the same, unless this machine's clock is set, or it sleeps.

  function ago(time, seconds) {
    const [, least] = UNITS.find(([unit]) => unit === time.dataset.ago);
    if (seconds < least) return time.dataset.now;
    if (seconds >= LONGEST_IN_WORDS_SECONDS) return time.title;
    const [unit, size] = UNITS.find(([, size]) => seconds >= size);
    return words.format(-Math.floor(seconds / size), unit);
  }

  function write() {
    if (Math.abs(Date.now() - performance.now() - wallMs) >= LEAST_CORRECTED_MS) compareAgain();
    const now = Date.now() + behindMs;
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const text = ago(time, (now - Date.parse(time.dateTime)) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function compareAgain() {
    wallMs = Date.now() - performance.now();
    isCompared = false;
    compareClocks();
  }

  async function compareClocks() {
    if (isCompared || !document.querySelector("time[data-ago]")) return;
    try {
      const answer = await (await fetch("/livez", { cache: "no-store" })).json();
      const difference = Date.parse(answer.timestamp) - Date.now();
      isCompared = !Number.isNaN(difference);
      if (isCompared) behindMs = Math.abs(difference) < LEAST_CORRECTED_MS ? 0 : difference;
    } catch (error) {
      console.info("The worker's time is not known:", error.message); // Ours is taken.
    }
    write();
  }

  new MutationObserver(write).observe(document.body, { childList: true, subtree: true });
  setInterval(write, 1000);
  document.addEventListener("page:shown", compareClocks); // The page that it began as may have had no times.
  write();
  compareClocks();
})();
