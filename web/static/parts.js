// Parts of a page that are closed are not sent. Opening one adds it to the page's address and asks for the page at once;
// refresh.js then keeps it up to date as all the rest.
"use strict";

document.addEventListener(
  "toggle",
  (event) => {
    const part = event.target;
    if (!part.matches("details[data-part]")) return;
    const address = new URL(location.href);
    const open = new Set((address.searchParams.get("open") || "").split(",").filter(Boolean));
    if (open.has(part.id) === part.open) return;
    if (part.open) open.add(part.id);
    else open.delete(part.id);
    if (open.size) address.searchParams.set("open", [...open].join(","));
    else address.searchParams.delete("open");
    history.replaceState(history.state, "", address);
    if (part.open) document.dispatchEvent(new Event("page:ask"));
  },
  true, // This event does not bubble.
);
