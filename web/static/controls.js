// Small controls that pages have beside what they show; without scripts they are hidden or are plain links.
"use strict";

(() => {
  document.documentElement.classList.add("scripted");

  // Links and forms that only change what this page shows: it stays where it was scrolled to, and open what was open.
  const PLACE = "place";

  /** What the reader has opened; not the tables that a filter has opened (parts.js). */
  function isOpenedByReader(one) {
    return one.open && (!one.matches("[data-part]") || opened().includes(one.id));
  }

  function opened() {
    return (new URLSearchParams(location.search).get("open") || "").split(",");
  }

  function rememberPlace() {
    const open = [...document.querySelectorAll("details[id]")].filter(isOpenedByReader).map((one) => one.id);
    sessionStorage.setItem(PLACE, JSON.stringify({ path: location.pathname, y: scrollY, open }));
  }

  function returnToPlace() {
    const kept = JSON.parse(sessionStorage.getItem(PLACE) || "null");
    sessionStorage.removeItem(PLACE);
    if (!kept || kept.path !== location.pathname) return;
    for (const one of document.querySelectorAll("details[id]")) if (kept.open.includes(one.id)) one.open = true;
    scrollTo(0, kept.y);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-keep-place]");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    rememberPlace();
    const to = new URL(link.href);
    to.hash = ""; // It is for browsers without scripts.
    location.assign(to);
  });

  /** Which tables are open may have changed since the form was made. */
  function keepOpen(form) {
    const field = form.elements.namedItem("open");
    if (!field) return;
    field.value = new URLSearchParams(location.search).get("open") || "";
    field.disabled = !field.value;
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-keep-place]")) return;
    keepOpen(event.target);
    rememberPlace();
  });
  document.addEventListener("change", (event) => {
    const form = event.target.matches("input[type=checkbox]") && event.target.closest("form[data-keep-place]");
    if (form) form.requestSubmit();
  });
  returnToPlace();

  // Copy buttons: `data-copy` is copied. Delegated, so that parts that were refreshed have them as well.
  function copyBySelection(text) {
    const place = document.createElement("textarea");
    place.value = text;
    place.className = "hidden-text";
    document.body.append(place);
    place.select();
    const done = document.execCommand("copy");
    place.remove();
    return done;
  }

  async function copy(text) {
    // Browsers give the clipboard to pages of secure origins only.
    if (!navigator.clipboard) return copyBySelection(text);
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyBySelection(text);
    }
  }

  const COPIED_MS = 2000;

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button || !(await copy(button.dataset.copy))) return;
    button.focus();
    const before = button.textContent;
    if (before === button.dataset.copied) return;
    button.textContent = button.dataset.copied;
    setTimeout(() => (button.textContent = before), COPIED_MS);
    document.getElementById("announce").textContent = button.dataset.copied;
  });
})();
