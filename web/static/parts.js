// Parts of a page that are closed are not sent. Opening one adds it to the page's address and asks for the page at once;
// refresh.js then keeps it up to date as all the rest.
"use strict";

(() => {
  const shownAs = new WeakMap(); // Of each part, whether it was open when it was last looked at.

  /** Parts that the server sends open, such as those of a filter, were not opened by the reader. */
  function noteNew() {
    for (const part of document.querySelectorAll("details[data-part]")) if (!shownAs.has(part)) shownAs.set(part, part.open);
  }

  function toggled(event) {
    const part = event.target;
    if (!part.matches("details[data-part]") || shownAs.get(part) === part.open) return;
    shownAs.set(part, part.open);
    const address = new URL(location.href);
    const open = new Set((address.searchParams.get("open") || "").split(",").filter(Boolean));
    if (open.has(part.id) === part.open) return;
    if (part.open) open.add(part.id);
    else open.delete(part.id);
    if (open.size) address.searchParams.set("open", [...open].join(","));
    else address.searchParams.delete("open");
    history.replaceState(history.state, "", address);
    if (part.open) document.dispatchEvent(new Event("page:ask"));
  }

  document.addEventListener("toggle", toggled, true); // This event does not bubble.
  document.addEventListener("page:shown", noteNew);
  noteNew();
})();
