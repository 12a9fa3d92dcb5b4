// Small controls that pages have beside what they show; without scripts they are hidden or are plain links.
"use strict";

(() => {
  document.documentElement.classList.add("scripted");

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
