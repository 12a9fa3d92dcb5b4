// Times of the pages in the reader's own zone, beside UTC.
"use strict";

(() => {
  function writeLocalTimes() {
    const language = document.documentElement.lang;
    const sameDay = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
    const otherDay = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });
    for (const time of document.querySelectorAll("time[data-local]")) {
      const at = new Date(time.dateTime);
      const today = at.toDateString() === new Date().toDateString();
      time.nextElementSibling.textContent = time.dataset.local.replace("{time}", (today ? sameDay : otherDay).format(at));
    }
  }

  document.addEventListener("page:shown", writeLocalTimes);
  writeLocalTimes();
})();
