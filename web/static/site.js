// What the pages do in a browser that runs scripts; without it they work, but do not move.
// The live part (#live) is polled by htmx; here: pause, lost connection, local times, charts.
"use strict";

(() => {
  const live = document.getElementById("live");
  const bar = document.querySelector("[data-live]");
  let paused = false;

  function show(state) {
    bar.classList.toggle("paused", state === "paused");
    bar.classList.toggle("offline", state === "offline");
    bar.querySelector("[data-live-state]").textContent = bar.dataset[state];
  }

  function startLiveBar() {
    if (!bar || !live || !live.hasAttribute("data-hx-get")) return;
    const button = bar.querySelector("button");
    bar.hidden = false;
    show("running");
    button.addEventListener("click", () => {
      paused = !paused;
      button.textContent = paused ? bar.dataset.resume : bar.dataset.pause;
      show(paused ? "paused" : "running");
    });
    document.addEventListener("htmx:before:request", (event) => {
      if (paused || document.hidden) event.preventDefault();
    });
    document.addEventListener("htmx:before:swap", (event) => {
      if (paused) event.preventDefault();
    });
    document.addEventListener("htmx:error", () => paused || show("offline"));
    document.addEventListener("htmx:after:swap", () => {
      if (!paused) show("running");
      refresh();
    });
  }

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

  const plots = new Map();

  function columnsOf(table) {
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => (cell.dataset.value ? Number(cell.dataset.value) : null)));
    rows.reverse(); // The table shows the newest first; a chart runs from left to right.
    return [...table.tHead.rows[0].cells].map((_, column) => rows.map((row) => row[column]));
  }

  function draw(place, table) {
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const language = document.documentElement.lang;
    const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
    const figure = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px Be Vietnam Pro, sans-serif" };
    const looks = [{ stroke: css("--accent"), width: 2 }, { stroke: css("--warn"), width: 2, dash: [6, 4] }];
    const series = names.slice(1).map((label, i) => ({ label, ...looks[i % 2], points: { show: false }, spanGaps: false, value: (_, v) => (v === null ? "–" : figure.format(v)) }));
    return new uPlot(
      {
        width: place.clientWidth, height: 220,
        legend: { show: names.length > 2, live: false },
        cursor: { y: false },
        scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 5) * 1.1] } },
        axes: [
          { ...axis, size: 34, space: 90, values: (_, ticks) => ticks.map((t) => clock.format(new Date(t * 1000))) },
          { ...axis, size: 54, values: (_, ticks) => ticks.map((t) => figure.format(t)) },
        ],
        series: [{ label: names[0], value: (_, v) => (v === null ? "–" : clock.format(new Date(v * 1000))) }, ...series],
      },
      columnsOf(table),
      place,
    );
  }

  function drawCharts() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const table = document.getElementById(place.dataset.chart);
      if (!table || table.tBodies[0].rows.length < 2) continue;
      const plot = plots.get(place);
      if (plot) plot.setData(columnsOf(table));
      else plots.set(place, draw(place, table));
    }
    for (const [place, plot] of plots) {
      if (place.isConnected) continue;
      plot.destroy();
      plots.delete(place);
    }
  }

  function drawAnew() {
    for (const plot of plots.values()) plot.destroy();
    plots.clear();
    drawCharts();
  }

  function refresh() {
    writeLocalTimes();
    drawCharts();
  }

  let resizing = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => plots.forEach((plot, place) => plot.setSize({ width: place.clientWidth, height: 220 })));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
  startLiveBar();
  refresh();
})();
